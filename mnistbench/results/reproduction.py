"""Test errors of fully trained presets, stored beside the published ones.

There is one file ``results/<machine>/errors_<workload>.json`` for each preset, with a run for each seed. The test
images take no part in training, and the error of the final parameters counts. The error after every epoch is kept for
the chart and computed while the training's clock stands still.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistbench import words
from mnistbench.exceptions import MnistbenchError, OptionError
from mnistbench.files import locked, require_writable, write_text
from mnistbench.machine.identity import Machine
from mnistbench.results.origin import Origin
from mnistbench.results.reading import DAMAGED, read_object, shown
from mnistbench.task.presets import PUBLISHED, Published, preset
from mnistbench.task.workload import DType, Workload

if TYPE_CHECKING:
    from mnistbench.training.result import Progress

SCHEMA = 1
"""Version of the files; incremented when a field changes its meaning."""

PREFIX = "errors_"
"""Beginning of the files' names."""

Callback = Callable[[int, "Progress", float], None]
"""Called after every epoch with the seed, the progress, and the test error then."""


@dataclass(frozen=True)
class Run:
    """Training of a preset from one seed.

    Attributes:
        test_error: Fraction of the test images misclassified by the final parameters.
        epochs: Number of epochs trained.
        seconds: Seconds of training.
        curve: Seconds of training and the test error after each epoch.
    """

    workload: Workload
    backend: str
    device: str
    threads: int
    versions: Mapping[str, str]
    test_error: float
    epochs: int
    seconds: float
    curve: tuple[tuple[float, float], ...]
    published: Published
    origin: Origin

    @classmethod
    def of(cls, fields: Mapping[str, Any], document: Mapping[str, Any], file: str) -> Run:
        """Read a run from a file's document."""
        published, machine = document["published"], Machine.read(document["machine"])
        return cls(
            workload=_workload(document, fields),
            curve=tuple((point["seconds"], point["test_error"]) for point in fields["curve"]),
            published=Published(published["test_error"], published["source"], published["method"]),
            origin=Origin(machine, fields["commit"], fields["dirty"], None, fields["date"], file),
            **{name: fields[name] for name in _AS_STORED},
        )


_AS_STORED = ("backend", "device", "threads", "versions", "test_error", "epochs", "seconds")


def require(name: str) -> None:
    """Raise OptionError if a workload has no published error, with a list of those that have one."""
    if name not in PUBLISHED:
        raise OptionError(f"workload {name!r}: no error is published of it; choose from {', '.join(PUBLISHED)}")


def measure(
    name: str,
    seeds: Sequence[int],
    folder: Path,
    backend: str = "numba",
    dtype: DType = "float32",
    threads: int | None = None,
    callback: Callback | None = None,
) -> Path:
    """Train a preset from every seed, store its test errors after each run, and return the file.

    A run replaces a stored one of the same seed, backend and dtype. Other stored runs are kept, unless the preset has
    changed since.

    Raises:
        OptionError: If the preset has no published error.
        MnistbenchError: If the backend cannot train it, or the file cannot be read or written.
    """
    from mnistbench import machine

    require(name)
    path = folder / machine.folder_name() / f"{PREFIX}{name}.json"
    require_writable(path)
    for seed in seeds:
        run = _train(preset(name, dtype, seed), backend, threads, callback)
        _store(path, name, run)
    return path


def _train(workload: Workload, backend: str, threads: int | None, callback: Callback | None) -> dict[str, Any]:
    """Train from one seed and return the run as JSON values."""
    from mnistbench import machine
    from mnistbench.datasets import load_images
    from mnistbench.reference.evaluation import score
    from mnistbench.reference.parameters import Parameters
    from mnistbench.training.loop import train

    dataset = load_images(workload.images, workload.seed)
    assert dataset.test is not None, "MNIST has a test set"
    test, curve = dataset.test, []

    def follow(progress: Progress, parameters: Parameters) -> None:
        error = 1 - score(parameters, test, workload.network.activation).accuracy
        curve.append({"epoch": progress.epoch, "seconds": progress.seconds, "test_error": error})
        if callback:
            callback(workload.seed, progress, error)

    result = train(dataset, workload=workload, backend=backend, threads=threads, callback=follow)
    facts, commit = result.description, machine.commit()
    assert result.test_accuracy is not None, "as above"
    return {
        "seed": workload.seed,
        "test_error": 1 - result.test_accuracy,
        "train_accuracy": result.accuracy,
        "loss": result.loss,
        "epochs": result.epoch,
        "seconds": result.costs.train,
        "costs": result.costs.as_dict(),
        "backend": backend,
        "dtype": workload.dtype,
        "device": facts.device,
        "threads": facts.threads,
        "kernel": facts.kernel,
        "versions": facts.versions,
        "commit": commit["id"],
        "dirty": commit["dirty"],
        "date": datetime.now(UTC).isoformat(),
        "data_sha256": dataset.sha256,
        "curve": curve,
    }


