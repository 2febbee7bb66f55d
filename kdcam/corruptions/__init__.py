"""Named, deterministic corruptions of pictures; a new one: a function here, a line in each of two tables."""
