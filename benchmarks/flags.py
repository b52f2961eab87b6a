"""pytest-benchmark's own options: those that work, those that rounds of training make ineffective, and comparing.

A row is compared with this machine's last stored run that has it. pytest-benchmark itself would take the last file,
whatever it holds, and would only warn where it compares nothing.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pytest
from pytest_benchmark.session import PerformanceRegression

from mnistbench import machine
from mnistbench.machine.identity import Machine

_ROUNDS = "the number of rounds is that of --rounds"
_CHECKED = "the comparison with the reference warms up before"
_REFUSED = {
    "--benchmark-min-rounds": _ROUNDS,
    "--benchmark-min-time": _ROUNDS,
    "--benchmark-max-time": _ROUNDS,
    "--benchmark-precision": _ROUNDS,
    "--benchmark-confidence": _ROUNDS,
    "--benchmark-calibration-precision": _ROUNDS,
    "--benchmark-warmup": _CHECKED,
    "--benchmark-warmup-iterations": _CHECKED,
    "--benchmark-timer": "rows are seconds of time.perf_counter",
    "--benchmark-disable": "a run without measurements is 'mnistbench verify'",
    "--benchmark-cprofile-loops": "the profile is of one round",
}
"""Options without effect, each with what to use instead."""

_SHOWING = ("histogram", "columns", "sort", "group_by", "name", "time_unit", "cprofile", "verbose")
"""Options for pytest-benchmark's own table, which is shown if one of them is given."""

_DEFAULTS = {"sort": "min", "group_by": "group", "name": "normal"}


def refuse(config: pytest.Config) -> None:
    """Refuse options that have no effect.

    Raises:
        UsageError: If one is given.
    """
    everywhere = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]
    given = [argument.partition("=")[0] for argument in everywhere]
    for name, reason in _REFUSED.items():
        if name in given:
            raise pytest.UsageError(f"{name}: has no effect on these benchmarks; {reason}")
    option = config.option
    if getattr(option, "numprocesses", None) or getattr(option, "tx", None):
        raise pytest.UsageError("-n: benchmarks run one after the other, or they would slow each other; leave it out")
    if option.benchmark_compare_fail and not option.benchmark_compare:
        raise pytest.UsageError("--benchmark-compare-fail: needs --benchmark-compare")
    if option.benchmark_histogram and importlib.util.find_spec("pygal") is None:
        raise pytest.UsageError("--benchmark-histogram: needs pygal; pip install 'pytest-benchmark[histogram]'")


def shows_table(config: pytest.Config) -> bool:
    """Return whether an option asks for pytest-benchmark's own table."""
    option = config.option
    shown = any(getattr(option, f"benchmark_{name}") not in (None, [], False, _DEFAULTS.get(name)) for name in _SHOWING)
    return shown or bool(option.benchmark_compare)


class Comparing:
    """Plugin that compares the session's rows with stored ones, in place of pytest-benchmark's own choice of a file.

    Attributes:
        problem: Reason why nothing was compared, or None.
        notes: Differences between the runs, and rows that no stored run has, in words.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Take over the option ``--benchmark-compare``, before pytest-benchmark reads it."""
        self._config, self._wanted = config, config.option.benchmark_compare
        self._stored: dict[str, Mapping[str, Any]] = {}
        self.problem: str | None = None
        self.notes: list[str] = []
        config.option.benchmark_compare = []

    @property
    def _benchmarks(self) -> Any:
        return self._config._benchmarksession  # type: ignore[attr-defined]

    def load(self) -> None:
        """Read the stored runs of this machine, before anything is measured.

        Raises:
            UsageError: If there are none.
        """
        storage, wanted = self._benchmarks.storage, self._wanted
        if wanted:
            found = storage.load(*([] if wanted is True else [wanted]))
            self._stored = {str(path): run for path, run in found if _is_of_this_machine(run)}
            if not self._stored:
                which = "run" if wanted is True else f"run {wanted}"
                raise pytest.UsageError(f"--benchmark-compare: no {which} of this machine is stored in {storage.path}")

    def require_overlap(self, prefixes: list[str]) -> None:
        """Check before anything is measured that a stored row may be one of those to come.

        Args:
            prefixes: Beginnings of the rows' full names; the number of threads is not known yet.

        Raises:
            UsageError: If no stored row begins with one of them.
        """
        names = {name for run in self._stored.values() for name in _rows(run)}
        if self._wanted and prefixes and not any(name.startswith(tuple(prefixes)) for name in names):
            raise pytest.UsageError(f"--benchmark-compare: {self._nothing()}")

    def _nothing(self) -> str:
        return f"no run stored in {self._benchmarks.storage.path} has any of these rows"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """Choose for each row the last run that has it, and hand these to pytest-benchmark."""
        # A case that was interrupted has rounds and no row.
        self._benchmarks.benchmarks[:] = [one for one in self._benchmarks.benchmarks if "schema" in one.extra_info]
        measured = [one.fullname for one in self._benchmarks.benchmarks]
        if self._wanted and measured:
            chosen: dict[str, dict[str, Any]] = {}
            for name in measured:
                if path := next((path for path in reversed(self._stored) if name in _rows(self._stored[path])), None):
                    chosen.setdefault(path, {})[name] = _rows(self._stored[path])[name]
                else:
                    self.notes.append(f"no stored run has {name.rpartition('::')[2]}")
            self._benchmarks.compared_mapping = chosen
            if not chosen:
                self.problem, self._benchmarks.compare_fail = self._nothing(), None
                session.exitstatus = pytest.ExitCode.USAGE_ERROR
            now = self._benchmarks.get_machine_info()
            for path in chosen:
                self.notes += [f"{path}: {found}" for found in differences(self._stored[path]["machine_info"], now)]
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None]:
        """Turn a regression into an exit status; pytest-benchmark has then said which row it is."""
        try:
            return (yield)
        except PerformanceRegression:
            terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_of_this_machine(run: Mapping[str, Any]) -> bool:
    try:
        return Machine.read(run["machine_info"]) == machine.this()
    except (KeyError, TypeError, ValueError):
        return False  # a file of another project


def _rows(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored run's entries by their full names, without those that are no result."""
    return {one["fullname"]: one for one in run["benchmarks"] if one["extra_info"].get("validated", True)}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words what differs between the descriptions of two machines."""
    for key in dict.fromkeys([*then, *now]):
        old, new = then.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new)
        elif old != new:
            yield f"{key} was {old}, and is {new}"
