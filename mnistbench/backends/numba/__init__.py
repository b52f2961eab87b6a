"""Numba: compiled for the CPU."""

from mnistbench.backends.numba.plain import NumbaPlainBackend

__all__ = ["NumbaPlainBackend"]
