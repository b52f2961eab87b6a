"""The command ``merge``: what it says, and its exit status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mnistbench import report
from mnistbench.cli import app
from tests.support.paths import ROOT

MACHINE = "amd-znver5-2-cpus-79b50d"
NAME = "0014_classic_494d741.json"
STORED = f"{MACHINE}/0001_classic_494d741.json"


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine's folder, with one run of five rows; the working folder is empty, and no chart is drawn."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    shutil.copy(ROOT / "results" / MACHINE / NAME, folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "_stale_pictures", lambda machines: [])
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["merge", *arguments])


def test_a_run_is_merged_once(theirs: Path) -> None:
    found = run("theirs", "--dry-run")
    target = f"results/{MACHINE}"
    assert found.stdout.splitlines() == [
        f"theirs/{NAME}: would merge 5 rows into {target}/NNNN_classic_494d741.json",
        "would merge 5 rows; 0 stored already; 0 refused",
    ]
    assert (found.exit_code, found.stderr, Path("results").exists()) == (0, "", False)
    found = run("theirs")
    assert found.stdout.splitlines() == [
        f"theirs/{NAME}: merged 5 rows into results/{STORED}",
        "merged 5 rows; 0 stored already; 0 refused",
        "wrote results/README.md",
    ]
    assert (found.exit_code, found.stderr) == (0, "")
    found = run("theirs", "results", "--results", "results")
    assert found.stdout.splitlines() == [
        f"theirs/{NAME}: 5 rows stored already",
        f"results/{STORED}: 5 rows stored already",
        "merged 0 rows; 10 stored already; 0 refused",
    ]
    assert found.exit_code == 0
    Path("results/README.md").unlink()
    assert "wrote results/README.md" in run("theirs").stdout


def test_a_refused_row_is_a_line_and_the_others_are_merged(theirs: Path) -> None:
    document = json.loads((theirs / NAME).read_text(encoding="utf-8"))
    document["benchmarks"][1]["extra_info"]["backend"] = "\x1b[31m[red]"
    document["benchmarks"][2]["extra_info"]["backend"] = "[red]"
    (theirs / NAME).write_text(json.dumps(document), encoding="utf-8")
    (theirs / "0015_classic_494d741.json").write_text("[]", encoding="utf-8")
    found = run("theirs", "--dry-run")
    assert found.exit_code == 1
    first, _, last = found.stderr.splitlines()
    assert first == (
        rf"mnistbench: theirs/{NAME}, row 2: refused: extra_info, backend is '\x1b[31m[red]', which is not printable"
    )
    assert last == "mnistbench: theirs/0015_classic_494d741.json: refused: holds no JSON object"
    assert "would merge 3 rows; 0 stored already; 1 file and 2 rows refused" in found.stdout
    (theirs / "0015_classic_494d741.json").unlink()
    document["benchmarks"][1]["extra_info"]["backend"] = "numba"
    document["benchmarks"].append({"name": "mine", "extra_info": {}})
    (theirs / NAME).write_text(json.dumps(document), encoding="utf-8")
    found = run("theirs")
    assert found.exit_code == 1
    assert "into results/amd-znver5-2-cpus-79b50d/0001_classic_494d741.json, 1 is no row, and left out" in found.stdout
    (line,) = found.stderr.splitlines()
    assert line.startswith(f"mnistbench: theirs/{NAME}, row 3: refused: extra_info, backend is '[red]', and not a name")
    assert "merged 4 rows; 0 stored already; 1 row refused" in found.stdout


def test_a_file_s_name_says_nothing_to_a_terminal(theirs: Path) -> None:
    (theirs / NAME).rename(theirs / "0014_\x1b[2J[red]\n_494d741.json")
    found = run("theirs")
    first, *_ = found.stdout.splitlines()
    assert first.startswith(r"theirs/0014_\x1b[2J[red]\n_494d741.json: merged 5 rows")
    (theirs / "0001_\x1b[2J[red]\n_494d741.json").write_text("{", encoding="utf-8")
    found = run("theirs")
    assert found.exit_code == 1
    (line,) = found.stderr.splitlines()
    assert line.isprintable()


def test_folders_are_looked_at_before_anything_is_merged(theirs: Path) -> None:
    found = run("theirs", "missing")
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr == "mnistbench: missing: is no folder; give a folder of results, such as --results writes\n"
    assert not Path("results").exists()


def test_a_damaged_file_of_one_s_own_stops_it(theirs: Path) -> None:
    own = Path("results") / MACHINE / "0001_classic_494d741.json"
    own.parent.mkdir(parents=True)
    own.write_text("{", encoding="utf-8")
    found = run("theirs")
    assert (found.exit_code, found.stdout) == (2, "")
    assert "not a file of measurements" in found.stderr
    assert own.read_text(encoding="utf-8") == "{"