def _task(workload: Workload) -> dict[str, Any]:
    """Describe what the runs of a file have in common."""
    return {key: value for key, value in workload.describe().items() if key not in ("seed", "dtype")}


def _workload(document: Mapping[str, Any], run: Mapping[str, Any]) -> Workload:
    """Read the workload of a run, also from files of earlier versions."""
    return Workload.from_description({**document["workload"], "seed": run["seed"], "dtype": run["dtype"]})


def _store(path: Path, name: str, run: dict[str, Any]) -> None:
    """Add a run to the file, or replace an older one."""
    from mnistbench import machine

    with changing(path):
        stored = read(path) if path.exists() else {}
        same = bool(stored) and is_current(stored, name)
        others = [old for old in stored["runs"] if identity(old) != identity(run)] if same else []
        write(path, name, machine.describe(), [*others, run])


def changing(path: Path) -> AbstractContextManager[None]:
    """Keep other processes from changing a file from the moment it is read until it is written."""
    return locked(path.with_name(f".{path.name}.lock"), f"stores trainings in {path.name}", patience=10)


def is_current(document: Mapping[str, Any], name: str) -> bool:
    """Whether the runs of a file were trained as the preset of that name is trained today."""
    return _task(_workload(document, document["runs"][0])) == _task(preset(name))


def identity(run: Mapping[str, Any]) -> tuple[str, str, int]:
    """What no two runs of a file have in common: backend, dtype and seed."""
    return run["backend"], run["dtype"], run["seed"]


def write(path: Path, name: str, machine: Mapping[str, Any], runs: Sequence[dict[str, Any]]) -> None:
    """Write a file of a preset's runs on a machine.

    Raises:
        MnistbenchError: If it cannot be written.
    """
    ordered = sorted(runs, key=identity)
    document = {
        "schema": SCHEMA,
        "machine": machine,
        "workload": _task(preset(name)),
        "published": published(name),
        "mean_test_error": means(ordered),
        "runs": ordered,
    }
    write_text(path, json.dumps(document, indent=1) + "\n")


def published(name: str) -> dict[str, Any]:
    """Return a preset's published error as JSON values."""
    found = PUBLISHED[name]
    return {"test_error": found.error, "source": found.source, "method": found.method}


def means(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Compute the mean test error of each backend and dtype."""
    errors: dict[str, list[float]] = {}
    for run in runs:
        errors.setdefault(f"{run['backend']} {run['dtype']}", []).append(run["test_error"])
    return {case: statistics.fmean(values) for case, values in errors.items()}


def read(path: Path) -> dict[str, Any]:
    """Read a file; raise MnistbenchError unless every run in it can be read."""
    try:
        document = read_object(path)
        if document["schema"] != SCHEMA or not document["runs"]:
            raise ValueError("another schema, or no run")
        _runs(document, path)
    except DAMAGED as error:
        reason = words.exception(error)
        raise MnistbenchError(f"{path}: not a file of test errors ({reason}); remove or restore it") from error
    return document


def _runs(document: Mapping[str, Any], path: Path) -> list[Run]:
    told = shown(document)
    return [Run.of(fields, told, path.name) for fields in told["runs"]]


def machines(folder: Path) -> set[Path]:
    """Find the folders of machines with stored test errors."""
    return {path.parent for path in folder.glob(f"*/{PREFIX}*.json")}


def load(folder: Path) -> list[Run]:
    """Read every run in a machine's folder, ordered by preset, backend, dtype and seed.

    Raises:
        MnistbenchError: If a file is damaged.
    """
    order = {name: place for place, name in enumerate(PUBLISHED)}
    paths = sorted(folder.glob(f"{PREFIX}*.json"))
    paths.sort(key=lambda path: order.get(path.stem.removeprefix(PREFIX), len(order)))
    return [run for path in paths for run in _runs(read(path), path)]
