"""The run that a session of benchmarks stores: begun or resumed, a row at a time, and finished."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mnistbench import words
from mnistbench.exceptions import MnistbenchError
from mnistbench.machine.bounds import prepare
from mnistbench.results import runs, storage
from mnistbench.results.row import Row
from mnistbench.threads import resolve
from mnistbench.timing import noise

_CODE = ("benchmarks", "conftest.py", "pyproject.toml")
"""Code in the checkout that rows depend on besides the package."""


class Recording:
    """Rows of a session, each on disk when its case is done.

    Attributes:
        notes: What was written, one line each.
        problems: What could not be written, one line each.
    """

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._run: runs.Run | None = None
        self.notes: list[str] = []
        self.problems: list[str] = []

    def begin(self, items: Sequence[pytest.Item]) -> None:
        """Begin a run of these cases, or resume one and skip what it has measured.

        Raises:
            UsageError: If the run cannot be resumed.
        """
        option = self._config.getoption
        names = {option("--workload") if item.path.name == "test_training.py" else storage.SCALING for item in items}
        options = {
            "command": "pytest benchmarks/",
            "rounds": option("--rounds"),
            "threads": resolve(option("--threads")),
        }
        if storage.SCALING in names:
            options["most_images"] = option("--most-images")
            if option("--ranks"):
                options |= {name: option(f"--{name.replace('_', '-')}") for name in ("ranks", "share_cores", "mpiexec")}
        make = runs.Run.resume if option("--resume") else runs.Run
        try:
            self._run = make(self._folder, "-".join(sorted(names)), options, _CODE)
        except MnistbenchError as error:
            raise pytest.UsageError(f"--resume: {error}" if option("--resume") else str(error)) from error
        prepare()
        import mnistbench.report  # noqa: F401 - which loads matplotlib: it is missed now or never

        measured = self._run.measured()
        for item in items:
            if item.callspec.id in measured:  # type: ignore[attr-defined]
                assert self._run.path is not None, "it was resumed"
                item.add_marker(pytest.mark.skip(reason=f"measured already, in {self._run.path.name}"))

    def store(self, benchmark: BenchmarkFixture, row: Row) -> None:
        """Store a case's row under the names that the benchmark has for pytest-benchmark.

        Raises:
            Failed: If the row is no result.
        """
        assert self._run is not None, "it has begun"
        names = {name: getattr(benchmark, name) for name in ("group", "name", "fullname", "param")}
        benchmark.extra_info.update(row.as_dict())
        try:
            self._run.add(runs.entry(row) | names)
        except MnistbenchError as error:
            # The row is kept, and written with the next one or at the end.
            self.notes = list(dict.fromkeys([*self.notes, str(error)]))
        if row.problem is not None:
            pytest.fail(row.problem, pytrace=False)

    def rows(self) -> list[Row]:
        """Return the rows so far, with those of a resumed run."""
        return [] if self._run is None else self._run.rows()

    def end(self, finished: bool) -> bool:
        """Finish the run, unless it was cut off, and draw the charts; return whether something could not be written."""
        if not self.rows():
            return False
        assert self._run is not None, "it has rows"
        try:
            stored = self._run.finish() if finished else self._run.save()
            from mnistbench import report  # loaded when the run began

            self.notes += [f"wrote {path}" for path in (stored, *report.write(self._folder.parent))]
            self._write_page()
            self.notes += [f"warning: {warning}" for warning in noise.of_cores()]
            if not finished:
                self.notes.append(f"{stored.name} is unfinished: the same command with --resume measures the rest")
        except MnistbenchError as error:
            self.problems.append(words.one_line(error))
        return bool(self.problems)

    def _write_page(self) -> None:
        """Write the page of all results, if one is wanted."""
        from mnistbench import webpage

        if page := self._config.getoption("--report"):
            webpage.write(self._folder.parent, page)
            self.notes.append(f"wrote {page}")


def outcome(row: Row) -> str:
    """Sum up a result on one line, for the display of a running benchmark."""
    found = row.timing
    interval = f"{words.seconds(found.low)} to {words.seconds(found.high)}{', noisy' * found.noisy}"
    return f"{words.seconds(found.value)} ({interval}), agrees"


def timings(benchmark: BenchmarkFixture) -> list[float]:
    """Return the list of seconds to which pytest-benchmark adds each round."""
    assert benchmark.stats is not None, "a round has begun"
    found: list[float] = benchmark.stats.stats.data
    return found
