"""``pytest benchmarks/``: its options, what it stores and shows while it runs, and the table at the end."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mnistbench.backends as registry
from benchmarks import flags
from benchmarks.progress import Progress
from benchmarks.recording import Recording
from mnistbench import machine, threads, words
from mnistbench.exceptions import MnistbenchError
from mnistbench.files import require_writable
from mnistbench.task.presets import PRESETS, preset
from mnistbench.training import cold

if TYPE_CHECKING:
    from mnistbench.results.row import Row

collect_ignore = ["test_scaling.py"]  # several minutes long; collected where it is named on the command line

_HERE = Path(__file__).parent
_progress = pytest.StashKey[Progress]()
_recording = pytest.StashKey[Recording]()
_comparing = pytest.StashKey[flags.Comparing]()
_compiled = pytest.StashKey[Path]()
_plain = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mnistbench")
    group.addoption("--workload", choices=PRESETS, default="classic", help="what to train (default: classic)")
    group.addoption("--plain", action="store_true", help="measure the plain variants of backends too")
    group.addoption("--rounds", type=int, metavar="N", help="timed rounds of each backend (default: 6 to 15 in 6 s)")
    group.addoption("--most-images", type=int, default=1_000_000, metavar="N", help="largest size of test_scaling.py")
    group.addoption("--budget", type=float, default=60, metavar="S", help="seconds of a case of it (default: 60)")
    group.addoption("--ranks", type=_counts, metavar="N,N", help="numbers of ranks of test_scaling.py, such as 1,2,4")
    group.addoption("--share-cores", action="store_true", help="with --ranks: ranks may have more threads than CPUs")
    group.addoption("--mpiexec", default="mpiexec", metavar="COMMAND", help="with --ranks: what -n N is added to")
    results = _HERE.parent / "results"
    group.addoption("--results", type=Path, default=results, metavar="FOLDER", help="where to store results")
    group.addoption("--report", type=Path, metavar="FILE", help="write a page of all results there: report.html")
    group.addoption("--resume", action="store_true", help="measure what the last unfinished run has not")


def _counts(text: str) -> list[int]:
    """Read the option ``--ranks``, in which numbers may be in any order."""
    found = sorted({int(part) for part in text.split(",")})
    if found[0] < 1:
        raise ValueError(text)
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if (rounds := config.getoption("--rounds")) is not None and rounds < 1:
        raise pytest.UsageError("--rounds: at least 1 is needed")
    if config.getoption("--most-images") < 1_000:
        raise pytest.UsageError("--most-images: at least 1000 are needed, the smallest size")
    flags.refuse(config)
    words.write_alike(sys.stdout)
    # What a case's cold process has compiled is not compiled again in this one.
    folder = tempfile.TemporaryDirectory(prefix="mnistbench-", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    config.stash[_compiled] = Path(folder.name)
    os.environ.update(dict.fromkeys(cold.CACHES, folder.name))
    try:
        threads.limit(config.getoption("--threads"))  # before a backend loads NumPy
        for name in config.getoption("--backend") or []:
            registry.refuse_unsupported(registry.get_backend(name), preset(config.getoption("--workload")))
    except MnistbenchError as error:
        raise pytest.UsageError(str(error)) from error
    _require_writable(_folder(config) / "measurements.json", "--results")
    if (page := config.getoption("--report")) is not None:
        _require_writable(page, "--report")
    # A library may warn as it likes: pytest shows each warning once.
    config.addinivalue_line("filterwarnings", "default")
    option = config.option
    if not flags.shows_table(config):
        option.benchmark_quiet = True  # our table replaces pytest-benchmark's
    if option.benchmark_storage == "file://./.benchmarks":
        option.benchmark_storage = f"file://{_folder(config)}"
    config.stash[_comparing] = flags.Comparing(config)
    config.pluginmanager.register(config.stash[_comparing])
    config.stash[_recording] = Recording(config, _folder(config))


def _require_writable(path: Path, option: str) -> None:
    try:
        require_writable(path)
    except MnistbenchError as error:
        raise pytest.UsageError(f"{option}: {error}") from error


def _folder(config: pytest.Config) -> Path:
    return Path(config.getoption("--results")) / machine.folder_name()


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    return {**machine.describe(), "versions": machine.versions()}


def pytest_benchmark_update_commit_info(commit_info: dict[str, Any]) -> None:
    # This checkout's commit, wherever pytest was started.
    commit_info |= machine.commit("benchmarks", "conftest.py", "pyproject.toml")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the plain backends, which take long and show the mathematics, unless they are asked for."""
    if config.getoption("--plain") or config.getoption("--backend"):
        return
    plain = [item for item in items if _ours(item.path) and registry.is_plain(_backend(item))]
    if plain:
        items[:] = [item for item in items if item not in plain]
        config.hook.pytest_deselected(items=plain)
    config.stash[_plain] = list(dict.fromkeys(map(_backend, plain)))


def _backend(item: pytest.Item) -> str:
    name: str = item.callspec.params["backend_name"]  # type: ignore[attr-defined]
    return name


