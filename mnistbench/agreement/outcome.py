"""What a comparison found: checks, and the agreement that they add up to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mnistbench.backends import Metrics
from mnistbench.reference.parameters import Array, Parameters


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        quantity: what was compared: "W1", "dW1", "loss", "accuracy", "predictions", ...
        iteration: after how many updates.
        error: the largest difference, in units of its tolerance: up to 1 passes, and NaN does not.
        relative: the largest difference over the largest absolute value of the reference.
    """

    quantity: str
    iteration: int
    error: float
    relative: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= 1

    def __str__(self) -> str:
        return f"{self.quantity} after {self.iteration} updates: {self.error:.2g} of its tolerance"


@dataclass(frozen=True)
class Agreement:
    """The outcome for one backend and dtype.

    Attributes:
        checks: every comparison made, in order.
        history: the backend's own metrics on the way, at about fifty iterations.
        errors: (iteration, error) the fraction of test images that the backend predicts wrongly on the way, at the
            checkpoints; only beyond the classic, and where there are test images.
        failure: why the comparison could not be finished, else None.
    """

    backend: str
    dtype: str
    checks: list[Check] = field(default_factory=list)
    history: list[Metrics] = field(default_factory=list)
    errors: list[tuple[int, float]] = field(default_factory=list)
    failure: str | None = None

    @property
    def passed(self) -> bool:
        """Whether everything was compared, and everything was within its tolerance."""
        return self.failure is None and bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def worst(self) -> Check | None:
        """The check nearest to its tolerance or furthest beyond; NaN is furthest."""
        return max(self.checks, key=lambda c: math.inf if math.isnan(c.error) else c.error, default=None)

    def trajectory(self) -> list[tuple[int, float]]:
        """(iteration, largest relative difference of any parameter array then)."""
        largest: dict[int, float] = {}
        for check in self.checks:
            if check.quantity[0] in "Wb" and check.quantity[1:].isdecimal():
                # np.maximum keeps a NaN, which max() may drop.
                largest[check.iteration] = float(np.maximum(largest.get(check.iteration, 0.0), check.relative))
        return sorted(largest.items())

    def summary(self) -> str:
        """One line: what failed first, or how near to its tolerance the worst came."""
        if self.failure is not None:
            return f"not compared: {self.failure}"
        failed = next((check for check in self.checks if not check.passed), None)
        return str(failed or self.worst)


def compared(quantity: str, iteration: int, value: Array, expected: Array, tolerance: Any) -> Check:
    """A check of floating-point values against tolerances that broadcast; a different shape is a failure."""
    if value.shape != expected.shape:
        raise ValueError(f"{quantity} has shape {value.shape}, not {expected.shape}")
    difference = np.abs(value.astype(np.float64) - expected)
    # A difference of 0 is within any tolerance, also one of 0.
    ratio = np.divide(
        difference, tolerance, out=np.where(difference == 0, 0.0, np.inf), where=np.asarray(tolerance) > 0
    )
    largest = float(np.abs(expected).max())
    relative = float(difference.max()) / largest if largest else float(difference.max())
    return Check(quantity, iteration, float(ratio.max()), relative)


def whole_number(quantity: str, iteration: int, value: int, expected: int, allowed: int = 0) -> Check:
    """A check of a count that may be off by ``allowed``."""
    off = abs(value - expected)
    return Check(quantity, iteration, off / allowed if allowed else (math.inf if off else 0.0), float(off))


def same(quantity: str, own: Parameters, expected: Parameters) -> Iterator[Check]:
    """A check of parameters that must be equal bit for bit."""
    pairs = zip(own.named(), expected.named(), strict=True)
    equal = all(np.array_equal(value, wanted) for (_, value), (_, wanted) in pairs)
    yield whole_number(quantity, 0, 0 if equal else 1, 0)
