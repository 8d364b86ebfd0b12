"""The door: what makes bars of rows, piece by piece."""
