"""The kernel compiled for GPUs, without one: by NVIDIA's run-time compiler as CuPy does, or by nvcc."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest


def nvrtc() -> Any:
    """NVIDIA's run-time compiler, from its wheel; None where it is not installed."""
    try:
        found = importlib.util.find_spec("nvidia")
    except ImportError:
        return None
    folders = found.submodule_search_locations or () if found else ()
    files = [file for folder in folders for file in Path(folder).glob("*/lib/libnvrtc.so.*")]
    return ctypes.CDLL(str(files[0])) if files else None


# CuPy's own, and for what the assembler says of registers.
_OPTIONS = ("-std=c++17", "-ftz=true", "-Xptxas", "-v")


def nvrtc_build(library: Any, architecture: str, source: str, options: tuple[str, ...]) -> tuple[str, str]:
    """What NVRTC and the assembler say, and the PTX."""
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


def compile_for_gpu(architecture: str, source: str, options: tuple[str, ...]) -> str:
    """What the compiler and the assembler say; with CuPy's own options."""
    if (library := nvrtc()) is not None:
        return nvrtc_build(library, architecture, source, options)[0]
    if (nvcc := shutil.which("nvcc")) is None:
        pytest.skip("neither NVRTC (pip install 'mnistbench[dev]') nor nvcc is here to build the kernel with")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cu"
        file.write_text(source)
        command = [
            nvcc,
            *_OPTIONS,
            f"-arch={architecture}",
            *options,
            "-cubin",
            "-o",
            str(file.with_suffix(".cubin")),
            str(file),
        ]
        run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stderr
