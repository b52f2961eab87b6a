"""The page for readers without JavaScript: everything stored, machine by machine, with charts and provenance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnistbench import words
from mnistbench.results import storage
from mnistbench.results.row import Row
from mnistbench.webpage.data import Contents
from mnistbench.webpage.lanes import Lane, chart
from mnistbench.webpage.markup import Markup, joined, tag

_HEADINGS = (
    *("backend", "dtype", "threads", "time", "warnings", "speedup over numpy", "of the limit", "agreement", "run"),
)
_SKIPS = "†"
_SENTENCES = (
    "How to read it: a large mark is the median of a row's rounds, or where several processes ran them the geometric "
    "mean of the processes' medians; the bar is its interval, each small dot one round. Filled circles are float32, "
    f"open diamonds float64; \N{WARNING SIGN} marks a row that something disturbed, {_SKIPS} one that skips work "
    "whose result is known. The axis is logarithmic.",
    "What would make it wrong: rows of different runs did not share the machine's mood, so their order may be chance; "
    "only speedups without \N{ALMOST EQUAL TO} are ratios within the same rounds. A share of a limit with "
    f"{_SKIPS} counts work that was skipped.",
)


def as_markup(contents: Contents) -> Markup:
    """Return the body of the page without JavaScript."""
    values = contents.values
    last = [("problems-plain", "Rows that are no result")] if any(row["problem"] for row in values["rows"]) else []
    sections = [
        (f"plain-{workload}-{machine}", _title(values, workload, machine)) for workload, machine in _places(values)
    ]
    links = (tag("li", tag("a", name, href=f"#{to}")) for to, name in [*sections, *last, ("runs", _RUNS)])
    parts = [tag("ul", links), *_sections(contents), _problems(values), tag("h2", _RUNS, id="runs"), *_runs(values)]
    return Markup("\n".join(parts))


_RUNS = "Where the rows are from"


def _places(values: Mapping[str, Any]) -> dict[tuple[int, int], list[int]]:
    """Return the results of each workload on each machine, as places in the list of rows, in the page's order."""
    found: dict[tuple[int, int], list[int]] = {}
    for one, row in enumerate(values["rows"]):
        if not row["problem"]:
            found.setdefault((row["workload"], values["runs"][row["run"]]["machine"]), []).append(one)
    return dict(sorted(found.items(), key=lambda item: (values["workloads"][item[0][0]]["rank"], item[0][1])))


def _title(values: Mapping[str, Any], workload: int, machine: int) -> str:
    return f"{values['workloads'][workload]['label']} on {values['machines'][machine]['label']}"


def _sections(contents: Contents) -> Iterator[Markup]:
    """Yield a section for each workload on each machine."""
    values = contents.values
    baselines = _baselines(contents)
    for (workload, machine), chosen in _places(values).items():
        told = values["workloads"][workload]
        yield tag("h2", _title(values, workload, machine), id=f"plain-{workload}-{machine}")
        yield tag("p", told["task"], class_="quiet")
        yield from _section(contents, chosen, told["scaling"], baselines)


def _section(
    contents: Contents, chosen: Sequence[int], scaling: bool, baselines: Mapping[tuple[int, int, str], list[Row]]
) -> Iterator[Markup]:
    rows = contents.values["rows"]
    ordered = sorted(chosen, key=lambda one: (not rows[one]["latest"], rows[one]["timing"]["value"]))
    latest = [one for one in ordered if rows[one]["latest"] and rows[one]["ranks"] is None]
    if latest and not scaling:
        lanes = [_lane(rows[one], contents.values["colours"]) for one in latest]
        yield tag("p", _fastest(contents, latest[0], baselines), class_="lead")
        yield _scrolling(chart(f"Training time of {len(latest)} rows", lanes), "The chart")
        yield from (tag("p", sentence, class_="quiet") for sentence in _SENTENCES)
    cells = [_line(contents, one, baselines) for one in ordered]
    head = tag("thead", tag("tr", (tag("th", name, scope="col") for name in _HEADINGS)))
    yield _scrolling(tag("table", head, tag("tbody", cells)), "The rows")


