"""Epochs in place of grid barriers (``kernel/exchange.cuh``), run on a CPU as in ``test_kernel.py``.

ThreadSanitizer finds missing barriers, and what is overwritten before all have read it. The emulation itself finds
values that are used before they have come, and threads that wait for ever.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from mnistbench.backends.cupy.classic import epochs, layout
from tests.backends.cupy.test_kernel import RACING, SHAPES, Kernel, sanitized
from tests.support.cuda.devices import CLASSIC, HOPPER, VERSIONS
from tests.support.cuda.host import needs_compiler


@contextmanager
def planted(kernel: Kernel, left_out: int = 0, seed: int = 0) -> Iterator[ctypes.CDLL]:
    """Leave out a barrier or wait of the kernel, or plant the fault of that number; let blocks take random turns."""
    library = kernel.library("run.cpp")
    library.fault.restype = ctypes.c_char_p
    library.plant(left_out, seed)
    try:
        yield library
    finally:
        library.plant(0, 0)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "version"), [("kinds", "matrix units"), ("kinds", "float32"), ("passes", "matrix units")]
)
def test_blocks_compute_the_same_bits_with_epochs_as_with_barriers(
    name: str, version: str, request: pytest.FixtureRequest
) -> None:
    if (name, version) != ("kinds", "matrix units") and not request.config.getoption("--all-options"):
        pytest.skip("--all-options runs it; ThreadSanitizer looks at several passes, and at multiply-adds")

    def states(with_epochs: bool, seed: int = 0) -> list[object]:
        kernel = Kernel(SHAPES[name], *VERSIONS[version], with_epochs)
        assert (name == "kinds") == (kernel.plan.stored_share < 1)
        initial, gradients = kernel.values.copy(), np.full(kernel.plan.length, np.nan, np.float32)
        found: list[object] = []
        with planted(kernel, seed=seed):
            for iterations, target in ((1, None), (2, None), (2, gradients), (1, None)):
                found += [kernel.run(iterations, target), kernel.values.tobytes(), gradients.tobytes()]
            kernel.values[:] = initial  # as a reset does: the epochs go on
            found += [kernel.run(3), kernel.values.tobytes()]
        return found

    expected = states(False)
    assert expected[4] == expected[7] != expected[10]
    assert states(True, seed=1) == expected


FOREVER = b"all threads wait for ever"
ANOTHER = b"a value of another epoch is used"
TWICE = b"a value of an epoch is published twice"

# What replaces lines of the kernel, where LEFT_OUT is the number of one of these faults.
LINES = {
    "if (HAS_EPOCHS || !gradients) publish(parameters + place, parameter, epoch + 1)": (
        "if ((HAS_EPOCHS && LEFT_OUT != 25) || !gradients)"
        "    publish(parameters + place, parameter, epoch + (LEFT_OUT == 21 ? 0 : LEFT_OUT == 22 ? 2 : 1))"
    ),
    "all ? epoch : UNFINISHED;": "all || LEFT_OUT == 26 ? epoch - (LEFT_OUT == 23) : UNFINISHED;",
    "partials + weight_quads, epoch);": "partials + weight_quads, epoch + (LEFT_OUT == 24));",
    "note<0>();\n": "note<0>(); if (LEFT_OUT == 27) publish(partials + weight_quads, Quad{}, epoch);\n",
    "note<5>();\n": (
        "note<5>(); Quad late[1];\n"
        "if (LEFT_OUT == 28 && thread() == 5)\n"
        "fetch<99>(late, epoch, [&](int) { return Source{parameters + weight_quads, true}; });\n"
    ),
}

FAULTS = {
    "no wait for output weights": (11, ANOTHER),
    "no wait for weights": (12, ANOTHER),
    "no wait for sums": (13, ANOTHER),
    "parameters an epoch behind": (21, TWICE),
    "parameters an epoch ahead": (22, ANOTHER),
    "sums an epoch behind": (23, FOREVER),
    "sums an epoch ahead": (24, ANOTHER),
    "parameters not sent again beside gradients": (25, FOREVER),
    "sums that later chunks add to taken for whole ones": (26, TWICE),
}


def faulty_source(matrix_units: bool) -> str:
    """Return the kernel with all faults planted, of which LEFT_OUT chooses none or one."""
    source = layout.source(matrix_units)
    for line, replacement in LINES.items():
        assert source.count(line) == 1
        source = source.replace(line, replacement)
    return source


@needs_compiler
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_epochs_is_found(name: str) -> None:
    number, message = FAULTS[name]
    kernel = Kernel(SHAPES["kinds"], "float32", 4, True)
    kernel.source = faulty_source(True)
    gradients = np.empty(kernel.plan.length, np.float32) if "gradients" in name else None
    with planted(kernel, number, seed=1) as library:
        with pytest.raises(AssertionError):
            kernel.run(3, gradients)
        assert library.fault() == message


@needs_compiler
@pytest.mark.parametrize("what", ["quads that a block leaves out", "padding"])
def test_sums_that_nobody_sends_need_the_epoch_that_lasts(what: str) -> None:
    kernel = Kernel(SHAPES["kinds"], "float32", 4, True)
    padding = kernel.plan.weight_values + kernel.plan.output_values
    own = kernel.partials.view(np.uint32)[..., 1]
    own = own[:, padding:] if what == "padding" else own[:, :padding]
    assert (own == epochs.LASTING).any()
    own[own == epochs.LASTING] = 0
    with planted(kernel) as library:
        with pytest.raises(AssertionError):
            kernel.run(1)
        assert library.fault() == FOREVER


# There are no grid barriers, and number 7 is in both versions.
CASES = [(4, 0), *((4, barrier) for barrier in (1, 2, 3, 4, 5, 6, 7, 10)), (0, 0), (0, 7)]
# Sums are sent at the start of an iteration, before its parameters have come; parameters are read after sums are sent.
OVERWRITING = (27, 28)


@pytest.mark.sanitizer
@needs_compiler
@pytest.mark.parametrize(("digits", "left_out"), CASES)
def test_only_a_missing_barrier_makes_a_race_among_a_blocks_threads(
    digits: int, left_out: int, request: pytest.FixtureRequest
) -> None:
    if (digits, left_out) not in ((4, 0), (4, 7), (0, 7)) and not request.config.getoption("--all-options"):
        pytest.skip("--all-options runs it")
    plan = RACING.plan("float32", digits, with_epochs=True)
    halt = f"halt_on_error={int(left_out > 0)}"
    source = faulty_source(digits > 0)
    messages = sanitized(plan, "thread", source=source, left_out=left_out, TSAN_OPTIONS=halt)
    assert ("data race" in messages) == bool(left_out)


@pytest.mark.sanitizer
@needs_compiler
@pytest.mark.parametrize(("digits", "fault"), [(4, 0), *((4, one) for one in OVERWRITING), (0, 0)])
def test_nothing_is_overwritten_before_all_have_read_it(
    digits: int, fault: int, request: pytest.FixtureRequest
) -> None:
    if not digits and not request.config.getoption("--all-options"):
        pytest.skip("--all-options runs it")
    plan = RACING.plan("float32", digits, with_epochs=True)
    halt = f"halt_on_error={int(fault > 0)}"
    source = faulty_source(digits > 0)
    messages = sanitized(plan, "thread", source=source, left_out=fault, ordered=True, TSAN_OPTIONS=halt)
    # Whether the race or its effect is found first is up to chance.
    assert any(found in messages for found in ("data race", ANOTHER.decode())) == bool(fault)


@pytest.mark.sanitizer
@needs_compiler
def test_every_access_is_inside_an_array_and_aligned(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--all-options"):
        pytest.skip("--all-options runs it")
    plan = RACING.plan("float32", 4, with_epochs=True)
    wide = "redzone=2048:max_redzone=2048"
    sanitized(plan, "address,undefined", ASAN_OPTIONS=wide)


def test_a_plan_has_epochs_on_request_and_in_float32_only() -> None:
    with_barriers = layout.plan(CLASSIC, 710, HOPPER)
    assert isinstance(with_barriers, layout.Plan)
    assert not with_barriers.epochs
    plan = layout.plan(CLASSIC, 710, HOPPER, epochs=True)
    assert isinstance(plan, layout.Plan)
    assert plan.epochs
    assert plan.shared_bytes == with_barriers.shared_bytes
    assert "epochs in place of grid barriers" in str(plan)
    refused = layout.plan(CLASSIC.with_dtype("float64"), 710, HOPPER, epochs=True)
    assert refused == "a number in float64 and its epoch are more than the 8 bytes that a GPU loads as a whole"
