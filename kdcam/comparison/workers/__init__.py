"""Processes that do the runs of a comparison, several at once."""
