"""Localization: how well the boxes round a map's highest regions meet the boxes of the objects."""
