"""The clock, the machine's description, its limits, and statistics of repeated measurements."""
