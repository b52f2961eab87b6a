"""What was measured: a row, the files that rows are stored in, and the presets' test errors."""
