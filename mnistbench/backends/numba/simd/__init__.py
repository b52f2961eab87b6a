"""Kernels in vector registers stand on these: vectors, barriers, threads, the disk cache, and what the host has."""
