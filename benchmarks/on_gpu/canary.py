"""The first part on a machine with a GPU: that everything is there, and compiles. If not, it says so on one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mnistbench.backends as registry
from mnistbench import files, machine, words
from mnistbench.exceptions import MnistbenchError
from mnistbench.machine import probes
from mnistbench.task.presets import preset
from mnistbench.task.workload import DTYPES

FRAMEWORKS = ("jax", "torch")
"""Backends that take part if they see the GPU."""


def main(path: Path) -> None:
    """Compile the classic's kernels and a function of Numba; write what was found to ``path``.

    Raises:
        MnistbenchError: If there is no GPU, or something cannot be compiled.
    """
    backend = registry.get_backend("cupy")
    device = backend.availability().device
    for dtype in DTYPES:
        backend.warm_up(preset("classic", dtype))
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
    print(f"{device}: the kernels of cupy compile, and {', '.join(['cupy', *seeing])} take part")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Exception as error:  # a broken library may raise anything
        print(f"canary: {words.exception(error)}", file=sys.stderr)
        sys.exit(2)
