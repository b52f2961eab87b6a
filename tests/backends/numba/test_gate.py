"""The gate before a rank's iterations, ``simd/gate.py``: every interleaving of a leader and others, on its own source.

Both wings' ``run_split`` are explored, with models in place of kernels: parameters, sums and results say which
iteration they are of, and are garbage while they are written. A leader alone comes to its end from every state; the
others wait at the gate meanwhile.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest

from mnistbench.backends.numba.classic import kernels, split
from mnistbench.backends.numba.mlp import kernels as mlp_kernels
from mnistbench.backends.numba.mlp import split as mlp_split
from mnistbench.backends.numba.simd import gate, shares, tasks
from mnistbench.backends.numba.simd.gate import OPENED
from mnistbench.backends.numba.simd.shares import DONE, ITEM_BITS, LINE, WORDS
from mnistbench.backends.numba.simd.tasks import NEXT, PHASE_BITS, ROW_BITS, STATES
from mnistbench.backends.numba.simd.workers import STOP
from tests.backends.numba.test_shares import Patient
from tests.backends.numba.test_tasks import (
    Edit,
    Table,
    Unused,
    add,
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

CLASSIC = """
def add_gradients(task, measure, tile, sizes, packed, parameters, Z1, Z2, gradient, scores, state, control):
    write(gradient, GARBAGE)
    iteration = read(parameters[0])
    write(gradient, GARBAGE if iteration is GARBAGE else (task, iteration))

def take_step(slice_, tasks, tile, sizes, steps, gradients, old, control, new):
    write(new, GARBAGE)
    iteration = None
    for task in range(tasks):
        found = read(gradients[row_of(peek(control, STATES + task))])
        if found is GARBAGE or found[0] != task or iteration not in (None, found[1]):
            return
        iteration = found[1]
    write(new, (slice_, iteration))

def collect(first, slices, pieces, control, sums):
    iteration = None
    for slice_ in range(slices):
        found = read(pieces[row_of(peek(control, first + slice_))])
        if found is GARBAGE or found[0] != slice_ or iteration not in (None, found[1]):
            write(sums[0], GARBAGE)
            return
        iteration = found[1]
    write(sums[0], iteration)

def take_whole_step(sizes, steps, sums, parameters):
    iteration, of_sums = read(parameters[0]), 0
    of_sums = read(sums[0])
    write(parameters[0], GARBAGE)
    write(parameters[0], iteration + 1 if iteration == of_sums else GARBAGE)

def lead(iterations, spares, packed, room, control):
    for part in range(iterations + 1):
        run_split(0, iterations, spares, None, None, packed, room, PARAMETERS, UNUSED, SUMS, control)
    put(control, STOP, 1)
"""
MLP = """
def add_up(thread, shares, phase, half, gathers, begin, end, follows, until, rates, net, data, room, control):
    do_phase(0, phase, net, data, room, None, thread, shares, control)

def do_step_phase(stage, phase, net, data, room, block, thread, shares, control):
    do_phase(1, phase, net, data, room, block, thread, shares, control)

def do_item(stage, net, data, room, block, turn):
    value = read(SUMMED[0] if stage else MOVED[0])
    for other in range(1, turn.shares):
        found = read(SUMMED[other] if stage else MOVED[other])
        if found != value:
            value = GARBAGE
    if not mine(turn):
        return False
    if stage:
        former = read(MOVED[turn.share])
        write(MOVED[turn.share], GARBAGE)
        right = value is not GARBAGE and former is not GARBAGE and value == former + 1 and block == value
        write(MOVED[turn.share], value if right else GARBAGE)
    else:
        write(SUMMED[turn.share], GARBAGE)
        write(SUMMED[turn.share], GARBAGE if value is GARBAGE else value + 1)
    return True

def lead(iterations, shares, control):
    phase = 0
    for part in range(1, iterations + 2):
        at = (part & 1) * PLAN
        write(RATES[part & 1], GARBAGE)
        put(PLANS, at + STEPS, int(part > 1))
        put(PLANS, at + SUMS, int(part <= iterations))
        put(PLANS, at + PHASE, phase)
        write(RATES[part & 1], part - 1)
        phase += 1 if part == 1 else 2
        run_split(0, shares, PLANS, None, None, None, None, control)
    put(control, STOP, 1)
"""
MLP_EDITS: tuple[Edit, ...] = (
    ("Rates(numbers[own, 0], numbers[own, 1], numbers[own, 2], numbers[own, 3])", "read(RATES[own])"),
    ("Block(ZERO, ZERO, ZERO, ZERO, False, False, (), ZERO, ZERO, rates)", "rates"),
)


class Spares(list[Any]):
    """The leader's spare rows between its calls."""

    def __getitem__(self, place: Any) -> Any:
        return super().__getitem__(place[1])

    def __setitem__(self, place: Any, row: Any) -> None:
        super().__setitem__(place[1], row)


