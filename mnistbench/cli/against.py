"""The command ``compare --against``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.live import Live
from rich.text import Text

from mnistbench import words
from mnistbench.cli.common import complain, out, plain_table
from mnistbench.exceptions import OptionError
from mnistbench.task.workload import DType, Workload

if TYPE_CHECKING:
    from mnistbench.comparison.against import Case, Gate


def fraction_of(fail: str) -> float:
    """Return the slowdown written as "5%" or "0.05"; raise an OptionError if it is neither."""
    if found := re.fullmatch(r"\s*([0-9.]+)\s*(%?)\s*", fail):
        number, sign = found.groups()
        try:
            slowdown = float(number) / (100 if sign else 1)
        except ValueError:
            slowdown = 0.0
        if 0 < slowdown < 1:
            return slowdown
    raise OptionError(f"--fail {fail}: give a slowdown between 0 and 100%, such as 5% or 0.05")


def gate(
    revision: str,
    backends: Sequence[str],
    dtypes: Sequence[DType],
    workload: Workload,
    *,
    fail: float,
    budget: float,
    threads: int,
    as_json: bool,
) -> None:
    """Run a gate, print its outcome, and exit with 1 if a backend is slower or wrong."""
    from mnistbench.comparison import against
    from mnistbench.comparison.against.environment import prepare

    then = prepare(revision, announce=complain)
    with _following(as_json) as follow:
        found = against.run(
            (against.Side.now(), then),
            backends,
            dtypes,
            workload,
            fail=fail,
            budget=budget,
            threads=threads,
            callback=follow,
        )
    if as_json:
        print(json.dumps(found.record(), allow_nan=False), flush=True)
    else:
        _print(found, threads)
    if any(case.failed for case in found.cases):
        raise typer.Exit(1)


@contextmanager
def _following(quiet: bool) -> Iterator[Callable[[Case], None]]:
    """Report every pair: on a terminal in one changing line, otherwise line by line."""
    if quiet:
        yield lambda case: None
    elif out.is_terminal:
        # A thread that refreshes the line would take CPU time from the backend being timed.
        with Live(Text("computing the reference"), console=out, auto_refresh=False, transient=True) as live:
            yield lambda case: live.update(Text(_progress(case)), refresh=True)
    else:
        yield lambda case: print(_progress(case), flush=True)


def _progress(case: Case) -> str:
    if case.problem:
        return f"{case.label}: {case.problem}"
    took, ratio = words.seconds(case.spent), words.times(case.ratios[-1])
    known = "" if case.verdict is None else f", {case.verdict.word}"
    return f"Pair: {len(case.pairs)} of {case.due}, {case.label}: {ratio} as long, {took} so far{known}"


def _print(gate: Gate, threads: int) -> None:
    (now, then), task = gate.sides, gate.workload
    table = plain_table()
    for place, heading in enumerate(("", now.name, then.name, "takes", "", "")):
        table.add_column(heading, justify="right" if 1 <= place <= 3 else "left", no_wrap=place < 5)
    for case in gate.cases:
        table.add_row(*_cells(case))
    sizes = f"{task.network} network, {task.images:,} images, {task.iterations:,} iterations"
    out.print(f"{sizes}, {words.counted(threads, 'thread')}")
    out.print(table)
    out.print(
        f"time of an iteration; takes: time now as a multiple of that at {then.name} ({then.revision[:7]}), with an "
        "interval that holds for new processes and for every look in 95 of 100 gates; slower: above "
        f"{words.times(1 + gate.fail, 4)}",
        style="dim",
    )
    for case in gate.cases:
        if case.problem:
            out.print(f"{case.label}: {case.problem}", style="red")
    for warning in gate.warnings:
        out.print(f"warning: {warning}", style="yellow")


def _cells(case: Case) -> list[str]:
    if case.problem or case.verdict is None:
        return [case.label, "", "", "", "", "NO RESULT"]
    ratio = case.verdict.ratio
    now, then = map(words.seconds, case.seconds)
    interval = f"{words.times(ratio.low)} to {words.times(ratio.high)}" if ratio.known else ""
    return [case.label, now, then, words.times(ratio.value), interval, case.verdict.word]
