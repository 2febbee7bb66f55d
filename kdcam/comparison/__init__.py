"""Several recipes, methods and settings over seeds: planned, run, and brought into one table."""