class Led(Explorer):
    """Looks for leaders that wait for others: these may wait for it, unless STOP is set."""

    def _run_alone(self) -> None:
        self._moved = {
            (memory, node)
            for memory, node in self._moved
            if self._nodes[node].thread == 0 or self._words(memory)[CONTROL, STOP]
        }
        super()._run_alone()


class LedPatient(Patient, Led):
    """Lets the leader wait for others where an item is taken: its results must be written first."""


def source(functions: list[Any], edits: tuple[Edit, ...], models: str) -> str:
    text = "\n".join(dedent(inspect.getsource(function.py_func)) for function in functions)
    for before, after in edits:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text + models


def system(
    text: str, names: dict[str, Any], memory: dict[Address, Any], domains: dict[Address, Any], threads: int, ended: Any
) -> System:
    """Return a system of a leader and others, which ``names["begin"]`` starts."""
    names |= {function.__name__: function for function in (peek, put, add, swap_if, read, write, is_late)}
    names |= dict.fromkeys(("now", "pause", "sleep", "keep_pace", "begin_phase", "is_away"), nothing)
    live = load(text, names)
    return System(
        memory,
        domains,
        {},
        live,
        0,
        threads,
        names["begin"],
        lambda memory, word: None,
        lambda memory: None,
        lambda memory, _: ended(memory),
    )


@dataclass(frozen=True)
class Classic:
    """Numbers of threads, tasks, slices and iterations; edits of the source."""

    threads: int
    tasks: int
    slices: int
    iterations: int
    edits: tuple[Edit, ...] = field(default=(), repr=False)

    def system(self) -> System:
        names: dict[str, Any] = {**vars(tasks), **vars(gate), **vars(kernels), **vars(split), "STOP": STOP}
        names |= {
            "GARBAGE": GARBAGE,
            "PARAMETERS": Table("parameters", 1),
            "SUMS": Table("sums", 1),
            "UNUSED": Unused(),
        }
        names |= {name: names[name].py_func for name in ("number_of", "row_of")}
        names["begin"] = lambda thread: self._begin(thread, names)
        functions = [split.run_split, split.add_up, gate.open_gate, gate.pass_gate]
        functions += [tasks.claim, tasks.find_late, tasks.open_next, tasks.publish]
        text = source(functions, self.edits, CLASSIC)
        states = tasks.make_control(self.tasks, self.slices)[STATES:].tolist()
        words = {(CONTROL, STATES + i): state for i, state in enumerate(states)}
        memory: dict[Address, Any] = {(CONTROL, NEXT): 0, (CONTROL, STOP): 0, (CONTROL, OPENED): 0, **words}
        memory |= {("gradients", row): GARBAGE for row in range(self.tasks + self.threads)}
        memory |= {("pieces", row): GARBAGE for row in range(self.slices + self.threads)}
        memory |= {("parameters", 0): 0, ("sums", 0): GARBAGE}
        numbers = range(max(self.tasks, self.slices) + self.threads + 1)
        domains = {(CONTROL, NEXT): [p << PHASE_BITS | n for p in range(2 * self.iterations + 1) for n in numbers]}
        domains |= {(CONTROL, STOP): [0, 1], (CONTROL, OPENED): [*range(self.iterations + 1)]}
        rows = range(self.tasks + self.slices + self.threads)
        for word in words:
            domains[word] = [v << ROW_BITS | row for v in range(self.iterations + 1) for row in rows]
        return system(text, names, memory, domains, self.threads, self._ended)

    def _begin(self, thread: int, names: dict[str, Any]) -> Thread:
        room = SimpleNamespace(**dict.fromkeys(kernels.Room._fields, Unused()))
        room.gradients = Table("gradients", self.tasks + self.threads)
        room.pieces = Table("pieces", self.slices + self.threads)
        room.parameters = range(self.threads)
        spares = Spares([self.tasks + thread, self.slices + thread])
        packed, control = SimpleNamespace(task_block=range(self.tasks + 1)), Table(CONTROL)
        arguments: Any = (self.iterations, spares, packed, room, control)
        if thread:
            arguments = (thread, self.iterations, spares, None, None, packed, room, *arguments[4:])
            arguments = (*arguments[:-1], names["PARAMETERS"], Unused(), names["SUMS"], control)
        begun: Thread = names["run_split" if thread else "lead"](*arguments)
        return begun

    def _ended(self, memory: Mapping[Address, Any]) -> None:
        expect(memory["parameters", 0], self.iterations)


