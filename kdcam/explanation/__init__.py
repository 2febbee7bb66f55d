"""Explanation of single pictures: the maps of the classes that a classifier says or might say."""
