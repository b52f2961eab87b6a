"""``pytest benchmarks/``: options, the table at the end, and what is stored. The measuring is in the tests."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mnistbench.errors import MnistbenchError
from mnistbench.files import require_writable
from mnistbench.measurement import machine
from mnistbench.workload import PRESETS

_ROOT = Path(__file__).parents[1]
_written = pytest.StashKey[list[Path]]()
_temporary = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mnistbench")
    group.addoption("--workload", choices=PRESETS, default="classic", help="what to train (default: classic)")
    group.addoption("--rounds", type=int, metavar="N", help="timed rounds of each backend (default: 2 to 15 in 10 s)")
    group.addoption("--results", type=Path, default=_ROOT / "results", metavar="FOLDER", help="where to store results")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if (rounds := config.getoption("--rounds")) is not None and rounds < 1:
        raise pytest.UsageError("--rounds: at least 1 is needed")
    try:
        require_writable(_folder(config) / "measurements.json")
    except MnistbenchError as error:
        raise pytest.UsageError(f"--results: {error}") from error
    option = config.option
    # Timed rounds, and nothing that wants a calibrated run, are asked for; the document with all raw timings is
    # taken over when the session ends, and pytest-benchmark's table gives way to ours unless it compares runs.
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
    # Of this checkout, wherever pytest was started.
    commit_info |= machine.commit("benchmarks", "conftest.py", "pyproject.toml")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    path = Path(config.option.benchmark_json)
    if not path.exists() or not path.stat().st_size:
        return
    from mnistbench import report, results

    document = json.loads(path.read_text(encoding="utf-8"))
    # A case that was interrupted after its rounds has no row.
    document["benchmarks"] = [entry for entry in document["benchmarks"] if "schema" in entry["extra_info"]]
    if not document["benchmarks"]:
        return
    name = f"{config.getoption('--workload')}_{document['commit_info']['id'][:7]}"
    stored = results.store(_folder(config), name, document)
    config.stash[_written] = [stored, *report.write(stored.parents[1])]
    if path.parent == config.stash.get(_temporary, None):
        shutil.rmtree(path.parent)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not (written := config.stash.get(_written, [])):
        return
    from mnistbench import report, results

    rows = results.load(written[0].parent)
    rows = results.latest(rows[rows["file"] == written[0].name], config.getoption("--workload"))
    terminalreporter.section(f"{config.getoption('--workload')} workload, {rows['machine'].iloc[0]}")
    for line in report.as_text(rows):
        terminalreporter.write_line(line)
    terminalreporter.write_line("")
    for path in written:
        terminalreporter.write_line(f"wrote {path}")
