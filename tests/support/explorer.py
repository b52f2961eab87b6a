"""All interleavings of threads that share memory, explored on the source code of the functions that they run.

:func:`load` turns functions into generators that yield every access to shared memory, and :class:`Explorer` answers
them in all orders. Two states are one if the memory is the same and every thread is at the same place of its code with
the same values of the variables that it may still read. A generator cannot be copied, so a thread is known by the
answers that it got, which are replayed. Memory is sequentially consistent: weaker orders of a CPU are not explored.

Threads differ in nothing but their number. Control words only rise; some are ``version << ROW_BITS | row``, and name a
row of another table, a *result*. Every other row is the *spare* of a thread. A *reduced* exploration leaves out states
for these reasons:

- A spare row may be overwritten at any time, so it reads as garbage, whatever is in it.
- Hence nobody sees a thread write its spare row, and it does so at once, with the step before. So are an exchange whose
  old value has passed, and a look at a word after which the thread goes on in the same way whatever the word becomes.
  No other thread can influence such a step, nor be influenced by it.
- When a spare row becomes a result and the former result a spare, they exchange their names, wherever they are
  mentioned. So a thread's spare has the same name at all times, and who owns which row makes no further states.
- Threads are sorted.

These hold if words only rise and threads write and publish nothing but their spare rows. Whatever breaks that is a
fault itself.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from mnistbench.backends.numba.simd.tasks import ROW_BITS, ROWS

Address = tuple[str, int]
"""Table and place."""
Answers = tuple[tuple[Address, Any], ...]
"""Answers that a thread got, and where."""
Names = tuple[tuple[Address, int], ...]
"""New names of rows."""
State = tuple[int, ...]
"""Number of the memory, and of each thread's node."""

CONTROL = "control"
GARBAGE = None


class Access(NamedTuple):
    """What a thread does to a word of memory: peek, put, add or swap_if.

    Besides, it may ``choose`` between True and False, and asks for its ``own`` spare row when it starts.
    """

    kind: str
    address: Address = ("", 0)
    values: tuple[Any, ...] = ()


Thread = Generator[Access, Any, Any]


class Fault(Exception):
    """What must not happen, and the steps that lead there."""


@dataclass
class System:
    """Threads and the memory that they share.

    Attributes:
        memory: Initial values. The last rows of each table are the threads' spare ones.
        domains: All values that a control word may take.
        tables: The table of whose rows a control word names one.
        live: Variables that may still be read, for each line of the threads' code.
        threads: Number of threads that differ in nothing but their number.
        count: Number of all threads.
        start: Starts a thread.
        check: Called after each change of a control word.
        ended: Called when one of the threads has ended.
        all_ended: Called when all have, with what they returned.
    """

    memory: dict[Address, Any]
    domains: dict[Address, list[int]]
    tables: dict[Address, str]
    live: dict[int, tuple[str, ...]]
    threads: int
    count: int
    start: Callable[[int], Thread]
    check: Callable[[Mapping[Address, Any], Address], None]
    ended: Callable[[Mapping[Address, Any]], None]
    all_ended: Callable[[Mapping[Address, Any], list[Any]], None]


# From functions to generators


class _Yielding(ast.NodeTransformer):
    """Let calls of generators hand on what these yield."""

    def __init__(self, generators: set[str]) -> None:
        self._generators = generators

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = []
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        called = node.func.id if isinstance(node.func, ast.Name) else None
        found = self.generic_visit(node)
        return ast.YieldFrom(node) if called in self._generators else found

    def generic_visit(self, node: ast.AST) -> ast.AST:
        found = super().generic_visit(node)
        if not isinstance(node, ast.BoolOp | ast.stmt | ast.mod):  # an answer in no variable would be overlooked
            parts = [any(isinstance(n, ast.YieldFrom) for n in ast.walk(c)) for c in ast.iter_child_nodes(found)]
            assert sum(parts) < 2, ast.unparse(node)
        return found


def load(source: str, names: dict[str, Any]) -> dict[int, tuple[str, ...]]:
    """Define functions as generators in ``names``, which has those that access memory; return what is live where."""
    tree = ast.parse(source)
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    accesses = {name for name, value in names.items() if inspect.isgeneratorfunction(value)}
    text = ast.unparse(ast.fix_missing_locations(_Yielding(own | accesses).visit(tree)))  # each statement is a line
    exec(compile(text, "<explored>", "exec"), names)
    live: dict[int, tuple[str, ...]] = {}
    for node in ast.parse(text).body:
        assert isinstance(node, ast.FunctionDef)
        found: dict[int, frozenset[str]] = {}
        _find_live(node.body, frozenset(), frozenset(), frozenset(), found)
        live |= {line: tuple(found[line] & set(names[node.name].__code__.co_varnames)) for line in found}
    return live


