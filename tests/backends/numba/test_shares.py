"""Shares that others help to finish, ``simd/shares.py``: every interleaving of a few threads, on its own source code.

Items are replaced by models. In even phases an item reads all values of the odd ones, in odd phases those of the even
ones and its own former value, as the first layers read parameters, and gradients move them. Each writes how many
iterations it has seen, and garbage before: so an item that is lost, done twice, or computed from values of different
iterations leads to a wrong result. Whether a share is late is open each time.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from mnistbench.backends.numba.mlp import kernels
from mnistbench.backends.numba.simd import shares
from mnistbench.backends.numba.simd.cache import entry_point
from mnistbench.backends.numba.simd.shares import DONE, ITEM_BITS, LINE, WORDS
from mnistbench.backends.numba.simd.workers import STOP
from tests.backends.numba.test_tasks import (
    Edit,
    Table,
    expect,
    is_late,
    nothing,
    peek,
    put,
    read,
    swap_if,
    write,
)
from tests.support.explorer import CONTROL, GARBAGE, Address, Explorer, Fault, System, Thread, load

MODELS = """
def do_item(stage, net, data, room, block, turn):
    place = turn.share * ITEMS + item_of(turn.word)
    value = read(EVEN[place] if stage else ODD[place])
    for other in range(turn.shares * ITEMS):
        found = read(EVEN[other] if stage else ODD[other])
        if found != value:
            value = GARBAGE
    if not mine(turn):
        return False
    if stage:
        former = read(ODD[place])
        value = value if former is not GARBAGE and value == former + 1 else GARBAGE
        write(ODD[place], GARBAGE)
        write(ODD[place], value)
    else:
        write(EVEN[place], GARBAGE)
        write(EVEN[place], GARBAGE if value is GARBAGE else value + 1)
    return True

def run(thread, shares, iterations, control):
    phase = 0
    for iteration in range(iterations):
        for stage in range(2):
            do_phase(stage, phase, None, None, None, None, thread, shares, control)
            phase += 1
        going = goes_on(control, iteration)
        if not going:
            return

def set_stop(control):
    put(control, STOP, 1)
