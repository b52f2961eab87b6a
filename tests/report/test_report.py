"""The report: it says what the rows say, marks what is no result, and knows when it is out of date."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from mnistbench import charts, report
from mnistbench.backends.base import Ranks
from mnistbench.exceptions import MnistbenchError
from mnistbench.machine.identity import Machine
from mnistbench.machine.rates import Blas
from mnistbench.measurement import Energy
from mnistbench.report import tables
from mnistbench.results import storage
from mnistbench.results.row import Row
from mnistbench.task.workload import Network
from tests.support import builders
from tests.support.rows import LIMITS, NO_RESULT, PROOF, agreeing, document, row, sized, started

MACHINE = "some-cpu-2-cpus"
BEGIN, END = "<!-- results: begin, written by 'mnistbench charts' -->", "<!-- results: end -->"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with results of two workloads, drawn once."""
    project = tmp_path_factory.mktemp("project")
    folder = project / "results" / MACHINE
    measured = (
        row("numpy", "float64", 20.0, interleaved=True),
        row("numba", "float32", 1.0, interleaved=True),
        row("cupy", "float32", 0.01, interleaved=True, problem=NO_RESULT),
    )
    storage.store(folder, "classic_0123456", document(*measured))
    storage.store(folder, "smoke_0123456", document(row("numpy", "float32", 0.2, workload="smoke", problem=NO_RESULT)))
    (project / "README.md").write_text(f"# Title\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n", encoding="utf-8")
    report.write(project / "results", project=True)
    return project


