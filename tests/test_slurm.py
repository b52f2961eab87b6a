"""The script for SLURM, with processes of this machine in place of nodes: it is requeued, and goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnistbench.training.checkpoint import Checkpoint
from tests.support.benchmarks import ONE_THREAD
from tests.support.paths import ROOT

SCRIPT = ROOT / "examples" / "slurm.sh"
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(MPIEXEC is None or sys.platform == "win32", reason="mpiexec, or a shell, is missing"),
]

FEW = ("--backend", "numpy", "--train-size", "2000", "--iterations", "1000000", "--checkpoint-every", "0.2")


def test_a_job_whose_time_is_over_is_requeued_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho $* >> requeued\n")
    scontrol.chmod(0o755)
    names = {"SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_ID": "7", "PYTHON": sys.executable}
    environment = os.environ | ONE_THREAD | names | {"MPIEXEC": str(MPIEXEC)}
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    checkpoint, before = tmp_path / "mnistbench-7.checkpoint", 0
    for time_over in (1, 2):
        written = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        command = ["sh", str(SCRIPT), *FEW]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as job:
            try:
                end = time.monotonic() + 60
                while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == written:
                    assert job.poll() is None
                    assert time.monotonic() < end
                    time.sleep(0.05)
                job.send_signal(signal.SIGTERM)
                assert job.wait(20) != 0
            finally:
                job.kill()
        assert (tmp_path / "requeued").read_text().splitlines() == ["requeue 7"] * time_over
        done = Checkpoint.read(checkpoint).past.state.iteration
        assert done > before
        before = done


def test_an_error_is_not_requeued(tmp_path: Path) -> None:
    names = {"SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_ID": "7", "MPIEXEC": "false"}
    found = subprocess.run(["sh", str(SCRIPT)], cwd=tmp_path, env=os.environ | names, check=False, timeout=20)
    assert found.returncode == 1
    assert list(tmp_path.iterdir()) == []