"""
FUNCTIONS: list[Any] = [
    kernels.mine,
    kernels.do_phase,
    shares.word_of,
    shares.take,
    shares.finish,
    shares.find_late,
    shares.goes_on,
]


@dataclass(frozen=True)
class Case:
    """Numbers of threads, items of a share and iterations; when STOP is set; edits of the source."""

    threads: int
    items: int
    iterations: int
    stop: Literal["never", "any time", "at once"] = "never"
    edits: tuple[Edit, ...] = field(default=(), repr=False)

    def system(self) -> System:
        text = "\n".join(dedent(inspect.getsource(function.py_func)) for function in FUNCTIONS)
        for before, after in self.edits:
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        names: dict[str, Any] = {**vars(shares), **vars(kernels), "GARBAGE": GARBAGE, "STOP": STOP, "ITEMS": self.items}
        names |= {"EVEN": Table("even"), "ODD": Table("odd"), "count_items": lambda *_: self.items}
        names |= {function.__name__: function for function in (peek, put, swap_if, read, write, is_late)}
        names |= {name: names[name].py_func for name in ("first_word", "item_of")}
        names |= dict.fromkeys(("now", "pause", "begin_phase", "keep_pace", "is_away"), nothing)
        live = load(text + MODELS, names)
        threads = self.threads + (self.stop == "any time")

        def start(thread: int) -> Thread:
            control = Table(CONTROL)
            run, set_stop = names["run"], names["set_stop"]
            started: Thread = (
                set_stop(control) if thread == self.threads else run(thread, self.threads, self.iterations, control)
            )
            return started

        return System(
            self._memory(),
            self._domains(),
            {},
            live,
            self.threads,
            threads,
            start,
            lambda memory, word: None,
            self._ended,
            lambda memory, _: self._ended(memory),
        )

    def _words(self) -> list[Address]:
        return [(CONTROL, WORDS + LINE * share) for share in range(self.threads)]

    def _memory(self) -> dict[Address, Any]:
        memory: dict[Address, Any] = {(CONTROL, DONE): 0}
        memory[CONTROL, STOP] = int(self.stop == "at once")
        memory |= dict.fromkeys(self._words(), 0)
        return memory | {(table, place): 0 for table in ("even", "odd") for place in range(self.threads * self.items)}

    def _domains(self) -> dict[Address, list[int]]:
        phases = range(2 * self.iterations + 1)
        words = [(p << ITEM_BITS | i) << 1 | taken for p in phases for i in range(self.items) for taken in (0, 1)]
        domains = dict.fromkeys(self._words(), words)
        return domains | {(CONTROL, DONE): [*range(2 * self.iterations + 2)], (CONTROL, STOP): [0, 1]}

    def _ended(self, memory: Mapping[Address, Any]) -> None:
        done = memory[CONTROL, DONE] >> 1
        if self.stop != "any time":
            expect(done, 1 if self.stop == "at once" else self.iterations)
        for word in self._words():
            expect(memory[word], shares.first_word.py_func(2 * done))  # type: ignore[attr-defined]
        for table in ("even", "odd"):
            expect(
                [memory[table, place] for place in range(self.threads * self.items)], [done] * self.threads * self.items
            )


class Patient(Explorer):
    """Looks for threads that wait for others only where no item is taken: its results must be written first."""

    def _run_alone(self) -> None:
        taken = {
            memory
            for memory, _ in self._moved
            if any(
                place >= WORDS and word & 1 for (table, place), word in self._words(memory).items() if table == CONTROL
            )
        }
        self._moved = {(memory, node) for memory, node in self._moved if memory not in taken}
        super()._run_alone()


def explore(case: Case) -> int:
    return Patient(case.system(), reduced=False).explore()


@pytest.mark.parametrize(
    "case",
    [Case(1, 2, 2), Case(2, 1, 1), Case(2, 1, 2), Case(2, 2, 1), Case(2, 1, 2, "any time"), Case(2, 1, 2, "at once")],
    ids=str,
)
def test_no_interleaving_is_at_fault(case: Case) -> None:
    assert explore(case) > 20


FAULTS: dict[str, tuple[Edit, ...]] = {
    "taken whatever the word is": (("bool = swap_if(", "bool = put("), ("word, word | 1)", "word | 1) is None")),
    "taken twice": (("if turn.word & 1 != 0:", "if False:"),),
    "done again": (("word + 2 if", "word if"),),
    "item left out": (("word + 2 if", "word + 4 if"),),
    "next phase too early": (("if item_of(word) + 1 < count", "if item_of(word) + 2 < count"),),
    "phase over before all is done": (("if left == 0:", "if left <= 1:"),),
    "nothing is late": (("or is_late(", "or False and is_late("),),
    "each thread decides whether to go on": (("return done != old + 3", "return peek(control, STOP) == 0"),),
    "not stopped": (("peek(control, STOP) != 0", "False"),),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_guard_that_is_missing_is_found(fault: str) -> None:
    stop: Any = {"not stopped": "at once", "each thread decides whether to go on": "any time"}.get(fault, "never")
    items = 2 if "item" in fault or "again" in fault or "too early" in fault else 1
    with pytest.raises(Fault):
        explore(Case(2, items, 2 if items == 1 else 1, stop, FAULTS[fault]))


@entry_point
def _is_away(control: NDArray[np.int64], begun: int, phase: int) -> bool:
    shares.begin_phase(control, 1, begun)
    return shares.is_away(control, 1, phase)


@pytest.mark.parametrize(("begun", "phase", "away"), [(0, 0, False), (0, 1, False), (0, 2, True), (6, 7, False)])
def test_who_has_begun_neither_this_phase_nor_the_one_before_is_away(begun: int, phase: int, away: bool) -> None:
    assert _is_away(shares.make_control(2), begun, phase) is away


@entry_point
def _pace(control: NDArray[np.int64], longest: int) -> int:
    return shares.keep_pace(control, 1, 2, longest)


def test_a_pace_is_shortened_at_once_and_lengthened_slowly() -> None:
    control = shares.make_control(2)
    assert [_pace(control, time) for time in (0, 800, 400, 0, 4000, 440)] == [0, 800, 400, 400, 451, 440]
    assert np.flatnonzero(control).tolist() == [shares.PACE + shares.LINE + 2]
