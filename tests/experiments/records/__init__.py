"""The records: their commands on a few digits, and what they keep."""
