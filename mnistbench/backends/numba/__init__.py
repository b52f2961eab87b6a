"""Numba: compiled for the CPU, in vector registers. :mod:`mnistbench.backends.numba.kernels` is the place to start."""

from mnistbench.backends.numba.trainer import NumbaBackend

__all__ = ["NumbaBackend"]
