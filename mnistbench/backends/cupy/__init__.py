"""CuPy on an NVIDIA GPU: ``persistent`` trains in one launch, ``plain`` by array operations.

Only those two modules and ``device`` need CuPy; the layout of the kernel's arrays and the array operations are
tested without it.
"""
