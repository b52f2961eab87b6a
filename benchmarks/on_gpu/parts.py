"""The parts of a session on a machine with a GPU, the most valuable first."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Command = list[str]

_MODULE = "benchmarks.on_gpu"

_RACING = 4 / 7
"""Share of a race's seconds after which its next round is the last: the checks of rounds and the energy come after, and
a race that is killed stores nothing."""


@dataclass(frozen=True)
class Setting:
    """What the commands of parts depend on.

    Attributes:
        python: Interpreter.
        folder: Folder of results.
        frameworks: Those of ``jax`` and ``torch`` that see the GPU.
        seconds: What the part has at most.
    """

    python: str
    folder: Path
    frameworks: Sequence[str] = ()
    seconds: float = math.inf

    @property
    def own(self) -> Path:
        """Folder of what is no row."""
        return self.folder / "gpu"

    def module(self, name: str, *arguments: str) -> Command:
        """Return the command that runs a module."""
        return [self.python, "-m", name, *arguments]

    def tests(self, *arguments: str) -> Command:
        """Return a command of pytest, in one process: several would share the GPU."""
        return self.module("pytest", "-q", "-p", "no:xdist", *arguments)

    def benchmarks(self, *arguments: str, backends: Sequence[str]) -> Command:
        """Return a command of pytest that stores rows."""
        return self.module("pytest", *(arguments or ("benchmarks/",)), *_named(backends), "--results", str(self.folder))


@dataclass(frozen=True)
class Part:
    """A part of a session.

    Attributes:
        name: Name in ``--parts``.
        seconds: What it takes at most, as estimated; it is skipped where less is left.
        limit: Seconds after which it is interrupted.
        commands: Function that returns its commands, or in words why there are none.
    """

    name: str
    seconds: float
    limit: float
    commands: Callable[[Setting], list[Command] | str]


def _named(backends: Sequence[str]) -> list[str]:
    return [word for name in backends for word in ("--backend", name)]


def _tests(setting: Setting) -> list[Command]:
    both = _named(("cupy", "cupy-plain"))
    return [
        setting.tests("-m", "gpu", "tests/backends/cupy", "tests/training/test_checkpoints.py"),
        setting.tests("tests/backends/test_backends.py", *both),
    ]


def _race(dtype: str) -> Callable[[Setting], list[Command]]:
    def commands(setting: Setting) -> list[Command]:
        contenders = ["cupy", "cupy-plain", *setting.frameworks]
        options = ["--baseline", "cupy-plain", "--dtype", dtype, "--no-cold", "--results", str(setting.folder)]
        return [
            setting.module(
                "mnistbench", "compare", *contenders, *options, "--budget", f"{_RACING * setting.seconds:.0f}"
            )
        ]

    return commands


def _sanitized(tool: str) -> Callable[[Setting], list[Command] | str]:
    def commands(setting: Setting) -> list[Command] | str:
        found = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
        if found is None:
            return "compute-sanitizer is not installed"
        # CuPy asks the driver questions that fail, and expects that: only what kernels do counts.
        options = ["--tool", tool, "--report-api-errors", "no", "--error-exitcode", "9"]
        return [[found, *options, *setting.module(f"{_MODULE}.sanitized", tool)]]

    return commands


def _frameworks(setting: Setting) -> list[Command] | str:
    if not setting.frameworks:
        return "neither jax nor torch sees the GPU"
    return [setting.tests("tests/backends/test_backends.py", *_named(setting.frameworks))]


def _workload(name: str) -> Callable[[Setting], list[Command]]:
    def commands(setting: Setting) -> list[Command]:
        # Array operations alone compute the classic only.
        return [setting.benchmarks("benchmarks/", "--workload", name, backends=("cupy", *setting.frameworks))]

    return commands


PARTS = (
    Part("canary", 15, 240, lambda setting: [setting.module(f"{_MODULE}.canary", str(setting.own / "canary.json"))]),
    Part("tests", 45, 180, _tests),
    Part(
        "agreement",
        30,
        120,
        lambda setting: [setting.module("mnistbench", "verify", *_named(("cupy", "cupy-plain")))],
    ),
    Part("classic", 60, 180, lambda setting: [setting.benchmarks(backends=("cupy",))]),
    Part("kernel", 15, 90, lambda setting: [setting.module("mnistbench.backends.cupy.classic.profile")]),
    Part("race-float32", 120, 420, _race("float32")),
    Part("race-float64", 100, 420, _race("float64")),
    Part("idling", 30, 60, lambda setting: [setting.module(f"{_MODULE}.idling", str(setting.own / "idling.json"))]),
    Part("cold", 310, 600, lambda setting: [setting.benchmarks(backends=("cupy-plain", *setting.frameworks))]),
    Part("memcheck", 60, 180, _sanitized("memcheck")),
    Part("racecheck", 60, 180, _sanitized("racecheck")),
    Part("synccheck", 30, 120, _sanitized("synccheck")),
    Part(
        "scaling",
        60,
        240,
        lambda setting: [
            setting.benchmarks("benchmarks/test_scaling.py", "--budget", "10", backends=("cupy", *setting.frameworks))
        ],
    ),
    Part("wide", 60, 240, _workload("wide")),
    Part("deep", 60, 240, _workload("deep")),
    Part("frameworks", 120, 300, _frameworks),
)
