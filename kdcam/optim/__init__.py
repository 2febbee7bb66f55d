"""The optimiser and the learning-rate schedule of a recipe."""
