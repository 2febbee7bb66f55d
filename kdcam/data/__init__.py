"""Images and their labels: sources, parts, noise, boxes, pairs, and the batches that training and evaluation read."""
