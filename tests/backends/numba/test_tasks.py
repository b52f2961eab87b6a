"""The schedule without locks of ``simd/tasks.py``: every interleaving of a few threads, on its own source code.

Sums of gradients and steps are replaced by models whose results say what they were computed from, so that one that is
lost, counted twice, or computed from rows that somebody overwrites meanwhile leads to a wrong result. Whether a task is
late is open each time, so a thread helps at any time or waits. That a thread comes to its end from every state if the
others stop there is checked too.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from mnistbench.backends.numba.classic import kernels, trainer
from mnistbench.backends.numba.simd import Ints, tasks
from mnistbench.backends.numba.simd.tasks import AGAIN, NEXT, PHASE_BITS, ROW_BITS, ROWS, STATES
from mnistbench.backends.numba.simd.workers import STOP
from mnistbench.task.workload import DTYPES, DType
from mnistbench.threads import usable_cpus
from tests.backends.numba.test_classic import some
from tests.support.builders import identical
from tests.support.explorer import CONTROL, GARBAGE, Access, Address, Explorer, Fault, System, Thread, load

MODELS = """
def add_gradients(task, measure, tile, sizes, packed, parameters, Z1, Z2, gradient, scores, state, control):
    write(gradient, GARBAGE)
    if peek(control, STATES + task) != state:
        return
    write(gradient, GARBAGE if parameters[0] is GARBAGE else (task, parameters[0]))

def take_step(slice_, tasks, tile, sizes, steps, gradients, old, control, new):
    write(new, GARBAGE)
    value = read(old)
    for task in range(tasks):
        if value is GARBAGE:
            return
        value = plus(value, task, read(gradients[row_of(peek(control, STATES + task))]))
    write(new, value and (value[0], value[1] + 1))

def set_stop(control):
    put(control, STOP, 1)
"""
"""Sums are (task, iteration) if they are of that iteration's parameters, and a slice is (slice, iteration).

A row is garbage from before it is written until after: so a read of a whole row is one step, since a torn one finds
garbage at some time between its beginning and its end. For the same reason it does not matter in which order rows are
read, nor that the kernel reads each in parts."""

Edit = tuple[str, str]

MODELLED: tuple[Edit, ...] = (
    ("slices + thread, -1\n", "slices + thread, -1\n    row = own(gradients[row])\n    piece = own(pieces[piece])\n"),
    ("own(gradients", "own(room.gradients"),
    ("own(pieces", "own(room.pieces"),
    ("= piece[i]", "= read(piece)"),
    ("            return\n        time,", "            return row, piece\n        time,"),
)
"""Lets ``run`` tell which rows are its spare ones, at the start and at the end, and ``collect`` read as models do."""


@dataclass(frozen=True)
class Table:
    """An array of rows, or the control array."""

    name: str
    count: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        return self.count, 1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> Address:
        return self.name, place


class Unused:
    """An array whose contents do not matter."""

    def __getitem__(self, place: int) -> Unused:
        return self


class Copy(list[Any]):
    """A thread's copy of the parameters: their iteration, or GARBAGE if the slices so far are of several."""

    def __setitem__(self, slice_: Any, piece: Any) -> None:
        iteration = piece[1] if piece and piece[0] == slice_ else GARBAGE
        super().__setitem__(0, iteration if slice_ == 0 or iteration == self[0] else GARBAGE)


def peek(array: Any, place: int) -> Thread:
    return (yield Access("peek", array[place])) if isinstance(array, Table) else 0


def put(array: Any, place: int, value: int) -> Thread:
    if isinstance(array, Table):
        yield Access("put", array[place], (value,))


def add(array: Table, place: int, value: int) -> Thread:
    return (yield Access("add", array[place], (value,))) if place != AGAIN else 0


def swap_if(array: Table, place: int, old: int, new: int) -> Thread:
    return (yield Access("swap_if", array[place], (old, new)))


def own(row: Address) -> Thread:
    return (yield Access("own", row))


def read(row: Address) -> Thread:
    return (yield Access("peek", row))


def write(row: Address, value: Any) -> Thread:
    yield Access("put", row, (value,))


def is_late(*_: Any) -> Thread:
    return (yield Access("choose"))


