"""Ranks as processes of MPI: what they end with, and how a job ends when one of them cannot go on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mnistbench.datasets import load_data
from mnistbench.training.checkpoint import Checkpoint
from mnistbench.training.loop import train
from tests.support.benchmarks import ONE_THREAD

pytest.importorskip("mpi4py", reason="mpi4py is missing: pip install 'mnistbench[mpi]'")

KILLS = int(os.environ.get("MNISTBENCH_KILLS", "2"))
"""How many ranks are killed."""

MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

pytestmark = [pytest.mark.process, pytest.mark.skipif(MPIEXEC is None, reason="mpiexec is missing")]

FEW = ("--train-size", 3000, "--backend", "numpy")


def job(ranks: int, *arguments: object, program: tuple[str, ...] = ("-m", "mnistbench")) -> subprocess.Popen[str]:
    """Start a job of as many processes."""
    assert MPIEXEC is not None
    command = [MPIEXEC, "-n", str(ranks), sys.executable, "-m", "mpi4py", *program, *map(str, arguments)]
    environment = {**os.environ, **ONE_THREAD, "PYTHONWARNINGS": ""}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def ended(running: subprocess.Popen[str], within: float = 60.0) -> tuple[int, str, list[str]]:
    """Return the exit status of a job, what it printed, and our own lines of its errors."""
    try:
        out, err = running.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        running.kill()
        raise
    assert "Traceback" not in err
    return running.returncode, out, [line for line in err.splitlines() if line.startswith("mnistbench: ")]


def processes(running: subprocess.Popen[str], ranks: int) -> list[psutil.Process]:
    """Wait until the job's processes have started, and return them."""
    for _ in range(500):
        children = psutil.Process(running.pid).children(recursive=True)
        found = [child for child in children if child.cmdline()[1:3] == ["-m", "mpi4py"]]
        if len(found) == ranks:
            return found
        time.sleep(0.02)
    raise AssertionError("the job has not started")


def test_two_ranks_train_what_one_process_does() -> None:
    code, out, errors = ended(job(2, "train", *FEW, "--iterations", 20, "--ranks", 2, "--threads", 1, "--json"))
    assert (code, errors) == (0, [])
    found = json.loads(out)
    alone = train(load_data(train_size=3000), backend="numpy", iterations=20)
    assert found["loss"] == pytest.approx(alone.loss, rel=1e-5)
    assert found["test_accuracy"] == pytest.approx(alone.test_accuracy, abs=2e-4)
    ranks = found["description"]["ranks"]
    assert (ranks["threads"], ranks["hosts"], ranks["transport"]) == ([1, 1], 1, "shared memory")
    assert ranks["library"]
    assert ranks["exchange"] > 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--iterations", 5), "2 processes were started together; give --ranks 2, or start one"),
        (("--ranks", 3), "--ranks 3: 2 processes were started; start 3: mpiexec -n 3 python -m mpi4py"),
        (("--ranks", 2, "--data", "nowhere"), "nowhere: no such file or folder"),
        (("--ranks", 2, "--backend", "numba-plain"), "backend numba-plain cannot share a workload among ranks"),
    ],
)
def test_a_mistake_is_one_line_of_one_rank(arguments: tuple[object, ...], line: str) -> None:
    code, out, errors = ended(job(2, "train", *arguments))
    assert code != 0
    assert out == ""
    assert len(errors) == 1
    assert errors[0].startswith(f"mnistbench: {line}")


def test_a_forgotten_launcher_is_refused() -> None:
    command = [sys.executable, "-m", "mnistbench", "train", "--ranks", "4"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith("mnistbench: --ranks 4: 1 process was started; start 4: mpiexec -n 4 python")
    assert found.stderr.count("\n") == 1


PROGRAM = """
import mnistbench, mnistbench.backends.numpy as numpy
from mnistbench.ranks import on_ranks

split = numpy.NumpyTrainer.split

def faulty(self, iterations):
    for number, sums in enumerate(split(self, iterations)):
        if self.share.rank == 2 and number == 3:
            raise ValueError("out of ink")
        yield sums

def start(self, workload, dataset, *others):
    init(self, workload, dataset, *others)
    self.share = dataset.share

init = numpy.NumpyTrainer.__init__
numpy.NumpyTrainer.__init__, numpy.NumpyTrainer.split = start, faulty

def main(team):
    mnistbench.train(team.load_data(None, 0, 300, 10), backend="numpy", iterations=50, team=team)

on_ranks(3, main)
"""


def test_a_rank_that_raises_amid_an_exchange_ends_the_job_with_its_line() -> None:
    code, _, errors = ended(job(3, PROGRAM, program=("-c",)), 30)
    assert code != 0
    assert errors == ["mnistbench: rank 2: ValueError: out of ink"]


def test_a_killed_rank_ends_the_job_and_another_number_of_ranks_goes_on(tmp_path: Path) -> None:
    path, chance, done = tmp_path / "checkpoint", random.Random(1), 0
    options = ("train", *FEW, "--iterations", 1_000_000, "--every", 1_000, "--threads", 1, "--checkpoint-every", 0.1)
    for number in range(KILLS):
        ranks = 2 + number % 2
        how = ("--resume", path) if path.exists() else ("--checkpoint", path)
        before = path.stat().st_mtime_ns if path.exists() else 0
        running = job(ranks, *options, "--ranks", ranks, *how)
        own = processes(running, ranks)
        while not (path.exists() and path.stat().st_mtime_ns > before):
            assert running.poll() is None
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.3))
        chance.choice(own).send_signal(signal.SIGKILL)
        code, _, _ = ended(running, 5)
        assert code != 0
        assert {file.name for file in tmp_path.iterdir() if not file.name.startswith(".")} == {path.name}
        assert all(not rank.is_running() or rank.status() == psutil.STATUS_ZOMBIE for rank in own)
        before_it, done = done, Checkpoint.read(path).past.state.iteration
        assert done > before_it


@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_ends_the_job_after_a_checkpoint(tmp_path: Path, number: signal.Signals, said: str) -> None:
    path = tmp_path / "checkpoint"
    running = job(
        2, "train", *FEW, "--iterations", 100_000, "--ranks", 2, "--checkpoint", path, "--checkpoint-every", 0.2
    )
    while not path.exists():
        assert running.poll() is None
        time.sleep(0.05)
    before = path.stat().st_mtime_ns
    running.send_signal(number)
    code, _, errors = ended(running, 10)
    assert code == 128 + number
    assert len(errors) == 1
    assert errors[0].startswith(f"mnistbench: {said} after ")
    assert path.stat().st_mtime_ns > before
