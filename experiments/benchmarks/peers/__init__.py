"""One net of the notebooks in each library, as a process of its own."""
