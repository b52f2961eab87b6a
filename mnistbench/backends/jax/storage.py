"""Ways in which a device may store the images of the classic, and the product of W1 with them.

An iteration reads the images twice, and little else. Their bytes need a quarter of the bandwidth of float32 numbers.
As bfloat16 they need half of it, and matrix units multiply them: the other factor is split into three bfloat16 numbers
that add up to it, whose products with a pixel are exact in float32 (TF32 would round the factor to 10 bits).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mnistbench.backends.base import Arithmetic
from mnistbench.backends.jax import device
from mnistbench.backends.jax.device import matmul

_WHITE = 255

TERMS = 3
"""Number of bfloat16 numbers, of 8 bits each, that make a float32 number of 24."""


class Storage(NamedTuple):
    """A way in which the images are stored.

    Attributes:
        told: end of a trainer's description.
        stored: function of blocks of bytes (k, m, n) and the 256 values of a byte that returns the stored blocks.
        product: function of W1 (h, n) and a stored block that computes W1 X (h, m) for pixels in [0, 1], and has a
            gradient.
        arithmetic: units that compute the products, if not those of the dtype.
    """

    told: str
    stored: Callable[[Any, Any], Any]
    product: Callable[[Any, Any], Any]
    arithmetic: Arithmetic | None = None


def _swapped(images: Any) -> Any:
    return jnp.swapaxes(images, 1, 2)


def _of_bytes(W: Any, X: Any) -> Any:
    return matmul(W / _WHITE, X.astype(W.dtype))


def split(A: Any) -> Any:
    """Split A (k, n) in float32 into bfloat16 (3 k, n): its leading bits, the next ones, and the last ones."""
    parts = []
    for _ in range(TERMS):
        # A plain conversion and back is one that XLA may leave out.
        parts.append(jax.lax.reduce_precision(A, exponent_bits=8, mantissa_bits=7))
        A = A - parts[-1]
    return jnp.concatenate(parts).astype(jnp.bfloat16)


def _of_terms(A: Any, B: Any) -> Any:
    """Multiply A in float32 by bfloat16 B, with sums in float32; the products of the smallest term are added first."""
    first, second, third = jnp.split(jnp.matmul(split(A), B, preferred_element_type=jnp.float32), TERMS)
    return first + (second + third)


@jax.custom_vjp  # type: ignore[untyped-decorator]
def _split_product(W: Any, X: Any) -> Any:
    return _of_terms(W / _WHITE, X)


def _split_forward(W: Any, X: Any) -> tuple[Any, Any]:
    return _split_product(W, X), X


def _split_backward(X: Any, dZ: Any) -> tuple[Any, None]:
    return _of_terms(dZ, X.T) / _WHITE, None


_split_product.defvjp(_split_forward, _split_backward)

_BFLOAT16 = ", stored as bfloat16, factors split in three"
_SPLIT = Arithmetic(bits=16, products=TERMS)

STORAGES = {
    "rows": Storage("", device.widened, lambda W, X: matmul(W, X.T)),
    "columns": Storage(", in columns", lambda images, levels: _swapped(device.widened(images, levels)), matmul),
    "bytes": Storage(", stored as bytes", lambda images, levels: images, lambda W, X: _of_bytes(W, X.T)),
    "bytes in columns": Storage(", stored as bytes in columns", lambda images, levels: _swapped(images), _of_bytes),
    "split": Storage(
        _BFLOAT16,
        lambda images, levels: images.astype(jnp.bfloat16),
        lambda W, X: _split_product(W, X.T),
        _SPLIT,
    ),
    "split in columns": Storage(
        f"{_BFLOAT16}, in columns",
        lambda images, levels: _swapped(images).astype(jnp.bfloat16),
        _split_product,
        _SPLIT,
    ),
}
