"""The machine's limits: loops that do the work that is counted, the best of rounds, kept for as long as they hold."""

from __future__ import annotations

import itertools
import json
import math
import platform
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import ThreadpoolController

from mnistbench import machine
from mnistbench.exceptions import OptionError
from mnistbench.machine import kernels, limits, overview, probes
from mnistbench.machine.identity import Machine
from mnistbench.machine.probes import Probe
from mnistbench.machine.rates import Blas, GpuLimits, Level, Limits
from mnistbench.task.workload import DTYPES
from mnistbench.threads import usable_cpus

X86 = platform.machine() in ("x86_64", "AMD64")

SOME = Limits(
    multiply_add={"float32": 500e9, "float64": 250e9},
    levels=(Level("L2", 2 << 20, 400e9), Level("L3", 32 << 20, 100e9), Level("memory", None, 40e9)),
    threads=2,
    product={"float32": 450e9, "float64": 225e9},
    blas=Blas("openblas", "0.3.30", "SkylakeX"),
    gpu=GpuLimits({"float32": 60e12}, (Level("L2", 50 << 20, 5e12), Level("memory", None, 3e12)), "Some GPU", 5e-6),
)

# The loops


@pytest.mark.compiles
def test_the_chains_are_computed() -> None:
    """x := x a + a in every chain, with a the value and the start: what is returned is the sum over chains."""
    for name, width in itertools.product(DTYPES, kernels.vector_widths()):
        dtype = np.dtype(name).type
        value = expected = dtype(0.5)
        for _ in range(40):
            expected = dtype(expected * value + value)
        run = kernels.chains(width)
        assert run(value, 40) == pytest.approx(kernels.CHAINS * float(expected), rel=1e-5)
        assert run(value, 0) == kernels.CHAINS * 0.5


def loop_of(function: Any, argument: str) -> list[str]:
    """The instructions of a compiled function whose first argument has that type."""
    assemblies = function.inspect_asm()
    (signature,) = (s for s in assemblies if str(s[0]) == argument)
    return [line.strip() for line in assemblies[signature].splitlines()]


@pytest.mark.compiles
@pytest.mark.skipif(not X86, reason="reads the instructions of x86-64")
@pytest.mark.parametrize(("kind", "suffix"), [(np.float32, "ps"), (np.float64, "pd")])
@pytest.mark.parametrize(("width", "register"), [(32, "ymm"), (64, "zmm")])
def test_the_loop_is_multiply_adds_in_registers(kind: type, suffix: str, width: int, register: str) -> None:
    if width not in kernels.vector_widths():
        pytest.skip("this processor's vectors have other widths")
    kernels.chains(width)(kind(0.5), 1)
    lines = loop_of(kernels.chains(width), np.dtype(kind).name)
    fused = [number for number, line in enumerate(lines) if re.match(rf"vfmadd\d+{suffix}\s", line)]
    assert len(fused) >= kernels.CHAINS
    # One after the other, with nothing in between.
    run = lines[fused[0] : fused[0] + kernels.CHAINS]
    assert all(line.startswith("vfmadd") and register in line for line in run), run
    assert not any("(" in line for line in run), "a chain is kept in memory"


@pytest.mark.compiles
@pytest.mark.skipif(not X86, reason="reads the instructions of x86-64")
def test_the_loop_is_loads_of_whole_vectors() -> None:
    if kernels.vector_bytes() < 32:
        pytest.skip("SSE adds and loads in two instructions")
    kernels.read(np.ones(1000, np.uint64), 1)
    code = "\n".join(loop_of(kernels._read, str(kernels._read.signatures[0][0])))
    register = "zmm" if kernels.vector_bytes() == 64 else "ymm"
    # From a label to the jump back to it: an unrolled loop's last blocks, which are none, may stand before.
    first = next(m for m in re.finditer(r"^(\S+):\n([^:]*)\nj\w+\s+\1$", code, re.MULTILINE) if "vpaddq" in m[2])
    body = first[2].splitlines()
    loads = [line for line in body if re.match(rf"vpaddq\s+\S*\(.*%{register}", line)]
    assert len(loads) >= kernels.SUMS
    assert len(loads) % kernels.SUMS == 0
    # Besides them, only counting.
    assert len(body) - len(loads) <= 3, body
    assert "#APP" in code[: first.start()], "nothing says that memory may have changed between two passes"


