"""The clock, statistics of repeated measurements, and what makes them doubtful."""
