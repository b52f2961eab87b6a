"""What is timed: a network, a number of images and iterations, a learning rate, a dtype, a seed.

This module loads no array library, so that the costs of importing one can be measured by who imports it.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from mnistbench.exceptions import OptionError
from mnistbench.task.recipe import ACTIVATIONS, Activation, Augmentation, Optimizer, Recipe, Schedule

DType = Literal["float32", "float64"]
DTYPES: tuple[DType, ...] = get_args(DType)


@dataclass(frozen=True)
class Network:
    """Layer sizes, inputs first: ``Network((784, 10, 10))``, and the activation after every layer but the last, which
    softmax follows.

    Raises:
        OptionError: fewer than two sizes, one that is not a positive whole number, or an unknown activation.
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
        network: layer sizes and activation.
        images: training images; an iteration uses all of them, unless the recipe has a batch size.
        iterations: gradient steps.
        learning_rate: alpha, the factor of the gradient in an update, before any schedule.
        dtype: what parameters, activations and gradients are stored in.
        seed: what the initial parameters, the order of the data set, and all that is random in training are drawn
            from.
        recipe: the other options of training; by default the classic's.

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
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise OptionError(f"learning rate {self.learning_rate}: must be a finite number above 0")
        if self.seed < 0:
            raise OptionError(f"seed {self.seed}: must be 0 or a positive whole number")
        self.recipe.dropout_rates(len(self.network.hidden))

    def with_dtype(self, dtype: DType) -> Workload:
        """The same task in another dtype."""
        return replace(self, dtype=dtype)

    def for_epochs(self, epochs: int) -> Workload:
        """The same task for so many epochs.

        Raises:
            OptionError: fewer than 1.
        """
        if epochs < 1:
            raise OptionError(f"{epochs} epochs: at least 1 is needed")
        return replace(self, iterations=epochs * self.iterations_per_epoch)

    @property
    def itemsize(self) -> int:
        """Bytes of a value of ``dtype``."""
        return {"float32": 4, "float64": 8}[self.dtype]

    @property
    def beyond_classic(self) -> str | None:
        """The first thing, in words, that makes it more than the classic in other sizes: one hidden layer of ReLU and
        full-batch gradient descent; None if there is none. How the initial parameters are drawn is no such thing:
        trainers are given them."""
        recipe, layers = self.recipe, len(self.network.hidden)
        found = {
            f"{layers} hidden layers": layers != 1,
            f"the activation {self.network.activation}": self.network.activation != "relu",
            f"the optimizer {recipe.optimizer.name}": recipe.optimizer.name != "gd",
            "batches": recipe.batch_size is not None,
            "dropout": any(recipe.dropout),
            "L2 regularisation": recipe.l2 > 0,
            f"the schedule {recipe.schedule.name}": recipe.schedule.name != "constant",
            "augmentation": bool(recipe.augmentation),
        }
        return next((words for words, needed in found.items() if needed), None)

    @property
    def training(self) -> str:
        """How it is trained, in words: "adam, learning rate 0.001 (cosine), relu, he, dropout 0.5, batches of 128"."""
        recipe, change = self.recipe, self.recipe.augmentation
        schedule = {
            "constant": "",
            "cosine": " (cosine)",
            "step": f" (times {recipe.schedule.factor:g} every {recipe.schedule.every} epochs)",
        }[recipe.schedule.name]
        always = [recipe.optimizer.name, f"learning rate {self.learning_rate:g}{schedule}"]
        always += [self.network.activation, recipe.initializer]
        found = {
            f"L2 {recipe.l2:g}": recipe.l2 > 0,
            f"dropout {' and '.join(f'{rate:g}' for rate in recipe.dropout)}": any(recipe.dropout),
            f"batches of {self.batch_size}": recipe.batch_size is not None,
            f"shift {change.shift}": change.shift > 0,
            f"rotate {change.rotate:g}": change.rotate > 0,
            f"elastic {change.elastic:g} smoothed by {change.sigma:g}": change.elastic > 0,
        }
        return ", ".join([*always, *(words for words, said in found.items() if said)])

    @property
    def batch_size(self) -> int:
        """Images of an iteration; the last one of an epoch may have fewer."""
        return min(self.images, self.recipe.batch_size or self.images)

    @property
    def iterations_per_epoch(self) -> int:
        """Iterations after which every image was used once."""
        return -(-self.images // self.batch_size)

    def rate(self, iteration: int) -> float:
        """The learning rate of an iteration, counted from 0."""
        epoch = iteration // self.iterations_per_epoch
        return self.learning_rate * self.recipe.schedule.scale(iteration, self.iterations, epoch)

    @property
    def dense_flops(self) -> int:
        """Floating-point operations of the matrix products of one iteration, nothing skipped; the mean of an epoch.

        A layer with i inputs and o outputs costs 2·i·o operations an image in each of: the forward pass, its
        weights' gradient, and (all layers but the first) the error passed back. What is elementwise is not
        counted: it is below 1 % for the classic.
        """
        layers = list(zip(self.network.sizes, self.network.sizes[1:], strict=False))
        forward = sum(2 * i * o for i, o in layers)
        passed_back = sum(2 * i * o for i, o in layers[1:])
        return self.images * (2 * forward + passed_back) // self.iterations_per_epoch

    @property
    def image_bytes(self) -> int:
        """Bytes of the images as they are stored, one uint8 a pixel: the least that an iteration can read."""
        return self.images * self.network.inputs // self.iterations_per_epoch

    def describe(self) -> dict[str, Any]:
        """The fields as JSON values; activation and recipe only where they are not the classic's."""
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
        """What :meth:`describe` gave, as a workload again."""
        others = {name: fields[name] for name in ("name", "images", "iterations", "learning_rate", "dtype", "seed")}
        network = Network(tuple(fields["network"]), fields.get("activation", "relu"))
        recipe = Recipe.from_description(fields["recipe"]) if "recipe" in fields else Recipe()
        return cls(network, recipe=recipe, **others)


def _preset(name: str, hidden: tuple[int, ...], images: int, epochs: int, rate: float, recipe: Recipe) -> Workload:
    return Workload(Network((784, *hidden, 10)), images, 1, rate, name=name, recipe=recipe).for_epochs(epochs)


def _adam(augmentation: Augmentation | None = None, dropout: float = 0.0) -> Recipe:
    """What the presets of larger networks share: ReLU units drawn as suits them, Adam, batches of 128, cosine."""
    return Recipe(
        initializer="he",
        dropout=(dropout,) if dropout else (),
        optimizer=Optimizer("adam"),
        batch_size=128,
        schedule=Schedule("cosine"),
        augmentation=augmentation or Augmentation(),
    )


_DISTORTED = Augmentation(shift=2, rotate=10)
# Of 34/4 (theirs), 40/5, 38/6 and 50/6, alpha over sigma, this had the least error on 10,000 images held out.
_ELASTIC = Augmentation(shift=1, rotate=10, elastic=38, sigma=6)

PRESETS: dict[str, Workload] = {
    task.name: task
    for task in (
        # The published tutorial's task: 42,000 labelled images, of which 1,000 are held out.
        Workload(Network((784, 10, 10)), images=41_000, name="classic"),
        # The same network, small enough to try every backend in seconds.
        Workload(Network((784, 10, 10)), images=2_000, iterations=50, name="smoke"),
        # With several options at once: what goes beyond the classic, as small.
        Workload(
            Network((784, 40, 20, 10), "tanh"),
            images=2_000,
            learning_rate=1e-3,
            name="smoke-deep",
            recipe=Recipe("xavier", 1e-2, (0.1,), Optimizer("nesterov"), 128, Schedule("cosine"), Augmentation(1, 5)),
        ).for_epochs(2),
        # Networks of a size that is used, for measuring: one epoch.
        _preset("wide", (800,), 59_000, 1, 1e-3, _adam()),
        _preset("deep", (500, 150), 59_000, 1, 1e-3, _adam()),
        # Networks with a published test error: name, hidden units, images, epochs, learning rate, recipe.
        _preset("lecun-300", (300,), 60_000, 20, 1e-3, _adam(dropout=0.5)),
        _preset("lecun-300-distorted", (300,), 60_000, 30, 1e-3, _adam(_DISTORTED)),
        _preset("lecun-500-150", (500, 150), 60_000, 20, 1e-3, _adam(dropout=0.5)),
        _preset("lecun-500-150-distorted", (500, 150), 60_000, 30, 1e-3, _adam(_DISTORTED)),
        _preset("simard", (800,), 60_000, 20, 1e-3, _adam(dropout=0.5)),
        _preset("simard-elastic", (800,), 60_000, 200, 1e-3, _adam(_ELASTIC)),
    )
}
"""Tasks by name. Each is what it says here; what a source is named for is its network, not how it was trained."""


@dataclass(frozen=True)
class Published:
    """The error on MNIST's 10,000 test images that somebody reached with a network of the preset's layer sizes.

    Their training was their own: another activation or optimizer, another way to distort images.

    Attributes:
        error: a fraction.
        source: as it is cited in a line.
        method: what they trained, in words.
    """

    error: float
    source: str
    method: str


_LECUN, _SIMARD = "LeCun et al. 1998", "Simard et al. 2003"

PUBLISHED: dict[str, Published] = {
    "lecun-300": Published(0.047, _LECUN, "784-300-10, mean squared error"),
    "lecun-300-distorted": Published(0.036, _LECUN, "784-300-10, mean squared error, distorted images"),
    "lecun-500-150": Published(0.0295, _LECUN, "784-500-150-10"),
    "lecun-500-150-distorted": Published(0.0245, _LECUN, "784-500-150-10, distorted images"),
    "simard": Published(0.016, _SIMARD, "784-800-10, cross-entropy"),
    "simard-elastic": Published(0.007, _SIMARD, "784-800-10, cross-entropy, elastic distortions"),
}
"""The published test errors, by preset.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", Proceedings of the IEEE
86(11), 1998, section III: 4.7 % and, with distorted images, 3.6 % of 784-300-10; 2.95 % and 2.45 % of 784-500-150-10.

Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual document analysis",
ICDAR 2003, table 1: 1.6 % and, with elastic distortions, 0.7 % of 784-800-10.
"""


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
    network = (
        task.network
        if hidden is None
        else replace(task.network, sizes=(task.network.inputs, hidden, task.network.outputs))
    )
    other = replace(
        task,
        network=network,
        images=task.images if images is None else images,
        iterations=task.iterations if iterations is None else iterations,
        seed=seed,
    )
    if other == task:
        return task
    # Sizes do not tell a recipe.
    prefix = f"{name}-" if "recipe" in task.describe() else ""
    suffix = "" if seed == task.seed else f"-seed{seed}"
    return replace(other, name=f"{prefix}{network}x{other.images}x{other.iterations}{suffix}")