@dataclass(frozen=True)
class Mlp:
    """Numbers of threads and iterations; edits of the source."""

    threads: int
    iterations: int
    edits: tuple[Edit, ...] = field(default=(), repr=False)

    def system(self) -> System:
        names: dict[str, Any] = {**vars(shares), **vars(gate), **vars(mlp_kernels), **vars(mlp_split), "STOP": STOP}
        names |= {"GARBAGE": GARBAGE, "count_items": lambda *_: 1, "begin": lambda thread: self._begin(thread, names)}
        names |= {name.upper(): Table(name) for name in ("summed", "moved", "plans", "rates")}
        names |= {name: names[name].py_func for name in ("first_word", "item_of")}
        functions = [mlp_split.run_split, gate.open_gate, gate.pass_gate, mlp_kernels.mine, mlp_kernels.do_phase]
        functions += [shares.word_of, shares.take, shares.finish, shares.find_late]
        text = source(functions, (*MLP_EDITS, *self.edits), MLP)
        words = {(CONTROL, WORDS + LINE * share): 0 for share in range(self.threads)}
        memory: dict[Address, Any] = {(CONTROL, DONE): 0, (CONTROL, STOP): 0, (CONTROL, OPENED): 0, **words}
        memory |= {("plans", place): 0 for place in range(2 * mlp_split.PLAN)}
        memory |= {("rates", place): GARBAGE for place in range(2)}
        memory |= {(table, share): 0 for table in ("summed", "moved") for share in range(self.threads)}
        phases = range(2 * self.iterations + 1)
        domains = {word: [(p << ITEM_BITS) << 1 | taken for p in phases for taken in (0, 1)] for word in words}
        domains |= {(CONTROL, STOP): [0, 1], (CONTROL, DONE): [*range(self.iterations + 1)]}
        domains[CONTROL, OPENED] = [*range(self.iterations + 2)]
        return system(text, names, memory, domains, self.threads, self._ended)

    def _begin(self, thread: int, names: dict[str, Any]) -> Thread:
        control, nothing_else = Table(CONTROL), (None, None, None, None)
        if thread:
            begun: Thread = names["run_split"](thread, self.threads, names["PLANS"], *nothing_else, control)
            return begun
        led: Thread = names["lead"](self.iterations, self.threads, control)
        return led

    def _ended(self, memory: Mapping[Address, Any]) -> None:
        for share in range(self.threads):
            expect((memory["summed", share], memory["moved", share]), (self.iterations, self.iterations))
        expect(memory[CONTROL, DONE], self.iterations)


def explore(case: Classic | Mlp) -> int:
    return (LedPatient if isinstance(case, Mlp) else Led)(case.system(), reduced=False).explore()


@pytest.mark.parametrize(
    "case",
    [Classic(1, 2, 2, 2), Classic(2, 1, 1, 2), Classic(2, 2, 1, 1), Mlp(1, 2), Mlp(2, 1), Mlp(2, 2)],
    ids=str,
)
def test_no_interleaving_is_at_fault(case: Classic | Mlp) -> None:
    assert explore(case) > 20


STEP = "        if opened > 0:\n"
EARLY = f"        if 0 < opened < iterations:\n            open_gate(control, opened + 1)\n{STEP}"
STOPPED = "if peek(control, STOP) != 0:", "if False:"
FAULTS: dict[str, tuple[Classic | Mlp, Edit]] = {
    "the classic's gate is opened before the step": (Classic(2, 1, 1, 2), (STEP, EARLY)),
    "others do more than what is open": (
        Classic(2, 1, 1, 2),
        (", 2 * opened\n", ", 2 * opened + 1 - (thread == 0)\n"),
    ),
    "the leader keeps the rows of its first call": (
        Classic(2, 1, 1, 3),
        ("spares[thread, 0], spares[thread, 1] = row, piece", "pass"),
    ),
    "the classic's others are not stopped": (Classic(2, 1, 1, 1), STOPPED),
    "the mlp's others are not stopped": (Mlp(2, 2), STOPPED),
    "a plan is read in parts": (Mlp(2, 2), ("if peek(control, OPENED) != opened:", "if False:")),
    "the next plan overwrites the last": (Mlp(2, 2), ("own = opened & 1", "own = 0")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_guard_that_is_missing_is_found(fault: str) -> None:
    case, edit = FAULTS[fault]
    with pytest.raises(Fault):
        explore(replace(case, edits=(edit,)))


@pytest.mark.parametrize("case", [Classic(2, 1, 1, 2), Mlp(2, 2)], ids=["classic", "mlp"])
def test_waiting_at_the_gate_only_saves_work(case: Classic | Mlp) -> None:
    assert explore(replace(case, edits=(("if opened > passed:", "if opened >= passed:"),))) > 20
