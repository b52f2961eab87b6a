"""The reference's training of a workload, kept in the cache folder: computed once, or elsewhere and brought along.

A wrong trajectory would let a backend pass that is wrong in the same way, so a stored one is never simply trusted:

- Its file names everything that it depends on: the workload, the images, the initial parameters, the order of the
  images in each epoch, and the source of the modules that computed it. A file of anything else is not read.
- A digest covers the file's content, so that damage is noticed.
- The first update, and another of those next to a checkpoint, chosen at random, are computed again: of a training with
  an optimizer's moments, which are not kept, only the forward pass of the other one.

What is left is a file made on purpose. One of a trajectory can only deceive the comparison along itself: gradients are
compared with newly computed ones, and so is one of the timed rounds of every measurement, from other weights. One of
twins, whose distances are tolerances of workloads other than the classic's kind, could widen these: it is held to its
key and its digest alone, since nothing less than training the twins would check it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mnistbench import files
from mnistbench.agreement.checkpoints import State
from mnistbench.agreement.trajectory import Trajectory, stops_of
from mnistbench.agreement.twins import Spread, Twins
from mnistbench.datasets import Dataset
from mnistbench.exceptions import MnistbenchError
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.workload import DTYPES, DType, Workload

FORMAT = 1
"""Version of the files; incremented whenever they change."""

NEAR = 1e-11
"""Largest difference of a value computed again, relative to the largest one of its array: another machine adds in
another order, by some 1e-15 in an update."""

_SOURCES = ("reference", "task", "agreement/checkpoints.py", "agreement/trajectory.py", "agreement/twins.py")
"""Parts of the package that compute a trajectory."""

MOST_BYTES = 2**30
"""Most bytes of all files that are kept, unless one workload needs more. Those unused for longest go."""

_SCALARS = ("loss", "accuracy", "logit_size", "largest_logit")

_NAME = re.compile(r"(reference-[0-9a-f]{16})-(trajectory|twins-float(32|64))\.npz")
"""Names of the files; the first group is common to those of a workload."""

_DAMAGED = (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile, MnistbenchError)
"""Exceptions that a file of another program can raise."""

Arrays = dict[str, Any]
"""Arrays of a file by name."""


def trajectory(workload: Workload, dataset: Dataset) -> Trajectory:
    """Return the reference's trajectory: the one that is kept, if it stands the checks, or a new one, which is kept.

    Twins are read and kept likewise, when they are first asked for. Where the cache folder cannot be written, they stay
    in this process.
    """
    return _Kept(workload, dataset)


def compute(workload: Workload, dataset: Dataset) -> list[Path]:
    """Compute and keep what comparing with a workload needs, in both dtypes, unless it is kept; return the files.

    Raises:
        MnistbenchError: If a file cannot be written.
    """
    found = _Kept(workload, dataset)
    for dtype in _twinned(workload):
        found.twins(dtype)
    paths = [_path(kind, found.key) for kind in _kinds(workload)]
    if absent := next((path for path in paths if not path.is_file()), None):
        files.require_writable(absent)
        raise MnistbenchError(f"{absent}: could not be kept")
    return paths


def missing(workload: Workload, dataset: Dataset) -> list[Path]:
    """Return which files that :func:`compute` writes are not there, or are damaged."""
    key = _key(workload.with_dtype("float64"), dataset)
    return [_path(kind, key) for kind in _kinds(workload) if _read(kind, key) is None]


def _kinds(workload: Workload) -> list[str]:
    """Return the kinds of files of a workload."""
    return ["trajectory", *(f"twins-{dtype}" for dtype in _twinned(workload))]


def _twinned(workload: Workload) -> Sequence[DType]:
    """Return the dtypes whose tolerances come from twins."""
    return () if workload.is_classic else DTYPES


class _Kept(Trajectory):
    """A trajectory whose states and twins are kept.

    Attributes:
        key: What they depend on.
    """

    def __init__(self, workload: Workload, dataset: Dataset) -> None:
        workload = workload.with_dtype("float64")
        initial = _initial(workload)
        self.key = _key(workload, dataset)
        states = _states(_read("trajectory", self.key) or {}, workload)
        super().__init__(workload, dataset, initial, states)
        if states is not None and not _stands(self):
            states = None
            super().__init__(workload, dataset, initial)
        if states is None:
            _write("trajectory", self.key, _arrays_of([*self.forwards.values(), *self.states]))

    def twins(self, dtype: str) -> Twins:
        if dtype not in self._twins:
            arrays = _read(f"twins-{dtype}", self.key)
            if arrays is not None and (found := _twins(arrays, dtype, self)) is not None:
                self._twins[dtype] = found
            else:
                _write(f"twins-{dtype}", self.key, _arrays_of_twins(super().twins(dtype)))
        return self._twins[dtype]


def _initial(workload: Workload) -> Parameters:
    return Parameters.initial(workload.network, workload.seed, workload.recipe.initializer)


def _key(workload: Workload, dataset: Dataset) -> dict[str, Any]:
    """Return everything that a trajectory depends on, but rounding, as JSON values."""
    epochs = 0
    if workload.recipe.batch_size is not None:
        epochs = workload.iterations // workload.iterations_per_epoch + 1
    orders = (mlp.epoch_order(workload.seed, epoch, workload.images) for epoch in range(epochs))
    return {
        "format": FORMAT,
        "workload": replace(workload, name="custom").describe(),
        "data": dataset.sha256,
        "initial": _digest(np.ascontiguousarray(array).tobytes() for array in _initial(workload).arrays()),
        "orders": _digest(np.ascontiguousarray(order, "<i8").tobytes() for order in orders),
        "code": _code(),
    }


def _code() -> str:
    """Return a digest of the sources that compute a trajectory."""
    return _digest(part for path in _files() for part in (path.name.encode(), path.read_bytes()))


def _files() -> list[Path]:
    """Return the files of these sources."""
    package = Path(__file__).parents[1]
    return [path for name in _SOURCES for path in sorted((package / name).rglob("*.py")) or [package / name]]


def _digest(parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _path(kind: str, key: Mapping[str, Any]) -> Path:
    digest = _digest([json.dumps(key, sort_keys=True).encode()])
    return files.cache_folder() / f"reference-{digest[:16]}-{kind}.npz"


def _read(kind: str, key: Mapping[str, Any]) -> Arrays | None:
    """Return the arrays of a file; None if it is missing, damaged, or of anything else."""
    try:
        digest, _, content = _path(kind, key).read_bytes().partition(b"\n")
        if digest.decode("ascii") != _digest([content]):
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if json.loads(str(arrays.pop("key"))) != {**key, "kind": kind}:
            return None
    except _DAMAGED:
        return None
    with contextlib.suppress(OSError):  # it may be somebody else's
        os.utime(_path(kind, key))
    return arrays


def _write(kind: str, key: Mapping[str, Any], arrays: Arrays) -> None:
    """Keep arrays, if the folder can be written."""
    content = io.BytesIO()
    np.savez(content, key=np.array(json.dumps({**key, "kind": kind})), **arrays)
    body = content.getvalue()
    with contextlib.suppress(MnistbenchError):
        files.write_atomically(
            _path(kind, key), lambda file: (file.write(_digest([body]).encode() + b"\n"), file.write(body))
        )
        _prune(_path(kind, key))


def _prune(written: Path) -> None:
    """Remove files, those unused for longest first, until all take no more than :data:`MOST_BYTES`.

    Those of the workload of the file that was just written stay.
    """
    files.remove_litter(written.parent, "reference-*.npz")
    found = []
    own = _NAME.fullmatch(written.name)
    for path in written.parent.glob("reference-*.npz"):
        with contextlib.suppress(OSError):  # another process may remove it
            if name := _NAME.fullmatch(path.name):
                state = path.stat()
                found.append((own is not None and name[1] == own[1], state.st_mtime_ns, state.st_size, path))
    total = sum(size for _, _, size, _ in found)
    for keep, _, size, path in sorted(found):
        if total > MOST_BYTES and not keep:
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


def _arrays_of(states: Sequence[State]) -> Arrays:
    """Return the arrays that store states; of two after as many iterations the last counts."""
    found: Arrays = {}
    for state in states:
        name = f"{state.iteration:09}"
        found[f"{name}-scalars"] = np.array([getattr(state, scalar) for scalar in _SCALARS])
        found[f"{name}-margins"] = state.margins
        found |= {f"{name}-{key}": array for key, array in state.parameters.named()}
    return found


def _states(arrays: Arrays, workload: Workload) -> dict[int, State] | None:
    """Return the states that arrays store, by iteration; None if they are not all of a workload's."""
    found = {}
    try:
        for name in {name.partition("-")[0] for name in arrays}:
            own = {key.partition("-")[2]: array for key, array in arrays.items() if key.startswith(f"{name}-")}
            scalars = dict(zip(_SCALARS, map(float, own.pop("scalars")), strict=True))
            margins = own.pop("margins")
            found[int(name)] = State(int(name), _in_order(own), margins=margins, **scalars)
    except _DAMAGED:
        return None
    return found if set(found) == stops_of(workload) else None


