"""Weights: files of tensors, what a network starts from, published and packaged ones, config.json beside them."""
