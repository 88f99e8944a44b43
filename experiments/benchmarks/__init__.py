"""Benchmarks, and the processes that they start."""
