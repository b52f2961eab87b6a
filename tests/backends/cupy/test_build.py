"""The persistent CUDA kernel, built for three generations of GPUs without one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mnistbench.backends.cupy.classic import layout
from tests.support.cuda.devices import CLASSIC, HOPPER, TURING, VERSIONS, macros
from tests.support.cuda.nvrtc import compile_for_gpu

GENERATIONS = {"sm_75": TURING, "sm_80": replace(HOPPER, compute_capability=80), "sm_90": HOPPER}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("architecture", GENERATIONS)
def test_the_source_builds_for_gpus(architecture: str, version: str) -> None:
    dtype, matrix_units = VERSIONS[version]
    if matrix_units and architecture == "sm_75":
        pytest.skip("its matrix units lack the instruction and are not used")
    plan = layout.plan(CLASSIC.with_dtype(dtype), 717, GENERATIONS[architecture], matrix_units)
    assert isinstance(plan, layout.Plan)
    log, _ = compile_for_gpu(architecture, layout.source(matrix_units), macros(plan))
    assert " warning" not in log
    registers = int(re.findall(r"Used (\d+) registers", log)[0])
    spilled = int(re.findall(r"(\d+) bytes spill stores", log)[0])
    assert registers * plan.threads <= GENERATIONS[architecture].registers
    # A few spilled values that live through an iteration cost nothing; spills in the products would be hundreds.
    assert spilled <= (0 if matrix_units else 64)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_ptx_has_the_instructions_that_the_kernel_relies_on(version: str) -> None:
    dtype, matrix_units = VERSIONS[version]
    plan = layout.plan(CLASSIC.with_dtype(dtype), 717, HOPPER, matrix_units)
    assert isinstance(plan, layout.Plan)
    _, ptx = compile_for_gpu("sm_80", layout.source(matrix_units), macros(plan))
    # Both grid barriers; and no load through the read-only cache, which would miss what other blocks have written.
    assert ptx.count("red.release.gpu.global.add.u32") == ptx.count("ld.acquire.gpu.global.u32") == 2
    assert "ld.global.nc" not in ptx
    # Quads are loaded 16 bytes at a time.
    assert f"ld.shared.{'v4.f32' if dtype == 'float32' else 'v2.f64'}" in ptx
    if matrix_units:
        assert "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32" in ptx
    elif dtype == "float32":
        # Pixels are subnormal numbers here: 8 rows by 4 terms by UNITS products, forward and twice backward, must
        # not flush them, as the compiler's own do.
        assert len(re.findall(r"\bfma\.rn\.f32", ptx)) >= 2 * 8 * 4 * plan.units