words_read = st.integers(0, 3000).flatmap(
    lambda count: st.tuples(st.just(count), st.integers(0, 8), st.integers(0, 2**32), st.integers(0, 3))
)


@pytest.mark.compiles
@given(words_read)
def test_every_word_is_read_once_a_pass(example: tuple[int, int, int, int]) -> None:
    count, offset, seed, passes = example
    words = np.random.default_rng(seed).integers(0, 2**64, offset + count, np.uint64)[offset:]
    assert kernels.read(words, passes) == passes * sum(words.tolist()) % 2**64


# How they are measured


def test_the_best_of_the_rounds_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of two probes take turns, until the time is over."""
    clock = iter([100.0, 101.0, 102.0, 103.0])
    seconds = {"a": iter([0.1, 2.0, 0.5, 1.0]), "b": iter([0.1, 4.0, 8.0, 16.0])}
    monkeypatch.setattr(probes, "usable_cpus", lambda: 8)
    order = []

    def a_round(pool: object, probe: Probe, threads: int, units: int) -> tuple[float, float]:
        name = str(probe.work(0, 0))
        order.append((name, threads, units))
        took = next(seconds[name])
        return took, 0.95 * took * threads

    monkeypatch.setattr(probes, "_round", a_round)
    monkeypatch.setattr("mnistbench.machine.probes.time.perf_counter", lambda: next(clock))
    two = {"a": Probe(lambda thread, units: "a", 6.0), "b": Probe(lambda thread, units: "b", 8.0)}
    found = probes.best_rates(two, 3, 2.5)
    assert {name: rate.value for name, rate in found.items()} == {"a": 6.0 / 0.5, "b": 8.0 / 4.0}
    assert [rate.share for rate in found.values()] == pytest.approx([0.95, 0.95])
    assert order == [("a", 3, 1), ("b", 3, 1)] * 4  # the first one of each is not counted


@pytest.mark.parametrize(
    ("cpus", "busy", "shares", "rounds", "share"),
    [
        (2, None, [0.95] * 9, 2, 0.95),
        (2, None, [0.5, 0.6, 0.95, 0.9], 3, 0.95),  # on until one was left alone
        (2, None, [0.5] * 9, 6, 0.5),  # or three times as long
        (1, None, [0.475] * 9, 2, 0.95),  # two threads cannot want more than one CPU
        (8, 4, [0.5] * 9, 6, 0.25),
    ],
)
def test_other_processes_are_noticed(
    cpus: int, busy: int | None, shares: list[float], rounds: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round of two threads takes a second if they have a CPU each, and longer the less they get."""
    done: list[float] = []

    def a_round(*arguments: object) -> tuple[float, float]:
        done.append(1 / shares[max(0, len(done) - 1)])
        return done[-1], 2.0

    monkeypatch.setattr(probes, "usable_cpus", lambda: cpus)
    monkeypatch.setattr(probes, "_round", a_round)
    monkeypatch.setattr("mnistbench.machine.probes.time.perf_counter", lambda: float(len(done)))
    found = probes.best_rates({"": Probe(lambda thread, units: None, 1.0)}, 2, 2.0, busy)
    assert len(done) == 1 + rounds
    assert found[""].share == pytest.approx(share)


