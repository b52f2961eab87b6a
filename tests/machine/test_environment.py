"""The environment of a run: complete, on whatever system, and without anything of its owner's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mnistbench.machine.environment import environment
from mnistbench.results import runs
from tests.support.paths import ROOT

MACHINES = ROOT / "tests" / "machine" / "machines"

KEYS = {
    "processor": {"family", "model", "stepping", "microcode", "flags"},
    "cpus": {"allowed", "quota", "simultaneous_multithreading", "governor", "boost", "isolated"},
    "memory": {"huge_pages", "numa_balancing", "address_randomization"},
    "clock_source": None,
    "variables": None,
    "blas": None,
    "command": None,
}


@pytest.mark.parametrize("root", [Path("/"), *sorted(MACHINES.iterdir())], ids=lambda root: root.name or "here")
def test_every_key_is_there_whatever_the_system_tells(root: Path) -> None:
    found = environment(root)
    assert found.keys() == KEYS.keys()
    for name, keys in KEYS.items():
        assert keys is None or found[name].keys() == keys
    assert json.loads(json.dumps(found)) == found


@pytest.mark.skipif(sys.platform != "linux", reason="the folders are of Linux")
def test_what_a_system_tells(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "cpu family\t: 6\nmodel\t\t: 143\nstepping\t: 8\nmicrocode\t: 0x2b\nflags\t\t: fpu avx2\n",
        "sys/devices/system/cpu/smt/active": "1\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "proc/sys/kernel/randomize_va_space": "2\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = environment(tmp_path)
    assert found["processor"] == {
        **{"family": "6", "model": "143", "stepping": "8", "microcode": "0x2b", "flags": "fpu avx2"}
    }
    assert (found["cpus"]["simultaneous_multithreading"], found["cpus"]["governor"]) == ("1", "powersave")
    assert (found["memory"]["huge_pages"], found["memory"]["address_randomization"]) == ("madvise", "2")
    assert found["cpus"]["quota"] is None
    assert environment(MACHINES / "container")["cpus"]["quota"] is not None


def test_variables_that_libraries_read_are_kept_and_paths_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        **{"OPENBLAS_CORETYPE": "Haswell", "XLA_FLAGS": "--xla_dump_to=/home/ann/dump --xla_cpu_x=1"},
        **{"GOMP_SPINCOUNT": "30000", "LD_PRELOAD": "/opt/ann/libjemalloc.so.2:/opt/b.so", "NPROC": "3"},
        **{"PYTHONHASHSEED": "0", "NUMBA_GDBINIT": r"C:\Users\ann\gdb"},
    }
    secret = {
        "NUMBA_CACHE_DIR": "/home/ann/c",
        "HOME": "/home/ann",
        "AWS_SECRET_ACCESS_KEY": "s",
        "PYTHONSTARTUP": "/home/ann/start.py",
    }
    for name, value in (told | secret).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        sys, "argv", ["/home/ann/venv/bin/pytest", "benchmarks/", "--results=/home/ann/r", "-k", "numba"]
    )
    found = environment()
    assert {name: found["variables"].get(name) for name in told} == {
        **{"OPENBLAS_CORETYPE": "Haswell", "XLA_FLAGS": "--xla_dump_to=dump --xla_cpu_x=1"},
        **{"GOMP_SPINCOUNT": "30000", "LD_PRELOAD": "libjemalloc.so.2:b.so", "NPROC": "3"},
        **{"PYTHONHASHSEED": "0", "NUMBA_GDBINIT": "gdb"},
    }
    assert not secret.keys() & found["variables"].keys()
    assert found["command"] == ["pytest", "benchmarks/", "--results=r", "-k", "numba"]
    assert "ann" not in json.dumps(found)


def test_every_run_has_one_and_is_not_resumed_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    run = runs.Run(tmp_path, "smoke", {"command": "here"})
    assert run.document["environment"].keys() == KEYS.keys()
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    later = runs.Run(tmp_path, "smoke", {"command": "here"})
    assert later._changed_since(run.document | {"process": None}) == "OPENBLAS CORETYPE was None, and is Zen"
