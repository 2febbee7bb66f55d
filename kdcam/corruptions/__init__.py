"""Named, deterministic corruptions of pictures; a new one: a function and a line in each of two tables."""
