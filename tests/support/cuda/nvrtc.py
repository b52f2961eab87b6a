"""The kernels compiled for GPUs by NVIDIA's run-time compiler, as CuPy does; no GPU is needed."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any

import pytest


def nvrtc() -> Any:
    """Load NVIDIA's run-time compiler from its wheel; skip the test where it is not installed."""
    try:
        found = importlib.util.find_spec("nvidia")
    except ImportError:
        found = None
    folders = found.submodule_search_locations or () if found else ()
    files = [file for folder in folders for file in Path(folder).glob("*/lib/libnvrtc.so.*")]
    if not files:
        pytest.skip("NVRTC (pip install 'mnistbench[dev]') is not here")
    # That of CUDA 13 does not look for its builtins beside itself.
    for builtins in files[0].parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(files[0]))


# CuPy's own, and those by which the assembler reports registers.
_OPTIONS = ("-std=c++17", "-ftz=true", "-Xptxas", "-v")


def compile_for_gpu(architecture: str, source: str, options: tuple[str, ...]) -> tuple[str, str]:
    """Compile for a GPU with CuPy's options; return the messages of compiler and assembler, and the PTX."""
    library = nvrtc()
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    given = (*_OPTIONS, f"-arch={architecture}", "--device-as-default-execution-space", *options)
    encoded = (ctypes.c_char_p * len(given))(*(option.encode() for option in given))
    failed = library.nvrtcCompileProgram(program, len(given), encoded)
    texts = []
    for what in ("ProgramLog", "PTX"):
        assert library[f"nvrtcGet{what}Size"](program, ctypes.byref(size)) == 0
        buffer = ctypes.create_string_buffer(size.value)
        assert library[f"nvrtcGet{what}"](program, buffer) == 0
        texts.append(buffer.value.decode())
        assert not failed, texts[0]
    assert library.nvrtcGetCUBINSize(program, ctypes.byref(size)) == 0
    assert size.value > 1_000
    return texts[0], texts[1]
