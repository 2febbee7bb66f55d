"""From bytes in memory or picture files to batches: decoding, order, augmentation, digests."""
