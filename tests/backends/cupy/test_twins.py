"""The kernel's functions that are written in PTX, and their twins in plain C++ for the CPU.

The twins are compared with exact arithmetic on any machine, and with a GPU's results where there is one.
"""

from __future__ import annotations

import ctypes
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnistbench.backends.cupy.classic import layout
from mnistbench.task.workload import DType
from tests.support.cuda import host
from tests.support.cuda.devices import VERSIONS
from tests.support.cuda.digits import RESOLUTION
from tests.support.cuda.host import needs_compiler
from tests.support.cuda.nvrtc import compile_for_gpu
from tests.support.paths import ROOT

_TWINS = (ROOT / "tests/support/cuda/twins.cu").read_text(encoding="utf-8")
_SIZES = ("-DUNITS=10", "-DPASSES=1", "-DCLASSES=10", "-DTHREADS=64")


def macros(version: str) -> tuple[str, ...]:
    dtype, digits = VERSIONS[version]
    real = {"float32": "float", "float64": "double"}[dtype]
    return (f"-DREAL={real}", *_SIZES, *([f"-DDIGITS={digits}"] if digits else []))


def source(version: str) -> str:
    return layout.source(VERSIONS[version][1] > 0) + _TWINS


def operands(version: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return words, numbers and an array for the results of 32 lanes."""
    rng = np.random.default_rng(3)
    dtype, digits = VERSIONS[version]
    if digits:
        words = rng.integers(0, 2**32, (32, 6), dtype=np.uint32)
        words[:8, 4:] = 0x80808080  # -128 four times
        words[:4, :4] = 0xFFFFFFFF  # 255
        numbers = rng.uniform(-0.99, 0.99, (32, 4)).astype(np.float32)
        numbers[0, :2] = [1 - 2**-24, 2**-24 - 1] if digits == 4 else [0x7F7F7F / 2**23, -0x808080 / 2**23]
        step = 1 / RESOLUTION[digits]
        numbers[1:5] = np.outer([128, 128 * 257, 127, 127 * 257], [step, -step, 1.5 * step, -1.5 * step])
        return words, numbers, np.zeros((32, 8), np.uint32)
    words = rng.integers(0, 2**32, 32, dtype=np.uint32)
    words[0] = 0x7F0180FF
    # Factors as large as the kernel's, and some so small that the sums are subnormal numbers.
    raise_by, result = (64, -133) if dtype == "float32" else (500, -1034)
    numbers = rng.uniform(-1, 1, (32, 2)).astype(dtype)
    numbers[:, 0] *= np.asarray(2.0, dtype) ** (raise_by + result)
    numbers[:, 1] *= np.asarray(2.0, dtype) ** raise_by
    numbers[1::2] = [[0, 1]]
    return words, numbers, np.zeros((32, 4), dtype)


def emulated(version: str) -> NDArray[Any]:
    words, numbers, results = operands(version)
    library = ctypes.CDLL(str(host.build(source(version), macros(version), "-shared", "-fPIC")))
    library.run_twins(*(array.ctypes.data_as(ctypes.c_void_p) for array in (words, numbers, results)))
    return results


@needs_compiler
def test_the_plain_product_of_bytes_is_that_of_the_instruction() -> None:
    words, _, _ = operands("matrix units")
    found = emulated("matrix units")[:, :4].view(np.int32)
    # The layout of mma.m16n8k32 in the PTX ISA: lane 4 g + t holds rows g and g + 8, columns 4 t to 4 t + 3 and
    # 16 more, of A; the same rows of column g of B; and columns 2 t and 2 t + 1 of rows g and g + 8 of the sums.
    A, B = np.zeros((16, 32), np.int64), np.zeros((32, 8), np.int64)
    sums = np.zeros((16, 8), np.int64)
    for lane in range(32):
        g, t = divmod(lane, 4)
        a, b = words[lane, :4].view(np.uint8).reshape(4, 4), words[lane, 4:].view(np.int8).reshape(2, 4)
        for register, (row, column) in enumerate([(g, 0), (g + 8, 0), (g, 16), (g + 8, 16)]):
            A[row, column + 4 * t : column + 4 * t + 4] = a[register]
        B[4 * t : 4 * t + 4, g], B[16 + 4 * t : 20 + 4 * t, g] = b
        sums[[g, g, g + 8, g + 8], [2 * t, 2 * t + 1, 2 * t, 2 * t + 1]] = found[lane]
    start = np.tile([[-1, 0]], (8, 4)), np.tile([[1, 1 << 30]], (8, 4))
    np.testing.assert_array_equal(sums, A @ B + np.concatenate(start))


@needs_compiler
@pytest.mark.parametrize("version", ["matrix units", "three digits"])
def test_digits_are_the_number_to_the_base_256(version: str) -> None:
    _, numbers, _ = operands(version)
    digits = emulated(version)[:, 4:].copy().view(np.int8).reshape(32, 4, 4).astype(np.int64)
    count = VERSIONS[version][1]
    whole = (digits * 256 ** np.arange(4)[None, :, None]).sum(axis=1)
    np.testing.assert_array_equal(whole, np.rint(numbers.astype(np.float64) * RESOLUTION[count]))
    assert not digits[:, count:].any()


@needs_compiler
def test_the_plain_multiply_add_rounds_once_and_keeps_subnormal_numbers(dtype: DType) -> None:
    words, numbers, _ = operands(dtype)
    step = Fraction(2) ** (-133 if dtype == "float32" else -1034)
    found = emulated(dtype)
    for word, (sum_, factor), results in zip(words, numbers, found, strict=True):
        for byte, result in zip(word.tobytes(), results, strict=True):
            sum_ = np.asarray(float(Fraction(float(sum_)) + byte * step * Fraction(float(factor)))).astype(dtype)
            assert result == sum_
    assert (np.abs(found[found != 0]) < np.finfo(dtype).smallest_normal).any()


@pytest.mark.parametrize(
    ("architecture", "version"),
    [("sm_75", "float32"), ("sm_75", "float64"), ("sm_80", "matrix units"), ("sm_80", "three digits")],
)
def test_the_twins_build_for_gpus(architecture: str, version: str) -> None:
    assert "twins" in compile_for_gpu(architecture, source(version), macros(version)).log


@pytest.mark.gpu
@needs_compiler
@pytest.mark.parametrize("version", VERSIONS)
def test_a_gpu_computes_the_same_bits(version: str) -> None:
    import cupy as cp

    if VERSIONS[version][1] and int(cp.cuda.Device().compute_capability) < 80:
        pytest.skip("this GPU's matrix units have no such instruction")
    module = cp.RawModule(code=source(version), options=("-std=c++17", *macros(version)))
    words, numbers, results = (cp.asarray(array) for array in operands(version))
    module.get_function("twins")((1,), (32,), (words, numbers, results))
    assert cp.asnumpy(results).tobytes() == emulated(version).tobytes()
