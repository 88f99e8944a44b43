"""The records: recipes that go beyond the notebooks, each with its claim."""