def _in_order(arrays: Mapping[str, Array]) -> Parameters:
    """Return the parameters of arrays by their names W1, b1, W2, ..."""
    layers = range(1, len(arrays) // 2 + 1)
    return Parameters([arrays[f"W{layer}"] for layer in layers], [arrays[f"b{layer}"] for layer in layers])


def _arrays_of_twins(twins: Twins) -> Arrays:
    found: Arrays = {
        f"spread-{iteration}": np.array([*spread.parameters, spread.margin, spread.mean_margin])
        for iteration, spread in twins.spreads.items()
    }
    for place, parameters in enumerate(twins.last):
        found |= {f"last-{place}-{name}": array for name, array in parameters.named()}
    return found


def _twins(arrays: Arrays, dtype: str, trajectory: Trajectory) -> Twins | None:
    """Return the twins that arrays store; None if they are not those of a trajectory."""
    with contextlib.suppress(*_DAMAGED):
        spreads = {
            int(name.partition("-")[2]): Spread(tuple(map(float, values[:-2])), float(values[-2]), float(values[-1]))
            for name, values in arrays.items()
            if name.startswith("spread-")
        }
        places = sorted({int(name.split("-")[1]) for name in arrays if name.startswith("last-")})
        last = [
            _in_order({name.split("-")[2]: own for name, own in arrays.items() if name.startswith(f"last-{place}-")})
            for place in places
        ]
        shapes = [array.shape for array in trajectory.initial.arrays()]
        alike = all(
            [(a.shape, a.dtype) for a in own.arrays()] == [(s, np.dtype(dtype)) for s in shapes] for own in last
        )
        if last and alike and set(spreads) == stops_of(trajectory.workload):
            return Twins(spreads, last)
    return None


def _stands(found: Trajectory) -> bool:
    """Whether a stored trajectory has the states of its workload, of which some are computed again."""
    states = {state.iteration: state for state in (*found.forwards.values(), *found.states)}
    try:
        if not all(_is_shaped(found, state) for state in states.values()):
            return False
        if not _equal(states[0].parameters, found.initial):
            return False
        classic, last = found.workload.is_classic, found.workload.iterations
        pairs = [k for k in states if 0 < k < last and (k + 1 in states or not classic)]
        again = [0, secrets.choice(pairs)] if pairs else [0]
        with np.errstate(all="ignore"):  # of a training that diverges
            return all(_repeats(found, states, k, updates=classic or k == 0) for k in again)
    except _DAMAGED:
        return False


def _is_shaped(found: Trajectory, state: State) -> bool:
    """Whether a state's arrays have the shapes and the dtype of a trajectory's."""
    arrays = [*state.parameters.arrays(), state.margins]
    shapes = [*(array.shape for array in found.initial.arrays()), found.batches.places(state.iteration).shape]
    return [(array.shape, array.dtype) for array in arrays] == [(shape, np.dtype("float64")) for shape in shapes]


def _repeats(found: Trajectory, states: Mapping[int, State], k: int, updates: bool) -> bool:
    """Whether the state after k iterations has the results of its forward pass, and with ``updates`` the next one
    those of its update."""
    task, own = found.workload, states[k]
    start = replace(mlp.State.start(own.parameters, task.recipe.optimizer), iteration=k)
    step = mlp.iterate(task, found.batches, start)
    again = State.of(k, own.parameters, step.Zs[-1], step.batch.Y)
    values = [(getattr(own, name), getattr(again, name)) for name in _SCALARS]
    values.append((own.margins, again.margins))
    if updates:
        values += zip(states[k + 1].parameters.arrays(), step.after.parameters.arrays(), strict=True)
    return all(_near(np.asarray(one), np.asarray(other)) for one, other in values)


def _near(one: Array, other: Array) -> bool:
    """Whether arrays are equal but for rounding; NaN equals NaN."""
    size = float(np.abs(other[np.isfinite(other)]).max(initial=0.0))
    return bool(np.allclose(one, other, rtol=0.0, atol=NEAR * size, equal_nan=True))


def _equal(one: Parameters, other: Parameters) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.arrays(), other.arrays(), strict=True))
