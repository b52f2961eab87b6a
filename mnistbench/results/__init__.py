"""Measurements: rows, the files that store them, and the presets' test errors."""