@pytest.mark.parametrize("seconds_per_unit", [1e-6, 1e-3, 0.1, 3.0])
def test_rounds_become_long_enough(seconds_per_unit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting the threads of one takes a fifth of a millisecond, and the first was disturbed for a second."""
    took: list[float] = []

    def a_round(pool: object, probe: Probe, threads: int, units: int) -> tuple[float, float]:
        took.append(units * seconds_per_unit + (1.0 if len(took) < 2 else 2e-4))
        return took[-1], took[-1]

    monkeypatch.setattr(probes, "_round", a_round)
    monkeypatch.setattr("mnistbench.machine.probes.time.perf_counter", lambda: sum(took))
    found = probes.best_rates({"": Probe(lambda thread, units: None, 1.0)}, 1, 9.0)
    assert took[-1] >= probes._ROUND
    assert took[-1] <= max(2 * probes._ROUND, seconds_per_unit) + 1e-3
    assert found[""].value == pytest.approx(1 / seconds_per_unit, rel=0.03)


@given(st.integers(1, 5), st.integers(1, 4))
def test_all_threads_do_their_part(threads: int, rounds: int) -> None:
    done: list[tuple[int, int]] = []
    clock = iter(float(second) for second in range(1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnistbench.machine.probes.time.perf_counter", lambda: next(clock))
        patch.setattr(probes, "QUIET", 0.0)
        probe = Probe(lambda thread, units: done.append((thread, units)), 1.0)
        # A round has two looks at the clock, and there is one more after it.
        rates = probes.best_rates({"": probe}, threads, 3.0 * rounds)
    assert rates[""].value > 0
    assert sorted(done) == sorted((thread, 1) for thread in range(threads) for _ in range(1 + rounds))


@pytest.mark.parametrize("threads", [1, 3])
def test_the_peak_counts_what_was_computed(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 operations for each chain, lane, step and thread."""
    steps: list[tuple[str, int, int]] = []
    monkeypatch.setattr("mnistbench.machine.probes.platform.machine", lambda: "x86_64")
    monkeypatch.setattr(kernels, "has_multiply_add", lambda: True)
    monkeypatch.setattr(kernels, "vector_widths", lambda: [64, 32])
    monkeypatch.setattr(
        kernels, "chains", lambda width: lambda value, count: steps.append((value.dtype.name, width, count))
    )
    found = probes.arithmetic(threads)
    assert [*found] == [*itertools.product(DTYPES, (64, 32))]
    for (dtype, width), probe in found.items():
        probe.work(0, 7)
        *what, count = steps.pop()
        assert what == [dtype, width]
        assert 7 * probe.amount == 2 * kernels.CHAINS * (width // np.dtype(dtype).itemsize) * count * threads


@pytest.mark.parametrize(("processor", "fused"), [("arm64", True), ("x86_64", False)])
def test_where_multiply_adds_are_not_the_limit(processor: str, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnistbench.machine.probes.platform.machine", lambda: processor)
    monkeypatch.setattr(kernels, "has_multiply_add", lambda: fused)
    assert probes.arithmetic(1) == {}


@given(st.integers(1, 200_000), st.integers(1, 5), st.integers(1, 4))
def test_the_bandwidth_counts_what_was_read(size: int, threads: int, units: int) -> None:
    total, arrays = 0, set()

    def read(words: Any, passes: int) -> None:
        nonlocal total
        assert words.ctypes.data % 64 == 0
        arrays.add(words.ctypes.data)
        total += words.nbytes * passes
        assert words.sum() == len(words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "read", read)
        probe = probes.reading(size, threads)
        for thread in range(threads):
            probe.work(thread, units)
    assert total == probe.amount * units
    assert len(arrays) == threads
    assert abs(probe.amount - size) <= 8 * threads


cache_sizes = st.lists(
    st.builds(machine.Cache, st.integers(1, 3), st.integers(1 << 12, 1 << 29), st.integers(1, 64)),
    max_size=3,
    unique_by=lambda cache: cache.level,
)


@given(cache_sizes, st.integers(1, 64), st.floats(0.6, 4000))
def test_what_is_read_lies_where_it_should(caches: list[machine.Cache], threads: int, memory: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "caches", lambda: caches)
        patch.setattr(machine, "memory_gib", lambda: memory)
        patch.setattr(machine, "allowed_cpus", lambda: threads)
        *found, last = probes.places(threads)
    assert (last.name, last.holds) == ("memory", None)
    assert 1 << 26 <= last.working_set <= 1 << 30
    assert last.working_set <= max(1 << 26, memory * 2**30 / 8)
    assert [place.name for place in found] in ([], ["L2"], ["L3"], ["L2", "L3"])
    nearer = 0
    for place in found:
        assert place.holds is not None
        assert nearer < place.working_set < place.holds, "too small for the nearer cache to keep, and it fits"
        nearer = place.holds


def test_a_product_uses_the_threads_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    blas = ThreadpoolController().select(user_api="blas")
    if not blas.info():
        pytest.skip("a library that does not tell its threads")
    seen = []
    matmul = np.matmul

    def spy(left: Any, right: Any, out: Any) -> None:
        matmul(left, right, out=out)
        np.testing.assert_allclose(out, left.astype(float) @ right.astype(float), rtol=1e-4)
        seen.append((left.dtype.name, [pool["num_threads"] for pool in blas.info()]))

    monkeypatch.setattr(probes, "_PRODUCT_SIZE", 24)
    monkeypatch.setattr("mnistbench.machine.probes.np.matmul", spy)
    for dtype in DTYPES:
        probe = probes.product(dtype, 1)
        probe.work(0, 2)
        assert probe.amount == 2 * 24**3
        assert seen == [(dtype, [1] * len(blas.info()))] * 2
        seen.clear()


@pytest.mark.parametrize("order", [1, -1])
def test_the_library_is_that_of_numpy(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    own: dict[str, Any] = {
        "filepath": "/lib/numpy.libs/a.so",
        "internal_api": "openblas",
        "version": "1",
        "architecture": "Zen",
    }
    other: dict[str, Any] = {"filepath": "/lib/scipy.libs/b.so", "internal_api": "mkl", "version": None}

    class Controller:
        def __init__(self, pools: list[dict[str, Any]]) -> None:
            self.info = lambda: pools
            self.select = lambda user_api: self

    monkeypatch.setattr(probes, "ThreadpoolController", lambda: Controller([own, other][::order]))
    assert probes.blas() == Blas("openblas", "1", "Zen")
    monkeypatch.setattr(probes, "ThreadpoolController", lambda: Controller([other]))
    assert probes.blas() == Blas("mkl", None, None)
    monkeypatch.setattr(probes, "ThreadpoolController", lambda: Controller([]))
    assert probes.blas() is None


def test_a_damaged_library_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(name: str) -> None:
        raise OSError("Could not find/load shared object file")

    monkeypatch.setattr("mnistbench.machine.probes.importlib.import_module", damaged)
    assert probes.compiled_loops.__wrapped__() is None


@pytest.mark.compiles
def test_what_is_measured_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_SECONDS", 0.6)
    monkeypatch.setattr(limits, "_PRODUCT_SECONDS", 0.0)
    found = limits.measure(1)
    assert Limits.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    assert found.threads == 1
    assert found.blas == probes.blas()
    # A thread of any CPU is within; one that is off by a prefix of its unit is not.
    assert all(1e9 < rate < 1e12 for rate in (*found.multiply_add.values(), *found.product.values()))
    assert all(1e9 < level.bytes_per_second < 1e12 for level in found.levels)
    assert [*found.product] == [*DTYPES]
    if X86 and kernels.has_multiply_add():
        assert found.multiply_add["float64"] <= 1.2 * found.multiply_add["float32"]
    assert found.levels[0].bytes_per_second >= 0.5 * found.levels[-1].bytes_per_second


# As values

rates_of = st.floats(1e-3, 1e15)
sizes_of = st.integers(1, 1 << 30)


@st.composite
def some_levels(draw: st.DrawFn) -> tuple[Level, ...]:
    """Up to three caches, each larger and slower than the one before, then memory."""
    sizes = sorted(draw(st.lists(sizes_of, max_size=3, unique=True)))
    speeds = sorted(draw(st.lists(rates_of, min_size=len(sizes) + 1, max_size=len(sizes) + 1)), reverse=True)
    return tuple(
        Level(f"L{n}", size, speed) for n, (size, speed) in enumerate(zip([*sizes, None], speeds, strict=True))
    )


by_dtype = st.dictionaries(st.sampled_from(DTYPES), rates_of)
some_limits = st.builds(
    Limits,
    by_dtype,
    some_levels(),
    st.integers(1, 512),
    by_dtype,
    st.none() | st.builds(Blas, st.text(), st.none() | st.text(), st.none() | st.text()),
    st.none() | st.builds(GpuLimits, by_dtype, some_levels(), st.text(), rates_of),
    st.floats(1e-3, 1.5),
)


@given(some_limits)
def test_limits_survive_json(found: Limits) -> None:
    assert Limits.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places_in(item, (*path, key)))]


def damaged(path: tuple[Any, ...], change: Callable[[Any, Any], None], record: Any = None) -> Any:
    record = holder = json.loads(json.dumps(record or SOME.as_dict()))
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return record


NUMBERS = [
    path
    for path in places_in(json.loads(json.dumps(SOME.as_dict())))
    if path and path[-1] in (*DTYPES, "bytes_per_second", "threads", "launch_latency", "cpu_share")
]


@pytest.mark.parametrize("wrong", [0, -1.5, math.nan, math.inf, "fast", None, [], {}])
@pytest.mark.parametrize("path", NUMBERS)
def test_a_number_that_is_none_is_refused(path: tuple[Any, ...], wrong: Any) -> None:
    with pytest.raises(ValueError, match="not the limits of a machine"):
        Limits.from_dict(damaged(path, lambda holder, key: holder.__setitem__(key, wrong)))


@pytest.mark.parametrize("field", [field for field in SOME.as_dict() if field != "date"])
def test_a_missing_field_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Limits.from_dict(damaged((field,), lambda holder, key: holder.pop(key)))


@pytest.mark.parametrize("record", [None, [], "limits", 7, {}, {**SOME.as_dict(), "levels": []}])
def test_anything_else_is_refused(record: Any) -> None:
    with pytest.raises(ValueError, match="not the limits of a machine"):
        Limits.from_dict(record)


@given(some_levels(), st.floats(0, 1e12))
def test_the_bandwidth_is_that_of_the_nearest_place_that_holds_it(levels: tuple[Level, ...], size: float) -> None:
    chosen = replace(SOME, levels=levels).level_for(size)
    place = levels.index(chosen)
    assert replace(SOME, levels=levels).bandwidth_for(size) == chosen.bytes_per_second
    assert chosen.bytes is None or size <= chosen.bytes
    assert all(level.bytes is not None and level.bytes < size for level in levels[:place])


@given(some_levels(), st.floats(1, 1e12), st.floats(1, 1e12))
def test_no_caches_make_reading_faster_than_the_nearest(levels: tuple[Level, ...], size: float, more: float) -> None:
    found = replace(SOME, levels=levels)
    least = found.least_seconds(size)
    if len(levels) == 1:
        assert least is None
        return
    assert least is not None
    rounding = 1 + 1e-12
    assert size / levels[0].bytes_per_second <= least * rounding
    assert least <= size / found.bandwidth_for(size) * rounding
    longer = found.least_seconds(size + more)
    assert longer is not None
    assert least <= longer * rounding


def test_every_level_serves_what_fits() -> None:
    size = (2 << 20) + (32 << 20) + 1_000_000
    assert SOME.least_seconds(size) == pytest.approx((2 << 20) / 400e9 + (32 << 20) / 100e9 + 1e6 / 40e9)
    assert SOME.least_seconds(4000) == 4000 / 400e9


# Kept


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """The numbers of threads that were measured, in a process that knows nothing, with a cache folder of its own."""
    calls: list[int] = []

    def measure(threads: int) -> Limits:
        calls.append(threads)
        return replace(SOME, threads=threads, multiply_add={"float32": 1e9 * len(calls)})

    monkeypatch.setattr(limits, "measure", measure)
    monkeypatch.setattr(limits, "_known", {})
    monkeypatch.setenv("MNISTBENCH_CACHE_DIR", str(tmp_path / "cache"))
    return calls


def forget() -> None:
    """As in a new process."""
    limits._known.clear()


def test_limits_are_measured_once(measured: list[int]) -> None:
    first = limits.limits(2)
    assert limits.limits(2) == first
    forget()
    assert limits.limits(2) == first
    assert measured == [2]
    assert limits.limits(1).threads == 1
    assert limits.file_for(None) == limits.file_for(usable_cpus())
    assert measured == [2, 1]
    forget()
    assert (limits.limits(2), limits.limits(1).threads) == (first, 1)
    assert measured == [2, 1]


def test_again_means_now_and_from_now_on(measured: list[int]) -> None:
    first = limits.limits(2)
    second = limits.limits(2, again=True)
    assert measured == [2, 2]
    assert second != first
    assert limits.limits(2) == second
    forget()
    assert limits.limits(2) == second


def changed(*path: Any, value: Any) -> Callable[[bytes], bytes]:
    """Return a change of one value in a stored file."""
    return lambda content: json.dumps(
        damaged(path, lambda holder, key: holder.__setitem__(key, value), json.loads(content))
    ).encode()


DAMAGED = [b"", b"{", b"\xff\xfe", b"null", b"[]", b"{}", b'{"key": 1, "limits": 2}', b"[" * 100_000]


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda _, content=content: content for content in DAMAGED),
        changed("limits", "levels", 0, "bytes_per_second", value=math.nan),
        changed("key", "cpu", value="Some other CPU"),
    ],
    ids=range(len(DAMAGED) + 2),
)
def test_a_damaged_file_is_measured_anew_and_replaced(measured: list[int], damage: Callable[[bytes], bytes]) -> None:
    limits.limits(2)
    path = limits.file_for(2)
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        forget()
        limits.limits(2)
        assert measured == [2, 2]


