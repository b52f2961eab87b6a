"""The pages: every command parses, every Python block runs (on few images), every link has a target."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import typer

import mnistbench
from mnistbench import datasets
from mnistbench.cli import app
from mnistbench.ranks import Team, local

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = sorted((ROOT / "docs" / "tutorial").glob("*.md"))  # its Python blocks belong together: test_tutorial.py
PAGES = [*GUIDES, *TUTORIAL, ROOT / "CHANGELOG.md", *sorted((ROOT / "mnistbench").rglob("README.md"))]

Result = TypeVar("Result")

# Programs whose options are not checked.
FOREIGN = {"ruff", "mypy", "lint-imports", "pytest-benchmark"}
RANKS = ["python", "-m", "mpi4py", "-m", "mnistbench"]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(language: str, pages: list[Path] = GUIDES) -> Iterator[Any]:
    """Yield the text of every fenced block of a language, named by its page and line."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield pytest.param(found[1], id=f"{name(page)}:{text.count(chr(10), 0, found.start()) + 1}")


def commands(block: str) -> Iterator[list[str]]:
    """Yield the words of every command, without comments and without the environment's folder."""
    for line in block.replace("&&", "\n").splitlines():
        if words := shlex.split(line, comments=True):
            yield [words[0].removeprefix(".venv/bin/"), *words[1:]]


@cache
def options_of_pytest() -> str:
    command = [sys.executable, "-m", "pytest", "benchmarks", "--help", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def check(program: str, *arguments: str) -> None:
    """Parse a command as its program would, or look up the files and options it names."""
    if program == "mnistbench":
        group: Any = typer.main.get_command(app)
        group.commands[arguments[0]].make_context(arguments[0], list(arguments[1:]))
    elif program == "pytest":
        for option in (word.partition("=")[0] for word in arguments if word.startswith("--")):
            assert re.search(rf"{option}\b", options_of_pytest()), option
        for path in (word for word in arguments if "/" in word):
            assert (ROOT / path).exists(), path
    elif program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"]
        named = re.findall(r"\[(.*)\]", arguments[-1])
        assert all(extra in extras for part in named for extra in part.split(",")), arguments
        assert named or (ROOT / arguments[-1] / "pyproject.toml").is_file(), arguments
    elif program == "mpiexec":
        start = arguments.index("python")
        assert [*arguments[start : start + len(RANKS)]] == RANKS
        started = arguments[arguments.index("-n") + 1]
        assert f"--ranks {started}" in " ".join(arguments), "as many as are started"
        check(*arguments[start + len(RANKS) - 1 :])
    elif program == "sbatch":
        assert (ROOT / arguments[0]).is_file()
        check("mnistbench", "train", *arguments[1:])
    elif program != "python3":
        assert program in FOREIGN or (ROOT / program).is_file(), f"{program} is checked by nothing"


@pytest.mark.process
@pytest.mark.parametrize("block", [*blocks("sh", GUIDES + TUTORIAL)])
def test_every_command_parses(block: str) -> None:
    for command in commands(block):
        check(*command)


def on_two_ranks(ranks: int, main: Callable[[Team], Result]) -> Result:
    """Call ``main`` as on ``ranks`` ranks, with two of this process."""

    def limited(team: Team) -> Result:
        team.limit_threads(1)
        return main(team)

    return local.run(2, limited)


@pytest.mark.slow
@pytest.mark.parametrize("block", [*blocks("python")])
def test_every_python_block_runs(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load_data, preset, train = mnistbench.load_data, mnistbench.preset, mnistbench.train
    few = partial(load_data, train_size=400, dev_size=50)
    monkeypatch.setattr(mnistbench, "load_data", few)
    monkeypatch.setattr(datasets, "load_data", lambda source, seed, *_, **share: few(source, seed=seed, **share))
    monkeypatch.setattr(mnistbench, "on_ranks", on_two_ranks)
    monkeypatch.setattr(mnistbench, "train", partial(train, backend="numpy"))
    monkeypatch.setattr(mnistbench, "preset", lambda *args, **options: preset("smoke", seed=options["seed"]))
    monkeypatch.setattr(datasets, "load_images", lambda count, seed: load_data(seed=seed, train_size=count))
    block = block.replace('backend="numba"', 'backend="numpy"')
    exec(re.sub(r"(iterations|epochs)=\d+", r"\1=2", block), {})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked.read_text(encoding="utf-8")), target


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_a_short_one() -> None:
    assert len((ROOT / "README.md").read_bytes()) < 10_000