def _scrolling(inside: Markup, name: str) -> Markup:
    """Return what is wider than a narrow screen, in a region that scrolls sideways."""
    return tag("div", inside, class_="scroll", tabindex=0, role="region", aria_label=f"{name}, which scrolls sideways")


def _fastest(contents: Contents, one: int, baselines: Mapping[tuple[int, int, str], list[Row]]) -> str:
    """Return the answer to which row is fastest, and how it compares with numpy in its dtype."""
    row = contents.values["rows"][one]
    over = baselines.get((contents.values["runs"][row["run"]]["machine"], row["workload"], row["dtype"]), [])
    ratio = _speedup(contents.measured[one], over) if row["backend"] != "numpy" else ""
    told = f", {ratio} as fast as numpy {row['dtype']}" * bool(ratio)
    skips = f" {_SKIPS} It skips {row['skips']}." * bool(row["skips"])
    noise = "".join(f" \N{WARNING SIGN} {sentence[:1].upper()}{sentence[1:]}." for sentence in row["noise"])
    return f"Fastest: {row['backend']} {row['dtype']}, {words.seconds(row['timing']['value'])}{told}.{skips}{noise}"


def _lane(row: Mapping[str, Any], colours: Mapping[str, int]) -> Lane:
    found = row["timing"]
    told = words.seconds(found["value"]) + " \N{WARNING SIGN}" * bool(row["noise"]) + f" {_SKIPS}" * bool(row["skips"])
    label = f"{row['backend']} {row['dtype']}"
    values = found["value"], found["low"], found["high"], row["seconds"]
    return Lane(label, *values, told, row["dtype"] == "float64", colours[row["backend"]])


def _baselines(contents: Contents) -> dict[tuple[int, int, str], list[Row]]:
    """Return the rows of numpy by machine, workload and dtype, oldest first."""
    found: dict[tuple[int, int, str], list[Row]] = {}
    for one, row in enumerate(contents.values["rows"]):
        if row["backend"] == "numpy" and not row["problem"] and row["size"] is None and row["ranks"] is None:
            place = contents.values["runs"][row["run"]]["machine"]
            found.setdefault((place, row["workload"], row["dtype"]), []).append(contents.measured[one])
    return found


def _line(contents: Contents, one: int, baselines: Mapping[tuple[int, int, str], list[Row]]) -> Markup:
    """Return a row of the table."""
    row = contents.values["rows"][one]
    found, run = row["timing"], contents.values["runs"][row["run"]]
    size = row["size"]
    where = "" if size is None else f", {size['images']:,} images, {size['hidden']} hidden"
    ends = f"{words.seconds(found['low'])} to {words.seconds(found['high'])} ({words.level(found['level'])})"
    noted = [tag("small", f"\N{WARNING SIGN} {note}", class_="care") for note in row["noise"]]
    noted += [tag("small", note) for note in row["notes"]]
    device = "" if row["device"] == "CPU" else f" on {row['device']}"
    ranks = "" if row["ranks"] is None else f" on {words.counted(row['ranks']['count'], 'rank')}"
    over = baselines.get((run["machine"], row["workload"], row["dtype"]), []) if row["ranks"] is None else []
    cells = (
        tag("th", f"{row['backend']}{device}{ranks}{where}", scope="row"),
        tag("td", row["dtype"]),
        tag("td", f"{row['threads']}"),
        tag("td", tag("b", words.seconds(found["value"])), tag("small", ends)),
        tag("td", noted),
        tag("td", _speedup(contents.measured[one], over)),
        tag("td", _limit(row)),
        tag("td", _agreement(row)),
        tag("td", tag("a", run["file"], href=f"#run-{row['run']}")),
    )
    return tag("tr", cells)


