"""Market data: bars that were checked once at the door, and where they come from."""
