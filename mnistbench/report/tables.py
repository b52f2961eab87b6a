"""Rows and test errors as tables with notes, for a terminal and in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from mnistbench import words
from mnistbench.results import origin, storage
from mnistbench.results.reproduction import Run
from mnistbench.results.row import Row, Speedup
from mnistbench.task.summary import training_summary
from mnistbench.task.workload import DTYPES
from mnistbench.timing.statistics import NOISY_SPREAD, student_margin, wilson


def _train(row: Row) -> str:
    found, noisy = row.timing, ", noisy" * row.timing.noisy
    return f"{words.seconds(found.value)} ({words.seconds(found.low)} to {words.seconds(found.high)}{noisy})"


def _agreement(row: Row) -> str:
    if not row.validated:
        return "NO RESULT"
    error = row.agreement.trajectory[-1][1] if row.agreement.trajectory else 0.0
    of = f"{words.relative(error)} of {words.relative(row.agreement.tolerance)}"
    return f"agrees ({of}){_FEWER * row.checked_less}"


_FEWER = ", fewer checks"


def _speedup(row: Row, found: Speedup | None) -> str:
    if found is None or not row.validated:
        return ""
    known = found.known and found.low < found.high
    across = f"{words.ABOUT} " * found.across_runs
    return across + words.times(found.value) + f" ({words.times(found.low)} to {words.times(found.high)})" * known


def _accuracy(row: Row) -> str:
    return "" if row.final is None else words.percent(row.final.train_accuracy)


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "backend": lambda row: row.backend,
    "dtype": lambda row: row.dtype,
    "device": lambda row: f"{row.device}, {words.counted(row.threads, 'thread')}",
    "train": _train,
    "per iteration": lambda row: words.seconds(row.timing.value / row.workload.iterations),
    "over numpy float64": lambda row: _speedup(row, row.speedup),
    "in the same dtype": lambda row: _speedup(row, row.in_dtype),
    "accuracy": _accuracy,
    "agreement": _agreement,
}


_NOTHING = 1e-3  # seconds below which a cost is not worth a number


def _cost(row: Row, name: str) -> str:
    """Return the median of a cost in new processes, with its range if there were several."""
    found = row.cold.cost(name) if row.cold else [row.costs[name]] if name in row.costs else []
    return _range(found)


def _range(found: Sequence[float]) -> str:
    if not found:
        return ""
    if min(found) <= 0 or max(found) < _NOTHING:
        return f"{words.ABOUT} 0"
    low, high = (words.seconds(end, 2) for end in (min(found), max(found)))
    return words.seconds(statistics.median(found), 2) + f" ({low} to {high})" * (low != high)


def _cached(row: Row) -> str:
    if row.cold is None:
        return "" if row.compile_cached is None else words.seconds(row.compile_cached, 2)
    return _range(row.cold.cached())


def _first_training(row: Row) -> str:
    if row.cold is None:
        return ""
    scaled = min(process.iterations for process in row.cold.empty)
    cut = f", from {words.counted(scaled, 'iteration')}" * (scaled < row.workload.iterations)
    return _range(row.cold.training(row.workload.iterations)) + cut


def _memory(row: Row) -> str:
    """Return the memory before the data were loaded, and the peak."""
    before = [process.baseline_memory for process in row.cold.empty if process.baseline_memory] if row.cold else []
    peak = row.peak_memory_bytes
    sizes = [*([statistics.median(before)] if before else []), *([] if peak is None else [peak])]
    return " to ".join(words.quantity(size, "B") for size in sizes)


_COSTS: dict[str, Callable[[Row], str]] = {
    "backend": lambda row: row.backend,
    "dtype": lambda row: row.dtype,
    "import": lambda row: _cost(row, "import"),
    "load": lambda row: _cost(row, "load"),
    "compile": lambda row: _cost(row, "compile"),
    "tuning": lambda row: _cost(row, "tuning"),
    "first call": lambda row: _cost(row, "first_call"),
    "cached": _cached,
    "first training": _first_training,
    "memory": _memory,
}

_ELSEWHERE: dict[str, Callable[[Row], str]] = {
    "date": lambda row: row.origin.date[:10],
    "commit": lambda row: row.origin.code,
}


_OF_RANKS: dict[str, Callable[[Row], str]] = {
    "workload": lambda row: row.workload.name,
    "backend": lambda row: row.backend,
    "dtype": lambda row: row.dtype,
    "ranks": lambda row: _among(row),
    "train": _train,
    "per iteration": _COLUMNS["per iteration"],
    "in the exchange": lambda row: _exchange(row),
    "accuracy": _accuracy,
    "agreement": _agreement,
}


def _exchange(row: Row) -> str:
    known = None if row.ranks is None else row.ranks.exchange
    return "" if known is None else words.seconds(known)


def _among(row: Row) -> str:
    """Describe the ranks of a row: "2 of 1 thread, 1 host, MPICH 4.3 over shared memory"."""
    ranks = row.ranks
    if ranks is None:
        return ""
    shared = ", that share CPUs" * ranks.shared_cores
    hosts = words.counted(ranks.hosts, "host")
    return f"{len(ranks.threads)} of {ranks.each}, {hosts}{shared}, {ranks.library} over {ranks.transport}"


def ranks_as_markdown(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table of the rows of several ranks in Markdown, and its notes."""
    yield from _markdown(_cells(rows, _OF_RANKS))
    yield from ("", f"Time: that of the slowest rank. Exchange: seconds of an iteration. {provenance(rows)}")


