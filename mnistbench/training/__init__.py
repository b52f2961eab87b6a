"""Training from start to end: one run, cross-validation, and what a cold process pays."""
