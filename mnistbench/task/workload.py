"""Networks and workloads."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, get_args

from mnistbench.exceptions import OptionError
from mnistbench.task.recipe import ACTIVATIONS, Activation, Recipe

DType = Literal["float32", "float64"]
DTYPES: tuple[DType, ...] = get_args(DType)

MOST_ITERATIONS = 2**31 - 1
"""Largest number of iterations, which some backends count in 32 bits."""


@dataclass(frozen=True)
class Network:
    """Layer sizes, inputs first, such as ``Network((784, 10, 10))``, and the activation of the hidden layers.

    Raises:
        OptionError: If there are fewer than two positive whole numbers, or the activation is unknown.
    """

    sizes: tuple[int, ...]
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "sizes", tuple(operator.index(size) for size in self.sizes))
        except TypeError:
            raise OptionError(f"layer sizes {self.sizes}: must be whole numbers") from None
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise OptionError(f"layer sizes {self.sizes}: give two or more positive whole numbers, inputs first")
        if self.activation not in ACTIVATIONS:
            raise OptionError(f"activation {self.activation!r}: choose from {', '.join(ACTIVATIONS)}")

    @property
    def inputs(self) -> int:
        """Number of pixels of an image."""
        return self.sizes[0]

    @property
    def hidden(self) -> tuple[int, ...]:
        """Number of units of each hidden layer."""
        return self.sizes[1:-1]

    @property
    def outputs(self) -> int:
        """Number of classes."""
        return self.sizes[-1]

    def __str__(self) -> str:
        return "-".join(map(str, self.sizes))


@dataclass(frozen=True)
class Workload:
    """A training task, the same for every backend.

    Attributes:
        network: Layer sizes and activation.
        images: Number of training images.
        iterations: Number of gradient steps.
        learning_rate: Learning rate before any schedule.
        dtype: Dtype of parameters, activations and gradients.
        seed: Seed for everything random: initial parameters, order of the images, dropout, augmentation.
        name: Name of the preset, or "custom".
        recipe: Other options of training; by default the classic's.

    Raises:
        OptionError: If a value is out of range.
    """

    network: Network
    images: int
    iterations: int = 500
    learning_rate: float = 0.10
    dtype: DType = "float32"
    seed: int = 0
    name: str = "custom"
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        # A NumPy scalar would carry its own dtype into the computation.
        object.__setattr__(self, "learning_rate", float(self.learning_rate))
        if self.dtype not in DTYPES:
            raise OptionError(f"dtype {self.dtype!r}: choose from {', '.join(DTYPES)}")
        if self.images < 1:
            raise OptionError(f"{self.images} images: at least 1 is needed")
        if self.iterations < 1:
            raise OptionError(f"{self.iterations} iterations: at least 1 is needed")
        if self.iterations > MOST_ITERATIONS:
            raise OptionError(f"{self.iterations} iterations: at most {MOST_ITERATIONS:,} are possible")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise OptionError(f"learning rate {self.learning_rate}: must be a finite number above 0")
        if self.seed < 0:
            raise OptionError(f"seed {self.seed}: must be 0 or a positive whole number")
        self.recipe.dropout_rates(len(self.network.hidden))

    def with_dtype(self, dtype: DType) -> Workload:
        """Return the task in another dtype."""
        return replace(self, dtype=dtype)

    def for_epochs(self, epochs: int) -> Workload:
        """Return the task for ``epochs`` epochs.

        Raises:
            OptionError: If ``epochs`` is less than 1.
        """
        if epochs < 1:
            raise OptionError(f"{epochs} epochs: at least 1 is needed")
        return replace(self, iterations=epochs * self.iterations_per_epoch)

    @property
    def itemsize(self) -> int:
        """Number of bytes of a value of ``dtype``."""
        return int(self.dtype.removeprefix("float")) // 8

    @property
    def is_classic(self) -> bool:
        """Whether this is the classic in any size: one hidden layer of ReLU, full-batch gradient descent."""
        return self.mlp_option is None

    @property
    def mlp_option(self) -> str | None:
        """The first option, in words, that makes this more than the classic; None for the classic in any size.

        The initializer does not matter: trainers are given the initial parameters.
        """
        recipe, layers = self.recipe, len(self.network.hidden)
        options = {
            f"{layers} hidden layers": layers != 1,
            f"the activation {self.network.activation}": self.network.activation != "relu",
            f"the optimizer {recipe.optimizer.name}": recipe.optimizer.name != "gd",
            "batches": recipe.batch_size is not None,
            "dropout": any(recipe.dropout),
            "L2 regularisation": recipe.l2 > 0,
            f"the schedule {recipe.schedule.name}": recipe.schedule.name != "constant",
            "augmentation": bool(recipe.augmentation),
        }
        return next((words for words, used in options.items() if used), None)

    @property
    def batch_size(self) -> int:
        """Number of images per iteration; the last batch of an epoch may be smaller."""
        return min(self.images, self.recipe.batch_size or self.images)

    @property
    def iterations_per_epoch(self) -> int:
        """Number of iterations in which every image is used once."""
        return -(-self.images // self.batch_size)

    def images_of(self, iteration: int) -> int:
        """Return the number of images of an iteration: an epoch's last batch may be smaller."""
        batch = iteration % self.iterations_per_epoch
        return min(self.batch_size, self.images - batch * self.batch_size)

    def rate(self, iteration: int) -> float:
        """Return the learning rate of an iteration, counted from 0."""
        epoch = iteration // self.iterations_per_epoch
        return self.learning_rate * self.recipe.schedule.scale(iteration, self.iterations, epoch)

    @property
    def dense_flops(self) -> int:
        """Number of floating-point operations of an iteration's matrix products, averaged over an epoch.

        A layer with i inputs and o outputs takes 2·i·o operations per image for the forward pass, for the weights'
        gradient and, except in the first layer, for the backpropagated error. Elementwise operations are not counted;
        they are less than 1% in the classic.
        """
        layers = list(zip(self.network.sizes, self.network.sizes[1:], strict=False))
        forward = sum(2 * i * o for i, o in layers)
        passed_back = sum(2 * i * o for i, o in layers[1:])
        return self.images * (2 * forward + passed_back) // self.iterations_per_epoch

    @property
    def image_bytes(self) -> int:
        """Number of bytes of an iteration's images as uint8, the least that it can read, averaged over an epoch."""
        return self.images * self.network.inputs // self.iterations_per_epoch

    @property
    def parameter_bytes(self) -> int:
        """Number of bytes of parameters, gradients and optimizer state that an iteration moves, each pass in full.

        The products read the weights twice, the gradients are written once, and the update reads those, and reads and
        writes the parameters and the optimizer's moments. What stays in a cache counts too.
        """
        passes = 2 + 1 + 1 + 2 + 2 * self.recipe.optimizer.moments
        return passes * self.itemsize * sum(i * o + o for i, o in pairwise(self.network.sizes))

    def describe(self) -> dict[str, Any]:
        """Return the fields as JSON values; activation and recipe only if they are not the classic's."""
        fields: dict[str, Any] = {
            "name": self.name,
            "network": list(self.network.sizes),
            "images": self.images,
            "iterations": self.iterations,
            "learning_rate": self.learning_rate,
            "dtype": self.dtype,
            "seed": self.seed,
        }
        if self.network.activation != "relu" or self.recipe != Recipe():
            fields |= {"activation": self.network.activation, "recipe": self.recipe.describe()}
        return fields

    @classmethod
    def from_description(cls, fields: dict[str, Any]) -> Workload:
        """Return the workload that :meth:`describe` described."""
        others = {name: fields[name] for name in ("name", "images", "iterations", "learning_rate", "dtype", "seed")}
        network = Network(tuple(fields["network"]), fields.get("activation", "relu"))
        recipe = Recipe.from_description(fields["recipe"]) if "recipe" in fields else Recipe()
        return cls(network, recipe=recipe, **others)
