"""Presets: the classic, networks of practical sizes, and networks whose test error is published."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mnistbench.exceptions import OptionError
from mnistbench.task.recipe import Augmentation, Optimizer, Recipe, Schedule
from mnistbench.task.workload import DType, Network, Workload


def _preset(name: str, hidden: tuple[int, ...], images: int, epochs: int, rate: float, recipe: Recipe) -> Workload:
    return Workload(Network((784, *hidden, 10)), images, 1, rate, name=name, recipe=recipe).for_epochs(epochs)


def _adam(augmentation: Augmentation | None = None, dropout: float = 0.0) -> Recipe:
    """Return the recipe of the larger presets: He initialization, Adam, mini-batches of 128, cosine schedule."""
    return Recipe(
        initializer="he",
        dropout=(dropout,) if dropout else (),
        optimizer=Optimizer("adam"),
        batch_size=128,
        schedule=Schedule("cosine"),
        augmentation=augmentation or Augmentation(),
    )


_DISTORTED = Augmentation(shift=2, rotate=10)
# Among alpha/sigma of 34/4 (Simard et al.), 40/5, 38/6 and 50/6, the lowest error on 10,000 images held out.
_ELASTIC = Augmentation(shift=1, rotate=10, elastic_alpha=38, elastic_sigma=6)

PRESETS: dict[str, Workload] = {
    task.name: task
    for task in (
        # The published tutorial's task: 42,000 labelled images, of which 1,000 are held out.
        Workload(Network((784, 10, 10)), images=41_000, name="classic"),
        # The same network, small enough to try every backend in seconds.
        Workload(Network((784, 10, 10)), images=2_000, iterations=50, name="smoke"),
        # As small, with several options at once.
        Workload(
            Network((784, 40, 20, 10), "tanh"),
            images=2_000,
            learning_rate=1e-3,
            name="smoke-deep",
            recipe=Recipe("xavier", 1e-2, (0.1,), Optimizer("nesterov"), 128, Schedule("cosine"), Augmentation(1, 5)),
        ).for_epochs(2),
        # Networks of practical sizes, for one epoch: for measuring.
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
"""Presets by name. Those named after a paper have its layer sizes; how they are trained is ours."""


@dataclass(frozen=True)
class Published:
    """A published error on MNIST's 10,000 test images of a network with the preset's layer sizes.

    The authors trained differently: with another activation or optimizer, or other distortions.

    Attributes:
        error: Fraction of the test images.
        source: Citation on one line.
        method: Network and training, in words.
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
    """Return a preset in the given dtype and with the given seed.

    Raises:
        OptionError: If there is no such preset.
    """
    if name not in PRESETS:
        raise OptionError(f"workload {name!r}: choose from {', '.join(PRESETS)}")
    return replace(PRESETS[name], dtype=dtype, seed=seed)


def variant(
    name: str, seed: int = 0, images: int | None = None, hidden: int | None = None, iterations: int | None = None
) -> Workload:
    """Return a preset with the given sizes and seed, named after them: "784-32-10x41000x500", "...-seed7".

    Raises:
        OptionError: If there is no such preset, or a size is below 1.
    """
    task = preset(name)
    network = task.network
    if hidden is not None:
        network = replace(network, sizes=(network.inputs, hidden, network.outputs))
    sizes = {"images": images, "iterations": iterations}
    given: dict[str, Any] = {field: size for field, size in sizes.items() if size is not None}
    other = replace(task, network=network, seed=seed, **given)
    if other == task:
        return task
    # Sizes do not say which recipe it is.
    prefix = f"{name}-" if "recipe" in task.describe() else ""
    suffix = "" if seed == task.seed else f"-seed{seed}"
    return replace(other, name=f"{prefix}{network}x{other.images}x{other.iterations}{suffix}")
