"""What a comparison shows on a terminal, while it runs and at its end."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnistbench.comparison import Comparison, Contender, fraction
from mnistbench.measurement.statistics import median
from mnistbench.report import seconds

_HEADINGS = ("", "time", "", "faster by", "", "accuracy", "agreement")


def table(comparison: Comparison, running: bool) -> RenderableType:
    """A line for each contender, in the order they were named; ratios are over the baseline.

    Args:
        comparison: at any point of its run.
        running: show what everybody is doing, and how far it all is.
    """
    task = comparison.workload
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left", title_style="bold")
    grid.title = (
        f"{task.network} network, {task.images:,} images, {task.iterations:,} iterations"
        f"{', a process for each' if comparison.isolated else ''}"
    )
    for place, heading in enumerate(_HEADINGS):
        grid.add_column(heading, no_wrap=place < len(_HEADINGS) - 1, justify="right" if place in (1, 3, 5) else "left")
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
    """How far the run is."""
    states = {contender.state for contender in comparison.contenders}
    if states & {"waits", "loads"}:
        return "loading"
    if states & {"loaded", "is checked"}:
        return "comparing with the reference along the whole training"
    done = [len(contender.samples) for contender in comparison.contenders if not contender.problem]
    return f"round {min(min(done, default=0) + 1, comparison.rounds)} of {comparison.rounds}"


def _cells(contender: Contender, comparison: Comparison, running: bool) -> list[RenderableType]:
    name: RenderableType = contender.label
    if contender.problem:
        return [name, Text("NO RESULT", style="bold red"), "", "", "", "", Text(contender.problem, style="red")]
    time = interval = ""
    if contender.samples:
        middle = median(contender.samples)
        time = seconds(middle.value)
        interval = f"{seconds(middle.low)} to {seconds(middle.high)}" if middle.low < middle.high else ""
    faster, by = _ratio(contender, comparison)
    accuracy = "" if math.isnan(contender.accuracy) else f"{contender.accuracy:.1%}"
    error = contender.agreement.trajectory()[-1:]
    said = f"agrees ({error[0][1]:.0e})" if error else ""
    if running:
        said = f"{len(contender.samples)}/{comparison.rounds} rounds, {contender.state}"
    return [name, time, interval, faster, by, accuracy, said]


def _ratio(contender: Contender, comparison: Comparison) -> tuple[str, str]:
    """The ratio over the baseline, and its interval or what to think of it."""
    if contender is comparison.baseline_of(contender):
        return "1", "baseline"
    ratio = comparison.ratio(contender)
    if ratio is None:
        return "", ""
    interval = f"{_times(ratio.low)} to {_times(ratio.high)}" if ratio.known else ""
    if (significant := comparison.significant(contender)) is False:
        interval += ", not significant"
    elif significant is None:
        interval += ", too few rounds to tell"
    return f"{_times(ratio.value)}×", interval.removeprefix(", ")


def _times(ratio: float) -> str:
    """A ratio to three digits, none of them left out: 49.0, 1.02, 1,020."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:#.3g}"


def notes(comparison: Comparison) -> list[str]:
    """How to read the numbers."""
    first = comparison.baseline
    return [
        f"time: median of {comparison.rounds} interleaved rounds, and an interval of it; faster by: over {first}"
        f"{'' if ' ' in first else ' in the same dtype'}, the ratio within rounds with its 95% interval; "
        "significant: ranks that chance gives in less than 1 of 100 cases, and 1 is outside of the interval."
    ]
