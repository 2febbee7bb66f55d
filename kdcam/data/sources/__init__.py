"""Data sources, one a file: found, listed, read. Their settings are in data/source_configs.py."""
