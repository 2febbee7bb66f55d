"""What a comparison runs: rows of recipes, methods, losses and settings, times seeds."""
