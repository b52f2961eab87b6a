"""What the comparison with the reference tells apart on the workloads that are measured, with their real data.

``python -m tests.faults.power classic wide deep`` trains every fault below, and honest backends from several seeds, on
these workloads in both dtypes, and writes the worst error of each into the table of docs/honesty.md, with the number of
the tests' other faults that are rejected there. It takes some hours; the columns of other workloads are kept.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import mnistbench.backends as registry
from mnistbench.agreement import Agreement, Trajectory, check, comparisons
from mnistbench.datasets import Dataset, Split, load_images
from mnistbench.files import write_text
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.presets import preset
from mnistbench.task.workload import DTYPES, DType, Workload
from tests.faults import classic as classic_faults
from tests.faults import mlp as mlp_faults
from tests.faults.base import Forward, Steps
from tests.faults.mlp import InAnotherOrder
from tests.support.builders import identical

PAGE = Path(__file__).parents[2] / "docs" / "honesty.md"
BEGIN, END = "<!-- power: begin, written by 'python -m tests.faults.power' -->\n", "<!-- power: end -->"

Product = Callable[[Array, Array], Array]


class Products(np.ndarray[Any, Any]):
    """An array whose matrix products are those of a function; what is computed from it is such an array too."""

    product: Product

    def __array_finalize__(self, other: Any) -> None:
        if other is not None and hasattr(other, "product"):
            self.product = other.product

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [value.view(np.ndarray) if isinstance(value, Products) else value for value in inputs]
        outputs = options.pop("out", None)
        if outputs is not None:
            options["out"] = tuple(o.view(np.ndarray) if isinstance(o, Products) else o for o in outputs)
        if ufunc is np.matmul:
            found: Any = self.product(*plain)
        else:
            found = getattr(ufunc, method)(*plain, **options)
        if not isinstance(found, np.ndarray):
            return found
        own = found.view(Products)
        own.product = self.product
        return own


def kept_bits(bits: int) -> Callable[[Array], Array]:
    """Return a function that rounds to ``bits`` bits of mantissa, the first one included."""

    def rounded(values: Array) -> Array:
        mantissa, exponent = np.frexp(values)
        found: Array = np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent).astype(values.dtype)
        return found

    return rounded


def of_rounded(rounded: Callable[[Array], Array]) -> Product:
    """Return a product of rounded operands, summed in full precision."""
    return lambda one, other: rounded(one) @ rounded(other)


def halves(values: Array) -> Array:
    return values.astype(np.float16).astype(values.dtype)


def summed_in_halves(one: Array, other: Array) -> Array:
    """Multiply, and round the sum to float16 after every 256 terms; matrix units do after 16 or fewer."""
    total = np.zeros((one.shape[0], other.shape[1]), one.dtype)
    for first in range(0, one.shape[1], 256):
        part = slice(first, first + 256)
        total = halves(total + halves(one[:, part]) @ halves(other[part]))
    return total


def computing(product: Product) -> type[Steps]:
    """Return a trainer that computes its matrix products so."""

    def wrapped(parameters: Parameters) -> Parameters:
        arrays = [array.view(Products) for array in parameters.arrays()]
        for array in arrays:
            array.product = product
        return Parameters.from_arrays(arrays)

    class Computing(Steps):
        def forward(self, batch: mlp.Batch) -> Forward:
            own = wrapped(self._state.parameters)
            return mlp.forward(own, batch.X, self.workload.network.activation, batch.masks)

        def gradient(self, batch: mlp.Batch, found: Forward) -> Parameters:
            gradient = mlp.gradients(self.workload, wrapped(self._state.parameters), batch, found)
            return Parameters.from_arrays(np.array(array) for array in gradient.arrays())

        def loss(self, logits: Array, Y: Any) -> float:
            return super().loss(np.array(logits), Y)

        def accuracy(self, logits: Array, Y: Any) -> float:
            return super().accuracy(np.array(logits), Y)

    return Computing


def stopping_after(share: float) -> type[Steps]:
    """Return a trainer that makes the first updates only."""

    class Stopping(Steps):
        def update(self, gradient: Parameters) -> mlp.State:
            if self._state.iteration < share * self.workload.iterations:
                return super().update(gradient)
            return replace(self._state, iteration=self._state.iteration + 1)

    return Stopping


def at_rate(factor: float) -> type[Steps]:
    """Return a trainer with another learning rate."""

    class AtRate(Steps):
        def update(self, gradient: Parameters) -> mlp.State:
            task = replace(self.workload, learning_rate=factor * self.workload.learning_rate)
            return mlp.update(task, self._state, gradient)

    return AtRate


FAULTS: dict[str, type[Steps]] = {
    "TF32 operands of every product": computing(of_rounded(kept_bits(11))),
    "bfloat16 operands": computing(of_rounded(kept_bits(8))),
    "float16 operands": computing(of_rounded(halves)),
    "float16 operands and sums": computing(summed_in_halves),
    "last half of the iterations not run": stopping_after(0.5),
    "last quarter not run": stopping_after(0.75),
    "last 2% not run": stopping_after(0.98),
    "learning rate 10% off": at_rate(1.1),
    "learning rate 1% off": at_rate(1.01),
}
"""Faults by what is wrong."""

HONEST = {
    "numpy": ("numpy", None),
    "numba, one thread": ("numba", 1),
    "numba, two threads": ("numba", 2),
    "numba-plain": ("numba-plain", None),
    "jax": ("jax", None),
    "torch": ("torch", None),
}
"""Honest backends, and their numbers of threads."""

REORDERED = "numpy, all orders changed"

LARGE = 1000
"""Error in tolerances that is told no more exactly, and ends a training."""

OTHERS = "the tests' other faults: rejected"
"""Row of the faults that the tests plant on small workloads."""


OTHER_IMAGES = " on other images"
"""End of the name of a preset that is trained on images with an order of pixels of their own, every third inverted."""


def prepared(workload: str, dtype: DType, seed: int = 0) -> tuple[Workload, Dataset, Trajectory]:
    """Return a preset in a dtype, its images, and the reference's trajectory.

    The learning rate on other images is divided by how much brighter they are than MNIST's, or training diverges.
    """
    task = preset(workload.removesuffix(OTHER_IMAGES), "float64", seed)
    dataset = load_images(task.images, seed)
    if workload.endswith(OTHER_IMAGES):
        usual, dataset = dataset, changed_images(dataset)
        brightness = [float(np.mean(np.square(one.train.images, dtype=np.float64))) for one in (usual, dataset)]
        task = replace(task, learning_rate=task.learning_rate * brightness[0] / brightness[1])
    return task.with_dtype(dtype), dataset, Trajectory(task, dataset)


def changed_images(dataset: Dataset) -> Dataset:
    """Permute the pixels of all images, and invert every third."""
    order = np.random.default_rng(0).permutation(dataset.train.images.shape[1])

    def changed(split: Split) -> Split:
        images = np.ascontiguousarray(split.images[:, order])
        images[::3] ^= 0xFF
        return replace(split, images=images)

    test = None if dataset.test is None else changed(dataset.test)
    return replace(dataset, train=changed(dataset.train), dev=changed(dataset.dev), test=test)


def errors(workload: str, dtype: DType, names: list[str], seed: int = 0) -> Iterator[tuple[str, Agreement]]:
    """Yield the agreement of each of these on a preset."""
    own, dataset, trajectory = prepared(workload, dtype, seed)
    for name in names:
        if name in HONEST:
            backend, threads = HONEST[name]
            found = registry.get_backend(backend)
            if found.unsupported(own) is None:
                yield name, check(found, own, dataset, trajectory, threads)
        else:
            kind: Any = InAnotherOrder if name == REORDERED else FAULTS[name]
            agreement = Agreement(name, dtype)
            for found_check in comparisons(kind(own, dataset, trajectory.fresh(), None), agreement, trajectory):
                agreement.checks.append(found_check)
                if found_check.error >= LARGE:  # it takes minutes to train on in rounded numbers
                    break
            yield name, agreement


def others(workload: str, dtype: DType) -> str:
    """Return how many of the tests' faults are rejected on a preset, and the names of those that are not.

    Faults of options that the preset does not have are left out, and so are those that change nothing in it.
    """
    own, dataset, trajectory = prepared(workload, dtype)
    faults = classic_faults.FAULTS if own.is_classic else mlp_faults.FAULTS
    planted = {name: fault.trainer for name, fault in faults.items() if not fault.options and dtype in fault.dtypes}
    rejected, missed = 0, []
    honest: Parameters | None = None
    for name, kind in planted.items():
        agreement = Agreement(name, dtype)
        try:
            trainer = kind(own, dataset, trajectory.fresh(), None)
            wrong = any(not found.passed for found in comparisons(trainer, agreement, trajectory))
        except Exception:  # a faulty trainer may raise anything
            wrong = True
        if not wrong and honest is None:
            right = Steps(own, dataset, trajectory.fresh(), None)
            right.advance(own.iterations)
            honest = right.parameters()
        if wrong:
            rejected += 1
        elif honest is None or not identical(agreement.states[own.iterations], honest):
            missed.append(name)
        print(workload, dtype, name, "rejected" if wrong else "passes", flush=True)
    told = f"{rejected} of {rejected + len(missed)}"
    return f"{told}, not {', '.join(missed)}" if missed else told


def cell(found: Agreement, seeds: int = 1) -> str:
    """Return the worst error of a number of seeds, as a multiple of its tolerance, and of what."""
    worst = found.worst
    if found.failure is not None or worst is None:
        return "raises"
    size = f"{worst.error:.2g}" if worst.error < LARGE else f"> {LARGE}"
    what = f" ({worst.quantity})" if worst.error > 0 else ""
    return f"{size if what else 0}{what}{f', {seeds} seeds' if seeds > 1 else ''}"


Table = dict[str, dict[str, str]]
"""Cells by row and column."""

ELSEWHERE = (
    "\nOn other images, MNIST's with their pixels in another order, the same for all, and every third image inverted; "
    "the learning rate is divided by how much brighter that makes them:\n\n"
)
"""What the page says between the tables of MNIST and of other images."""


def read(page: Path = PAGE) -> Table:
    """Read the tables of a page as one."""
    text = page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    found: Table = {}
    for part, suffix in zip(text.split(ELSEWHERE), ("", OTHER_IMAGES), strict=False):
        lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in part.splitlines() if line]
        heading, _, *rows = lines or [[], []]
        columns = [column.replace(", ", f"{suffix}, ") for column in heading[1:]]
        for row, *cells in rows:
            found.setdefault(row, {}).update(zip(columns, cells, strict=True))
    return found


def written(table: Table) -> str:
    """Return a table of MNIST and one of other images in Markdown, each with a row for each fault and backend."""
    columns = list(dict.fromkeys(column for cells in table.values() for column in cells))
    usual, other = ([c for c in columns if (OTHER_IMAGES in c) is elsewhere] for elsewhere in (False, True))
    return _lines(table, usual) + (ELSEWHERE + _lines(table, other) if other else "")


def _lines(table: Table, columns: Sequence[str]) -> str:
    rows = [name for name in (*FAULTS, OTHERS, REORDERED, *HONEST) if name in table]
    headings = [column.replace(OTHER_IMAGES, "") for column in columns]
    lines = [["error, in tolerances", *headings], ["---"] * (1 + len(columns))]
    lines += [[name, *(table[name].get(column, "-") or "-" for column in columns)] for name in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def store(table: Table, page: Path = PAGE) -> None:
    """Write the table into a page, between its markers."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    write_text(page, before + begin + written(table) + END + rest.partition(END)[2])