def plus(value: Any, task: int, gradient: Any) -> Any:
    return value if gradient == (task, value[1]) else GARBAGE


def nothing(*_: Any) -> int:
    return 0


ACCESSES = peek, put, add, swap_if, own, read, write, is_late, plus
FUNCTIONS: list[Any] = [kernels.run, kernels.collect, tasks.claim, tasks.find_late, tasks.open_next, tasks.publish]
PLAIN: list[Any] = [tasks.number_of, tasks.row_of]


def source(edits: tuple[Edit, ...]) -> str:
    """Return the source of the schedule with some text replaced."""
    text = "\n".join(inspect.getsource(function.py_func) for function in FUNCTIONS)
    for before, after in edits:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


@dataclass(frozen=True)
class Case:
    """Numbers of threads, tasks, slices and iterations; when STOP is set; edits of the source."""

    threads: int
    tasks: int
    slices: int
    iterations: int
    learn: bool = True
    stop: Literal["never", "any time", "at once"] = "never"
    edits: tuple[Edit, ...] = field(default=(), repr=False)

    def system(self) -> System:
        names: dict[str, Any] = {**vars(tasks), **vars(kernels), "STOP": STOP, "GARBAGE": GARBAGE}
        names |= {function.__name__: function for function in ACCESSES}
        names |= {function.__name__: function.py_func for function in PLAIN}
        names |= dict.fromkeys(("now", "pause", "keep_pace"), nothing)
        live = load(source((*MODELLED, *self.edits)) + MODELS, names)
        return System(
            self._memory(),
            self._domains(),
            {self._word(i): "gradients" if i < self.tasks else "pieces" for i in range(self.tasks + self.slices)},
            live,
            self.threads,
            self.threads + (self.stop == "any time"),
            lambda thread: self._start(thread, names),
            self._check,
            self._ended,
            self._all_ended,
        )

    def _word(self, state: int) -> Address:
        return CONTROL, STATES + state

    def _memory(self) -> dict[Address, Any]:
        states = tasks.make_control(self.tasks, self.slices)[STATES:].tolist()
        memory: dict[Address, Any] = {(CONTROL, NEXT): 0, (CONTROL, STOP): int(self.stop == "at once")}
        memory |= {self._word(i): state for i, state in enumerate(states)}
        memory |= {("gradients", row): GARBAGE for row in range(self.tasks + self.threads)}
        memory |= {("pieces", slice_): (slice_, 0) for slice_ in range(self.slices)}
        return memory | {("pieces", self.slices + thread): GARBAGE for thread in range(self.threads)}

    def _domains(self) -> dict[Address, list[int]]:
        numbers = range(max(self.tasks, self.slices) + self.threads + 1)
        domains = {(CONTROL, NEXT): [p << PHASE_BITS | n for p in range(2 * self.iterations + 1) for n in numbers]}
        domains[CONTROL, STOP] = [0, 1]
        for i in range(self.tasks + self.slices):
            rows = range((self.tasks if i < self.tasks else self.slices) + self.threads)
            domains[self._word(i)] = [v << ROW_BITS | row for v in range(self.iterations + 1) for row in rows]
        return domains

    def _start(self, thread: int, names: dict[str, Any]) -> Thread:
        control = Table(CONTROL)
        if thread == self.threads:
            stopper: Thread = names["set_stop"](control)
            return stopper
        room = SimpleNamespace(**dict.fromkeys(kernels.Room._fields, Unused()))
        room.gradients = Table("gradients", self.tasks + self.threads)
        room.pieces = Table("pieces", self.slices + self.threads)
        room.parameters = [Copy([GARBAGE]) for _ in range(self.threads)]
        packed = SimpleNamespace(task_block=range(self.tasks + 1))
        started: Thread = names["run"](thread, self.iterations, self.learn, None, None, packed, room, control)
        return started

    def _check(self, memory: Mapping[Address, Any], word: Address) -> None:
        """Check the result that a state names."""
        state, version, row = word[1] - STATES, memory[word] >> ROW_BITS, memory[word] & ROWS
        if state >= self.tasks:
            expect(memory["pieces", row], (state - self.tasks, version))
        elif state >= 0 and version > 0:
            expect(memory["gradients", row], (state, version - 1))

    def _ended(self, memory: Mapping[Address, Any]) -> None:
        words = [self._word(i) for i in range(self.tasks + self.slices)]
        for word in words:
            self._check(memory, word)
        versions = [memory[word] >> ROW_BITS for word in words]
        whole = {"never": self.iterations, "at once": 1, "any time": max(1, versions[0])}[self.stop]
        expect(versions, [1] * self.tasks + [0] * self.slices if not self.learn else [whole] * len(words))

    def _all_ended(self, memory: Mapping[Address, Any], spare: list[Any]) -> None:
        self._ended(memory)
        rows = [memory[self._word(i)] & ROWS for i in range(self.tasks + self.slices)]
        spare = spare[: self.threads]
        expect(sorted(rows[: self.tasks] + [row for row, _ in spare]), [*range(self.tasks + self.threads)])
        expect(sorted(rows[self.tasks :] + [piece for _, piece in spare]), [*range(self.slices + self.threads)])


