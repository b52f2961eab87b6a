"""What was measured: rows on disk, tables of them, and the presets' test errors."""