@pytest.mark.parametrize("blocked", ["folder", "file"])
def test_a_folder_that_cannot_be_written_is_no_error(measured: list[int], tmp_path: Path, blocked: str) -> None:
    if blocked == "folder":
        (tmp_path / "cache").write_text("a file where the folder should be")
    else:
        limits.file_for(2).mkdir(parents=True)
    assert limits.limits(2) == limits.limits(2)
    assert measured == [2]


def test_disturbed_limits_are_not_kept(measured: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    disturbed = replace(SOME, cpu_share=0.89)
    with monkeypatch.context() as patch:
        patch.setattr(limits, "measure", lambda threads: disturbed)
        assert limits.limits(2) == limits.limits(2) == disturbed
        assert not limits.file_for(2).exists()
    warning, *others = overview.notes(disturbed)
    assert "other processes left 89% of the CPU" in warning
    assert not any("kept" in line for line in others)
    forget()
    calm = limits.limits(2)
    for forgetting in (False, True):
        if forgetting:
            forget()
        with monkeypatch.context() as patch:
            patch.setattr(limits, "measure", lambda threads: disturbed)
            assert limits.limits(2, again=True) == disturbed
            assert limits.limits(2) == calm
    assert measured == [2]


@pytest.mark.parametrize("cupy", [None, object()])
def test_limits_without_those_of_a_gpu_that_is_there_are_not_kept(
    cupy: object, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "gpu_name", lambda: "Some GPU")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: cupy)
    monkeypatch.setattr(limits, "measure", lambda threads: replace(SOME, gpu=None))
    assert limits.limits(2).gpu is None
    assert limits.file_for(2).exists() == (cupy is None), "nothing could measure it"


