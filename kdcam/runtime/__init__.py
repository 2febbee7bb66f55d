"""What a run happens on: device, number formats, memory, processes, machine, and whoever watches it."""
