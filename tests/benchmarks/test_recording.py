"""A session that is cut off, fails, warns or measures nothing: what was measured is kept, and reasons are printed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import mnistbench.backends as registry
from mnistbench.results import runs, storage
from tests.support.benchmarks import ONE_CASE, benchmarks, command, environment, stored
from tests.support.paths import ROOT
from tests.support.rows import row

pytest.importorskip("pytest_benchmark")

from benchmarks.recording import Recording

pytestmark = pytest.mark.process

TWO_CASES = ["--workload", "smoke", "--backend", "numpy", "--threads", "1", "--rounds", "1"]
KILLS = int(os.environ.get("MNISTBENCH_KILLS", "2"))
"""How many sessions are killed at a random moment."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backend whose library warns when it is imported and when it computes, and one that fails."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "library.py").write_text(
        'import warnings\nwarnings.warn("import of old things", DeprecationWarning)\n'
        'def compute():\n    warnings.warn("use of old things", DeprecationWarning)\n'
    )
    (folder / "others.py").write_text(
        "import library\nfrom mnistbench.backends.numpy import NumpyBackend\n\n"
        'class Warning(NumpyBackend):\n    name = "warning"\n\n'
        "    def load(self, *arguments):\n        library.compute()\n        return super().load(*arguments)\n\n"
        'class Failing(NumpyBackend):\n    name = "failing"\n\n'
        '    def load(self, *arguments):\n        raise OSError("the abacus is broken")\n'
    )
    info = folder / "others-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[mnistbench.backends]\nwarning = others:Warning\nfailing = others:Failing\n"
    )
    return folder


