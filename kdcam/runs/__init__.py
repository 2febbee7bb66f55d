"""The run folder: its files, what is written and read of it, and what decides that a run goes on there."""
