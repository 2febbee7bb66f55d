"""Training: checks before any work, a run put together, its steps, its result, and how it goes on."""
