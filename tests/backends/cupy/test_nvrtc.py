"""The search for NVIDIA's run-time compiler, in folders that look like its wheels."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.cuda.nvrtc import nvrtc


@pytest.mark.parametrize(
    ("folder", "version"), [("cuda_nvrtc/lib", "12"), ("cu13/lib", "13")], ids=["wheel of CUDA 12", "wheel of CUDA 13"]
)
def test_the_builtins_are_loaded_before_the_compiler_that_looks_for_them(
    folder: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / folder
    library.mkdir(parents=True)
    for name in (f"libnvrtc.so.{version}", f"libnvrtc-builtins.so.{version}.0", f"libnvrtc.alt.so.{version}"):
        (library / name).touch()
    loaded: list[tuple[str, Any]] = []

    def load(path: str, mode: int = ctypes.DEFAULT_MODE) -> Any:
        loaded.append((Path(path).name, mode))
        return loaded[-1]

    monkeypatch.setattr(ctypes, "CDLL", load)
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    found = nvrtc()
    builtins, compiler = loaded
    assert builtins == (f"libnvrtc-builtins.so.{version}.0", ctypes.RTLD_GLOBAL)
    assert found == compiler
    assert compiler[0] == f"libnvrtc.so.{version}"
