"""A page of all stored rows: one HTML file that opens from disk and asks for nothing from anywhere.

The file holds its style, its script, the rows as JSON, and the whole page as tables and charts for readers without
JavaScript. A Content-Security-Policy lets it run only this script and load nothing. ``data.py`` chooses what
the page is told, ``plain.py`` writes the page without JavaScript, and ``assets/`` draws the one with it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from mnistbench import words
from mnistbench.exceptions import OptionError
from mnistbench.files import write_text
from mnistbench.webpage import data, plain
from mnistbench.webpage.data import Contents
from mnistbench.webpage.markup import Markup, joined, tag

_CHARTS = ("times", "speedups", "limits", "machines", "history", "scaling")
_ADDRESS = re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?(/[A-Za-z0-9._~-]+)*/?")


def write(results: Path, output: Path, project: str | None = None) -> int:
    """Write the page of a folder of results; return the number of rows.

    Args:
        project: Address of the project's repository, whose commits the page then links to.

    Raises:
        OptionError: If ``project`` is no address of a repository.
        MnistbenchError: If there are no results, a file is damaged, or the page cannot be written.
    """
    contents = data.contents(results, None if project is None else commits_at(project))
    write_text(output, render(contents))
    return len(contents.measured)


def commits_at(project: str) -> str:
    """Return the address that a commit's hash is appended to, as GitHub, GitLab and Gitea have it.

    Raises:
        OptionError: If it is no address of a repository.
    """
    if not _ADDRESS.fullmatch(project):
        raise OptionError(f"--project {project}: give the repository's address, such as https://example.org/owner/name")
    return f"{project.rstrip('/')}/commit/"


def render(contents: Contents) -> str:
    """Return the page as text. The same rows give the same bytes."""
    style, page = _asset("page.css"), Template(_asset("page.html"))
    head = _asset("00-head.js")
    script = '"use strict";\n(() => {\n' + "\n".join(map(_asset, _scripts())) + "\n})();\n"
    return page.substitute(
        policy=_policy(style, head, script),
        style=style,
        head=head,
        script=script,
        data=as_data(contents.values),
        plain=plain.as_markup(contents),
        summary=joined(_summary(contents)),
        footer=joined(_footer()),
        words=joined([tag("dt", name), tag("dd", told)] for name, told in _WORDS.items()),
        **{f"save_{name}": _save(name) for name in _CHARTS},
    )


def as_data(values: Any) -> str:
    """Return JSON that no text in it can end the element of."""
    text = json.dumps(values, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _scripts() -> list[str]:
    """List the modules of the page's script, in their order."""
    names = [path.name for path in (resources.files(__package__) / "assets").iterdir()]
    return sorted(name for name in names if name.endswith(".js") and name != "00-head.js")


def _policy(style: str, *scripts: str) -> str:
    """Return the policy that allows this style and these scripts, pictures in the page itself, and nothing else."""
    allowed = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {allowed}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _save(chart: str) -> Markup:
    """Return the buttons that save a chart."""
    buttons = [
        tag("button", kind.upper(), type="button", class_="small", data_chart=chart, data_save=kind)
        for kind in ("svg", "png")
    ]
    return tag("span", buttons, class_="buttons")


def _summary(contents: Contents) -> str:
    """Sum up what the page shows."""
    values, rows = contents.values, contents.values["rows"]
    commits = len({(run["commit"], run["dirty"]) for run in values["runs"]})
    until = max(run["measured"] for run in values["runs"])[:10]
    return (
        f"{words.counted(len(rows), 'row')} of {words.counted(len(values['runs']), 'run')} at "
        f"{words.counted(commits, 'commit')}, on {words.counted(len(values['machines']), 'machine')}, until {until}"
    )


_WORDS = {
    "classic": "the network of a tutorial: 784 pixels, 10 hidden units, 10 classes, all images in every iteration",
    "sure": "both ran in the same rounds of several processes, and the whole 95% interval of the ratio is above 1",
    "baseline": "what speedups are over; unless one dtype of it is chosen, each row is beside the one in its own dtype",
    "within the same rounds": "both ran in turn, so the machine treated both alike; only such ratios have intervals",
    "numba-plain": "loops of Numba without what the backend numba does beyond them, to see what that gains",
    "fewer checks than today's": "stored by an earlier version, which did not check all that is checked now",
    "scaled from the first 100 iterations": "a round ended after these, and its time is that of all iterations in "
    "proportion",
    "W1 after 100 updates: 0.11 of its tolerance": "the comparison with the float64 reference that came nearest to its "
    "tolerance: the largest error of the weights W1 was 0.11 of it",
}


def _footer() -> list[str]:
    return [
        "Written by mnistbench report from stored rows; every number is of a row, and its details say which. ",
        "Times are of a whole training from fresh weights, without loading and compiling, by a backend whose numbers "
        "agree with a float64 reference along the whole training.",
    ]
