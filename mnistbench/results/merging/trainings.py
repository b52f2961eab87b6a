"""Trainings of presets from other machines, and the file of test errors that takes them in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

from mnistbench import words
from mnistbench.exceptions import RowError
from mnistbench.machine.identity import Machine
from mnistbench.results import reproduction
from mnistbench.results.merging import limits, schema
from mnistbench.results.merging.embedded import LEAST_ERROR, TEST_IMAGES, embedded, not_of_images
from mnistbench.results.merging.index import canonical
from mnistbench.results.merging.plausibility import follows, require_dates
from mnistbench.results.merging.verdicts import impossible_loss
from mnistbench.results.reading import DAMAGED
from mnistbench.task.workload import Workload


def of_document(document: Mapping[str, Any]) -> list[Mapping[str, Any] | RowError]:
    """Return each training of a document of test errors, or why it has not the form of one.

    Raises:
        RowError: If its form is wrong, or it says what is not so of the preset or of its own trainings.
    """
    schema.ERRORS(document, "")
    name = document["workload"]["name"]
    found = [_well_formed(run) for run in document["runs"]]
    forms = [run for run in found if not isinstance(run, RowError)]
    try:
        current = not forms or reproduction.is_current({**document, "runs": forms}, name)
    except DAMAGED as error:
        raise RowError(words.exception(error)) from error
    if not current:
        raise RowError(f"workload is named {name}, and is not trained as that preset is")
    if not follows(document["published"], reproduction.published(name)):
        raise RowError(f"published is not what is published of {name}")
    means, told = reproduction.means(forms), document["mean_test_error"]
    if len(forms) == len(found) and not (means.keys() == told.keys() and follows(means, told)):
        raise RowError("mean_test_error is not the mean of the trainings")
    return found


def _well_formed(run: Any) -> Mapping[str, Any] | RowError:
    try:
        schema.TRAINING(run, "")
    except RowError as error:
        return error
    return run  # type: ignore[no-any-return]


def require_believable(run: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """Compare what a training of the right form says with what follows from it, and with what is known besides.

    Raises:
        RowError: If something it says is not believed.
    """
    try:
        require_dates(run["date"], None)
        workload = Workload.from_description({**document["workload"], "seed": run["seed"], "dtype": run["dtype"]})
        machine = Machine.read(document["machine"])
        found = chain(_curve(run, workload), _of_machine(run, workload, machine), _scores(run, workload))
        problem = next(found, None)
    except DAMAGED as error:
        raise RowError(words.exception(error)) from error
    if problem is not None:
        raise RowError(problem)


def _curve(run: Mapping[str, Any], workload: Workload) -> Iterator[str]:
    """Yield what contradicts the points after the epochs."""
    curve, epochs = run["curve"], run["epochs"]
    if epochs * workload.iterations_per_epoch != workload.iterations:
        yield f"epochs is {epochs}, where the preset has {workload.iterations // workload.iterations_per_epoch}"
    if [point["epoch"] for point in curve] != [*range(1, epochs + 1)]:
        yield f"curve has not a point for each of {words.counted(epochs, 'epoch')}"
    seconds = [point["seconds"] for point in curve]
    if seconds != sorted(seconds) or seconds[-1] > run["seconds"] * (1 + 1e-9):
        yield "curve has seconds out of order, or after the end"
    if not follows(run["costs"]["train"], run["seconds"]):
        yield f"costs, train is {run['costs']['train']:.6g}, where seconds is {run['seconds']:.6g}"
    if not follows(curve[-1]["test_error"], run["test_error"]):
        yield f"test_error is {run['test_error']:.6g}, where the curve ends at {curve[-1]['test_error']:.6g}"


def _scores(run: Mapping[str, Any], workload: Workload) -> Iterator[str]:
    """Yield scores that no network has on these images."""
    told = [("train_accuracy", run["train_accuracy"], workload.images)]
    told += [("test_error", error, TEST_IMAGES) for error in (*_errors(run), run["test_error"])]
    yield from filter(None, (not_of_images(*one) for one in told))
    if (least := min(_errors(run))) < LEAST_ERROR:
        yield f"test_error is {least:.6g}, and no network falls below {LEAST_ERROR:g}"
    if problem := impossible_loss(run["loss"], run["train_accuracy"]):
        yield problem
    if run["data_sha256"] != embedded(workload.images, workload.seed).sha256:
        yield f"data_sha256 is not that of {workload.images:,} images of MNIST with seed {workload.seed}"


def _errors(run: Mapping[str, Any]) -> list[float]:
    return [point["test_error"] for point in run["curve"]]


def _of_machine(run: Mapping[str, Any], workload: Workload, machine: Machine) -> Iterator[str]:
    """Yield what the machine cannot have done."""
    if problem := limits.wrong_device(run["device"], machine):
        yield problem
    if problem := limits.too_fast(workload, run["seconds"], run["device"], run["threads"], machine):
        yield problem


@dataclass
class Target:
    """File of test errors that takes in trainings.

    Attributes:
        path: Path of the file.
        machine: Description of its machine.
        runs: Its trainings by :func:`mnistbench.results.reproduction.identity`, stored ones first.
    """

    path: Path
    machine: Mapping[str, Any]
    runs: dict[tuple[str, str, int], dict[str, Any]]

    @classmethod
    def of(cls, path: Path, document: Mapping[str, Any]) -> Self:
        """Read the file, or begin one for a machine's document.

        Raises:
            RowError: If the file holds trainings of an earlier preset of that name.
            MnistbenchError: If the file is damaged.
        """
        if not path.exists():
            return cls(path, document["machine"], {})
        stored = reproduction.read(path)
        if not reproduction.is_current(stored, document["workload"]["name"]):
            raise RowError(f"{path} holds trainings of an earlier preset of that name, and is kept")
        return cls(path, stored["machine"], {reproduction.identity(run): run for run in stored["runs"]})

    def add(self, run: Mapping[str, Any]) -> bool:
        """Add a training; return False if it is there.

        Raises:
            RowError: If another one of its backend, dtype and seed is.
        """
        identity = reproduction.identity(run)
        other = self.runs.get(identity)
        if other is None:
            self.runs[identity] = dict(run)
        elif canonical(other) != canonical(run):
            backend, dtype, seed = identity
            raise RowError(f"differs from that of {backend} {dtype} with seed {seed} in {self.path}, which is kept")
        return other is None

    def write(self) -> None:
        """Write the file.

        Raises:
            MnistbenchError: If it cannot be written.
        """
        name = self.path.stem.removeprefix(reproduction.PREFIX)
        reproduction.write(self.path, name, self.machine, [*self.runs.values()])