def pytest_collection_finish(session: pytest.Session) -> None:
    config, ours = session.config, [item for item in session.items if _ours(item.path)]
    if not ours or config.option.collectonly:
        return
    if config.getoption("--ranks") and any(item.path.name != "test_scaling.py" for item in ours):
        raise pytest.UsageError("--ranks: is for benchmarks/test_scaling.py; name that file alone")
    config.stash[_comparing].load()
    config.stash[_recording].begin(ours)
    coming = [item for item in ours if item.get_closest_marker("skip") is None]
    task = preset(config.getoption("--workload"))
    if all(item.path.name == "test_training.py" for item in coming):
        cases = [item.callspec.params for item in coming]  # type: ignore[attr-defined]
        names = [f"{task.name}-{case['backend_name']}-{case['dtype']}-" for case in cases]
        config.stash[_comparing].require_overlap([f"benchmarks/test_training.py::{name}" for name in names])
    config.stash[_progress] = Progress(config)
    config.stash[_progress].expect(len(coming))
    if len(ours) == len(session.items) and (reporter := config.pluginmanager.getplugin("terminalreporter")):
        # The progress takes the place of a dot for each case.
        reporter.showfspath = reporter._show_progress_info = False


def _ours(path: Path) -> bool:
    return path.is_relative_to(_HERE)


@pytest.fixture(scope="session")
def progress(pytestconfig: pytest.Config) -> Progress:
    """The display of what is measured."""
    return pytestconfig.stash[_progress]


@pytest.fixture(scope="session")
def compiled(pytestconfig: pytest.Config) -> Path:
    """The folder with this process's caches of compiled code."""
    return pytestconfig.stash[_compiled]


@pytest.fixture(scope="session")
def recording(pytestconfig: pytest.Config) -> Recording:
    """The run that stores the rows."""
    return pytestconfig.stash[_recording]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if _ours(item.path):
        item.config.stash[_progress].begin(item.callspec.id)  # type: ignore[attr-defined]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: Any = yield
    ended = call.when == "call" or (call.when == "setup" and call.excinfo is not None)
    if _ours(item.path) and ended and item.get_closest_marker("skip") is None:
        item.config.stash[_progress].end(None if call.excinfo is None else _reason(call.excinfo.value))
    return report  # type: ignore[no-any-return]


def _reason(error: BaseException) -> str:
    """Say on one line why a case has no result."""
    if isinstance(error, pytest.skip.Exception):
        return f"left out: {error}"
    return f"NO RESULT: {error.msg if isinstance(error, pytest.fail.Exception) else words.exception(error)}"


def pytest_report_teststatus(report: Any) -> tuple[str, str, str] | None:
    if not report.nodeid.startswith("benchmarks/") or (report.when != "call" and report.passed):
        return None
    category = "error" if report.failed and report.when != "call" else report.outcome
    return category, "", category.upper() if category != "passed" else ""


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    cut_off = exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR) or bool(session.shouldfail)
    if session.config.stash[_recording].end(finished=not cut_off) and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.collectonly:
        return
    recording, comparing = config.stash[_recording], config.stash[_comparing]
    rows = recording.rows()
    _left_out(terminalreporter, bool(rows), config.stash.get(_plain, []))
    for workload, lines in _tables(rows).items():
        terminalreporter.section(f"{workload} workload, {rows[0].origin.machine}")
        for line in lines:
            terminalreporter.write_line(line)
    for line in [*recording.notes, *comparing.notes]:
        terminalreporter.write_line(line)
    for problem in [*recording.problems, *([f"--benchmark-compare: {comparing.problem}"] if comparing.problem else [])]:
        terminalreporter.write_line(f"ERROR: {problem}", red=True)


def _tables(rows: Sequence[Row]) -> dict[str, Iterator[str]]:
    """Return the lines of each workload's table."""
    from mnistbench.report import tables
    from mnistbench.results import storage

    shown = {name: tables.as_text(storage.latest(found)) for name, found in storage.workloads(rows).items()}
    if sized := storage.scaling(rows):
        shown[storage.SCALING] = _scaling(sized)
    return shown


def _left_out(terminalreporter: pytest.TerminalReporter, measured: bool, plain: list[str]) -> None:
    """Write why cases have no row, in one line for each unavailable backend, and one for all ``plain`` ones."""
    lines: list[str] = []
    unavailable: Counter[str] = Counter()
    for skipped in terminalreporter.getreports("skipped"):
        reason = skipped.longrepr[2].removeprefix("Skipped: ")
        if " is unavailable: " in reason or " cannot share a workload " in reason:
            unavailable[reason] += 1
        else:
            lines.append(f"{skipped.nodeid.partition('[')[2].removesuffix(']')}: {reason}")
    lines += [f"{words.counted(count, 'case')}: {reason}" for reason, count in unavailable.items()]
    if plain:
        lines.append(f"{' and '.join(plain)}: measured with --plain")
    if lines or not measured:
        terminalreporter.section("left out" if measured else "nothing was measured")
    for line in lines:
        terminalreporter.write_line(line)


def _scaling(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each case."""
    for row in rows:
        assert row.size is not None, "rows of the scaling benchmark have a size"
        found, iterations = row.timing, row.workload.iterations
        middle, low, high = (words.seconds(value / iterations) for value in (found.value, found.low, found.high))
        verdict = "agrees" if row.validated else f"NO RESULT: {row.problem}"
        many = words.counted(row.threads, "thread")
        among = "" if row.ranks is None else f" of {words.counted(len(row.ranks.threads), 'rank'):<8}"
        yield (
            f"{row.workload.images:>9,} images {row.size.hidden:>3} hidden{many:>11}{among}  "
            f"{row.backend:<12} {row.dtype}  {middle:>8} an iteration "
            f"({low} to {high}{', noisy' * found.noisy})  {verdict}"
        )
