"""Data sources, splits, label noise, and the batches that reach training, evaluation and attacks."""
