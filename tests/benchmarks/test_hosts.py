"""Two hosts of network namespaces: what needs no root. ``python -m benchmarks.hosts`` is run by hand."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import hosts
from mnistbench.ranks.mpi import Mpi


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="a shell is missing")
@pytest.mark.parametrize(("address", "name"), [("10.77.0.1", "one"), ("10.77.0.2", "two")])
def test_the_launcher_enters_the_host_of_an_address(address: str, name: str, tmp_path: Path) -> None:
    launcher, ip = tmp_path / "launcher", tmp_path / "ip"
    launcher.write_text(hosts._launcher(["one", "two"]))
    ip.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    for path in (launcher, ip):
        path.chmod(0o700)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = [str(launcher), "-x", "-q", address, '"proxy"', "--port", f"{address}:7"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=20)
    assert found.stdout == f'netns|exec|{name}|unshare|--uts|sh|-c|hostname {name}; "proxy" --port {address}:7|'


def test_a_delayed_vector_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped: list[Any] = []
    monkeypatch.setattr(Mpi, "swap", lambda self, *arguments: swapped.append(arguments))
    monkeypatch.setattr(hosts.Delayed, "delay", 0.02)
    exchange = object.__new__(hosts.Delayed)
    begun = time.perf_counter()
    exchange.swap(1, "vector", "room")
    assert time.perf_counter() - begun >= 0.02
    assert swapped == [(1, "vector", "room")]


def test_the_computed_efficiency_is_that_of_a_part_and_an_exchange(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["hosts"])
    found: dict[str, Any] = {"alone": [4e-3] * 3, "shared": [3e-3] * 3, "parts": [2e-3] * 3, "sums": [0.5e-3] * 3}
    found |= {"bytes": 31_840, "hosts": 2, "bulk": 1e8}
    hosts._print(hosts._options(), found, 5e-5)
    printed = capsys.readouterr().out
    assert "2 hosts, 1gbit by tbf, 50 us a message in the exchange" in printed
    assert "efficiency measured 66.7%, computed 80.0%: -16.7% off" in printed