@contextmanager
def running(*options: object) -> Iterator[subprocess.Popen[str]]:
    """A session that has begun."""
    with subprocess.Popen(
        command(*options), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], text: str) -> None:
    """Read lines of a session up to one with a text."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the session ended without {text!r}")


def test_cores_of_different_kinds_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnistbench.timing.noise._kinds_of_cores", lambda: 2)
    monkeypatch.setattr("mnistbench.report.write", lambda folder: [])
    recording = Recording(SimpleNamespace(getoption=lambda name: None), tmp_path)  # type: ignore[arg-type]
    recording._run = runs.Run(tmp_path, "smoke", {})
    recording._run.add(runs.entry(row("numpy", "float64", 1.0)))
    assert recording.end(finished=True) is False
    assert any(note.startswith("warning: the CPUs are cores of different kinds") for note in recording.notes)


def test_a_killed_session_is_resumed(tmp_path: Path) -> None:
    with running(*TWO_CASES, "--results", tmp_path) as session:
        until(session, "2 of 2  numpy-float64: begins")
    (path,) = stored(tmp_path)
    assert [row.dtype for row in storage.load(path.parent)] == ["float32"]
    assert json.loads(path.read_text(encoding="utf-8"))["finished"] is False
    other = benchmarks(*TWO_CASES, "--rounds", 2, "--results", tmp_path, "--resume")
    assert other.returncode == pytest.ExitCode.USAGE_ERROR
    assert other.stderr.strip().endswith(
        "cannot be resumed: rounds was 1, and is 2; leave out --resume to start a new run"
    )
    found = benchmarks(*TWO_CASES, "--results", tmp_path, "--resume")
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"numpy-float32: measured already, in {path.name}" in found.stdout
    assert "1 of 1  numpy-float64: begins" in found.stdout
    assert stored(tmp_path) == [path]
    assert [row.dtype for row in storage.load(path.parent)] == ["float32", "float64"]
    assert json.loads(path.read_text(encoding="utf-8"))["finished"] is True


@pytest.mark.slow
def test_a_session_killed_at_a_random_moment_keeps_its_rows(tmp_path: Path) -> None:
    for kill in range(KILLS):
        folder = tmp_path / str(kill)
        with running(*TWO_CASES, "--results", folder) as session:
            until(session, "1 of 2  numpy-float32: begins")
            time.sleep(random.uniform(0, 6))
        assert session.stdout is not None
        rows = [row for path in stored(folder) for row in storage.load(path.parent)]
        assert len(stored(folder)) <= 1
        assert [row.dtype for row in rows] in ([], ["float32"], ["float32", "float64"])


def test_after_an_interrupt_the_rows_are_shown_and_kept(tmp_path: Path) -> None:
    with running(*TWO_CASES, "--results", tmp_path) as session:
        until(session, "2 of 2  numpy-float64: begins")
        session.send_signal(signal.SIGINT)
        assert session.stdout is not None
        printed = session.stdout.read()
    assert session.returncode == pytest.ExitCode.INTERRUPTED
    (path,) = stored(tmp_path)
    assert f"{path.name} is unfinished: the same command with --resume measures the rest" in printed
    assert "numpy    float32" in printed
    assert "INTERNALERROR" not in printed
    assert json.loads(path.read_text(encoding="utf-8"))["finished"] is False


def test_after_an_early_interrupt_nothing_is_stored(tmp_path: Path) -> None:
    with running(*TWO_CASES, "--results", tmp_path) as session:
        until(session, "1 of 2  numpy-float32: begins")
        session.send_signal(signal.SIGINT)
        assert session.stdout is not None
        printed = session.stdout.read()
    assert session.returncode == pytest.ExitCode.INTERRUPTED
    assert "nothing was measured" in printed
    assert "INTERNALERROR" not in printed
    assert stored(tmp_path) == []


@pytest.mark.skipif(registry.availability("cupy").usable, reason="needs a machine without a GPU")
def test_who_cannot_run_is_named_with_the_reason(tmp_path: Path) -> None:
    found = benchmarks("--workload", "smoke", "-k", "cupy", "--results", tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "nothing was measured" in found.stdout
    assert "2 cases: cupy is unavailable: " in found.stdout
    assert "numba-plain and cupy-plain: measured with --plain" in found.stdout
    assert "Traceback" not in found.stdout + found.stderr


def test_collecting_measures_nothing(tmp_path: Path) -> None:
    found = benchmarks(*ONE_CASE, "--collect-only", "--results", tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "test_training[numpy-float64]" in found.stdout
    assert "nothing was measured" not in found.stdout
    assert "Traceback" not in found.stdout + found.stderr


def test_a_case_that_fails_is_named_with_the_reason(site: Path, tmp_path: Path) -> None:
    found = benchmarks(*TWO_CASES[:2], "--backend", "failing", "--results", tmp_path, sites=(site,))
    assert found.returncode == pytest.ExitCode.TESTS_FAILED, found.stdout + found.stderr
    assert "2 of 2  failing-float64: NO RESULT: a new process that trains with failing failed: OSError" in found.stdout
    assert "nothing was measured" in found.stdout
    assert "INTERNALERROR" not in found.stdout
    assert stored(tmp_path) == []


def test_a_library_may_warn(site: Path, tmp_path: Path) -> None:
    options = ["--backend", "warning", "--dtype", "float32", "--rounds", 1, "--results", tmp_path]
    found = benchmarks(*TWO_CASES[:2], *options, sites=(site,))
    assert found.returncode == 0, found.stdout + found.stderr
    assert len(stored(tmp_path)) == 1
    for warning in ("import of old things", "use of old things"):
        assert (found.stdout + found.stderr).count(f"DeprecationWarning: {warning}") == 1


@pytest.mark.skipif(os.name != "posix", reason="needs limits of a process")
def test_where_nothing_can_be_written_the_table_is_shown(tmp_path: Path) -> None:
    import resource

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    found = benchmarks(*ONE_CASE, "--rounds", 1, "--results", tmp_path, preexec_fn=small_files)
    assert found.returncode == pytest.ExitCode.TESTS_FAILED, found.stdout + found.stderr
    assert "numpy    float64" in found.stdout
    (line,) = (line for line in found.stdout.splitlines() if line.startswith("ERROR: "))
    assert line.endswith("cannot be written: File too large")
    assert "Traceback" not in found.stdout + found.stderr


def test_only_warnings_of_our_code_are_errors_in_tests(tmp_path: Path) -> None:
    (tmp_path / "test_warnings.py").write_text(
        "import warnings\nimport numpy as np\nimport pytest\n\n"
        '@pytest.mark.parametrize("module", ["jax", "numpy.core", "mnistbench.task", "tests.support"])\n'
        "def test_warning(module):\n"
        '    warnings.warn_explicit("old", DeprecationWarning, "x.py", 1, module=module)\n\n'
        "def test_numbers():\n    np.mean([])\n"
    )
    run = [*command()[:3], str(tmp_path), "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "-q", "-n", "0"]
    found = subprocess.run(run, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    failed = {line.partition(" - ")[0].partition("::")[2] for line in found.stdout.splitlines() if "FAILED" in line}
    assert failed == {"test_warning[mnistbench.task]", "test_warning[tests.support]", "test_numbers"}, found.stdout
