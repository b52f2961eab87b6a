"""``pytest benchmarks/`` in a process of its own, on small workloads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mnistbench import machine
from tests.support.paths import ROOT

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Environment of processes beside other tests: on more threads than idle CPUs they took three times as long."""

ONE_CASE = ["--workload", "smoke", "--backend", "numpy", "--dtype", "float64", "--threads", "1"]


def command(*options: object, what: str = "") -> list[str]:
    """The command with these options."""
    parts = [
        sys.executable,
        "-m",
        "pytest",
        ROOT / "benchmarks" / what,
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.support.small",
    ]
    return [str(part) for part in (*parts, *options)]


def environment(*sites: Path) -> dict[str, str]:
    """This process's environment, in which other folders with packages are found too, for one thread."""
    return os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(map(str, (*sites, ROOT))), "PYTHONUNBUFFERED": "1"}


def benchmarks(
    *options: object, cwd: Path = ROOT, what: str = "", sites: tuple[Path, ...] = (), **others: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command(*options, what=what),
        cwd=cwd,
        env=environment(*sites),
        capture_output=True,
        text=True,
        check=False,
        **others,
    )


def stored(folder: Path) -> list[Path]:
    """The files of rows of this machine."""
    return sorted((folder / machine.folder_name()).glob("[0-9]*.json"))
