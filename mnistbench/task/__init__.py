"""What is trained: networks, workloads, recipes and presets. Loads no array library."""
