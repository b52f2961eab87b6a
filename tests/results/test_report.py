"""The report: it says what the rows say, marks what is no result, and knows when it is out of date."""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnistbench import charts
from mnistbench.exceptions import MnistbenchError
from mnistbench.results import report, storage
from tests.support import builders
from tests.support.paths import ROOT

MACHINE = "some-cpu-2-cpus"
LIMITS = {
    "threads": 2,
    "multiply_add": {"float32": 2e11, "float64": 1e11},
    "levels": [{"name": "memory", "bytes": None, "bytes_per_second": 2e10}],
    "gpu": None,
}
BEGIN, END = "<!-- results: begin, written by 'mnistbench charts' -->", "<!-- results: end -->"


def entry(backend: str, dtype: str, median: float, workload: str = "classic", **changes: Any) -> dict[str, Any]:
    """An entry of a pytest-benchmark file, with a row of ours."""
    samples = [median * factor for factor in (1.0, 0.98, 1.01, 0.99, 1.03)]
    row = {
        "schema": storage.SCHEMA,
        "backend": backend,
        "workload": {"name": workload, "dtype": dtype, "images": 41_000, "iterations": 500},
        "device": "CPU",
        "threads": 2,
        "kernel": "loops",
        "skips": None,
        "versions": {backend: "1.2.3"},
        "costs": {"import": 0.5, "load": 0.25, "compile": 5.0, "train": median},
        "compile_cached": 0.125,
        "peak_memory_bytes": 10**9,
        "dense_flops": 10**9,
        "bytes_read": 10**8,
        "limits": LIMITS,
        "flops_per_second": 1e9,
        "peak_flops_per_second": 1e11,
        "final": {"loss": 0.5, "train_accuracy": 0.8475, "dev_accuracy": 0.8, "test_accuracy": 0.8},
        "history": [{"iteration": k, "loss": 2.5 / (k + 1), "accuracy": k / 1000} for k in (0, 100, 500)],
        "errors": [{"iteration": k, "error": 0.9 / (k + 1)} for k in (0, 1, 10)],
        "agreement": {
            "passed": True,
            "summary": "W1 after 0 updates: 0.5 of its tolerance",
            "tolerance": 1e-4,
            "trajectory": [{"iteration": k, "error": 2e-7} for k in (0, 1, 500)],
        },
        "validated": True,
        "problem": None,
        **changes,
    }
    return {"name": f"test_training[{backend}-{dtype}]", "extra_info": row, "stats": {"data": samples}}


def document(*entries: dict[str, Any], day: int = 1, dirty: bool = False) -> dict[str, Any]:
    return {
        "machine_info": {"name": "Some CPU, 2 CPUs"},
        "commit_info": {"id": "0123456789abcdef", "dirty": dirty},
        "datetime": f"2025-03-{day:02}T12:00:00+00:00",
        "benchmarks": [*entries],
    }


