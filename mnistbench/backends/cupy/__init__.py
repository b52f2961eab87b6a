"""CuPy on an NVIDIA GPU: ``persistent`` trains in one launch, ``general`` what goes beyond the classic, ``plain`` by
array operations.

``arrays``, ``layout`` and ``flat`` need no CuPy: array operations, and how the kernels are compiled and their arrays
laid out, are tested without it.
"""