def fill(row: str, workload: str, dtype: DType, text: str) -> None:
    """Write a cell into the page."""
    table = read()
    table.setdefault(row, {})[f"{workload}, {dtype}"] = text
    store(table)
    print(workload, dtype, row, text, flush=True)


def main() -> None:
    """Fill columns of the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="+", help=f"presets, with {OTHER_IMAGES!r} at the end or without")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="only this dtype")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds of what is honest (default: 10)")
    parser.add_argument("--only", choices=("faults", "others", "honest"), help="only these rows")
    options = parser.parse_args()
    for workload in options.workloads:
        for dtype in options.dtype or DTYPES:
            if options.only in (None, "faults"):
                for name, found in errors(workload, dtype, [*FAULTS]):
                    fill(name, workload, dtype, cell(found))
            if options.only in (None, "others"):
                fill(OTHERS, workload, dtype, others(workload, dtype))
            if options.only in (None, "honest"):
                honest(workload, dtype, options.seeds)


def honest(workload: str, dtype: DType, seeds: int) -> None:
    """Fill in the largest error of each honest backend, of all ``seeds`` seeds."""
    largest: dict[str, Agreement] = {}
    for seed in range(seeds):
        for name, found in errors(workload, dtype, [REORDERED, *HONEST], seed):
            largest[name] = max(largest.get(name, found), found, key=badness)
            fill(name, workload, dtype, cell(largest[name], seed + 1))


def badness(found: Agreement) -> float:
    """Return the worst error in tolerances; infinite without one."""
    return found.worst.error if found.failure is None and found.worst is not None else math.inf


if __name__ == "__main__":
    main()
