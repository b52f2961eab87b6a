"""The kernels compiled for GPUs by NVIDIA's run-time compiler, as CuPy does, and their machine code; without a GPU."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import pickle
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.cuda import host


def nvrtc() -> Any:
    """Load NVIDIA's run-time compiler from its wheel; skip the test where it is not installed."""
    file = _from_wheels("*/lib/libnvrtc.so.*")
    # That of CUDA 13 does not look for its builtins beside itself.
    for builtins in file.parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(file))


def _from_wheels(pattern: str) -> Path:
    """Return a file of NVIDIA's wheels; skip the test where it is not installed."""
    try:
        found = importlib.util.find_spec("nvidia")
    except ImportError:
        found = None
    folders = found.submodule_search_locations or () if found else ()
    files = [file for folder in folders for file in Path(folder).glob(pattern)]
    if not files:
        pytest.skip(f"{pattern} (pip install 'mnistbench[dev]') is not here")
    return files[0]


# CuPy's own, and those by which the assembler reports registers.
_OPTIONS = ("-std=c++17", "-ftz=true", "-Xptxas", "-v")


class Compiled(NamedTuple):
    """What a source was compiled to.

    Attributes:
        log: Messages of compiler and assembler.
        ptx: Instructions of the virtual machine.
        cubin: Machine code, an ELF file.
    """

    log: str
    ptx: str
    cubin: bytes


@cache
def compile_for_gpu(architecture: str, source: str, options: tuple[str, ...]) -> Compiled:
    """Compile for a GPU with CuPy's options; what one worker of pytest has compiled, others read."""
    library = nvrtc()
    major, minor = ctypes.c_int(), ctypes.c_int()
    assert library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)) == 0
    what = (major.value, minor.value, architecture, source, options)
    path = host.folder / f"{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.gpu"
    if path.exists():
        return Compiled(*pickle.loads(path.read_bytes()))
    compiled = _compile(library, architecture, source, options)
    host.folder.mkdir(exist_ok=True)
    own = path.with_suffix(f".{os.getpid()}")
    own.write_bytes(pickle.dumps(tuple(compiled)))
    own.replace(path)
    return compiled


def _compile(library: Any, architecture: str, source: str, options: tuple[str, ...]) -> Compiled:
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    given = (*_OPTIONS, f"-arch={architecture}", "--device-as-default-execution-space", *options)
    encoded = (ctypes.c_char_p * len(given))(*(option.encode() for option in given))
    failed = library.nvrtcCompileProgram(program, len(given), encoded)
    found: list[bytes] = []
    for what in ("ProgramLog", "PTX", "CUBIN"):
        assert library[f"nvrtcGet{what}Size"](program, ctypes.byref(size)) == 0
        buffer = ctypes.create_string_buffer(size.value)
        assert library[f"nvrtcGet{what}"](program, buffer) == 0
        found.append(buffer.raw)
        assert not failed, found[0].decode()
    log, ptx, cubin = found
    return Compiled(log.rstrip(b"\0").decode(), ptx.rstrip(b"\0").decode(), cubin)


def disassembled(cubin: bytes, folder: Path) -> tuple[list[str], dict[str, int]]:
    """Return the instructions of a kernel without their predicates, and the number of the first behind each label."""
    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    command = [str(_from_wheels("*/bin/nvdisasm")), "-c", str(file)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    labels: dict[str, int] = {}
    instructions: list[str] = []
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif code := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?(.*?);", line):
            instructions.append(code[1])
    return instructions, labels


def loops(cubin: bytes, folder: Path) -> list[Counter[str]]:
    """Disassemble a kernel; return the innermost loops, each as the number of times it has an instruction.

    Instructions are named with their sizes, such as LDS.128, but without other modifiers.
    """
    instructions, labels = disassembled(cubin, folder)
    found = []
    for end, instruction in enumerate(instructions):
        target = re.match(r"BRA.*`\((\.L_x_\d+)\)", instruction)
        if target and (begin := labels[target[1]]) <= end:
            body = instructions[begin : end + 1]
            if sum(one.startswith("BRA") for one in body) == 1:
                found.append(Counter(_named(one) for one in body))
    return found


def _named(instruction: str) -> str:
    name, *modifiers = instruction.split()[0].split(".")
    return ".".join([name, *(one for one in modifiers if one in ("64", "128"))])
