"""Types in which a GPU may store the images of the classic, and the products with them.

An iteration reads the images twice, and little else. Their bytes need a quarter of the bandwidth of float32 numbers.
As bfloat16 they need half of it, and matrix units multiply them: the other factor is split into three bfloat16 numbers
that add up to it, whose products with a pixel are exact in float32 (TF32 would round the factor to 10 bits).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from mnistbench.backends.base import Arithmetic
from mnistbench.backends.torch import device

_WHITE = 255

# Bits of a float32 number that a bfloat16 number has: its upper half.
_LEADING = -(1 << 16)

TERMS = 3
"""Number of bfloat16 numbers, of 8 bits each, that make a float32 number of 24."""


class Storage(NamedTuple):
    """A type in which the images are stored.

    Attributes:
        told: end of a way's description.
        stored: function of bytes (uint8) and the workload's dtype that returns the stored images.
        forward: function of W1 (k, n) and X (n, m) that computes their product, for pixels in [0, 1].
        backward: function of dZ1 (k, m) and X (n, m) that computes dZ1 Xᵀ, for pixels in [0, 1].
        arithmetic: units that compute the products, if not those of the dtype.
    """

    told: str
    stored: Callable[[Any, Any], Any]
    forward: Callable[[Any, Any], Any]
    backward: Callable[[Any, Any], Any]
    arithmetic: Arithmetic | None = None


def _real_forward(W: Any, X: Any) -> Any:
    return W @ X


def _real_backward(dZ: Any, X: Any) -> Any:
    return dZ @ X.T


def _bytes_forward(W: Any, X: Any) -> Any:
    return (W / _WHITE) @ X.to(W.dtype)


def _bytes_backward(dZ: Any, X: Any) -> Any:
    return dZ @ X.T.to(dZ.dtype) / _WHITE


def split(A: Any) -> Any:
    """Split A (k, n) in float32 into bfloat16 (3 k, n): its leading bits, the next ones, and the last ones."""
    parts = []
    for _ in range(TERMS):
        # By its bits: torch.compile leaves out a conversion to bfloat16 and back.
        parts.append((A.view(torch.int32) & _LEADING).view(torch.float32))
        A = A - parts[-1]
    return torch.cat(parts).bfloat16()


def product(A: Any, B: Any) -> Any:
    """Multiply bfloat16 matrices, with sums and result in float32; a CPU widens them first."""
    if A.device.type == "cpu":
        return A.float() @ B.float()
    return torch.mm(A, B, out_dtype=torch.float32)


def _summed(P: Any) -> Any:
    """Add the products of the terms, the smallest first."""
    first, second, third = P.chunk(TERMS)
    return first + (second + third)


def _split_forward(W: Any, X: Any) -> Any:
    return _summed(product(split(W / _WHITE), X))


def _split_backward(dZ: Any, X: Any) -> Any:
    return _summed(product(split(dZ), X.T)) / _WHITE


STORAGES = {
    "real": Storage("", device.widened, _real_forward, _real_backward),
    "bytes": Storage(" of bytes", lambda images, dtype: images, _bytes_forward, _bytes_backward),
    "split": Storage(
        " of bfloat16, factors split in three",
        lambda images, dtype: images.to(torch.bfloat16),
        _split_forward,
        _split_backward,
        Arithmetic(bits=16, products=TERMS),
    ),
}
