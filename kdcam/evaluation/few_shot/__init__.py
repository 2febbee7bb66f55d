"""Few-shot evaluation: how well a run's features tell classes apart that it has never seen, from a few images each."""
