"""What can be asked of a generator and what it answers, as frozen data."""
