"""Recipes: the tables that decide a run, read from TOML, changed by --set, checked against each other."""
