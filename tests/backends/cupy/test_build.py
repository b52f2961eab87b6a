"""The persistent CUDA kernel, built for four generations of GPUs without one."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from mnistbench.backends.cupy.classic import layout
from tests.support.cuda.devices import CLASSIC, HOPPER, TURING, VERSIONS, macros
from tests.support.cuda.nvrtc import compile_for_gpu, disassembled, loops

GENERATIONS = {
    "sm_75": TURING,
    "sm_80": replace(HOPPER, compute_capability=80),
    "sm_90": HOPPER,
    "sm_100": replace(HOPPER, compute_capability=100),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("architecture", GENERATIONS)
def test_the_source_builds_for_gpus(architecture: str, version: str, tmp_path: Path) -> None:
    dtype, digits = VERSIONS[version]
    if digits and architecture == "sm_75":
        pytest.skip("its matrix units lack the instruction and are not used")
    plan = layout.plan(CLASSIC.with_dtype(dtype), 717, GENERATIONS[architecture], digits)
    assert isinstance(plan, layout.Plan)
    log, _, cubin = compile_for_gpu(architecture, layout.source(digits > 0), macros(plan))
    assert " warning" not in log
    registers = int(re.findall(r"Used (\d+) registers", log)[0])
    assert registers * plan.threads <= GENERATIONS[architecture].registers
    # A few spilled values that live through an iteration cost nothing, spills in the products would.
    products = [loop for loop in loops(cubin, tmp_path) if loop["IMMA"] + loop["FFMA"] + loop["DFMA"] >= 16]
    assert len(products) >= 4  # two forward and two backward, of resident and of streamed images
    assert not any(loop["LDL"] + loop["STL"] for loop in products)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_ptx_has_the_instructions_that_the_kernel_relies_on(version: str) -> None:
    dtype, digits = VERSIONS[version]
    plan = layout.plan(CLASSIC.with_dtype(dtype), 717, HOPPER, digits)
    assert isinstance(plan, layout.Plan)
    ptx = compile_for_gpu("sm_80", layout.source(digits > 0), macros(plan)).ptx
    # Both grid barriers; and no load through the read-only cache, which would miss what other blocks have written.
    assert ptx.count("red.release.gpu.global.add.u32") == ptx.count("ld.acquire.gpu.global.u32") == 2
    assert "ld.global.nc" not in ptx
    # Quads are loaded 16 bytes at a time.
    assert f"ld.shared.{'v4.f32' if dtype == 'float32' else 'v2.f64'}" in ptx
    if digits:
        assert "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32" in ptx
    elif dtype == "float32":
        # Pixels are subnormal numbers here: 8 rows by 4 terms by UNITS products, forward and twice backward, must
        # not flush them, as the compiler's own do.
        assert len(re.findall(r"\bfma\.rn\.f32", ptx)) >= 2 * 8 * 4 * plan.units


# By digits, the products' loops and how often each multiplies; its loads and transpositions; the most instructions. A
# body has two steps of resident images forward, four of streamed ones, and one backward, which transposes blocks of
# 4 x 4 bytes.
LOADS = {
    4: {
        ("forward, resident", 20): ({"LDS.128": 4, "LDS.64": 10}, 45),
        ("forward, streamed", 40): ({"LDG.128": 8, "LDS.64": 20}, 85),
        ("backward, resident", 20): ({"LDS.128": 4, "LDS.64": 5, "PRMT": 32}, 80),
        ("backward, streamed", 20): ({"LDG.128": 4, "LDS.64": 5, "PRMT": 32}, 90),
    },
    3: {
        ("forward, resident", 16): ({"LDS.128": 4, "LDS.64": 8}, 39),
        ("forward, streamed", 32): ({"LDG.128": 8, "LDS.64": 16}, 73),
        ("backward, resident", 16): ({"LDS.128": 4, "LDS.64": 4, "PRMT": 32}, 75),
        ("backward, streamed", 16): ({"LDG.128": 4, "LDS.64": 4, "PRMT": 32}, 85),
    },
}


@pytest.mark.parametrize("digits", LOADS)
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_the_matrix_products_are_as_few_instructions_as_planned(
    architecture: str, digits: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if digits == 3 and architecture != "sm_90" and not request.config.getoption("--all-options"):
        pytest.skip("--all-options runs it")
    plan = layout.plan(CLASSIC, 710, GENERATIONS[architecture], digits)
    assert isinstance(plan, layout.Plan)
    compiled = compile_for_gpu(architecture, layout.source(True), macros(plan))
    check_products([loop for loop in loops(compiled.cubin, tmp_path) if loop["IMMA"]], digits)


def check_products(products: list[Counter[str]], digits: int) -> None:
    """Assert that the loops that use matrix units are those of LOADS."""
    assert len(products) == len(LOADS[digits])
    kinds = ("LDS", "LDS.64", "LDS.128", "LDG", "LDG.64", "LDG.128", "LDL", "STL", "PRMT")
    for (name, multiplies), (wanted, most) in LOADS[digits].items():
        found = [
            loop
            for loop in products
            if loop["IMMA"] == multiplies and {kind: loop[kind] for kind in kinds if loop[kind]} == wanted
        ]
        assert len(found) == 1, (name, products)
        assert found[0].total() <= most, (name, found[0])


@pytest.mark.parametrize("version", ["float32", "float64", "matrix units"])
def test_a_profiled_build_has_its_clocks(version: str) -> None:
    dtype, digits = VERSIONS[version]
    plan = layout.plan(CLASSIC.with_dtype(dtype), 710, HOPPER, digits)
    assert isinstance(plan, layout.Plan)
    ptx = compile_for_gpu("sm_90", layout.source(digits > 0), (*macros(plan), "-DPROFILE=1")).ptx
    assert ".b8 phase_clocks[81920]" in ptx
    assert ptx.count("%clock64") == 10


# With epochs


@pytest.mark.parametrize("architecture", GENERATIONS)
def test_with_epochs_the_products_stay_as_they_are_and_values_are_loaded_whole(
    architecture: str, tmp_path: Path
) -> None:
    plan = layout.plan(CLASSIC, 710, GENERATIONS[architecture], epochs=True)
    assert isinstance(plan, layout.Plan)
    log, ptx, cubin = compile_for_gpu(architecture, layout.source(plan.matrix_units), macros(plan))
    assert " warning" not in log
    products = [loop for loop in loops(cubin, tmp_path) if loop["IMMA"] + loop["FFMA"] >= 20]
    assert len(products) == len(LOADS[4])
    if plan.matrix_units:
        check_products(products, 4)
    assert not any(loop["LDL"] + loop["STL"] for loop in products)
    # No grid barrier or other atomic operation, and no load through a cache that would miss new values.
    assert not re.search(r"\b(red|atom|fence|membar)\.|\.acquire|\.release|ld\.global\.nc", ptx)
    instructions, _ = disassembled(cubin, tmp_path)
    relaxed = [one.split()[0] for one in instructions if ".STRONG." in one]
    # The compiler loads values without their epochs where a thread reads what it has itself written.
    assert set(relaxed) - {"LDG.E.STRONG.GPU"} <= {
        "LDG.E.128.STRONG.GPU",
        "STG.E.128.STRONG.GPU",
        "STG.E.64.STRONG.GPU",
    }
    assert "STG.E.128.STRONG.GPU" in relaxed
    # All gradient sums of a lane are on their way at once.
    assert relaxed.count("LDG.E.128.STRONG.GPU") >= 2 * 9


@pytest.mark.parametrize(
    ("digits", "option"),
    [(3, "LEFT_OUT=0"), (4, "PROFILE=1"), (4, "CHECKED=1")],
    ids=["three digits", "clocks", "checks"],
)
def test_epochs_build_with_other_options(digits: int, option: str, tmp_path: Path) -> None:
    plan = layout.plan(CLASSIC, 710, HOPPER, digits, epochs=True)
    assert isinstance(plan, layout.Plan)
    log, ptx, cubin = compile_for_gpu("sm_90", layout.source(True), (*macros(plan), f"-D{option}"))
    assert " warning" not in log
    check_products([loop for loop in loops(cubin, tmp_path) if loop["IMMA"]], digits)
    assert ptx.count("%clock64") == (10 if "PROFILE" in option else 0)
    assert ("trap;" in ptx) == ("CHECKED" in option)