def _find_live(
    body: list[ast.stmt],
    after: frozenset[str],
    leave: frozenset[str],
    again: frozenset[str],
    live: dict[int, frozenset[str]],
) -> frozenset[str]:
    """Return the variables that statements may read before they assign them, and note what is live in each of them.

    Args:
        after, leave, again: What is live after the statements, after a break and after a continue.
    """
    for node in reversed(body):
        reads, writes = _names(node, ast.Load), _names(node, ast.Store)
        match node:
            case ast.Return():
                after = reads
            case ast.Break():
                after = leave
            case ast.Continue():
                after = again
            case ast.If():
                branches = [_find_live(part, after, leave, again, live) for part in (node.body, node.orelse)]
                after = reads.union(*branches)
            case ast.While() | ast.For():
                head = after | reads | writes  # a variable of a range says how far the loop is
                while not (found := _find_live(node.body, head, after, head, live)) <= head:
                    head |= found
                after = head - writes
            case _:
                after = (after - writes) | reads
        live[node.lineno] = after
    return after


def _names(node: ast.stmt, context: type[ast.expr_context]) -> frozenset[str]:
    """Return the names that a statement itself, without those in its body, reads or writes."""
    parts = [value for name, value in ast.iter_fields(node) if name not in ("body", "orelse")]
    nodes = [part for value in parts for part in (value if isinstance(value, list) else [value])]
    names = [n for part in nodes if isinstance(part, ast.AST) for n in ast.walk(part) if isinstance(n, ast.Name)]
    both = isinstance(node, ast.AugAssign)
    return frozenset(name.id for name in names if both or isinstance(name.ctx, context))


# Exploring


class Node(NamedTuple):
    """A state of a thread.

    Attributes:
        access: What it does next, None if it has ended.
        answers: What it got since the start.
        result: What it returned.
    """

    thread: int
    access: Access | None
    answers: Answers
    result: Any = None


@dataclass
class _Numbers:
    """Numbers of values, each of which has a key."""

    values: list[Any] = field(default_factory=list)
    of: dict[Hashable, int] = field(default_factory=dict)

    def __getitem__(self, number: int) -> Any:
        return self.values[number]

    def add(self, key: Hashable, value: Any) -> int:
        found = self.of.setdefault(key, len(self.values))
        if found == len(self.values):
            self.values.append(value)
        return found