NO_RESULT: dict[str, Any] = {
    "validated": False,
    "problem": "disagrees with the reference: dW1 after 0 updates: 99 of its tolerance",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with results of two workloads, drawn once."""
    project = tmp_path_factory.mktemp("project")
    folder = project / "results" / MACHINE
    measured = (
        entry("numpy", "float64", 20.0),
        entry("numba", "float32", 1.0),
        entry("cupy", "float32", 0.01, **NO_RESULT),
    )
    storage.store(folder, "classic_0123456", document(*measured))
    storage.store(folder, "smoke_0123456", document(entry("numpy", "float32", 0.2, "smoke", **NO_RESULT)))
    (project / "README.md").write_text(f"# Title\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n", encoding="utf-8")
    report.write(project / "results")
    return project


@pytest.fixture
def project(written: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(written, tmp_path / "project")


def stale(project: Path) -> list[str]:
    return sorted(str(p.relative_to(project)) for p in report.stale(project / "results"))


ALL_CHARTS = [f"results/{MACHINE}/classic-{name}.{kind}" for name in charts.CHARTS for kind in ("svg", "png")]
SPEEDUPS = [f"results/{MACHINE}/speedups.{kind}" for kind in ("svg", "png")]
BOTH_TEXTS = ["README.md", "results/README.md"]


def test_after_writing_nothing_is_stale(project: Path) -> None:
    assert stale(project) == []
    files = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    stored = {f"results/{MACHINE}/0001_classic_0123456.json", f"results/{MACHINE}/0002_smoke_0123456.json"}
    assert files == {*ALL_CHARTS, *SPEEDUPS, *BOTH_TEXTS, *stored}


def test_writing_again_changes_nothing(project: Path) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    paths = report.write(project / "results")
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
    assert sorted(str(path.relative_to(project)) for path in paths) == sorted([*ALL_CHARTS, *SPEEDUPS, *BOTH_TEXTS])


def test_a_changed_timing_makes_all_that_shows_it_stale(project: Path) -> None:
    path = project / "results" / MACHINE / "0001_classic_0123456.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["benchmarks"][0]["stats"]["data"] = [21.0] * 5
    path.write_text(json.dumps(content), encoding="utf-8")
    assert stale(project) == sorted([*ALL_CHARTS, *SPEEDUPS, *BOTH_TEXTS])


def test_a_new_run_makes_its_workload_stale(project: Path) -> None:
    storage.store(
        project / "results" / MACHINE, "smoke_0123456", document(entry("numba", "float32", 0.1, "smoke"), day=2)
    )
    new = [path.replace("classic", "smoke") for path in ALL_CHARTS]
    assert stale(project) == sorted([*new, *SPEEDUPS, "results/README.md"])


def test_a_missing_or_foreign_chart_is_stale(project: Path) -> None:
    for number in (0, 3):
        path = project / ALL_CHARTS[number]
        content = path.read_bytes()
        path.unlink()
        assert stale(project) == [ALL_CHARTS[number]]
        path.write_bytes(b"something else")
        assert stale(project) == [ALL_CHARTS[number]]
        path.write_bytes(content)
    assert stale(project) == []


def test_a_chart_of_other_code_is_stale(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = charts.digest
    monkeypatch.setattr(charts, "digest", lambda rows: digest(rows)[::-1])
    assert stale(project) == sorted([*ALL_CHARTS, *SPEEDUPS])


def test_an_edited_readme_is_stale_within_its_section(project: Path) -> None:
    readme = project / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(text.replace("20.0 s", "19.0 s"), encoding="utf-8")
    assert stale(project) == ["README.md"]
    readme.write_text(text.replace("Before.", "Something new.").replace("After.", ""), encoding="utf-8")
    assert stale(project) == []


def test_the_readme_of_the_results_is_stale_when_edited_or_gone(project: Path) -> None:
    readme = project / "results" / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert stale(project) == ["results/README.md"]
    readme.unlink()
    assert stale(project) == ["results/README.md"]


def test_only_the_section_of_a_readme_is_written(project: Path) -> None:
    text = (project / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# Title\n\nBefore.\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nAfter.\n")
    assert "old" not in text
    section = text.partition(BEGIN)[2].partition(END)[0]
    assert f"![training time](results/{MACHINE}/classic-training-time.svg)" in section
    assert "| numpy | float64 |" in section


@pytest.mark.parametrize("text", ["# Title\n", f"{BEGIN}\n", f"{END}\n", f"{END}\n{BEGIN}\n"])
def test_a_readme_without_a_section_stays_as_it_is(project: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "CHARTS", {})
    readme = project / "README.md"
    readme.write_text(text, encoding="utf-8")
    report.write(project / "results")
    assert readme.read_text(encoding="utf-8") == text
    assert "README.md" not in stale(project)
    readme.unlink()
    report.write(project / "results")
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


# Charts that not all rows can be drawn in


def test_older_rows_have_no_roofline_and_are_not_stale_without_it(tmp_path: Path) -> None:
    older: dict[str, Any] = {"bytes_read": None, "limits": None}
    storage.store(tmp_path / "r" / "m", "classic_0", document(entry("numpy", "float64", 20.0, **older)))
    written = report.write(tmp_path / "r")
    assert not any("roofline" in path.name for path in written)
    assert len(written) == 2 * (len(charts.CHARTS) - 1) + 3
    assert report.stale(tmp_path / "r") == []
    assert "roofline" not in (tmp_path / "r" / "README.md").read_text(encoding="utf-8")
    storage.store(tmp_path / "r" / "m", "classic_1", document(entry("numba", "float64", 2.0), day=2))
    assert "classic-roofline.svg" in {path.name for path in report.stale(tmp_path / "r")}


def test_without_a_reference_there_are_no_speedups(tmp_path: Path) -> None:
    storage.store(tmp_path / "r" / "m", "classic_0", document(entry("numba", "float64", 2.0)))
    assert not any("speedups" in path.name for path in report.write(tmp_path / "r"))
    assert report.stale(tmp_path / "r") == []


def size(images: int, axes: list[str], hidden: int = 10, **changes: Any) -> dict[str, Any]:
    """An entry of the scaling benchmark."""
    sizes = {"axes": axes, "hidden": hidden, "allowed_threads": 2, "compared": "5 iterations"}
    found = entry("numba", "float32", images / 1e6 * hidden, storage.SCALING, **sizes | changes)
    found["extra_info"]["workload"]["images"] = images
    return found


def test_scaling_rows_have_charts_of_their_own_and_are_in_no_other(project: Path) -> None:
    folder = project / "results" / MACHINE
    before = {path: path.read_bytes() for path in folder.glob("classic-*")}
    rows = [size(1_000, ["images"]), size(10_000, ["images", "hidden"]), size(10_000, ["hidden"], 64)]
    storage.store(folder, "scaling_0", document(*rows, size(10**9, ["images"], **NO_RESULT), day=3))
    new = [f"results/{MACHINE}/scaling-{axis}.{kind}" for axis in ("images", "hidden") for kind in ("svg", "png")]
    assert stale(project) == sorted([*new, "results/README.md"])
    report.write(project / "results")
    assert stale(project) == []
    assert {path: path.read_bytes() for path in folder.glob("classic-*")} == before
    text = (project / "results" / "README.md").read_text(encoding="utf-8")
    assert f"![scaling-images]({MACHINE}/scaling-images.svg)" in text
    assert "scaling-threads" not in text
    assert "Scaling: measured until 2025-03-03 at 0123456" in text
    assert text.count("| numba | float32 |") == 1, "its rows are in no table"
    # A later row of one size makes the charts stale that it is in, or may be in.
    storage.store(folder, "scaling_1", document(size(1_000, ["images"]), day=4))
    assert stale(project) == sorted([*new, "results/README.md"])


def test_scaling_rows_alone_are_drawn(tmp_path: Path) -> None:
    rows = [size(n, ["images"]) for n in (1_000, 2_000)]
    storage.store(tmp_path / "r" / "m", "scaling_0", document(*rows))
    names = {path.name for path in report.write(tmp_path / "r")}
    assert names == {"README.md", "scaling-images.svg", "scaling-images.png"}
    assert report.stale(tmp_path / "r") == []


# History


def test_test_errors_have_a_table_and_a_chart_that_are_kept_up_to_date(project: Path) -> None:
    folder = project / "results" / MACHINE
    stored = builders.store_errors(folder, "simard")
    errors = [f"results/{MACHINE}/test-errors.{kind}" for kind in ("png", "svg")]
    assert stale(project) == sorted(["results/README.md", *errors])
    report.write(project / "results")
    assert stale(project) == []
    text = (project / "results" / "README.md").read_text(encoding="utf-8")
    assert "## Some CPU, 2 CPUs: test errors" in text
    assert "| **1.35 %** | 1.25 %, 1.35 %, 1.45 % | 1.6 %, Simard et al. 2003 |" in text
    assert f"![test-errors]({MACHINE}/test-errors.svg)" in text
    stored.write_text(stored.read_text().replace("0.0125", "0.0115"))
    assert stale(project) == sorted(["results/README.md", *errors])


def test_the_readme_has_a_section_of_test_errors_too(project: Path) -> None:
    readme = project / "README.md"
    begin, end = (line.replace("results:", "errors:") for line in (BEGIN, END))
    readme.write_text(f"{readme.read_text(encoding='utf-8')}\n{begin}\n{end}\n", encoding="utf-8")
    report.write(project / "results")
    before = readme.read_text(encoding="utf-8")
    builders.store_errors(project / "results" / MACHINE, "simard")
    report.write(project / "results")
    section = readme.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    assert "| simard |" in section
    assert f"![test errors](results/{MACHINE}/test-errors.svg)" in section
    assert readme.read_text(encoding="utf-8").partition(begin)[0] == before.partition(begin)[0]
    assert stale(project) == []


def test_test_errors_alone_are_drawn(tmp_path: Path) -> None:
    builders.store_errors(tmp_path / "results" / MACHINE)
    names = {path.name for path in report.write(tmp_path / "results")}
    assert names == {"test-errors.svg", "test-errors.png", "README.md"}
    assert report.stale(tmp_path / "results") == []


def test_a_history_has_all_validated_rows_of_all_machines(project: Path) -> None:
    folder = project / "results"
    storage.store(
        folder / "other", "classic_0", document(entry("numba", "float64", 3.0), entry("numba", "float32", 2.0))
    )
    storage.store(folder / MACHINE, "classic_1", document(entry("numba", "float32", 0.9), day=2))
    storage.store(folder / MACHINE, "classic_2", document(entry("numba", "float32", 0.1, **NO_RESULT), day=3))
    storage.store(folder / MACHINE, "scaling_3", document(size(1_000, ["images"])))
    rows = report.history(folder, "numba", "classic")
    assert sorted(rows["median"]) == [0.9, 1.0, 2.0, 3.0]
    assert report.spread(rows) == pytest.approx((0.05, 0.05))
    for backend, workload in (("jax", "classic"), ("numba", "smoke"), ("cupy", "classic")):
        with pytest.raises(
            MnistbenchError, match=f"no results of {backend} on {workload}; there are: numba on classic"
        ):
            report.history(folder, backend, workload)
    with pytest.raises(MnistbenchError, match="of many sizes"):
        report.history(folder, "numba", "scaling")


def test_the_spread_is_of_rows_with_several_rounds(tmp_path: Path) -> None:
    noisy, single = entry("numba", "float32", 2.0), entry("numba", "float64", 2.0)
    noisy["stats"]["data"], single["stats"]["data"] = [1.0, 2.0, 4.0], [2.0]
    storage.store(tmp_path / "m", "classic_0", document(noisy, single))
    rows = report.history(tmp_path, "numba", "classic")
    assert report.spread(rows) == (1.5, 1.5)
    assert report.spread(rows[rows["dtype"] == "float64"]) is None


# What is no result


def test_what_is_no_result_is_said_and_never_drawn(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, str]] = []
    draw = charts.CHARTS["training-time"]

    def recorded(rows: Any) -> Any:
        drawn.extend((row["workload"], row["backend"]) for row in rows.to_dict("records"))
        return draw(rows)

    monkeypatch.setattr(charts, "CHARTS", {"training-time": recorded})
    report.write(project / "results")
    assert drawn == [("classic", "numpy"), ("classic", "numba")]
    text = (project / "results" / "README.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| cupy") or "smoke" in line or "| numpy" in line]
    assert sum("NO RESULT" in line for line in lines) == 2
    assert f"cupy float32 is no result: {NO_RESULT['problem']}." in text
    assert f"numpy float32 is no result: {NO_RESULT['problem']}." in text
    assert "smoke-training-time.svg" not in text


def test_the_lines_of_what_is_no_result_show_no_speed(written: Path) -> None:
    """A number in a table is taken for a result, whatever its last column says."""
    text = (written / "results" / "README.md").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("| cupy"))
    assert "×" not in line


# The table


def table(*entries: dict[str, Any], **options: Any) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        storage.store(Path(folder), "classic_0", document(*entries, **options))
        return [*report.as_text(storage.latest(storage.load(Path(folder)), "classic"))]


def test_the_table_for_a_terminal() -> None:
    head, numpy, numba, *notes = table(entry("numpy", "float64", 20.0), entry("numba", "float32", 0.8))
    assert re.split(r"  +", head) == [
        *("backend", "dtype", "device", "load", "compile", "train", "per iteration", "speedup", "accuracy", "agreement")
    ]
    assert re.split(r"  +", numpy) == [
        *("numpy", "float64", "CPU, 2 threads", "250 ms", "5.00 s (125 ms cached)"),
        *("20.0 s (19.6 s to 20.6 s)", "40.0 ms", "1.00×", "84.8%", "agrees (2e-07)"),
    ]
    assert "800 ms (784 ms to 824 ms)" in numba
    assert "25.0×" in numba
    assert "1.60 ms" in numba
    assert notes[0].startswith("train: median of 5 rounds of 500 iterations")
    assert "at least 94%" in notes[0]


def test_noise_missing_baselines_and_cached_kernels_are_said() -> None:
    noisy = entry("numba", "float32", 1.0, compile_cached=None, threads=1)
    noisy["stats"]["data"] = [1.0, 1.0, 1.5]
    _, line, *notes = table(noisy)
    assert "noisy" in line
    assert "cached" not in line
    assert "nan" not in line
    assert "×" not in line
    assert "1 thread " in line
    assert "noisy, rounds that differ by more than 10% of their median: numba float32 by 50%." in notes


def test_clocks_that_were_held_down_are_said() -> None:
    cold, hot = ({"throttled": words, "clock_sm_mhz": 1200} for words in (None, "power cap"))
    rows = (entry("numpy", "float64", 20.0, gpu=None), entry("cupy", "float64", 0.1, gpu=cold))
    assert not [note for note in table(*rows) if "clocks" in note]
    notes = table(*rows, entry("cupy", "float32", 0.1, gpu=hot))
    assert notes[-1] == "cupy float32 ran while the GPU's clocks were held down: power cap."


def test_an_exact_agreement_is_zero() -> None:
    exact = {"passed": True, "summary": "", "tolerance": 1e-13, "trajectory": [{"iteration": 500, "error": 0.0}]}
    assert table(entry("numpy", "float64", 1.0, agreement=exact))[1].endswith("agrees (0)")


def test_the_table_in_markdown(written: Path) -> None:
    lines = (written / "results" / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert "## Some CPU, 2 CPUs: classic" in lines
    assert "## Some CPU, 2 CPUs: smoke" in lines
    assert any(line.startswith("Measured until 2025-03-01 at 0123456, with ") for line in lines)
    links = re.findall(r"!\[.*?\]\((.*?)\)", "\n".join(lines))
    assert links
    assert all((written / "results" / link).is_file() for link in links)


def test_uncommitted_changes_are_said(tmp_path: Path) -> None:
    storage.store(tmp_path / "m", "smoke_0", document(entry("numpy", "float64", 1.0, "smoke", **NO_RESULT), dirty=True))
    report.write(tmp_path)
    assert "0123456 with uncommitted changes" in (tmp_path / "README.md").read_text(encoding="utf-8")


# Durations


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (23.24, "23.2 s"),
        (2.04e-3, "2.04 ms"),
        (870e-6, "870 µs"),
        (0.0, "0 µs"),
        (1.0, "1.00 s"),
        (0.9996, "1.00 s"),
        (0.9994, "999 ms"),
        (0.99949, "999 ms"),
        (0.9995, "1.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (99.96, "100 s"),
        (99.94, "99.9 s"),
        (999.6, "1000 s"),
        (12345.6, "12346 s"),
        (9.996e-3, "10.0 ms"),
        (0.09996, "100 ms"),
        (999.6e-6, "1.00 ms"),
        (999.4e-6, "999 µs"),
        (9.996e-6, "10.0 µs"),
        (0.5e-6, "0.50 µs"),
        (4e-9, "0.00 µs"),
    ],
)
def test_durations(value: float, text: str) -> None:
    assert report.seconds(value) == text


@example(9.996)
@example(0.09996)
@example(99.96e-6)
@given(st.floats(1e-6, 999.4))
def test_durations_have_three_digits(value: float) -> None:
    number, unit = report.seconds(value).split()
    assert len(number.replace(".", "")) == 3
    shown = float(number) * {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit]
    # Three digits: off by half of the last, which is at most 5 in 1,000.
    assert math.isclose(shown, value, rel_tol=5.01e-3)
    assert 1 <= float(number) < 1000


@given(st.floats(1e-6, 900.0), st.floats(1.0, 1.1))
def test_longer_durations_never_look_shorter(value: float, factor: float) -> None:
    def shown(seconds: float) -> float:
        number, unit = report.seconds(seconds).split()
        return float(number) * {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit]

    assert shown(value) <= shown(value * factor) * (1 + 1e-12)


# This project


def test_the_results_of_this_project_are_not_stale() -> None:
    if not [*(ROOT / "results").glob("*/[0-9]*.json")]:
        pytest.skip("no results are stored yet")
    assert report.stale(ROOT / "results") == []
