"""Presets trained to their end: the errors on MNIST's test images that they reach, beside the published ones.

Files are ``results/<machine>/errors_<workload>.json``, one for each preset, with a run for each seed. The test images
take no part in training: what counts is the error of the last parameters. That of every epoch is kept for the chart,
computed while the clock of the training stands still.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistbench.exceptions import MnistbenchError, OptionError
from mnistbench.files import require_writable, write_text
from mnistbench.task.presets import PUBLISHED, preset
from mnistbench.task.summary import training_summary
from mnistbench.task.workload import DType, Workload

if TYPE_CHECKING:
    import pandas as pd

    from mnistbench.training.result import Progress

SCHEMA = 1
"""Raised when a file's fields change their meaning."""

_PREFIX = "errors_"

Callback = Callable[[int, "Progress", float], None]
"""Called after every epoch with the seed, the progress, and the test error then."""


def require(name: str) -> None:
    """Refuse a workload of which no error is published.

    Raises:
        OptionError: naming those of which there is one.
    """
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
    """Train a preset from every seed and store its test errors, each run as soon as it is finished.

    Runs of a stored file stay where the preset has not changed since, but for those of the same seed, backend and
    dtype; those of a preset that was other are dropped.

    Returns:
        the file.

    Raises:
        OptionError: no error of it is published.
        MnistbenchError: the backend cannot do it, or the file cannot be read or written.
    """
    from mnistbench import machine

    require(name)
    path = folder / machine.folder_name() / f"{_PREFIX}{name}.json"
    require_writable(path)
    for seed in seeds:
        run = _train(preset(name, dtype, seed), backend, threads, callback)
        _store(path, name, run)
    return path


def _train(workload: Workload, backend: str, threads: int | None, callback: Callback | None) -> dict[str, Any]:
    """A run of one seed, as JSON values."""
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
        "device": facts["device"],
        "threads": facts["threads"],
        "kernel": facts["kernel"],
        "versions": facts["versions"],
        "commit": commit["id"],
        "dirty": commit["dirty"],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_sha256": dataset.sha256,
        "curve": curve,
    }


def _task(workload: Workload) -> dict[str, Any]:
    """What the runs of a file have in common."""
    return {key: value for key, value in workload.describe().items() if key not in ("seed", "dtype")}


def _workload(document: dict[str, Any], run: dict[str, Any]) -> Workload:
    """The workload of a run in a file, also of one that an earlier version wrote."""
    return Workload.from_description({**document["workload"], "seed": run["seed"], "dtype": run["dtype"]})


def _store(path: Path, name: str, run: dict[str, Any]) -> None:
    """Write a run to the file, in the place of an older one."""
    from mnistbench import machine

    published, task = PUBLISHED[name], _task(preset(name))
    stored = _read(path) if path.exists() else {}
    identity = ("backend", "dtype", "seed")
    same = bool(stored) and _task(_workload(stored, run)) == task
    others = [old for old in stored["runs"] if any(old[k] != run[k] for k in identity)] if same else []
    runs = sorted([*others, run], key=lambda run: [run[key] for key in identity])
    document = {
        "schema": SCHEMA,
        "machine": machine.describe(),
        "workload": task,
        "published": {"test_error": published.error, "source": published.source, "method": published.method},
        "mean_test_error": _means(runs),
        "runs": runs,
    }
    write_text(path, json.dumps(document, indent=1) + "\n")


def _means(runs: list[dict[str, Any]]) -> dict[str, float]:
    """The mean test error of each backend and dtype."""
    errors: dict[str, list[float]] = {}
    for run in runs:
        errors.setdefault(f"{run['backend']} {run['dtype']}", []).append(run["test_error"])
    return {case: statistics.fmean(values) for case, values in errors.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA or not document["runs"]:
            raise ValueError("of another schema, or without a run")
        _workload(document, document["runs"][0])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise MnistbenchError(f"{path}: not a file of test errors ({reason}); remove or restore it") from error
    return document


def machines(folder: Path) -> set[Path]:
    """The folders of machines with stored test errors."""
    return {path.parent for path in folder.glob(f"*/{_PREFIX}*.json")}


def load(folder: Path) -> pd.DataFrame:
    """Every run stored in a machine's folder, in the order of the presets, then of backends, dtypes and seeds.

    The columns are the run's own fields, and besides: ``workload`` (its name), ``network`` and ``training`` (in
    words), ``published``, ``source``, ``method``, ``machine``, and ``validated``, which is True.

    Raises:
        MnistbenchError: a file is not what :func:`measure` wrote.
    """
    import pandas as pd

    records = []
    order = {name: place for place, name in enumerate(PUBLISHED)}
    paths = folder.glob(f"{_PREFIX}*.json")
    for path in sorted(paths, key=lambda path: (order.get(path.stem.removeprefix(_PREFIX), len(order)), path.name)):
        document = _read(path)
        try:
            records += list(_records(document))
        except (KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise MnistbenchError(f"{path}: not a file of test errors ({reason}); remove or restore it") from error
    return pd.DataFrame.from_records(records)


def _records(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    published = document["published"]
    for run in document["runs"]:
        workload = _workload(document, run)
        yield {
            **run,
            "workload": workload.name,
            "network": str(workload.network),
            "training": training_summary(workload),
            "published": published["test_error"],
            "source": published["source"],
            "method": published["method"],
            "machine": document["machine"]["name"],
            "validated": True,
        }


def as_markdown(rows: pd.DataFrame) -> Iterator[str]:
    """The table of the test errors, a line for each preset, backend and dtype, and what to know about it."""
    yield "| workload | network | our training | epochs | test error, mean | by seed | published | training time | on |"
    yield f"|{' --- |' * 9}"
    for _, of_case in rows.groupby(["workload", "backend", "dtype"], sort=False):
        first, errors = of_case.iloc[0], list(of_case["test_error"])
        seconds = statistics.fmean(of_case["seconds"])
        cells = [
            first["workload"],
            first["network"],
            first["training"],
            str(first["epochs"]),
            f"**{percent(statistics.fmean(errors))}**",
            ", ".join(percent(error) for error in errors),
            f"{published(first['published'])}, {first['source']}",
            f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s",
            f"{first['backend']} {first['dtype']}, {first['device']}, {first['threads']} threads",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield (
        "Test error: of the last parameters on MNIST's 10,000 test images, which took no part in training or in the "
        "choice of an epoch. Published: by a network of the same layer sizes, trained in the authors' own way. "
        "Training time: of a seed, on average, without loading and compiling."
    )


def percent(error: float) -> str:
    """A measured error: "0.71 %"."""
    return f"{100 * error:.2f} %"


def published(error: float) -> str:
    """A published error, to as many digits as it has: "0.7 %"."""
    return f"{100 * error:g} %"
