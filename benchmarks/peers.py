"""How fast are the frameworks at the same task, on the same processor, in the same minutes?

    python benchmarks/peers.py [--rounds 7] [--images 41000] [--hidden 10] [--iterations 500] [--dtype float32]

trains the same network on the same images from the same parameters with this package's Numba and NumPy backends,
with JAX and with PyTorch, where those are installed (``pip install jax torch``). All run in one process, in rounds;
every round runs each of them once, in another random order, from fresh parameters. A ratio is taken within a round,
so that a machine that is slower for a while slows both sides of it.

JAX and PyTorch are written as well as their users would: JAX compiles the whole loop over the iterations; PyTorch
is tried operation by operation with results written in place, and compiled. Of several ways, the fastest counts.
Compiling, loading the data and the first run are not timed. The parameters that everybody ends with are compared
with those of the NumPy float64 reference; who differs gets no time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mnistbench.backends as registry
from mnistbench import reference
from mnistbench.backends import Trainer
from mnistbench.datasets import Dataset
from mnistbench.datasets.copies import load_images
from mnistbench.files import write_text
from mnistbench.measurement import machine, statistics
from mnistbench.measurement.limits import multiply_add_peak
from mnistbench.network import Parameters
from mnistbench.threads import usable_cpus
from mnistbench.workload import DTYPES, Workload

BASELINE = "numpy float64"
"""The reference as it stands: what every other time is compared with, and what is right."""

TOLERANCE = {"float32": 1e-4, "float64": 1e-11}
"""Largest difference of a final parameter from the reference's, as a fraction of the largest of its array.

