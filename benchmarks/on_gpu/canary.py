"""The first part on a machine with a GPU: that everything is there, and compiles. If not, it says so on one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mnistbench.backends as registry
from mnistbench import files, machine, words
from mnistbench.agreement import kept
from mnistbench.backends import Backend
from mnistbench.datasets import load_images
from mnistbench.exceptions import MnistbenchError
from mnistbench.machine import probes
from mnistbench.reference.parameters import Parameters
from mnistbench.task.presets import preset
from mnistbench.task.workload import DTYPES, Workload

FRAMEWORKS = ("jax", "torch")
"""Backends that take part if they see the GPU."""


def main(path: Path) -> None:
    """Compile the classic's kernels and a function of Numba; write what was found to ``path``.

    Raises:
        MnistbenchError: If there is no GPU, or something cannot be compiled.
    """
    backend = registry.get_backend("cupy")
    device = backend.availability().device
    plans = [_plan(backend, preset("classic", dtype)) for dtype in DTYPES]
    loops = probes.compiled_loops()
    if loops is None:
        raise MnistbenchError("Numba compiles nothing here; pip install --upgrade numba")
    files.require_writable(path)
    found = {name: registry.availability(name) for name in FRAMEWORKS}
    seeing = [name for name, one in found.items() if one.device not in (None, "CPU")]
    record = {"device": device, "versions": machine.versions(), "frameworks": seeing}
    files.write_text(path, json.dumps(record, indent=1) + "\n")
    for name, version in machine.versions().items():
        print(f"{name} {version}")
    for name, one in found.items():
        if name not in seeing:
            print(f"{name} takes no part: {one.reason or 'it sees no GPU'}")
    for plan in plans:
        print(plan)
    print(_reference())
    print(f"{device}: the kernels of cupy compile, and {', '.join(['cupy', *seeing])} take part")


def _plan(backend: Backend, task: Workload) -> str:
    """Train for an iteration; return how the kernel computes in words.

    Raises:
        MnistbenchError: If array operations would compute in place of the kernel.
    """
    dataset, initial = load_images(task.images, task.seed), Parameters.initial(task.network, task.seed)
    with backend.start(task, dataset, initial) as trainer:
        trainer.advance(1)
        found = trainer.describe().kernel
    if "not persistent" in found:
        raise MnistbenchError(f"the classic's kernel does not run here: {found}")
    return f"{task.dtype}: {found}"


def _reference() -> str:
    """Say whether the classic's reference is kept here, which the comparisons would have to compute otherwise."""
    task = preset("classic", "float64")
    if kept.missing(task, load_images(task.images, task.seed)):
        how = "'mnistbench verify --reference-only' does that beforehand"
        return f"reference of the classic: not in {files.cache_folder()}, so a comparison has to compute it; {how}"
    return f"reference of the classic: read from {files.cache_folder()}"


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Exception as error:  # a broken library may raise anything
        print(f"canary: {words.exception(error)}", file=sys.stderr)
        sys.exit(2)
