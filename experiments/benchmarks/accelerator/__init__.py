"""The parts of `on_accelerator.py`, each in a process of its own."""