class Explorer:
    """Explores a system, with or without reduction."""

    def __init__(self, system: System, reduced: bool = True) -> None:
        self._system, self._reduced = system, reduced
        self._place = {address: place for place, address in enumerate(system.memory)}
        sizes = Counter(table for table, _ in system.memory)
        self._spare = {table: sizes[table] - system.threads for table in dict.fromkeys(system.tables.values())}
        self._memories, self._nodes = _Numbers(), _Numbers()
        self._moved: set[tuple[int, int]] = set()
        # What follows from the same numbers is found once.
        self._after = functools.cache(self._find_after)
        self._moves = functools.cache(self._find_moves)
        self._rest = functools.cache(self._find_rest)
        self._order = functools.cache(self._find_order)
        self._renamed = functools.cache(self._rename_node)
        self._renamed_memory = functools.cache(self._rename_memory)

    def explore(self) -> int:
        """Explore all states, and from each every thread alone to its end; return the number of states."""
        memory = self._number(tuple(self._system.memory.values()))
        nodes = [self._reach(thread, ())[0] for thread in range(self._system.count)]
        state = (self._settle(memory, nodes), *nodes)
        parents, waiting = {state: state}, [state]
        try:
            while waiting:
                state = waiting.pop()
                for _, new in self._successors(state):
                    if new not in parents:
                        parents[new] = state
                        waiting.append(new)
        except Fault as fault:
            raise Fault("\n".join([str(fault), *self._steps(parents, state)])) from None
        self._run_alone()
        return len(parents)

    def _successors(self, state: State) -> Iterator[tuple[int, State]]:
        """Yield the states that one step leads to, each with the thread that takes it."""
        memory, own = state[0], state[1:]
        ended = True
        for thread, node in enumerate(own):
            for changed, moved, names in self._moves(memory, node):
                ended = False
                nodes = [self._renamed(other, names) for other in own] if names else list(own)
                nodes[thread] = moved
                if changed != memory:
                    changed = self._settle(changed, nodes)
                yield thread, self._sorted(changed, nodes)
        if ended:
            self._system.all_ended(self._words(memory), [self._nodes[node].result for node in own])

    def _run_alone(self) -> None:
        """Check that every thread comes to its end from every state even if the others stop there."""
        ends: set[tuple[int, int]] = set()
        for pair in list(self._moved):
            path: dict[tuple[int, int], None] = {}
            while pair not in ends and self._nodes[pair[1]].access:
                if pair in path:
                    raise Fault(f"waits for another thread: {self._nodes[pair[1]][:2]}")
                path[pair] = None
                pair = self._moves(*pair)[0][:2]
            ends.update(path)

    def _steps(self, parents: dict[State, State], state: State) -> list[str]:
        """Return the steps to a state, and what its threads would do next."""
        lines = [f"next: {self._nodes[node].access}" for node in state[1:]]
        while parents[state] != state:
            child, state = state, parents[state]
            thread = next(thread for thread, new in self._successors(state) if new == child)
            lines.append(f"{thread}: {self._nodes[state[1 + thread]].access}")
        return lines[::-1]

    # A thread's steps

    def _reach(self, thread: int, answers: Answers) -> tuple[int, ...]:
        """Return the nodes that answers lead to: several if the thread may choose."""
        generator = self._system.start(thread)
        try:
            access = next(generator)
            for _, answer in answers:
                access = generator.send(answer)
        except StopIteration as end:
            return (self._nodes.add((thread, end.value), Node(thread, None, answers, end.value)),)
        more = {"choose": (True, False), "own": (access.address[1],)}.get(access.kind, ())
        if more:
            return tuple(node for answer in more for node in self._reach(thread, (*answers, (access.address, answer))))
        places, inner = [], cast(Any, generator)
        while inner.gi_yieldfrom is not None:
            frame = inner.gi_frame
            live = self._system.live[frame.f_lineno]
            places.append((frame.f_lasti, *(_frozen(frame.f_locals.get(name)) for name in live)))
            inner = inner.gi_yieldfrom
        return (self._nodes.add((thread, access, *places), Node(thread, access, answers)),)

    def _find_after(self, node: int, answer: Any) -> tuple[int, ...]:
        """Return the nodes that an answer leads to."""
        thread, access, answers, _ = self._nodes[node]
        return self._reach(thread, (*answers, (access.address, answer)))

    def _find_moves(self, memory: int, node: int) -> list[tuple[int, int, Names]]:
        """Return what a thread's next step may lead to: memory, node, and new names of rows."""
        thread, access = self._nodes[node][:2]
        if access is None:
            return []
        self._moved.add((memory, node))
        changed, answer = self._perform(self._memories[memory], access)
        after = self._after(node, answer)
        if thread < self._system.threads and any(self._nodes[n].access is None for n in after):
            self._system.ended(self._words(self._number(changed)))
        if not self._reduced:
            return [(self._number(changed), n, ()) for n in after]
        names: Names = ()
        if table := self._written(thread, access):
            spare = self._spare[table] + thread
            if access.kind == "swap_if":
                if answer:
                    old = access.values[0] & ROWS
                    names = ((table, old), spare), ((table, spare), old)
                    changed = self._memories[self._renamed_memory(self._number(changed), names)]
                changed = self._with(changed, (table, spare), GARBAGE)
        number = self._number(changed)
        return [(*self._rest(number, self._renamed(n, names)), names) for n in after]

    def _perform(self, memory: tuple[Any, ...], access: Access) -> tuple[tuple[Any, ...], Any]:
        """Return the memory after an access, and its answer."""
        kind, address, values = access
        word = memory[self._place[address]]
        new = answer = None
        match kind:
            case "peek":
                hidden = self._reduced and address[0] != CONTROL and address[1] >= self._spare[address[0]]
                return memory, GARBAGE if hidden else word
            case "put":
                new = values[0]
            case "add":
                new, answer = word + values[0], word
            case "swap_if":
                answer = word == values[0]
                new = values[1] if answer else word
        if new == word:
            return memory, answer
        memory = self._with(memory, address, new)
        if address[0] == CONTROL:
            if new < word or new not in self._system.domains[address]:
                raise Fault(f"{address} becomes {new}")
            self._system.check(self._words(self._number(memory)), address)
        return memory, answer

    # What is left out

    def _written(self, thread: int, access: Access) -> str | None:
        """Return the table of the row that a thread writes or publishes, and check that this is its spare one."""
        table, row = access.address
        if access.address in self._system.tables and access.kind != "peek":
            table, row = self._system.tables[access.address], access.values[-1] & ROWS
        elif table == CONTROL or access.kind != "put":
            return None
        if row != self._spare[table] + thread:
            raise Fault(f"thread {thread} writes or publishes row {row} of {table}, which is not its spare one")
        return table

    def _settle(self, memory: int, nodes: list[int]) -> int:
        """Let all threads take the steps that no other has to do with; return the memory after them."""
        before = -1
        while self._reduced and memory != before:
            before = memory
            for thread, node in enumerate(nodes):
                memory, nodes[thread] = self._rest(memory, node)
        return memory

    def _find_rest(self, memory: int, node: int) -> tuple[int, int]:
        """Return memory and node after a thread's next steps that no other has to do with."""
        path: set[tuple[int, int]] = set()
        while self._is_quiet(memory, node):
            if (memory, node) in path:
                raise Fault(f"never ends: {self._nodes[node][:2]}")
            path.add((memory, node))
            memory, node, _ = self._moves(memory, node)[0]
        return memory, node

    def _is_quiet(self, memory: int, node: int) -> bool:
        """Return whether no other thread has to do with a thread's next step."""
        access = self._nodes[node].access
        if access is None:
            return False
        kind, address, values = access
        if address[0] != CONTROL:
            return bool(kind == "put")
        word = self._memories[memory][self._place[address]]
        if kind != "peek":
            return bool(kind == "swap_if" and values[0] < word)
        first = self._after(node, word)
        return len(first) == 1 and all(self._after(node, w) == first for w in self._system.domains[address] if w > word)

    def _sorted(self, memory: int, nodes: list[int]) -> State:
        """Return a state with its threads sorted."""
        if self._reduced:
            places = [self._order(node) for node in nodes[: self._system.threads]]
            if places != sorted(places):
                order = sorted(range(len(places)), key=places.__getitem__)
                names = self._moved_spares(order)
                memory = self._renamed_memory(memory, names)
                nodes[: len(order)] = [self._renamed(nodes[old], names, new) for new, old in enumerate(order)]
        return memory, *nodes

    def _find_order(self, node: int) -> int:
        """Return a number that does not depend on which thread is at a node: that of the first thread's."""
        order = list(range(self._system.threads))
        thread = self._nodes[node].thread
        order[0], order[thread] = thread, 0
        return self._renamed(node, self._moved_spares(order), 0)

    def _moved_spares(self, order: list[int]) -> Names:
        """Return the new names of spare rows when threads are put in an order."""
        spares = self._spare.items()
        return tuple(((table, row + old), row + new) for table, row in spares for new, old in enumerate(order))

    def _rename_node(self, node: int, names: Names, thread: int | None = None) -> int:
        """Return the node that is the same but for names of rows, and the thread."""
        own, _, answers, _ = self._nodes[node]
        if not names:
            return node
        new = tuple((address, self._rename(address, answer, dict(names))) for address, answer in answers)
        return self._reach(own if thread is None else thread, new)[0]

    def _rename_memory(self, memory: int, names: Names) -> int:
        new = dict(names)
        moved = {
            (table, new.get((table, row), row)): self._rename((table, row), value, new)
            for (table, row), value in self._words(memory).items()
        }
        return self._number(tuple(moved[address] for address in self._place))

    def _rename(self, address: Address, value: Any, names: dict[Address, int]) -> Any:
        if type(value) is not int:
            return value
        if address in self._system.tables:
            row = value & ROWS
            return value >> ROW_BITS << ROW_BITS | names.get((self._system.tables[address], row), row)
        return names.get((address[0], value), value)

    # Memory

    def _number(self, memory: tuple[Any, ...]) -> int:
        return self._memories.add(memory, memory)

    def _words(self, memory: int) -> dict[Address, Any]:
        return dict(zip(self._place, self._memories[memory], strict=True))

    def _with(self, memory: tuple[Any, ...], address: Address, value: Any) -> tuple[Any, ...]:
        place = self._place[address]
        return *memory[:place], value, *memory[place + 1 :]


def _frozen(value: Any) -> Any:
    """Return what tells a variable's values apart; arrays and settings are always the same."""
    if isinstance(value, list):
        return tuple(value)
    return value if isinstance(value, int | tuple) else None
