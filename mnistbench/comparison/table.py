"""Table of a comparison for a terminal, during the run and at its end."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnistbench import words
from mnistbench.comparison import Comparison, Contender, fraction
from mnistbench.timing.differences import SIGNIFICANCE
from mnistbench.timing.statistics import median, median_of_processes, ratio_of_processes

_HEADINGS = ("", "threads", "time", "", "times as fast", "", "accuracy", "agreement")


def table(comparison: Comparison, running: bool) -> RenderableType:
    """Draw a line for each contender, in the order they were named; while ``running``, with states and progress."""
    task = comparison.workload
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left", title_style="bold")
    grid.title = (
        f"{task.network} network, {task.images:,} images, {task.iterations:,} iterations"
        f"{', a process for each' if comparison.isolated else ''}"
    )
    for place, heading in enumerate(_HEADINGS):
        grid.add_column(
            "ranks × threads" if heading == "threads" and comparison.team else heading,
            no_wrap=place < len(_HEADINGS) - 1,
            justify="right" if place in (1, 2, 4, 6) else "left",
        )
    for contender in comparison.contenders:
        grid.add_row(*_cells(contender, comparison, running), style="bold" if contender.state == "runs" else "")
    parts: list[RenderableType] = [grid]
    if running:
        done = fraction(comparison)
        parts.append(Text(_phase(comparison), style="dim"))
        parts.append(ProgressBar(total=1.0, completed=done, width=40))
    else:
        parts += [Text(note, style="dim") for note in notes(comparison)]
        parts += [Text(f"warning: {warning}", style="yellow") for warning in comparison.warnings]
    return Group(*parts)


def _phase(comparison: Comparison) -> str:
    """Describe the progress of the run."""
    states = {contender.state for contender in comparison.contenders}
    if "starts in a new process" in states:
        return "measuring cold starts"
    if states & {"waits", "loads"}:
        return "loading"
    if states & {"loaded", "is checked"}:
        return "comparing with the reference along the whole training"
    total = comparison.processes * comparison.rounds
    done = [len(contender.samples) for contender in comparison.contenders if not contender.problem]
    return f"round {min(min(done, default=0) + 1, total)} of {total}"


def _cells(contender: Contender, comparison: Comparison, running: bool) -> list[RenderableType]:
    name: RenderableType = contender.label
    threads = _threads(contender)
    if contender.problem:
        return [name, threads, Text("NO RESULT", style="bold red"), *[""] * 4, Text(contender.problem, style="red")]
    time = interval = ""
    if contender.samples:
        middle = median_of_processes([run for run in contender.runs if run])
        time = words.seconds(middle.value)
        interval = f"{words.seconds(middle.low)} to {words.seconds(middle.high)}" if middle.low < middle.high else ""
    ratio, by = _ratio(contender, comparison, running)
    accuracy = "" if math.isnan(contender.accuracy) else words.percent(contender.accuracy)
    error = contender.agreement.trajectory()[-1:]
    said = ""
    if error and comparison.trajectory is not None:
        tolerance = comparison.trajectory.drift(comparison.workload.iterations, contender.dtype)
        said = f"agrees ({words.relative(error[0][1])} of {words.relative(tolerance)})"
    if running:
        said = f"{len(contender.samples)}/{comparison.processes * comparison.rounds} rounds, {contender.state}"
    return [name, threads, time, interval, ratio, by, accuracy, said]


def _threads(contender: Contender) -> str:
    """Return the number of threads; of several ranks: "2 × 1"."""
    if contender.description is None:
        return ""
    if (ranks := contender.description.ranks) is None:
        return str(contender.description.threads)
    few, most = min(ranks.threads), max(ranks.threads)
    return f"{len(ranks.threads)} × {few if few == most else f'{few} to {most}'}"


def _ratio(contender: Contender, comparison: Comparison, running: bool) -> tuple[str, str]:
    """Return the ratio to the baseline, and its interval or a remark, which is left out during the run."""
    pairs = comparison.pairs(contender)
    if contender is (baseline := comparison.baseline_of(contender)):
        return "1", "baseline"
    if pairs is None:
        return "", "the baseline has no result" if baseline.problem else ""
    if running:
        return words.times(ratio_of_processes(*pairs).value), ""
    ratio, differ = ratio_of_processes(*pairs), comparison.significant(contender)
    if differ is None:
        return words.times(ratio.value), "too few rounds to tell"
    interval = f"{words.times(ratio.low)} to {words.times(ratio.high)}"
    return words.times(ratio.value), interval + ("" if differ else ", no difference")


def notes(comparison: Comparison) -> list[str]:
    """Explain the numbers."""
    first, ran = comparison.baseline, comparison.ran
    several = len(ran) > 1
    level = 0.95 if several else median([1.0] * max(ran, default=1)).level
    if several and len({*ran}) > 1:
        rounds, each = f"{min(ran)} to {max(ran)} interleaved rounds", f" in each of {len(ran)} processes"
    else:
        rounds = words.counted(max(ran, default=0), "interleaved round")
        each = f" in each of {len(ran)} processes" if several else ", of this process"
    cut = [f"{c.label} {c.timed:,}" for c in comparison.contenders if 0 < c.timed < comparison.workload.iterations]
    scaled = f" (scaled from the first iterations: {', '.join(cut)})" * bool(cut)
    return [
        f"time: median of {rounds}{each}{scaled}, and an interval that covers the true one with a probability of "
        f"{words.level(level)}; times as fast: as {first}{'' if ' ' in first else ' in the same dtype'}, the ratio "
        "within rounds with its 95% interval; a difference counts if one as large would come by chance in at "
        f"most {words.percent(SIGNIFICANCE, 0)} of cases, all contenders taken together.",
        *_about_ranks(comparison),
    ]


def _about_ranks(comparison: Comparison) -> Iterator[str]:
    """Explain what the ranks exchange, and what it costs."""
    described = [(c.label, c.description.ranks) for c in comparison.contenders if c.samples and c.description]
    found = [(label, ranks) for label, ranks in described if ranks is not None]
    if found:
        one = found[0][1]
        how = f"{one.library} over {one.transport}"
        known = [f"{label} {words.seconds(ranks.exchange)}" for label, ranks in found if ranks.exchange is not None]
        yield (
            f"ranks: the slowest one's time counts, on {words.counted(one.hosts, 'host')}"
            f"{', whose CPUs they share' * one.shared_cores}"
            + (f"; an iteration waits in the exchange, by {how}, for {', '.join(known)}." if known else ".")
        )