500 iterations of the classic task end within 2e-5 and 1e-13 in every correct implementation tried.
"""

SETTLE = 0.1
"""Seconds of rest before each run: threads of the one before stop spinning within that."""


class Peer(ABC):
    """One way to train; ``train`` is what is timed."""

    name: str
    dtype: str

    @abstractmethod
    def reset(self) -> None:
        """Fresh parameters."""

    @abstractmethod
    def train(self) -> None:
        """Run all iterations, and return when they are done."""

    @abstractmethod
    def parameters(self) -> Parameters:
        """The current ones."""

    def describe(self) -> str:
        """Which of several ways, or which kernel, in a few words."""
        return ""


class Own(Peer):
    """A backend of this package."""

    def __init__(self, name: str, backend: str, workload: Workload, dataset: Dataset) -> None:
        self.name, self.dtype = name, workload.dtype
        self._iterations = workload.iterations
        self._initial = Parameters.initial(workload.network, workload.seed)
        self._trainer: Trainer = registry.require(backend).start(workload, dataset, self._initial)

    def reset(self) -> None:
        self._trainer.reset(self._initial)

    def train(self) -> None:
        self._trainer.advance(self._iterations)

    def parameters(self) -> Parameters:
        return self._trainer.parameters()

    def describe(self) -> str:
        return str(self._trainer.describe()["skips"] or "")


class Variants(Peer):
    """A framework that has several ways to do it: the fastest in a first run counts."""

    def __init__(self, workload: Workload, dataset: Dataset) -> None:
        self.dtype = workload.dtype
        self._initial = Parameters.initial(workload.network, workload.seed).astype(workload.dtype)
        self._X = np.ascontiguousarray(reference.scale_images(dataset.train.images, workload.dtype).T)
        self._Y = dataset.train.labels
        self._workload = workload
        self._state: Any = None
        self._way, self._run = self._fastest()

    @abstractmethod
    def ways(self) -> dict[str, Callable[[], None]]:
        """Functions that advance ``self._state`` by all iterations."""

    def _fastest(self) -> tuple[str, Callable[[], None]]:
        seconds: dict[str, float] = {}
        ways = self.ways()
        for way, run in ways.items():
            try:
                for _ in range(3):  # the first one compiles
                    self.reset()
                    start = time.perf_counter()
                    run()
                    seconds[way] = min(time.perf_counter() - start, seconds.get(way, float("inf")))
            except Exception as error:  # a way that this installation cannot go, such as one without a C++ compiler
                print(f"{self.name}, {way}: left out: {type(error).__name__}: {str(error).splitlines()[0]}")
        best = min(seconds, key=lambda way: seconds[way])
        return best, ways[best]

    def train(self) -> None:
        self._run()

    def describe(self) -> str:
        return self._way


class Jax(Variants):
    """JAX: the loss, its gradient by ``jax.grad``, and the loop over iterations compiled as one."""

    def __init__(self, workload: Workload, dataset: Dataset) -> None:
        self._jax = importlib.import_module("jax")
        self._jax.config.update("jax_platforms", "cpu")
        self._jax.config.update("jax_enable_x64", workload.dtype == "float64")
        self._jax.config.update("jax_default_matmul_precision", "highest")
        self.name = f"jax {self._jax.__version__}"
        super().__init__(workload, dataset)

    def reset(self) -> None:
        (W1, b1), (W2, b2) = self._initial.layers()
        self._state = [self._jax.numpy.array(array) for array in (W1, b1, W2, b2)]

    def ways(self) -> dict[str, Callable[[], None]]:
        jax, jnp = self._jax, self._jax.numpy
        rate, iterations = self._workload.learning_rate, self._workload.iterations
        rows, columns, Y = jnp.array(self._X), jnp.array(self._X.T), jnp.array(self._Y)

        def cross_entropy(Z2: Any, axis: int, labels: Any) -> Any:
            log_A2 = jax.nn.log_softmax(Z2, axis=axis)
            return -jnp.mean(jnp.take_along_axis(log_A2, jnp.expand_dims(labels, axis), axis=axis))

        def loss_of_rows(parameters: Any, X: Any, labels: Any) -> Any:
            W1, b1, W2, b2 = parameters
            return cross_entropy(jax.nn.relu(X @ W1.T + b1.T) @ W2.T + b2.T, 1, labels)

        def loss_of_columns(parameters: Any, X: Any, labels: Any) -> Any:
            W1, b1, W2, b2 = parameters
            return cross_entropy(W2 @ jax.nn.relu(W1 @ X + b1) + b2, 0, labels)

        def trainer(loss: Callable[..., Any], X: Any) -> Callable[[], None]:
            def step(_: Any, carried: Any) -> Any:
                parameters, images, labels = carried
                gradients = jax.grad(loss)(parameters, images, labels)
                return [p - rate * g for p, g in zip(parameters, gradients, strict=True)], images, labels

            loop = jax.jit(lambda parameters, X, Y: jax.lax.fori_loop(0, iterations, step, (parameters, X, Y))[0])

            def run() -> None:
                self._state = jax.block_until_ready(loop(self._state, X, Y))

            return run

        return {"images in rows": trainer(loss_of_rows, rows), "images in columns": trainer(loss_of_columns, columns)}

    def parameters(self) -> Parameters:
        W1, b1, W2, b2 = (np.asarray(array) for array in self._state)
        return Parameters([W1, W2], [b1, b2])


class PyTorch(Variants):
    """PyTorch: the equations operation by operation, the results of the large ones in place; and compiled."""

    def __init__(self, workload: Workload, dataset: Dataset) -> None:
        self._torch = importlib.import_module("torch")
        self._torch.set_num_threads(usable_cpus())
        self.name = f"pytorch {self._torch.__version__}"
        super().__init__(workload, dataset)

    def reset(self) -> None:
        (W1, b1), (W2, b2) = self._initial.layers()
        self._state = [self._torch.tensor(array) for array in (W1, b1.T, W2, b2.T)]

    def ways(self) -> dict[str, Callable[[], None]]:
        torch = self._torch
        rate, iterations = self._workload.learning_rate, self._workload.iterations
        X, labels = torch.tensor(self._X), torch.tensor(self._Y)
        images = len(labels)
        (W1, _), (W2, _) = self._initial.layers()
        A1 = torch.empty(images, W1.shape[0], dtype=X.dtype)
        A2 = torch.empty(images, W2.shape[0], dtype=X.dtype)
        dZ1 = torch.empty_like(A1)
        Y = torch.zeros_like(A2)
        Y[torch.arange(images), labels] = 1

        def in_place(W1: Any, b1: Any, W2: Any, b2: Any) -> None:
            torch.addmm(b1, X, W1.T, out=A1).relu_()
            torch.addmm(b2, A1, W2.T, out=A2)
            torch.softmax(A2, 1, out=A2)
            dZ2 = A2.sub_(Y)
            torch.mm(dZ2, W2, out=dZ1).mul_(A1 > 0)
            W2.addmm_(dZ2.T, A1, alpha=-rate / images)
            b2.sub_(dZ2.sum(0, keepdim=True), alpha=rate / images)
            W1.addmm_(dZ1.T, X, alpha=-rate / images)
            b1.sub_(dZ1.sum(0, keepdim=True), alpha=rate / images)

        def functional(W1: Any, b1: Any, W2: Any, b2: Any, X: Any, Y: Any) -> Any:
            Z1 = X @ W1.T + b1
            A1 = torch.relu(Z1)
            dZ2 = (torch.softmax(A1 @ W2.T + b2, 1) - Y) / images
            dZ1 = (dZ2 @ W2) * (Z1 > 0)
            return (
                W1 - rate * (dZ1.T @ X),
                b1 - rate * dZ1.sum(0, keepdim=True),
                W2 - rate * (dZ2.T @ A1),
                b2 - rate * dZ2.sum(0, keepdim=True),
            )

        compiled = torch.compile(functional)

        def run_in_place() -> None:
            with torch.inference_mode():
                for _ in range(iterations):
                    in_place(*self._state)

        def run_compiled() -> None:
            with torch.no_grad():
                for _ in range(iterations):
                    self._state = compiled(*self._state, X, Y)

        return {"eager, in place": run_in_place, "torch.compile": run_compiled}

    def parameters(self) -> Parameters:
        W1, b1, W2, b2 = (tensor.numpy().copy() for tensor in self._state)
        return Parameters([W1, W2], [b1.T, b2.T])


def peers(workload: Workload, dataset: Dataset, without: list[str]) -> list[Peer]:
    """Everybody who can take part, warmed up."""
    found: list[Peer] = [Own(BASELINE, "numpy", workload.with_dtype("float64"), dataset)]
    if workload.dtype != "float64":
        found.append(Own(f"numpy {workload.dtype}", "numpy", workload, dataset))
    found.append(Own("numba", "numba", workload, dataset))
    for name, framework in (("jax", Jax), ("torch", PyTorch)):
        if name not in without:
            try:
                found.append(framework(workload, dataset))
            except ImportError as error:
                print(f"{name}: left out: {error}; pip install {name}")
    return found


def measure(everybody: list[Peer], rounds: int, seed: int) -> dict[str, list[float]]:
    """Seconds of each round, by name."""
    samples: dict[str, list[float]] = {peer.name: [] for peer in everybody}
    order = random.Random(seed)
    for _ in range(rounds):
        for peer in order.sample(everybody, len(everybody)):
            peer.reset()
            time.sleep(SETTLE)
            start = time.perf_counter()
            peer.train()
            samples[peer.name].append(time.perf_counter() - start)
    return samples


def largest_error(found: Parameters, expected: Parameters) -> float:
    """The largest difference of a parameter, as a fraction of the largest of its array; NaN if one is not a number."""
    pairs = zip(found.named(), expected.named(), strict=True)
    return max(float(np.abs(value - true).max() / np.abs(true).max()) for (_, value), (_, true) in pairs)


def report(everybody: list[Peer], samples: dict[str, list[float]], workload: Workload) -> list[dict[str, Any]]:
    """Print the table; return a row for each peer."""
    expected = next(peer for peer in everybody if peer.name == BASELINE).parameters()
    rows = []
    print(f"\n{'':16}{'seconds':>9} {'min - max':>17}{'numba is faster by':>22}  {'error':8}")
    for peer in everybody:
        error = largest_error(peer.parameters(), expected)
        validated = error <= TOLERANCE[peer.dtype]
        row: dict[str, Any] = {"name": peer.name, "way": peer.describe(), "error": error, "validated": validated}
        if validated:
            seconds = samples[peer.name]
            ratios = [own / numba for own, numba in zip(seconds, samples["numba"], strict=True)]
            middle, ratio = statistics.median(seconds).value, statistics.median(ratios).value
            row |= {"seconds": seconds, "median": middle, "ratios": ratios, "ratio": ratio}
            print(
                f"{peer.name:16}{middle:9.3f} {f'{min(seconds):.3f} - {max(seconds):.3f}':>17}"
                f"{f'{ratio:.2f} ({min(ratios):.2f} - {max(ratios):.2f})':>22}  {error:.1e}  {peer.describe()}"
            )
            if peer.name == "numba" and (peak := multiply_add_peak(workload.dtype, usable_cpus())):
                limit = workload.dense_flops * workload.iterations / peak
                row |= {"dense_limit": limit, "fraction_of_dense_limit": middle / limit}
                print(
                    f"{'':16}{limit:9.3f} would be the least with every product done: numba takes {middle / limit:.2f}"
                )
        else:
            print(f"{peer.name:16}  no result: its parameters differ from the reference's by {error:.1e}")
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=41_000)
    parser.add_argument("--hidden", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", nargs="*", choices=["jax", "torch"], default=[], help="leave out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows, with all timings, there")
    options = parser.parse_args()
    dataset = load_images(options.images, options.seed)
    workload = Workload(
        dataset.network(options.hidden),
        images=options.images,
        iterations=options.iterations,
        dtype=options.dtype,
        seed=options.seed,
    )
    everybody = peers(workload, dataset, options.without)
    samples = measure(everybody, options.rounds, options.seed)
    rows = report(everybody, samples, workload)
    if options.json:
        document = {"machine": machine.describe(), "workload": workload.describe(), "rows": rows}
        write_text(options.json, json.dumps(document, indent=1) + "\n")
    return 0 if all(row["validated"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
