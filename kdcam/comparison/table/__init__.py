"""What the runs of a comparison came to, in one table: as values, as text, as curves, and in a folder."""