def expect(found: Any, expected: Any) -> None:
    if found != expected:
        raise Fault(f"{found} instead of {expected}")


@pytest.mark.parametrize(
    "case",
    [
        Case(1, 2, 2, 2),
        Case(2, 2, 2, 2),
        Case(2, 3, 1, 2),
        Case(2, 1, 1, 3),
        Case(3, 2, 1, 1),
        Case(3, 2, 1, 1, learn=False),
        Case(2, 2, 2, 2, stop="any time"),
        Case(2, 2, 2, 2, stop="at once"),
    ],
    ids=str,
)
def test_no_interleaving_is_at_fault(case: Case) -> None:
    assert Explorer(case.system()).explore() > 50


LARGER = Case(3, 3, 1, 2), Case(3, 1, 1, 2, stop="any time"), Case(4, 1, 1, 1), Case(3, 3, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("case", LARGER, ids=str)
def test_no_interleaving_of_more_is_at_fault(case: Case, request: pytest.FixtureRequest) -> None:
    """Take 8 to 20 s each; the last takes two minutes and 1 GB."""
    if not request.config.getoption("--all-options"):
        pytest.skip("--all-options runs it")
    assert Explorer(case.system()).explore() > 50


@pytest.mark.parametrize("case", [Case(2, 2, 1, 1), Case(2, 1, 2, 1, stop="any time"), Case(2, 1, 1, 2)], ids=str)
def test_nor_is_one_that_the_reduction_leaves_out(case: Case) -> None:
    assert Explorer(case.system(), reduced=False).explore() > 50


NEW = "((old >> ROW_BITS) + 1) << ROW_BITS | row"
PUBLISH = f"swap_if(control, place, old, {NEW})"
OPEN = "swap_if(control, NEXT, ticket, following << PHASE_BITS)"
FAULTS: dict[str, tuple[Edit, ...]] = {
    "published whatever the state is": ((PUBLISH, f"put(control, place, {NEW}) is None"),),
    "published if the row is the same": (
        (
            PUBLISH,
            f"row_of(peek(control, place)) == row_of(old) and {PUBLISH.replace('old,', 'peek(control, place),')}",
        ),
    ),
    "version not counted": (("((old >> ROW_BITS) + 1)", "(old >> ROW_BITS)"),),
    "version not looked at": (("if old >> ROW_BITS != iteration:", "if False:"),),
    "loser takes the former row": (("    return row\n", "    return row_of(old)\n"),),
    "winner keeps its row": (("        return row_of(old)\n", "        return row\n"),),
    "sums in the former row": (
        ("room.gradients[row],", "room.gradients[row_of(old)],"),
        ("row = publish(place, old, row, control)", "publish(place, old, row_of(old), control)"),
    ),
    "step in the former row": (
        ("room.pieces[piece]\n", "room.pieces[row_of(old)]\n"),
        ("piece = publish(place, old, piece, control)", "publish(place, old, row_of(old), control)"),
    ),
    "parameters copied once": (("if collected != iteration:", "if collected < 0:"),),
    "claimed without end": (("number_of(ticket) < (second if ticket >> PHASE_BITS & 1 else first)", "True"),),
    "phase over before all is published": (("missing == count or", "missing >= count - 1 or"),),
    "nothing is late": (("phase >> 1 and is_late(", "phase >> 1 and False and is_late("),),
    "opened whatever NEXT is": ((OPEN, "put(control, NEXT, following << PHASE_BITS) is None"),),
    "opened whatever the phase is": ((f"ticket >> PHASE_BITS != phase or {OPEN}", OPEN),),
    "stopped in an iteration": (("following & 1 == 0 and ", ""),),
    "not stopped": (("peek(control, STOP) != 0", "False"),),
}


@pytest.mark.parametrize("reduced", [True, False], ids=["reduced", "full"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_guard_that_is_missing_is_found(fault: str, reduced: bool) -> None:
    case = Case(2, 1, 1, 2, stop="at once" if "stop" in fault else "never", edits=FAULTS[fault])
    with pytest.raises(Fault):
        Explorer(case.system(), reduced).explore()


SAVINGS: dict[str, Edit] = {
    "NEXT counted up after the last phase": ("ticket >> PHASE_BITS < end and ", ""),
    "no look at NEXT while waiting": (" or peek(control, NEXT) >> PHASE_BITS != phase:", ":"),
    "no look at a task that may be late": ("peek(control, STATES + base + task) >> ROW_BITS == phase >> 1 and ", ""),
}


@pytest.mark.parametrize("saving", SAVINGS)
def test_what_only_saves_work_may_be_missing(saving: str) -> None:
    assert Explorer(Case(2, 2, 2, 2, edits=(SAVINGS[saving],)).system()).explore() > 50


# On the compiled kernels


@pytest.fixture
def controls(monkeypatch: pytest.MonkeyPatch) -> list[Ints]:
    """The control arrays of all runs, the latest last."""
    made: list[Ints] = []

    def make_control(first: int, second: int) -> Ints:
        made.append(tasks.make_control(first, second))
        return made[-1]

    monkeypatch.setattr(trainer, "make_control", make_control)
    return made


@contextmanager
def busy_neighbours() -> Iterator[None]:
    """Let processes take the cores away now and then."""
    with ExitStack() as stack:
        for _ in range(min(4, usable_cpus())):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        yield


def without_patience(threads: int, dtype: DType) -> trainer.NumbaTrainer:
    """Start a trainer that finds every task late at once, so that threads do each other's tasks again."""
    own, _ = some(threads, dtype, count=4000)
    assert isinstance(own, trainer.NumbaTrainer)
    own._room.costs[:] = 1 << 40
    own._room.paces[:] = -1  # keep_pace leaves it
    return own


@pytest.mark.process
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [2, 8])
def test_the_same_bits_though_tasks_are_done_again(threads: int, dtype: DType, controls: list[Ints]) -> None:
    alone, own = some(1, dtype, count=4000)[0], without_patience(threads, dtype)
    assert identical(own.gradients(), alone.gradients())  # compiled before there are neighbours
    with busy_neighbours():
        for iterations in (300, 1, 7, 500):
            assert own.advance(iterations) == alone.advance(iterations)
            assert identical(own.parameters(), alone.parameters())
            assert identical(own.gradients(), alone.gradients())
    assert sum(int(control[AGAIN]) for control in controls) > 0


@pytest.mark.process
def test_stopped_at_any_time_all_slices_are_of_one_iteration(controls: list[Ints]) -> None:
    alone, own = some(1, "float32", count=4000)[0], without_patience(3, "float32")
    own.gradients()

    def stop(runs: int, seconds: float) -> None:
        while len(controls) == runs:
            time.sleep(1e-4)
        time.sleep(seconds)
        controls[-1][STOP] = 1

    with busy_neighbours():
        for seconds in np.linspace(0, 0.02, 20):
            stopper = threading.Thread(target=stop, args=(len(controls), seconds), daemon=True)
            stopper.start()
            own.advance(1_000_000_000)
            stopper.join()
            (iterations,) = set((controls[-1][STATES:] >> ROW_BITS).tolist())
            alone.advance(iterations)
            assert identical(own.parameters(), alone.parameters())
