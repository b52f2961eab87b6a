"""Trainings of presets from other machines, and the file of test errors that takes them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnistbench import words
from mnistbench.exceptions import RowError
from mnistbench.machine.identity import Machine
from mnistbench.results import reproduction
from mnistbench.results.merging import schema
from mnistbench.results.merging.plausibility import require_dates, same, too_many_threads
from mnistbench.results.merging.stored import canonical
from mnistbench.results.reading import DAMAGED
from mnistbench.task.workload import Workload

_TEST_IMAGES = 10_000
"""Images of MNIST's test set, of which an error is a whole number."""


def checked(document: Mapping[str, Any]) -> tuple[Machine, list[Mapping[str, Any]]]:
    """Return the machine and the trainings of a document of test errors.

    Raises:
        RowError: If its form is wrong, or it says what is not so of the preset or of its own trainings.
    """
    schema.ERRORS(document, "")
    name = document["workload"]["name"]
    forms = [run for run in document["runs"] if _well_formed(run)]
    try:
        current = not forms or reproduction.is_current({**document, "runs": forms}, name)
        machine = Machine.read(document["machine"])
    except DAMAGED as error:
        raise RowError(words.exception(error)) from error
    if not current:
        raise RowError(f"workload is named {name}, and is not trained as that preset is")
    if not same(document["published"], reproduction.published(name)):
        raise RowError(f"published is not what is published of {name}")
    means, told = reproduction.means(forms), document["mean_test_error"]
    if len(forms) == len(document["runs"]) and not (means.keys() == told.keys() and same(means, told)):
        raise RowError("mean_test_error is not the mean of the trainings")
    return machine, document["runs"]


def _well_formed(run: Any) -> bool:
    try:
        schema.TRAINING(run, "")
    except RowError:
        return False
    return True


def examine(run: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """Compare what a training says with what follows from the rest of it.

    Raises:
        RowError: If its form is wrong, or something it says is not believed.
    """
    schema.TRAINING(run, "")
    require_dates(run["date"], None)
    curve, epochs = run["curve"], run["epochs"]
    task = Workload.from_description({**document["workload"], "seed": run["seed"], "dtype": run["dtype"]})
    if epochs * task.iterations_per_epoch != task.iterations:
        raise RowError(f"epochs is {epochs}, where the preset has {task.iterations // task.iterations_per_epoch}")
    if [point["epoch"] for point in curve] != [*range(1, epochs + 1)]:
        raise RowError(f"curve has not a point for each of {words.counted(epochs, 'epoch')}")
    seconds = [point["seconds"] for point in curve]
    if seconds != sorted(seconds) or seconds[-1] > run["seconds"] * (1 + 1e-9):
        raise RowError("curve has seconds out of order, or after the end")
    if not same(run["costs"]["train"], run["seconds"]):
        raise RowError(f"costs, train is {run['costs']['train']:.6g}, where seconds is {run['seconds']:.6g}")
    if not same(curve[-1]["test_error"], run["test_error"]):
        raise RowError(f"test_error is {run['test_error']:.6g}, where the curve ends at {curve[-1]['test_error']:.6g}")
    wrong = run["test_error"] * _TEST_IMAGES
    if abs(wrong - round(wrong)) > 1e-6:
        raise RowError(f"test_error is {run['test_error']:.6g}, which is no whole number of {_TEST_IMAGES:,} images")
    if problem := too_many_threads(run["threads"], Machine.read(document["machine"])):
        raise RowError(problem)


@dataclass
class Target:
    """File of test errors that takes in trainings.

    Attributes:
        path: Path of the file.
        machine: Description of its machine.
        runs: Its trainings, stored ones first.
    """

    path: Path
    machine: Mapping[str, Any]
    runs: list[dict[str, Any]]

    @classmethod
    def of(cls, path: Path, document: Mapping[str, Any]) -> Target:
        """Read the file, or begin one for a machine's document.

        Raises:
            RowError: If the file holds trainings of an earlier preset of that name.
            MnistbenchError: If the file is damaged.
        """
        if not path.exists():
            return cls(path, document["machine"], [])
        stored = reproduction.read(path)
        if not reproduction.is_current(stored, document["workload"]["name"]):
            raise RowError(f"{path} holds trainings of an earlier preset of that name, and is kept")
        return cls(path, stored["machine"], [*stored["runs"]])

    def add(self, run: Mapping[str, Any]) -> bool:
        """Add a training; return False if it is there.

        Raises:
            RowError: If another one of its backend, dtype and seed is.
        """
        for other in self.runs:
            if reproduction.identity(other) == reproduction.identity(run):
                if canonical(other) != canonical(run):
                    backend, dtype, seed = reproduction.identity(run)
                    raise RowError(
                        f"differs from that of {backend} {dtype} with seed {seed} in {self.path}, which is kept"
                    )
                return False
        self.runs.append(dict(run))
        return True

    def write(self) -> None:
        """Write the file.

        Raises:
            MnistbenchError: If it cannot be written.
        """
        name = self.path.stem.removeprefix(reproduction.PREFIX)
        reproduction.write(self.path, name, self.machine, self.runs)
