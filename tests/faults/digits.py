"""How far the persistent CUDA kernel comes from the reference with three and with four digits of a factor.

``python -m tests.faults.digits`` trains the classic in float32 with W1 and dZ1 rounded as the kernel does, and products
that are exact, and prints the largest error of every quantity in tolerances.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from mnistbench import reference
from mnistbench.agreement import Agreement, comparisons
from mnistbench.datasets import Dataset
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from tests.faults.base import Forward, Steps
from tests.faults.power import prepared
from tests.support.cuda import digits as model


def rounding_to(digits: int) -> type[Steps]:
    """Return a trainer of the classic whose factors have as many digits."""

    class Rounding(Steps):
        def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
            images = dataset.train.images
            self._kept = np.flatnonzero(images.any(axis=0))
            # Sums of integers up to 2^53 are exact in float64. The bias is a pixel.
            self._pixels = np.column_stack([images[:, self._kept], np.full(len(images), 255)]).astype(np.float64)
            super().__init__(workload, dataset, parameters, threads)

        def forward(self, batch: mlp.Batch) -> Forward:
            (W1, W2), (b1, b2) = self._state.parameters.weights, self._state.parameters.biases
            factors = np.column_stack([W1[:, self._kept], b1])
            scale = model.scale_above(float(np.abs(factors).max()), digits)
            sums = model.as_integers(factors, scale, digits) @ self._pixels.T
            Z1 = sums.astype(np.float32) * model.result_scale(scale, digits)
            A1 = reference.ReLU(Z1)
            Z2 = W2 @ A1 + b2
            return [Z1, Z2], [batch.X, A1, reference.softmax(Z2)]

        def gradient(self, batch: mlp.Batch, found: Forward) -> Parameters:
            ((Z1, _), (X, A1, A2)), m = found, np.float32(batch.Y.size)
            W2 = self._state.parameters.weights[1]
            dZ2 = A2 - reference.one_hot(batch.Y, len(A2)).astype(np.float32)
            dZ1 = W2.T @ dZ2 * reference.ReLU_deriv(Z1)
            scales = np.array([[model.scale_above(2 * float(largest), digits)] for largest in np.abs(W2).max(axis=0)])
            sums = model.as_integers(dZ1, scales, digits) @ self._pixels
            first = sums.astype(np.float32) * model.result_scale(scales, digits) / m
            dW1 = np.zeros((len(Z1), len(X)), np.float32)
            dW1[:, self._kept] = first[:, :-1]
            return Parameters([dW1, dZ2 @ A1.T / m], [first[:, -1:], dZ2.sum(axis=1, keepdims=True) / m])

    return Rounding


def errors(workload: str, seed: int) -> Iterator[Agreement]:
    """Yield the agreement with four and with three digits on a preset in float32."""
    own, dataset, trajectory = prepared(workload, "float32", seed)
    for digits in sorted(model.RESOLUTION, reverse=True):
        found = Agreement(f"{digits} digits", own.dtype)
        trainer = rounding_to(digits)(own, dataset, trajectory.fresh(), None)
        found.checks.extend(comparisons(trainer, found, trajectory))
        yield found


def largest(found: Agreement) -> dict[str, float]:
    """Return the largest error of each quantity, in tolerances."""
    worst: dict[str, float] = {}
    for check in found.checks:
        worst[check.quantity] = max(worst.get(check.quantity, 0.0), check.error)
    return worst


def main() -> None:
    """Print the errors of a number of seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", default="classic", help="preset (default: classic)")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds (default: 1)")
    options = parser.parse_args()
    for seed in range(options.seeds):
        for found in errors(options.workload, seed):
            worst = ", ".join(f"{quantity} {error:.3g}" for quantity, error in largest(found).items())
            print(f"seed {seed}, {found.backend}: {found.worst}; {worst}", flush=True)


if __name__ == "__main__":
    main()
