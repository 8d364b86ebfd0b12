"""Which points to look at: streams, what was told, and the surrogate that proposes."""