def _speedup(row: Row, baselines: Sequence[Row]) -> str:
    """Return the speedup over numpy in the row's dtype; one that is not paired has a sign before it."""
    found = storage.speedup(row, baselines)
    if found is None:
        return ""
    paired = found.known or any(_took_turns(row, other) for other in baselines)
    ends = f" ({words.times(found.low)} to {words.times(found.high)})" if found.known and found.low < found.high else ""
    return f"{words.ABOUT} " * (not paired) + words.times(found.value) + ends


def _took_turns(row: Row, other: Row) -> bool:
    return row.interleaved and other.origin.run == row.origin.run and [*map(len, other.runs)] == [*map(len, row.runs)]


def _limit(row: Mapping[str, Any]) -> str:
    """Return the share of the nearest limit."""
    shares = [(row["peak"], "arithmetic"), (row["bandwidth"], row["level"])]
    value, name = max(((value, name) for value, name in shares if value is not None), default=(math.nan, ""))
    skips = f" {_SKIPS}" * (row["skips"] is not None)
    return "" if math.isnan(value) else f"{_share(value)} {name}{skips}"


def _share(value: float) -> str:
    """Write a share of a limit, with decimals for small ones: 107%, 4.1%, 0.06%."""
    return words.percent(value, 0) if value >= 0.1 else f"{words.significant(100 * value, 2)}%"


def _agreement(row: Mapping[str, Any]) -> str:
    if row["error"] is None or row["tolerance"] is None:
        return "agrees"
    return f"{words.relative(row['error'])} of {words.relative(row['tolerance'])}"


def _problems(values: Mapping[str, Any]) -> Markup:
    """Return the list of the rows that are no result."""
    lines = [
        tag(
            "li",
            tag("b", f"{row['backend']} {row['dtype']}"),
            f" of {values['workloads'][row['workload']]['label']}: {row['problem']} (",
            tag("a", values["runs"][row["run"]]["file"], href=f"#run-{row['run']}"),
            ")",
        )
        for row in values["rows"]
        if row["problem"]
    ]
    if not lines:
        return Markup("")
    return Markup(tag("h2", "Rows that are no result", id="problems-plain") + tag("ul", lines))


def _runs(values: Mapping[str, Any]) -> Iterator[Markup]:
    """Yield the provenance of each run: machine, commit, versions, and the commands that repeat it."""
    versions: dict[int, dict[str, str]] = {}
    for row in values["rows"]:
        versions.setdefault(row["run"], {}).update(row["versions"])
    for place, run in enumerate(values["runs"]):
        machine = values["machines"][run["machine"]]
        facts = "; ".join(f"{name}: {value}" for name, value in machine["facts"])
        code = run["commit"] + " with uncommitted changes" * run["dirty"]
        system = ", ".join(filter(None, (run["system"], run["python"] and f"Python {run['python']}")))
        libraries = ", ".join(f"{name} {version}" for name, version in sorted(versions.get(place, {}).items()))
        parts = {
            "machine": f"{machine['label']} ({facts})",
            "commit": _commit(run["commit"], run["isHash"], code, values["commitsAt"]),
            "measured": run["measured"] + f", by somebody else; merged {run['merged']}" * (run["merged"] is not None),
            "system": system or "not told",
            "versions": libraries,
            "repeat it": tag("code", " && ".join(run["command"])) if run["command"] else "no command does",
        }
        yield tag("h3", "/".join(filter(None, (run["folder"], run["file"]))), id=f"run-{place}")
        yield tag("dl", (joined([tag("dt", name), tag("dd", value)]) for name, value in parts.items()))


def _commit(commit: str, known: bool, told: str, commits_at: str | None) -> Markup:
    if commits_at is None or not known:
        return tag("code", told)
    return tag("a", told, href=commits_at + commit, rel="noopener noreferrer", target="_blank")