@pytest.fixture
def project(written: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(written, tmp_path / "project")


def stale(project: Path) -> list[str]:
    return sorted(str(p.relative_to(project)) for p in report.stale(project / "results"))


ALL_CHARTS = [f"results/{MACHINE}/classic-{name}.svg" for name in charts.CHARTS]
SPEEDUPS = [f"results/{MACHINE}/speedups.svg"]
BOTH_TEXTS = ["README.md", "results/README.md"]


@pytest.mark.slow
def test_after_writing_nothing_is_stale_and_writing_again_changes_nothing(project: Path) -> None:
    assert stale(project) == []
    files = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    stored = {f"results/{MACHINE}/0001_classic_0123456.json", f"results/{MACHINE}/0002_smoke_0123456.json"}
    assert files == {*ALL_CHARTS, *SPEEDUPS, *BOTH_TEXTS, *stored}
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert report.write(project / "results", project=True) == []
    generated = [project / name for name in (*ALL_CHARTS, *SPEEDUPS, "results/README.md")]
    for path in generated:
        path.unlink()
    assert sorted(report.write(project / "results", project=True)) == sorted(generated)
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_newcomers_run_leaves_the_projects_pages_as_they_are(project: Path) -> None:
    """It is stored, and in the page of the results; README.md and docs/ are written by the maintainers' command."""
    (project / "docs").mkdir()
    page = project / "docs" / "errors.md"
    page.write_text("\n".join(line.replace("results:", "errors:") for line in (BEGIN, END)), encoding="utf-8")
    before = {path: path.read_bytes() for path in (page, project / "README.md")}
    rows = [row(name, "float32", 0.5, interleaved=True) for name in ("numpy", "numba", "numba-plain", "jax", "torch")]
    run = document(*rows, day=9, machine="Another CPU, 8 CPUs")
    storage.store(project / "results" / "another-cpu-8-cpus", "classic_0123456", run)
    builders.store_errors(project / "results" / MACHINE, "simard")
    report.write(project / "results")
    assert {path: path.read_bytes() for path in before} == before
    assert "Another CPU, 8 CPUs: classic" in (project / "results" / "README.md").read_text(encoding="utf-8")
    assert stale(project) == ["README.md", "docs/errors.md"]
    report.write(project / "results", project=True)
    assert "Another CPU" in (project / "README.md").read_text(encoding="utf-8")
    assert stale(project) == []


def test_a_changed_timing_makes_all_that_shows_it_stale(project: Path) -> None:
    path = project / "results" / MACHINE / "0001_classic_0123456.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["benchmarks"][0]["stats"]["data"] = [21.0] * 5
    path.write_text(json.dumps(content), encoding="utf-8")
    assert stale(project) == sorted([*ALL_CHARTS, *SPEEDUPS, *BOTH_TEXTS])


def test_a_new_run_makes_its_workload_stale(project: Path) -> None:
    storage.store(
        project / "results" / MACHINE, "smoke_0123456", document(row("numba", "float32", 0.1, workload="smoke"), day=2)
    )
    new = [path.replace("classic", "smoke") for path in ALL_CHARTS]
    assert stale(project) == sorted([*new, *SPEEDUPS, "results/README.md"])


@pytest.mark.parametrize("name", [ALL_CHARTS[0], ALL_CHARTS[3], "results/README.md"])
def test_a_missing_or_foreign_file_is_stale(project: Path, name: str) -> None:
    (project / name).write_bytes(b"something else")
    assert stale(project) == [name]
    (project / name).unlink()
    assert stale(project) == [name]


def test_a_chart_of_another_version_is_stale(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts.storage, "VERSION", charts.storage.VERSION + 1)
    assert stale(project) == sorted([*ALL_CHARTS, *SPEEDUPS])


def test_every_file_is_read_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Mock(wraps=storage.load)
    monkeypatch.setattr(storage, "load", load)
    assert stale(project) == []
    load.assert_called_once_with(project / "results" / MACHINE)


def test_an_edited_readme_is_stale_within_its_section(project: Path) -> None:
    readme = project / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(text.replace("20.0 s", "19.0 s"), encoding="utf-8")
    assert stale(project) == ["README.md"]
    readme.write_text(text.replace("Before.", "Something new.").replace("After.", ""), encoding="utf-8")
    assert stale(project) == []


def test_only_the_section_of_a_readme_is_written(project: Path) -> None:
    text = (project / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# Title\n\nBefore.\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nAfter.\n")
    assert "old" not in text
    section = text.partition(BEGIN)[2].partition(END)[0]
    assert f"![training time](results/{MACHINE}/classic-training-time.svg)" in section
    assert "| numpy |  | 20.0 s |  |" in section


@pytest.mark.parametrize("text", ["# Title\n", f"{BEGIN}\n", f"{END}\n", f"{END}\n{BEGIN}\n"])
def test_a_readme_without_a_section_stays_as_it_is(project: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "CHARTS", {})
    readme = project / "README.md"
    readme.write_text(text, encoding="utf-8")
    report.write(project / "results", project=True)
    assert readme.read_text(encoding="utf-8") == text
    assert "README.md" not in stale(project)
    readme.unlink()
    report.write(project / "results", project=True)
    assert not readme.exists()


@pytest.mark.parametrize("folder", ["nowhere", "README.md"])
def test_no_results_are_an_error(project: Path, folder: str) -> None:
    for attempt in (report.stale, report.write):
        with pytest.raises(MnistbenchError, match="holds no results"):
            attempt(project / folder)


def test_a_damaged_file_is_an_error(project: Path) -> None:
    (project / "results" / MACHINE / "0003_classic_0123456.json").write_text("{")
    for attempt in (report.stale, report.write):
        with pytest.raises(MnistbenchError, match=r"0003_classic_0123456\.json: not a file of measurements"):
            attempt(project / "results")


# Several machines


def facts(**changes: Any) -> dict[str, Any]:
    """The description of a machine that calls itself as others do."""
    found: dict[str, Any] = {"name": "AMD EPYC (znver5), 2 CPUs", "cpu": "AMD EPYC", "vendor": "AMD"}
    found |= {
        "microarchitecture": "znver5",
        "model": "family 26 model 2",
        "instruction_sets": ["avx2", "avx512f", "fma"],
        "usable_cpus": 2,
    }
    return found | {"memory_gib": 23.5, "hypervisor": "unknown", "gpu": None} | changes


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [{"microarchitecture": "znver4", "model": "family 25 model 17"}, {"memory_gib": 62.5}],
    ids=["zen4", "memory"],
)
def test_machines_of_one_name_are_kept_apart_even_in_one_folder(change: dict[str, Any], tmp_path: Path) -> None:
    """A Zen 4 and a Zen 5 both call themselves "AMD EPYC"."""
    folder = tmp_path / "r" / "amd-epyc-2-cpus"
    fast, slow = facts(), facts(**change)
    storage.store(folder, "classic_0", {**document(row("numpy", "float64", 20.0)), "machine_info": fast})
    storage.store(folder, "classic_1", {**document(row("numba", "float64", 2.0), day=2), "machine_info": slow})
    report.write(tmp_path / "r")
    one, other = (Machine.read(found) for found in (fast, slow))
    assert sorted(path.parent.name for path in (tmp_path / "r").rglob("classic-training-time.svg")) == sorted(
        [one.folder, other.folder]
    )
    text = (tmp_path / "r" / "README.md").read_text(encoding="utf-8")
    tables_of = re.split("^## ", text, flags=re.MULTILINE)[1:]
    assert [
        tuple(section.count(f"| {name} | float64 | CPU") for name in ("numpy", "numba"))
        for section in tables_of
        if "train" in section
    ] == [
        (1, 0),
        (0, 1),
    ]
    assert len({section.splitlines()[0] for section in tables_of}) == len(tables_of)
    assert "10.0×" not in text, "no speedup over another machine's time"


def test_a_machine_is_one_under_two_names_of_llvm(tmp_path: Path) -> None:
    """In two folders, of which the one that its last name gives has the charts."""
    newer = facts(microarchitecture="znver6", name="AMD EPYC (znver6), 2 CPUs")
    for day, info in ((1, facts()), (2, newer)):
        content = document(row("numba", "float64", 3.0 - day), day=day)
        storage.store(tmp_path / "r" / Machine.read(info).folder, "classic_0", {**content, "machine_info": info})
    report.write(tmp_path / "r")
    (chart,) = (tmp_path / "r").rglob("classic-training-time.svg")
    assert chart.parent.name == Machine.read(newer).folder
    text = (tmp_path / "r" / "README.md").read_text(encoding="utf-8")
    assert "## AMD EPYC (znver6), 2 CPUs: classic" in text
    assert "znver5" not in text
    assert text.count("| numba | float64 | CPU") == 1


# README's table


def opening(project: Path) -> str:
    report.write(project / "results", project=True)
    text = (project / "README.md").read_text(encoding="utf-8")
    return text.partition(BEGIN)[2].partition(END)[0]


@pytest.mark.slow
def test_the_opening_table_is_of_one_interleaved_run(project: Path) -> None:
    """Later rows of other runs, and of machines that raced earlier, are not in it."""
    folder = project / "results" / MACHINE
    storage.store(folder, "classic_1", document(row("torch", "float32", 3.0), row("numba", "float32", 0.5), day=4))
    earlier = document(row("jax", "float32", 2.0, interleaved=True), machine="Other")
    storage.store(project / "results" / "other", "classic_0", earlier)
    assert "| numba | 1.00 s |" in opening(project)
    assert "torch" not in opening(project)
    assert "jax" not in opening(project)
    later = [row(name, "float32", seconds, interleaved=True) for name, seconds in (("numpy", 8.0), ("numba", 0.4))]
    storage.store(folder, "classic_2", document(*later, day=5))
    assert "| numba | 400 ms | 20.0× |" in opening(project)
    assert "20.0 s" not in opening(project)
    storage.store(folder, "classic_3", document(row("numba", "float32", 0.1, interleaved=True), day=6))
    assert "| numba | 400 ms |" in opening(project), "the last run is of fewer rows"
    double = [row(name, "float64", 9.0, interleaved=True) for name in ("numpy", "numba", "torch")]
    storage.store(folder, "classic_4", document(*double, day=7))
    assert "| numba | 400 ms |" in opening(project), "the last run is in float64 only"


def test_an_opening_table_of_float64_only_has_its_speedups(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    rows = [row(name, "float64", seconds, interleaved=True) for name, seconds in (("numpy", 20.0), ("numba", 2.0))]
    storage.store(tmp_path / "results" / MACHINE, "classic_0", document(*rows))
    text = opening(tmp_path)
    assert "| numba | 2.00 s | 10.0× |" in text
    assert "Speedup: over numpy in float64" in text


def test_without_an_interleaved_run_the_opening_says_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    storage.store(tmp_path / "results" / MACHINE, "classic_0", document(row("numpy", "float32", 20.0)))
    assert "mnistbench compare --results results" in opening(tmp_path)


# Charts that not all rows can be drawn in


def test_older_rows_have_no_roofline_and_are_not_stale_without_it(tmp_path: Path) -> None:
    older = row("numpy", "float64", 20.0, bytes_read=None, limits=None)
    storage.store(tmp_path / "r" / "m", "classic_0", document(older))
    written = report.write(tmp_path / "r")
    assert not any("roofline" in path.name for path in written)
    assert len(written) == (len(charts.CHARTS) - 1) + 2
    assert report.stale(tmp_path / "r") == []
    assert "roofline" not in (tmp_path / "r" / "README.md").read_text(encoding="utf-8")
    storage.store(tmp_path / "r" / "m", "classic_1", document(row("numba", "float64", 2.0), day=2))
    assert "classic-roofline.svg" in {path.name for path in report.stale(tmp_path / "r")}


def test_without_a_reference_there_are_no_speedups(tmp_path: Path) -> None:
    storage.store(tmp_path / "r" / "m", "classic_0", document(row("numba", "float64", 2.0)))
    assert not any("speedups" in path.name for path in report.write(tmp_path / "r"))
    assert report.stale(tmp_path / "r") == []


def size(images: int, axes: list[str], hidden: int = 10, **changes: Any) -> Row:
    """A row of the scaling benchmark."""
    network = Network((784, hidden, 10))
    place = {"workload": storage.SCALING, "images": images, "network": network, "size": sized(axes, hidden)}
    return row("numba", "float32", images / 1e6 * hidden, **place | changes)


def test_scaling_rows_have_charts_of_their_own_and_are_in_no_other(project: Path) -> None:
    folder = project / "results" / MACHINE
    before = {path: path.read_bytes() for path in folder.glob("classic-*")}
    rows = [size(1_000, ["images"]), size(10_000, ["images", "hidden"]), size(10_000, ["hidden"], 64)]
    storage.store(folder, "scaling_0", document(*rows, size(10**9, ["images"], problem=NO_RESULT), day=3))
    new = [f"results/{MACHINE}/scaling-{axis}.svg" for axis in ("images", "hidden")]
    assert stale(project) == sorted([*new, "results/README.md"])
    report.write(project / "results")
    assert stale(project) == []
    assert {path: path.read_bytes() for path in folder.glob("classic-*")} == before
    text = (project / "results" / "README.md").read_text(encoding="utf-8")
    assert f"![scaling-images]({MACHINE}/scaling-images.svg)" in text
    assert "scaling-threads" not in text
    assert "Scaling: measured until 2025-03-03 at 0123456" in text
    assert text.count("| numba | float32 | CPU") == 1, "its rows are in no table"
    # A later row of one size makes the charts stale that it is in, or may be in.
    storage.store(folder, "scaling_1", document(size(1_000, ["images"]), day=4))
    assert stale(project) == sorted([*new, "results/README.md"])


@pytest.mark.parametrize("chart", ["scaling-images", "test-errors"])
def test_scaling_rows_or_test_errors_alone_are_drawn(tmp_path: Path, chart: str) -> None:
    if chart == "test-errors":
        builders.store_errors(tmp_path / "r" / "m")
    else:
        storage.store(tmp_path / "r" / "m", "scaling_0", document(*(size(n, ["images"]) for n in (1_000, 2_000))))
    assert {path.name for path in report.write(tmp_path / "r")} == {"README.md", f"{chart}.svg"}
    assert report.stale(tmp_path / "r") == []


# History


def test_test_errors_have_a_table_and_a_chart_that_are_kept_up_to_date(project: Path) -> None:
    folder = project / "results" / MACHINE
    stored = builders.store_errors(folder, "simard")
    errors = [f"results/{MACHINE}/test-errors.svg"]
    assert stale(project) == sorted(["results/README.md", *errors])
    report.write(project / "results")
    assert stale(project) == []
    text = (project / "results" / "README.md").read_text(encoding="utf-8")
    assert "## Some CPU, 2 CPUs: test errors" in text
    assert "| **1.35%** | 1.25%, 1.35%, 1.45% | 1.10% to 1.60% | 1.14% to 1.60% | 1.6%, Simard et al. 2003 |" in text
    assert f"![test-errors]({MACHINE}/test-errors.svg)" in text
    stored.write_text(stored.read_text().replace("0.0125", "0.0115"))
    assert stale(project) == sorted(["results/README.md", *errors])


def test_the_page_of_test_errors_has_a_section_too(project: Path) -> None:
    page = project / "docs" / "errors.md"
    page.parent.mkdir()
    begin, end = (line.replace("results:", "errors:") for line in (BEGIN, END))
    page.write_text(f"Before.\n{begin}\n{end}\nAfter.\n", encoding="utf-8")
    builders.store_errors(project / "results" / MACHINE, "simard")
    report.write(project / "results", project=True)
    before, section, after = re.split(f"{begin}|{end}", page.read_text(encoding="utf-8"))
    assert (before, after) == ("Before.\n", "\nAfter.\n")
    assert "| simard |" in section
    assert f"![test errors](../results/{MACHINE}/test-errors.svg)" in section
    assert stale(project) == []


def test_the_page_of_what_is_checked_has_a_section_of_simulations(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = []

    def simulate(shown: str) -> Iterator[str]:
        simulated.append(shown)
        yield "a table"

    page = project / "docs" / "honesty.md"
    page.parent.mkdir()
    page.write_text("Intervals.\n", encoding="utf-8")
    monkeypatch.setattr("mnistbench.timing.coverage.as_markdown", simulate)
    assert stale(project) == []
    assert not simulated, "it takes seconds, and no page shows it"
    page.write_text("\n".join(line.replace("results:", "coverage:") for line in (BEGIN, END)), encoding="utf-8")
    assert stale(project) == ["docs/honesty.md"]
    report.write(project / "results", project=True)
    assert "\na table\n" in page.read_text(encoding="utf-8")
    assert stale(project) == []


def test_a_history_has_all_validated_rows_of_all_machines(project: Path) -> None:
    folder = project / "results"
    storage.store(folder / "other", "classic_0", document(row("numba", "float64", 3.0), row("numba", "float32", 2.0)))
    storage.store(folder / MACHINE, "classic_1", document(row("numba", "float32", 0.9), day=2))
    storage.store(folder / MACHINE, "classic_2", document(row("numba", "float32", 0.1, problem=NO_RESULT), day=3))
    storage.store(folder / MACHINE, "scaling_3", document(size(1_000, ["images"])))
    rows = report.history(folder, "numba", "classic")
    assert sorted(row.timing.value for row in rows) == [0.9, 1.0, 2.0, 3.0]
    assert report.spread(rows) == pytest.approx((0.02, 0.02), rel=0.1)
    for backend, workload in (("jax", "classic"), ("numba", "smoke"), ("cupy", "classic")):
        with pytest.raises(
            MnistbenchError, match=f"no results of {backend} on {workload}; there are: numba on classic"
        ):
            report.history(folder, backend, workload)
    with pytest.raises(MnistbenchError, match="of many sizes"):
        report.history(folder, "numba", "scaling")


def test_the_spread_is_of_rows_with_several_rounds() -> None:
    rows = [row("numba", "float32", 2.0, samples=(1.0, 2.0, 4.0)), row("numba", "float64", 2.0, samples=(2.0,))]
    assert report.spread(rows) == pytest.approx((1.05, 1.05), rel=0.01)
    assert report.spread(rows[1:]) is None


# What is no result


def test_what_is_no_result_is_said_and_never_drawn(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, str]] = []
    draw = charts.CHARTS["training-time"]

    def recorded(rows: Sequence[Row]) -> Figure:
        drawn.extend((row.workload.name, row.backend) for row in rows)
        return draw(rows)

    monkeypatch.setattr(charts, "CHARTS", {"training-time": recorded})
    (project / ALL_CHARTS[0]).unlink()
    report.write(project / "results")
    assert drawn == [("classic", "numpy"), ("classic", "numba")]
    text = (project / "results" / "README.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| cupy") or "smoke" in line or "| numpy" in line]
    assert sum("NO RESULT" in line for line in lines) == 2
    assert not any("×" in line for line in lines if "NO RESULT" in line)
    assert f"cupy float32 is no result: {NO_RESULT}." in text
    assert f"numpy float32 is no result: {NO_RESULT}." in text
    assert "smoke-training-time.svg" not in text


def test_rows_of_several_ranks_have_a_table_of_their_own_and_no_part_in_others(project: Path) -> None:
    before = (project / "results" / "README.md").read_text(encoding="utf-8")
    pictures = {path: path.read_bytes() for path in project.rglob("*.svg")}
    ranks = Ranks((1, 1), 2, "MPICH 5.0", "network", 4e-5, True)
    storage.store(
        project / "results" / MACHINE,
        "classic_0123456",
        document(row("numba", "float32", 0.5, ranks=ranks), row("jax", "float32", 0.5, ranks=ranks, problem=NO_RESULT)),
    )
    report.write(project / "results")
    after = (project / "results" / "README.md").read_text(encoding="utf-8")
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    shown = "2 of 1 thread, 2 hosts, that share CPUs, MPICH 5.0 over network"
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    assert any(line.startswith(f"| classic | numba | float32 | {shown} | 500 ms ") for line in added)
    assert any("40.0 µs | 84.8% | agrees" in line for line in added)
    assert any(line.startswith("| classic | jax") and line.endswith("NO RESULT |") for line in added)
    assert {path: path.read_bytes() for path in project.rglob("*.svg")} == pictures


# The table


def table(*rows: Row) -> list[str]:
    return [*tables.as_text(storage.latest(rows))]


def test_the_table_for_a_terminal() -> None:
    head, numpy, numba, *notes = table(row("numpy", "float64", 20.0), row("numba", "float32", 0.8))
    assert re.split(r"  +", head) == [
        *("backend", "dtype", "device", "train", "per iteration", "over numpy float64"),
        *("in the same dtype", "accuracy", "agreement"),
    ]
    assert re.split(r"  +", numpy) == [
        *("numpy", "float64", "CPU, 2 threads"),
        *("20.0 s (19.6 s to 20.6 s)", "40.0 ms", "1.00×", "1.00×", "84.8%", "agrees (5×10⁻¹⁴ of 10⁻¹⁰)"),
    ]
    assert "800 ms (784 ms to 824 ms)" in numba
    assert "25.0×" in numba
    assert "1.60 ms" in numba
    assert table(agreeing(row("numpy", "float64", 1.0)))[1].endswith("agrees (0 of 10⁻¹⁰)")
    assert notes[0].startswith("train: median of 7 rounds of 500 iterations")
    assert "at least 98%" in notes[0]
    five = table(row("numba", "float32", 0.8, samples=(0.8, 0.81, 0.79, 0.8, 0.82)))
    assert "at least 93%" in five[2], "93.75% are not 94%"


def test_the_costs_of_new_processes_have_a_table() -> None:
    several = started(5.0, 3.0, 9.0, cached=0.125)
    one = started(0.0, train=1.0, iterations=100)
    *_, blank, head, numpy, numba, about = table(
        row("numpy", "float64", 20.0, costs={"train": 20.0} | one.costs, cold=one),
        row("numba", "float32", 0.8, costs={"train": 0.8} | several.costs, cold=several),
    )
    assert blank == ""
    assert re.split(r"  +", head) == [
        *("backend", "dtype", "import", "load", "compile", "tuning", "first call", "cached"),
        *("first training", "memory"),
    ]
    assert re.split(r"  +", numba)[4:] == [
        *("5.0 s (3.0 s to 9.0 s)", "2.0 s", "1.0 s", "1.1 s", "4.0 s", "100 MB to 1.00 GB"),
    ]
    assert re.split(r"  +", numpy)[4:] == ["≈ 0", "2.0 s", "1.0 s", "5.0 s, from 100 iterations", "100 MB to 1.00 GB"]
    assert "the median of 1 to 3 new processes with empty caches" in about


def test_a_faster_kernel_of_the_baselines_library_is_said() -> None:
    own = replace(started(0.0, train=4.0), empty=tuple(replace(one, blas="Zen") for one in started(0.0, 0.0).empty))
    others = tuple(replace(one, blas=name) for one, name in zip(started(0.0, 0.0).empty, ("A", "B"), strict=True))
    faster = replace(others[0], costs={**others[0].costs, "train": 2.0}), others[1]
    for kernels, told in (((), None), (others[1:], "4.0 s with B."), (faster, "2.0 s with A and 4.0 s with B; ")):
        _, _, *notes = table(row("numpy", "float64", 20.0, cold=replace(own, kernels=kernels)))
        found = [note for note in notes if "kernels of OpenBLAS" in note]
        assert [told is not None and told in note for note in found] == [True] * (told is not None)
        assert ("OPENBLAS_CORETYPE=A makes the baseline 2.00× as fast" in "".join(found)) is (kernels is faster)


def test_rows_of_other_runs_have_a_table_of_their_own() -> None:
    """With their dates and commits, and how far the medians of all runs lie apart."""
    earlier = [
        row(name, "float32", 2.0, file="0001.json", date="2025-01-01", commit="a" * 40) for name in ("numpy", "jax")
    ]
    later = [row(name, "float32", 1.0, file="0002.json", date="2025-02-01") for name in ("numpy", "numba")]
    lines = [*tables.as_markdown(storage.latest([*earlier, *later]), [*earlier, *later])]
    apart = lines.index("Other runs:")
    assert sum(line.startswith(("| numpy", "| numba")) for line in lines[:apart]) == 2
    (jax,) = (line for line in lines[apart:] if line.startswith("| jax | float32 | CPU"))
    assert jax.endswith("| 2025-01-01 | aaaaaaa |")
    assert "Medians of all runs stored: numpy float32 in 2 from 1.00 s to 2.00 s.  " in lines


def test_noise_and_missing_baselines_are_said() -> None:
    noisy = row("numba", "float32", 1.0, threads=1, samples=(1.0, 1.0, 1.5))
    _, line, *notes = table(noisy)
    assert "noisy" in line
    assert "nan" not in line
    assert "×" not in line.partition("agrees")[0]
    assert "1 thread " in line
    assert "noisy, rounds that scatter by more than 5% of their median: numba float32 by 52%." in notes


def test_the_baselines_library_is_said() -> None:
    limits = replace(LIMITS, product={"float32": 120e9, "float64": 88e9}, blas=Blas("openblas", "1.2", "Haswell"))
    rows = [row("numpy", dtype, 20.0, limits=limits) for dtype in ("float32", "float64")]
    said = (
        "openblas 1.2 Haswell, which reaches 60% of the multiply-add peak in float32 and 88% of the multiply-add peak"
    )
    assert any(said in note for note in table(*rows))
    assert not any("products by" in note for note in table(row("numba", "float32", 1.0, limits=limits)))
    unknown = replace(limits, multiply_add={})
    assert not any("products by" in note for note in table(row("numpy", "float32", 1.0, limits=unknown)))


def test_rows_with_fewer_checks_are_said() -> None:
    old = row("numpy", "float64", 20.0, proof=None)
    part = row("numba", "float32", 1.0, proof=replace(PROOF, checks=("trajectory",)))
    assert ["fewer checks" in line for line in table(old, part, row("numba", "float64", 1.0))[1:4]] == [
        True,
        True,
        False,
    ]
    outside = row("numba", "float32", 1.0, proof=replace(PROOF, host_to_host=True))
    assert any("works outside of its iterations too" in note for note in table(outside))


def test_energy_has_a_column_where_it_is_known() -> None:
    own = Energy(0.42, 0.002, 61.0, 900, 40, "NVML")
    rows = row("numpy", "float64", 20.0), row("cupy", "float32", 0.002, energy=own)
    head, numpy, cupy, *notes = table(*rows)
    assert head.endswith("energy")
    assert cupy.endswith("420 mJ (210 W, idle 61.0 W)")
    assert not numpy.endswith("W)")
    (note,) = (note for note in notes if note.startswith("energy:"))
    assert "of the GPU alone (NVML)" in note
    assert "RAPL" not in note
    assert any("420 mJ (210 W, idle 61.0 W)" in line for line in tables.as_markdown(storage.latest(rows)))
    assert not any("energy" in line for line in table(rows[0]))


def test_ways_to_compute_that_failed_are_said() -> None:
    notes = table(row("torch", "float32", 1.0, failed="compiled failed: RuntimeError: no compiler"))
    assert "torch float32: compiled failed: RuntimeError: no compiler." in notes


def test_a_chart_of_rows_without_what_later_versions_added_stays_as_it_was() -> None:
    """Or every stored chart would have to be drawn anew."""
    drawn = report._drawn(row("numpy", "float64", 1.0))
    assert {"failed", "arithmetic", "energy"}.isdisjoint(drawn)
    assert drawn["gpu"] is None
    assert report._drawn(row("numpy", "float64", 1.0, failed="a way"))["failed"] == "a way"


def test_rows_without_cold_starts_are_not_in_their_chart(tmp_path: Path) -> None:
    without = row("cupy", "float32", 1.0, costs={"train": 1.0})
    assert "cold-start" not in charts.drawable([without])
    assert "cold-start" in charts.drawable([without, row("numpy", "float32", 1.0)])
    figure = charts.cold_start([without, row("numpy", "float32", 1.0)])
    assert not any("cupy" in text.get_text() for text in figure.findobj(Text))
    assert not any("In a new process" in line for line in tables.as_markdown([without]))


def test_clocks_that_were_held_down_are_said() -> None:
    cold, hot = ({"throttled": words, "clock_sm_mhz": 1200} for words in (None, "power cap"))
    rows = (row("numpy", "float64", 20.0, gpu=None), row("cupy", "float64", 0.1, gpu=cold))
    assert not [note for note in table(*rows) if "clocks" in note]
    notes = table(*rows, row("cupy", "float32", 0.1, gpu=hot))
    assert notes[-1] == "cupy float32 ran while the GPU's clocks were held down: power cap."


@pytest.mark.parametrize(
    ("rounds", "files", "interleaved", "said"),
    [
        (7, "aa", True, "the ratio within rounds that ran all of them in turn, with its 95% interval;"),
        (7, "ab", True, "where it has an interval the ratio within rounds that ran both in turn, else a ratio of"),
        (5, "aa", True, "the ratio within rounds that ran both in turn, too few for an interval, else a ratio of"),
        (7, "aa", False, "speedups over numpy: a ratio of medians;"),
    ],
)
def test_the_table_says_how_speedups_were_found(rounds: int, files: str, interleaved: bool, said: str) -> None:
    samples = tuple(1 + k / 100 for k in range(rounds))
    rows = [
        row(backend, "float64", 1.0, samples=samples, file=file, interleaved=interleaved)
        for backend, file in zip(("numpy", "numba"), files, strict=True)
    ]
    _, _, numba, note = table(*rows)
    assert said in note
    assert "1.00×" in numba


@pytest.mark.parametrize("other", ["run", "commit", "version"])
def test_a_table_of_several_runs_says_so(other: str) -> None:
    """Its speedups across runs have a mark and no interval, and every commit and version is named."""
    rows = [
        row("numpy", "float64", 20.0, file="a", interleaved=True),
        row("numba", "float64", 2.0, file="a", interleaved=True),
    ]
    changes: dict[str, Any] = {"commit": {"commit": "fedcba9876543210"}, "version": {"versions": {"numba": "1.3.0"}}}
    later = row("numba", "float32", 1.0, file="b", interleaved=True, **changes.get(other, {}))
    table = [*tables.as_markdown(storage.latest([*rows, later]))]
    place = next(place for place, line in enumerate(table) if line.startswith("Measured"))
    note, last, lines = table[place - 1], table[place], "\n".join(table[:place])
    assert all(f"| {speedup} |" in lines for speedup in ("1.00×", "≈ 20.0×", "10.0×"))
    assert "≈ is over a median of another run" in note
    assert last.startswith("Measured in 2 runs until ")
    assert ("0123456, fedcba9, with" in last) is (other == "commit")
    assert ("numba 1.3.0 or 1.2.3" in last or "numba 1.2.3 or 1.3.0" in last) is (other == "version")
    alone = "\n".join(tables.as_markdown(storage.latest(rows)))
    assert "≈" not in alone
    assert "Measured until" in alone


def test_the_table_in_markdown(written: Path) -> None:
    lines = (written / "results" / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    headings = {line.count("|") for line in rows if line.startswith("| backend")}
    assert {line.count("|") for line in rows} == headings == {10, 11}, "the times, and the costs of new processes"
    assert "## Some CPU, 2 CPUs: classic" in lines
    assert "## Some CPU, 2 CPUs: smoke" in lines
    assert any(line.startswith("Measured until 2025-03-01 at 0123456, with ") for line in lines)
    links = re.findall(r"!\[.*?\]\((.*?)\)", "\n".join(lines))
    assert links
    assert all((written / "results" / link).is_file() for link in links)


def test_uncommitted_changes_are_said(tmp_path: Path) -> None:
    storage.store(
        tmp_path / "m",
        "smoke_0",
        document(row("numpy", "float64", 1.0, workload="smoke", problem=NO_RESULT), dirty=True),
    )
    report.write(tmp_path)
    assert "0123456 with uncommitted changes" in (tmp_path / "README.md").read_text(encoding="utf-8")
