"""CuPy on an NVIDIA GPU: ``classic`` is one persistent launch, ``mlp`` has every option, ``plain`` array operations."""
