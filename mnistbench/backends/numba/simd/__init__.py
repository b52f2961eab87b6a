"""What the kernels are built from: vectors, tasks, shares, worker threads, the disk cache, the host's registers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Types of the kernels' arguments.
Array = NDArray[np.floating[Any]]
Singles = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Indices = NDArray[np.unsignedinteger[Any]]