def _columns(rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """Return the columns of a table of rows, with one for energy if it is known of a row."""
    return _COLUMNS | ({"energy": _energy} if any(row.energy for row in rows) else {})


def _energy(row: Row) -> str:
    if row.energy is None or not row.validated:
        return ""
    found = row.energy
    power, idle = (words.quantity(watts, "W") for watts in (found.watts, found.idle_watts))
    return f"{words.quantity(found.joules, 'J')} ({power}, idle {idle})"


def _cells(rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]) -> list[list[str]]:
    """Return the headings, and a line of cells for each row."""
    return [[*columns], *([make(row) for make in columns.values()] for row in rows)]


def as_text(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the tables for a terminal, and their notes."""
    yield from _aligned(_cells(rows, _columns(rows)))
    yield from _notes(rows)
    if started := [row for row in rows if row.cold]:
        yield ""
        yield from _aligned(_cells(started, _COSTS))
        yield _about_costs(started)


def _aligned(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def as_markdown(rows: Sequence[Row], stored: Sequence[Row] = ()) -> Iterator[str]:
    """Yield the tables of a workload in Markdown: the run that most rows are of, then rows of other runs.

    Args:
        rows: Rows of one workload.
        stored: All stored rows of that workload, whose medians are named beside those shown.
    """
    runs: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        runs.setdefault(row.origin.run, []).append(row)
    most = max(runs.values(), key=lambda of_run: (len(of_run), of_run[0].origin.date))
    others = [row for row in rows if row.origin.run != most[0].origin.run]
    yield from _markdown(_cells(most, _columns(most)))
    if others:
        yield from ("", "Other runs:", "")
        yield from _markdown(_cells(others, _columns(others) | _ELSEWHERE))
    yield ""
    for note in (*_notes(rows), *_repeated(rows, stored)):
        yield f"{words.markdown(note)}  "
    yield words.markdown(provenance(rows))
    started = [row for row in rows if "import" in row.costs]
    if started:
        yield from ("", "In a new process:", "")
        yield from _markdown(_cells(started, _COSTS))
        yield from ("", _about_costs(started))


def _repeated(rows: Sequence[Row], stored: Sequence[Row]) -> Iterator[str]:
    """Yield the range of a case's medians, where several runs have measured it."""
    parts = []
    for row in rows:
        case = (row.backend, row.dtype, row.device, row.threads)
        same = [one for one in stored if (one.backend, one.dtype, one.device, one.threads) == case and one.validated]
        if len(same) > 1:
            medians = [one.timing.value for one in same]
            ends = " to ".join(words.seconds(end) for end in (min(medians), max(medians)))
            parts.append(f"{row.backend} {row.dtype} in {len(same)} from {ends}")
    if parts:
        yield f"Medians of all runs stored: {', '.join(parts)}."


def _about_costs(rows: Sequence[Row]) -> str:
    """Explain the table of costs."""
    counts = sorted({len(row.cold.empty) if row.cold else 1 for row in rows})
    number = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    return (
        f"Each cost: the median of {number} new process{'es' * (counts[-1] > 1)} with empty caches of compiled code, "
        "and from the least to the most where there were several. Tuning: trying ways to compute. First call: the "
        "extra time of the first iteration. Cached: compiling, in the first iteration too, in a process that finds the "
        "former's code on disk. First training: all iterations after that. Memory: resident before the data are "
        "loaded, and the peak."
    )


def opening_as_markdown(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the small table that opens the project's README, a line for each backend of one run, and its notes."""
    valid = {(row.backend, row.dtype): row for row in rows if row.validated}
    dtypes = [dtype for dtype in DTYPES if any(dtype == own for _, own in valid)]
    compared = dtypes[0]  # float32, unless all ran in float64
    baselines = [row for case, row in valid.items() if case == ("numpy", compared)]
    shown = {
        row.backend: replace(row, speedup=storage.speedup(row, baselines))
        for row in valid.values()
        if row.dtype == compared
    }
    yield from _markdown(
        [
            ["backend", *dtypes, "speedup"],
            *(
                [
                    backend,
                    *(_time(valid.get((backend, dtype))) for dtype in dtypes),
                    _speedup(shown[backend], shown[backend].speedup) if backend in shown else "",
                ]
                for backend in dict.fromkeys(backend for backend, _ in valid)
            ),
        ]
    )
    yield ""
    machine = words.markdown(str(rows[0].origin.machine))
    yield (
        f"Training time: median of {_rounds(rows)} of {rows[0].workload.iterations} iterations in one run, "
        f"on {machine}. Speedup: over numpy in {compared}, {_how_compared([*shown.values()])}. "
        "Noise, the other costs and speedups over numpy float64: [all results](results/README.md).  "
    )
    yield words.markdown(provenance(rows))


def _time(row: Row | None) -> str:
    return "" if row is None else words.seconds(row.timing.value)


def _rounds(rows: Sequence[Row]) -> str:
    """Say how many rounds were timed: "7 rounds", or "2 to 15 rounds", and in how many processes, if in several."""
    counts, processes = sorted({len(row.samples) for row in rows}), {len(row.runs) for row in rows}
    found = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    return f"{found} rounds" + f" in {max(processes)} processes" * (processes != {1})


def _scaled(rows: Sequence[Row]) -> str:
    """Say which rows were scaled from the first iterations of a training, and from how many."""
    timed = [f"{row.backend} {row.dtype} from {row.timed:,}" for row in rows if row.timed]
    return f" (scaled from the first iterations: {', '.join(timed)})" if timed else ""


def _markdown(cells: Sequence[Sequence[str]], bold: str = "") -> Iterator[str]:
    """Yield the lines of a table in Markdown, whose cells may hold any text.

    Args:
        bold: Heading of a column in bold.
    """
    headings = cells[0]
    shown = [[words.markdown(cell) for cell in line] for line in cells]
    for line in shown[1:] if bold else ():
        line[headings.index(bold)] = f"**{line[headings.index(bold)]}**"
    for line in (shown[0], ["---"] * len(headings), *shown[1:]):
        yield f"| {' | '.join(line)} |"


def _how_compared(rows: Sequence[Row]) -> str:
    """Say how the speedups of the rows were found."""
    across = any(found.across_runs for found in _speedups(rows))
    return _ratios(rows) + f", and {words.ABOUT} is over a median of another run" * across


def _speedups(rows: Sequence[Row]) -> list[Speedup]:
    return [found for row in rows for found in (row.speedup, row.in_dtype) if found is not None]


def _ratios(rows: Sequence[Row]) -> str:
    known = [found.known for found in _speedups(rows)]
    if known and all(known) and len({row.origin.run for row in rows}) == 1:
        return "the ratio within rounds that ran all of them in turn, with its 95% interval"
    if any(known):
        return "where it has an interval the ratio within rounds that ran both in turn, else a ratio of medians"
    if any(row.interleaved and _speedups([row]) for row in rows):
        return "the ratio within rounds that ran both in turn, too few for an interval, else a ratio of medians"
    return "a ratio of medians"


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    """Yield explanations of the numbers, and reasons to doubt them."""
    level = words.level(min(row.timing.level for row in rows))
    yield (
        f"train: median of {_rounds(rows)} of {rows[0].workload.iterations} iterations from fresh weights"
        f"{_scaled(rows)}, "
        f"and an interval that covers the true median with a probability of at least {level}; "
        f"speedups over numpy: {_how_compared(rows)}; "
        "agreement: the largest relative error of a parameter after the last iteration, of the tolerated one."
    )
    yield from _baselines(rows)
    yield from _kernels(rows)
    noisy = [f"{row.backend} {row.dtype} by {words.percent(row.timing.spread, 0)}" for row in rows if row.timing.noisy]
    if noisy:
        most = words.percent(NOISY_SPREAD, 0)
        yield f"noisy, rounds that scatter by more than {most} of their median: {', '.join(noisy)}."
    if any(row.validated and row.checked_less for row in rows):
        yield "fewer checks: measured before all of today's checks were made."
    if counters := {row.energy.counter for row in rows if row.energy}:
        whose = {"NVML": "of the GPU alone (NVML)", "RAPL": "of all CPU packages, whatever else they do (RAPL)"}
        yield (
            f"energy: of a training from fresh weights, {' or '.join(whose[name] for name in sorted(counters))}, and "
            "the mean power meanwhile; idle: the power before, with the training loaded."
        )
    for row in rows:
        if row.proof is not None and row.proof.host_to_host:
            yield f"{row.backend} {row.dtype} works outside of its iterations too: train is from host to host."
        if not row.validated:
            yield f"{row.backend} {row.dtype} is no result: {row.problem}."
        if row.failed:
            yield f"{row.backend} {row.dtype}: {row.failed}."
        if row.throttled:
            yield f"{row.backend} {row.dtype} ran while the GPU's clocks were held down: {row.throttled}."


def _baselines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield how well the baseline's library multiplies here, which every speedup over numpy depends on."""
    parts = []
    for row in rows:
        limits = row.limits
        if row.backend != "numpy" or limits is None:
            continue
        product, peak = limits.product.get(row.dtype), limits.multiply_add.get(row.dtype)
        if product and peak:
            parts.append(f"{words.percent(product / peak, 0)} of the multiply-add peak in {row.dtype}")
    if parts:
        library = next((str(row.limits.blas) for row in rows if row.limits and row.limits.blas), "an unknown library")
        yield f"numpy: products by {library}, which reaches {' and '.join(dict.fromkeys(parts))} with large matrices."


def _kernels(rows: Sequence[Row]) -> Iterator[str]:
    """Yield how long the baseline trains with each of its library's kernels, since speedups are over what it chose."""
    for row in rows:
        if row.cold and row.cold.kernels:
            chosen, own = row.cold.empty[0].blas, min(row.cold.training(row.workload.iterations))
            times: dict[str | None, float] = {}
            for process in row.cold.kernels:
                took = process.training(row.workload.iterations)
                times[process.blas] = min(took, times.get(process.blas, took))
            told = " and ".join(f"{words.seconds(took, 2)} with {name}" for name, took in times.items())
            line = f"{row.backend} {row.dtype} by kernels of OpenBLAS, the fastest first training with each: "
            line += f"{words.seconds(own, 2)} with {chosen}, which it chose, {told}"
            fastest = min(times, key=times.__getitem__)
            if times[fastest] < own:
                line += f"; OPENBLAS_CORETYPE={fastest} makes the baseline {words.times(own / times[fastest])} as fast"
            yield f"{line}."


def provenance(measured: Sequence[Row | Run]) -> str:
    """Describe the dates, commits and versions of rows or runs, and how many runs they are of."""
    libraries = ", ".join(f"{name} {version}" for name, version in origin.versions(measured).items())
    commits = ", ".join(dict.fromkeys(one.origin.code for one in measured))
    runs = len({one.origin.run for one in measured})
    until = max(one.origin.date for one in measured)[:10]
    others = sum(one.origin.merged is not None for one in measured)
    merged = f" Merged from others' results: {others:,} of {words.counted(len(measured), 'row')}." if others else ""
    return f"Measured {f'in {runs} runs ' * (runs > 1)}until {until} at {commits}, with {libraries}.{merged}"


_ERRORS = (
    *("workload", "network", "our training", "epochs", "test error, mean", "by seed", "of other seeds"),
    *("on other images", "published", "published, on other images", "training time", "on"),
)

_TEST_IMAGES = 10_000
"""Images of MNIST's test set, on which the published errors were found, too."""


def errors_as_markdown(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the table of the test errors, a line for each preset, backend and dtype, with notes and origin."""
    cases: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        cases.setdefault((run.workload.name, run.backend, run.workload.dtype), []).append(run)
    yield from _markdown([_ERRORS, *(_case(of_case) for of_case in cases.values())], bold="test error, mean")
    yield from (
        "",
        "Test error: of the last parameters on MNIST's 10,000 test images, which took no part in training or in the "
        "choice of an epoch. Of other seeds: 95% interval for the mean over all seeds, on these images (Student). "
        "On other images: 95% interval for the error of such a network on all images of this kind, of which these are "
        "10,000 (Wilson); two errors whose intervals overlap may be equal. Published: by a network of the same layer "
        "sizes, trained in the authors' own way. Training time: of a seed, on average, without loading and compiling.",
        "",
        words.markdown(provenance(runs)),
    )


def _case(runs: Sequence[Run]) -> list[str]:
    """Return the cells of one preset, backend and dtype."""
    first, errors = runs[0], [run.test_error for run in runs]
    mean = statistics.fmean(errors)
    margin = student_margin(errors) if len(errors) > 1 else None
    return [
        first.workload.name,
        str(first.workload.network),
        training_summary(first.workload),
        str(first.epochs),
        words.percent(mean, 2),
        ", ".join(words.percent(error, 2) for error in errors),
        "" if margin is None else _between(max(0.0, mean - margin), mean + margin),
        _between(*wilson(mean, _TEST_IMAGES)),
        f"{words.percent(first.published.error, None)}, {first.published.source}",
        _between(*wilson(first.published.error, _TEST_IMAGES)),
        words.seconds(statistics.fmean(run.seconds for run in runs)),
        f"{first.backend} {first.workload.dtype}, {first.device}, {words.counted(first.threads, 'thread')}",
    ]


def _between(low: float, high: float) -> str:
    return f"{words.percent(low, 2)} to {words.percent(high, 2)}"
