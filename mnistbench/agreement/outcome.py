"""Results of a comparison: single checks, and the agreement that sums them up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mnistbench.reference.parameters import Array, Parameters


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        quantity: Name of the compared quantity: "W1", "dW1", "loss", "accuracy", "predictions", ...
        iteration: Number of updates before the comparison.
        error: Largest difference divided by its tolerance; up to 1 passes, NaN fails.
        relative: Largest difference divided by the largest absolute value of the reference.
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
    """Outcome of the comparison of one backend in one dtype.

    Attributes:
        backend: Name of the backend.
        dtype: Dtype of the training.
        checks: Every comparison made, in order.
        errors: (iteration, fraction of test images misclassified) at each checkpoint; empty on classic workloads and
            without test images.
        failure: Reason why the comparison could not be finished, or None.
        states: Trainer's parameters at each checkpoint.
    """

    backend: str
    dtype: str
    checks: list[Check] = field(default_factory=list)
    errors: list[tuple[int, float]] = field(default_factory=list)
    failure: str | None = None
    states: dict[int, Parameters] = field(default_factory=dict, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether everything was compared, and everything was within its tolerance."""
        return self.failure is None and bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def worst(self) -> Check | None:
        """The check with the largest error, where NaN counts as infinite; None without checks."""
        return max(self.checks, key=lambda c: math.inf if math.isnan(c.error) else c.error, default=None)

    def trajectory(self) -> list[tuple[int, float]]:
        """Return pairs (iteration, largest relative difference of any parameter array)."""
        largest: dict[int, float] = {}
        for check in self.checks:
            if check.quantity[0] in "Wb" and check.quantity[1:].isdecimal():
                # np.maximum keeps a NaN, which max() may drop.
                largest[check.iteration] = float(np.maximum(largest.get(check.iteration, 0.0), check.relative))
        return sorted(largest.items())

    def summary(self) -> str:
        """Return one line: the failure, else the first check that failed, else the worst check."""
        if self.failure is not None:
            return f"not compared: {self.failure}"
        failed = next((check for check in self.checks if not check.passed), None)
        return str(failed or self.worst)


def compared(quantity: str, iteration: int, value: Array, expected: Array, tolerance: Any) -> Check:
    """Check floating-point values against tolerances, which broadcast.

    Raises:
        ValueError: If the shapes of ``value`` and ``expected`` differ.
    """
    if value.shape != expected.shape:
        raise ValueError(f"{quantity} has shape {value.shape}, not {expected.shape}")
    difference = np.abs(value.astype(np.float64) - expected)
    # A difference of 0 passes even a tolerance of 0.
    ratio = np.divide(
        difference, tolerance, out=np.where(difference == 0, 0.0, np.inf), where=np.asarray(tolerance) > 0
    )
    largest = float(np.abs(expected).max())
    relative = float(difference.max()) / largest if largest else float(difference.max())
    return Check(quantity, iteration, float(ratio.max()), relative)


def whole_number(quantity: str, iteration: int, value: int, expected: int) -> Check:
    """Check a count that may not be off."""
    off = abs(value - expected)
    return Check(quantity, iteration, math.inf if off else 0.0, float(off))


def same(quantity: str, own: Parameters, expected: Parameters) -> Iterator[Check]:
    """Check that parameters are equal bit for bit."""
    pairs = zip(own.named(), expected.named(), strict=True)
    equal = all(np.array_equal(value, wanted) for (_, value), (_, wanted) in pairs)
    yield whole_number(quantity, 0, 0 if equal else 1, 0)
