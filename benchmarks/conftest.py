"""``pytest benchmarks/``: its options, what it stores, and the table at the end."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mnistbench.backends as registry
from mnistbench import machine, threads, words
from mnistbench.exceptions import MnistbenchError
from mnistbench.files import require_writable
from mnistbench.task.presets import PRESETS, preset

if TYPE_CHECKING:
    from mnistbench.results.row import Row

collect_ignore = ["test_scaling.py"]  # several minutes long; collected where it is named on the command line

_ROOT = Path(__file__).parents[1]
_written = pytest.StashKey[list[Path]]()
_temporary = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mnistbench")
    group.addoption("--workload", choices=PRESETS, default="classic", help="what to train (default: classic)")
    group.addoption("--rounds", type=int, metavar="N", help="timed rounds of each backend (default: 2 to 15 in 10 s)")
    group.addoption("--most-images", type=int, default=1_000_000, metavar="N", help="largest size of test_scaling.py")
    group.addoption("--budget", type=float, default=60, metavar="S", help="seconds of a case of it (default: 60)")
    group.addoption("--results", type=Path, default=_ROOT / "results", metavar="FOLDER", help="where to store results")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if (rounds := config.getoption("--rounds")) is not None and rounds < 1:
        raise pytest.UsageError("--rounds: at least 1 is needed")
    if config.getoption("--most-images") < 1_000:
        raise pytest.UsageError("--most-images: at least 1000 are needed, the smallest size")
    try:
        threads.limit(config.getoption("--threads"))  # before a backend loads NumPy
        for name in config.getoption("--backend") or []:
            registry.refuse_unsupported(registry.get_backend(name), preset(config.getoption("--workload")))
    except MnistbenchError as error:
        raise pytest.UsageError(str(error)) from error
    try:
        require_writable(_folder(config) / "measurements.json")
    except MnistbenchError as error:
        raise pytest.UsageError(f"--results: {error}") from error
    option = config.option
    # The document with all raw timings is stored when the session ends. Our table replaces pytest-benchmark's, unless
    # that compares runs.
    if not option.benchmark_json:
        config.stash[_temporary] = Path(tempfile.mkdtemp())
        option.benchmark_json = str(config.stash[_temporary] / "benchmark.json")
    if not (option.benchmark_compare or option.benchmark_verbose):
        option.benchmark_quiet = True
    if option.benchmark_storage == "file://./.benchmarks":
        option.benchmark_storage = f"file://{_folder(config)}"


def _folder(config: pytest.Config) -> Path:
    return Path(config.getoption("--results")) / machine.folder_name()


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    return {**machine.describe(), "versions": machine.versions()}


def pytest_benchmark_update_commit_info(commit_info: dict[str, Any]) -> None:
    # This checkout's commit, wherever pytest was started.
    commit_info |= machine.commit("benchmarks", "conftest.py", "pyproject.toml")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    path = Path(config.option.benchmark_json)
    if not path.exists() or not path.stat().st_size:
        return
    from mnistbench import report
    from mnistbench.results import storage

    document = json.loads(path.read_text(encoding="utf-8"))
    # A case interrupted after its rounds has no row.
    document["benchmarks"] = [entry for entry in document["benchmarks"] if "schema" in entry["extra_info"]]
    if not document["benchmarks"]:
        return
    workloads = dict.fromkeys(entry["extra_info"]["workload"]["name"] for entry in document["benchmarks"])
    name = f"{'-'.join(workloads)}_{document['commit_info']['id'][:7]}"
    stored = storage.store(_folder(config), name, document)
    config.stash[_written] = [stored, *report.write(stored.parents[1])]
    if path.parent == config.stash.get(_temporary, None):
        shutil.rmtree(path.parent)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    _left_out(terminalreporter)
    if not (written := config.stash.get(_written, [])):
        return
    from mnistbench.report import tables
    from mnistbench.results import storage

    rows = [row for row in storage.load(written[0].parent) if row.origin.file == written[0].name]
    shown = {name: tables.as_text(storage.latest(found)) for name, found in storage.workloads(rows).items()}
    if sized := storage.scaling(rows):
        shown[storage.SCALING] = _scaling(sized)
    for workload, lines in shown.items():
        terminalreporter.section(f"{workload} workload, {rows[0].origin.machine}")
        for line in lines:
            terminalreporter.write_line(line)
    terminalreporter.write_line("")
    for path in written:
        terminalreporter.write_line(f"wrote {path}")


def _left_out(terminalreporter: pytest.TerminalReporter) -> None:
    """Write why cases of the scaling have no row, in one line for each unavailable backend."""
    lines: list[str] = []
    unavailable: Counter[str] = Counter()
    for skipped in terminalreporter.getreports("skipped"):
        if "test_scaling.py" in skipped.nodeid:
            reason = skipped.longrepr[2].removeprefix("Skipped: ")
            if " is unavailable: " in reason:
                unavailable[reason] += 1
            else:
                lines.append(f"{skipped.nodeid.partition('[')[2].removesuffix(']')}: {reason}")
    lines += [f"{count} cases: {reason}" for reason, count in unavailable.items()]
    if lines:
        terminalreporter.section("left out")
    for line in lines:
        terminalreporter.write_line(line)


def _scaling(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each case."""
    for row in rows:
        assert row.size is not None, "rows of the scaling benchmark have a size"
        found, iterations = row.timing, row.workload.iterations
        middle, low, high = (words.seconds(value / iterations) for value in (found.value, found.low, found.high))
        verdict = "agrees" if row.validated else f"NO RESULT: {row.problem}"
        yield (
            f"{row.workload.images:>9,} images {row.size.hidden:>3} hidden{words.counted(row.threads, 'thread'):>11}  "
            f"{row.backend:<12} {row.dtype}  {middle:>8} an iteration "
            f"({low} to {high}{', noisy' * found.noisy})  {verdict}"
        )
