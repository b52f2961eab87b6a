"""What is timed: a network, a number of images and iterations, a learning rate, a dtype, a seed.

This module loads no array library, so that the costs of importing one can be measured by who imports it.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from mnistbench.errors import OptionError

DType = Literal["float32", "float64"]
DTYPES: tuple[DType, ...] = get_args(DType)


@dataclass(frozen=True)
class Network:
    """Layer sizes, inputs first: ``Network((784, 10, 10))``. ReLU between layers, softmax after the last.

    Raises:
        OptionError: fewer than two sizes, or one that is not a positive whole number.
    """

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "sizes", tuple(operator.index(size) for size in self.sizes))
        except TypeError:
            raise OptionError(f"layer sizes {self.sizes}: must be whole numbers") from None
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise OptionError(f"layer sizes {self.sizes}: give two or more positive whole numbers, inputs first")

    @property
    def inputs(self) -> int:
        """Pixels of an image."""
        return self.sizes[0]

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        return self.sizes[1:-1]

    @property
    def outputs(self) -> int:
        """Classes."""
        return self.sizes[-1]

    def __str__(self) -> str:
        return "-".join(map(str, self.sizes))


@dataclass(frozen=True)
class Workload:
    """One training task, the same for every backend.

    Attributes:
        name: the preset it comes from, or "custom".
        network: layer sizes.
        images: training images; every iteration uses all of them.
        iterations: gradient steps.
        learning_rate: alpha, the factor of the gradient in an update.
        dtype: what parameters, activations and gradients are stored in.
        seed: what the initial parameters, and the order of the data set, are drawn from.

    Raises:
        OptionError: a value out of its range.
    """

    network: Network
    images: int
    iterations: int = 500
    learning_rate: float = 0.10
    dtype: DType = "float32"
    seed: int = 0
    name: str = "custom"

    def __post_init__(self) -> None:
        # A NumPy scalar would carry its own dtype into the computation.
        object.__setattr__(self, "learning_rate", float(self.learning_rate))
        if self.dtype not in DTYPES:
            raise OptionError(f"dtype {self.dtype!r}: choose from {', '.join(DTYPES)}")
        if self.images < 1:
            raise OptionError(f"{self.images} images: at least 1 is needed")
        if self.iterations < 1:
            raise OptionError(f"{self.iterations} iterations: at least 1 is needed")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise OptionError(f"learning rate {self.learning_rate}: must be a finite number above 0")
        if self.seed < 0:
            raise OptionError(f"seed {self.seed}: must be 0 or a positive whole number")

    def with_dtype(self, dtype: DType) -> Workload:
        """The same task in another dtype."""
        return replace(self, dtype=dtype)

    @property
    def itemsize(self) -> int:
        """Bytes of a value of ``dtype``."""
        return {"float32": 4, "float64": 8}[self.dtype]

    @property
    def dense_flops(self) -> int:
        """Floating-point operations of the matrix products of one iteration, nothing skipped.

        A layer with i inputs and o outputs costs 2·i·o operations an image in each of: the forward pass, its
        weights' gradient, and (all layers but the first) the error passed back. What is elementwise is not
        counted: it is below 1 % for the classic.
        """
        layers = list(zip(self.network.sizes, self.network.sizes[1:], strict=False))
        forward = sum(2 * i * o for i, o in layers)
        passed_back = sum(2 * i * o for i, o in layers[1:])
        return self.images * (2 * forward + passed_back)

    @property
    def image_bytes(self) -> int:
        """Bytes of the images as they are stored, one uint8 a pixel: the least that an iteration can read."""
        return self.images * self.network.inputs

    def describe(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {
            "name": self.name,
            "network": list(self.network.sizes),
            "images": self.images,
            "iterations": self.iterations,
            "learning_rate": self.learning_rate,
            "dtype": self.dtype,
            "seed": self.seed,
        }


PRESETS: dict[str, Workload] = {
    # The published tutorial's task: 42,000 labelled images, of which 1,000 are held out.
    "classic": Workload(Network((784, 10, 10)), images=41_000, name="classic"),
    # The same network, small enough to try every backend in seconds.
    "smoke": Workload(Network((784, 10, 10)), images=2_000, iterations=50, name="smoke"),
}


def preset(name: str, dtype: DType = "float32", seed: int = 0) -> Workload:
    """The named workload in a dtype, from a seed.

    Raises:
        OptionError: there is no such preset.
    """
    if name not in PRESETS:
        raise OptionError(f"workload {name!r}: choose from {', '.join(PRESETS)}")
    return replace(PRESETS[name], dtype=dtype, seed=seed)


def variant(
    name: str, seed: int = 0, images: int | None = None, hidden: int | None = None, iterations: int | None = None
) -> Workload:
    """A preset with other sizes or another seed where they are given, and then named by them:
    "784-32-10x41000x500", "784-10-10x41000x500-seed7".

    Raises:
        OptionError: there is no such preset, or a size is below 1.
    """
    task = preset(name)
    network = task.network if hidden is None else Network((task.network.inputs, hidden, task.network.outputs))
    other = replace(
        task,
        network=network,
        images=task.images if images is None else images,
        iterations=task.iterations if iterations is None else iterations,
        seed=seed,
    )
    if other == task:
        return task
    suffix = "" if seed == task.seed else f"-seed{seed}"
    return replace(other, name=f"{network}x{other.images}x{other.iterations}{suffix}")