CHANGES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "machine": lambda patch: patch.setattr(machine, "this", lambda: Machine.named("Another machine")),
    "gpu": lambda patch: patch.setattr(machine, "gpu_name", lambda: "A new GPU"),
    "caches": lambda patch: patch.setattr(machine, "caches", lambda: [machine.Cache(3, 1 << 40, 1)]),
    "usable cpus": lambda patch: patch.setattr(machine, "usable_cpus", lambda root: 1000),
    "kernel": lambda patch: patch.setattr(probes, "blas", lambda: Blas("openblas", "0.3", "Prescott")),
    "numpy": lambda patch: patch.setattr(machine, "versions", lambda: {"numpy": "99"}),
    "method": lambda patch: patch.setattr(limits, "METHOD", 99),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_the_limits_depend_on(measured: list[int], what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits.limits(2)
    CHANGES[what](monkeypatch)
    limits.limits(2)
    assert measured == [2, 2]


@given(st.text())
def test_a_file_has_a_name(cpu: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "this", lambda: Machine.named(cpu))
        path = limits.file_for(2)
    assert re.fullmatch(r"limits-[a-z0-9-]*2-threads-[0-9a-f]{12}\.json", path.name)
    assert len(path.name) < 200


@pytest.mark.skipif(platform.system() != "Linux", reason="the folder is another one")
def test_the_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MNISTBENCH_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert limits.file_for(2).parent == tmp_path / "mnistbench"


def test_no_threads_is_an_error(measured: list[int]) -> None:
    with pytest.raises(OptionError, match="at least 1"):
        limits.limits(0)
    assert measured == []


# For a reader


def test_every_limit_is_told() -> None:
    told = {what: (value, more) for what, value, more in overview.rows(SOME)}
    assert told["multiply-adds float32"][0] == "500 GFLOP/s"
    assert told["GPU multiply-adds float32"][0] == "60.0 TFLOP/s"
    assert told["reading L2"] == ("400 GB/s", "up to 2 MiB")
    assert told["reading memory"] == ("40.0 GB/s", "")
    assert told["matrix product float64"] == ("225 GFLOP/s", "90% of the multiply-adds, by openblas 0.3.30 SkylakeX")
    assert told["GPU launch"][0] == "5.00 µs"
    assert told["CPU"][0] == machine.this().cpu
    assert told["results"][0] == machine.folder_name()


@pytest.mark.parametrize(("share", "warned"), [(0.71, False), (0.69, True)])
def test_a_slow_library_is_warned_of(share: float, warned: bool) -> None:
    found = replace(SOME, product={"float32": 450e9, "float64": share * 250e9}, blas=Blas("openblas", "1", "Prescott"))
    *warnings, _ = overview.notes(found)
    assert len(warnings) == warned
    for line in warnings:
        assert "Prescott" in line
        assert "69% of the multiply-add peak in float64" in line
        assert "OPENBLAS_CORETYPE" in line


@pytest.mark.parametrize("library", [None, Blas("mkl", None, None)])
def test_only_openblas_has_the_variable(library: Blas | None) -> None:
    warning, *_ = overview.notes(replace(SOME, product={"float32": 1.0}, blas=library))
    assert "OPENBLAS_CORETYPE" not in warning


def test_without_a_peak_nothing_is_warned_of() -> None:
    found = replace(SOME, multiply_add={}, product={"float32": 1.0}, gpu=None)
    assert len([*overview.notes(found)]) == 1
    assert not any("GPU" in what or "multiply-adds" in what for what, *_ in overview.rows(found))


def test_where_they_are_kept_is_told(measured: list[int], tmp_path: Path) -> None:
    found = limits.limits(2)
    assert [*overview.notes(found)][-1] == f"The limits are kept in {limits.file_for(2)}"
    assert overview.record(found)["file"] == str(limits.file_for(2))
    json.dumps(overview.record(found), allow_nan=False)
    limits.file_for(2).unlink()
    assert [*overview.notes(found)][-1] == "The limits could not be kept."
    assert overview.record(found)["file"] is None
