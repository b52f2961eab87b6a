"""Options of training, their values and defaults; the defaults are the classic's.

:mod:`mnistbench.reference.mlp` has what the options compute.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from mnistbench.exceptions import OptionError

Activation = Literal["relu", "leaky-relu", "tanh", "sigmoid"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

Initializer = Literal["uniform", "xavier", "he"]
INITIALIZERS: tuple[Initializer, ...] = get_args(Initializer)

OptimizerName = Literal["gd", "momentum", "nesterov", "rmsprop", "adam", "adamw"]
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)

ScheduleName = Literal["constant", "cosine", "step"]
SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)

Distortion = Literal["shift", "rotate", "elastic"]
DISTORTIONS: tuple[Distortion, ...] = get_args(Distortion)


def _choose(what: str, value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise OptionError(f"{what} {value!r}: choose from {', '.join(values)}")


def _require(fine: bool, what: str, value: float, must: str) -> None:
    if not (math.isfinite(value) and fine):
        raise OptionError(f"{what} {value}: must be {must}")


@dataclass(frozen=True)
class Optimizer:
    """An optimizer and its constants; :func:`mnistbench.reference.mlp.update` has the formulas.

    Attributes:
        name: gd (plain gradient descent), momentum (Polyak 1964), nesterov (as in Sutskever et al. 2013), rmsprop
            (Tieleman and Hinton 2012), adam (Kingma and Ba 2015), adamw (Loshchilov and Hutter 2019).
        momentum: Momentum coefficient of momentum and nesterov.
        rho: Decay of the mean squared gradient in rmsprop.
        beta1, beta2: Decay of the first and the second moment in adam and adamw.
        epsilon: Term added to the divisor in rmsprop, adam and adamw.
        weight_decay: Decoupled weight decay of adamw, relative to the learning rate; biases are not decayed.

    Raises:
        OptionError: If the name is unknown or a constant is out of range.
    """

    name: OptimizerName = "gd"
    momentum: float = 0.9
    rho: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _choose("optimizer", self.name, OPTIMIZERS)
        for what in ("momentum", "rho", "beta1", "beta2"):
            value = getattr(self, what)
            _require(0 <= value < 1, what, value, "at least 0 and below 1")
        _require(self.epsilon > 0, "epsilon", self.epsilon, "above 0")
        _require(self.weight_decay >= 0, "weight decay", self.weight_decay, "at least 0")

    @property
    def moments(self) -> int:
        """Number of values that the optimizer keeps for each parameter."""
        return {"gd": 0, "momentum": 1, "nesterov": 1, "rmsprop": 1, "adam": 2, "adamw": 2}[self.name]

    def bias_corrections(self, step: int) -> tuple[float, float]:
        """Return 1 / (1 - beta1^t) and 1 / sqrt(1 - beta2^t) for step t, counted from 1."""
        return 1 / (1 - self.beta1**step), 1 / math.sqrt(1 - self.beta2**step)


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule.

    Attributes:
        name: constant; cosine, from the learning rate to 0 over all iterations (Loshchilov and Hutter 2017, without
            restarts); step, multiplied by ``factor`` after every ``every`` epochs.

    Raises:
        OptionError: If the name is unknown or a constant is out of range.
    """

    name: ScheduleName = "constant"
    every: int = 10
    factor: float = 0.1

    def __post_init__(self) -> None:
        _choose("schedule", self.name, SCHEDULES)
        _require(self.every >= 1, "schedule step", self.every, "at least 1 epoch")
        _require(0 < self.factor <= 1, "schedule factor", self.factor, "above 0 and at most 1")

    def scale(self, iteration: int, iterations: int, epoch: int) -> float:
        """Return the factor of the learning rate in an iteration, counted from 0, which is in that epoch."""
        if self.name == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(iteration, iterations) / iterations))
        if self.name == "step":
            return float(self.factor ** (epoch // self.every))
        return 1.0


@dataclass(frozen=True)
class Augmentation:
    """Random distortions of every training image, drawn anew in every epoch by
    :mod:`mnistbench.reference.augmentation`.

    Attributes:
        shift: Largest shift in each direction, in whole pixels.
        rotate: Largest rotation in either direction, in degrees.
        elastic_alpha: Factor of the smoothed random displacement field; 34 in Simard et al. 2003.
        elastic_sigma: Standard deviation in pixels of the Gaussian that smooths the field; 4 there.

    Raises:
        OptionError: If a value is out of range; beyond it the integer arithmetic would overflow.
    """

    shift: int = 0
    rotate: float = 0.0
    elastic_alpha: float = 0.0
    elastic_sigma: float = 4.0

    def __post_init__(self) -> None:
        _require(self.shift in range(65), "shift", self.shift, "a whole number of pixels from 0 to 64")
        _require(0 <= self.rotate <= 180, "rotation", self.rotate, "from 0 to 180 degrees")
        _require(0 <= self.elastic_alpha <= 500, "elastic alpha", self.elastic_alpha, "from 0 to 500")
        _require(0.5 <= self.elastic_sigma <= 16, "elastic sigma", self.elastic_sigma, "from 0.5 to 16 pixels")

    def __bool__(self) -> bool:
        """Whether images are changed."""
        return bool(self.shift or self.rotate or self.elastic_alpha)


@dataclass(frozen=True)
class Recipe:
    """Options of training; the defaults are the classic's.

    Attributes:
        initializer: Distribution of the initial weights: uniform (the classic's), xavier (Glorot and Bengio 2010) or
            he (He et al. 2015).
        l2: L2 penalty lambda: lambda / n times a weight is added to its gradient, for n training images. Biases have
            no penalty.
        dropout: Fraction of units dropped in each hidden layer (Srivastava et al. 2014), or one fraction for all. The
            units kept are divided by the fraction kept ("inverted dropout"), so predictions need no correction.
        optimizer: Optimizer and its constants.
        batch_size: Number of images per iteration; None for all. Mini-batches are shuffled in every epoch, whose last
            batch may be smaller.
        schedule: Learning-rate schedule.
        augmentation: Random distortions of the training images.

    Raises:
        OptionError: If a value is out of range.
    """

    initializer: Initializer = "uniform"
    l2: float = 0.0
    dropout: tuple[float, ...] = ()
    optimizer: Optimizer = field(default_factory=Optimizer)
    batch_size: int | None = None
    schedule: Schedule = field(default_factory=Schedule)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dropout", tuple(float(rate) for rate in self.dropout))
        _choose("initializer", self.initializer, INITIALIZERS)
        _require(self.l2 >= 0, "l2", self.l2, "at least 0")
        for rate in self.dropout:
            _require(0 <= rate < 1, "dropout", rate, "at least 0 and below 1")
        if self.batch_size is not None:
            _require(self.batch_size >= 1, "batch size", self.batch_size, "at least 1")

    def dropout_rates(self, hidden_layers: int) -> tuple[float, ...]:
        """Return the rate of each hidden layer.

        Raises:
            OptionError: If there are several rates, but not one for each layer.
        """
        if len(self.dropout) == hidden_layers:
            return self.dropout
        if len(self.dropout) <= 1:
            return (self.dropout or (0.0,)) * hidden_layers
        raise OptionError(f"{len(self.dropout)} dropout rates for {hidden_layers} hidden layers: give one, or one each")

    def describe(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "dropout": list(self.dropout)}

    @classmethod
    def from_description(cls, fields: dict[str, Any]) -> Recipe:
        """Return the recipe that :meth:`describe` described, in this version or an earlier one."""
        parts = {"optimizer": Optimizer, "schedule": Schedule, "augmentation": Augmentation}
        read = {name: part(**{_RENAMED.get(n, n): v for n, v in fields[name].items()}) for name, part in parts.items()}
        return cls(**fields | {"dropout": tuple(fields["dropout"])} | read)


# Fields that earlier versions stored under another name.
_RENAMED = {"elastic": "elastic_alpha", "sigma": "elastic_sigma"}
