"""The table of what the comparison tells apart: it is complete, right ones pass, and a sample is measured again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults import power


def test_the_page_names_every_fault_and_no_right_training_is_rejected() -> None:
    table = power.read()
    assert {*table} == {*power.FAULTS, power.OTHERS, power.REORDERED, *power.HONEST}
    for name in (power.REORDERED, *power.HONEST):
        errors = [float(cell.split()[0].rstrip(",")) for cell in table[name].values() if cell != "-"]
        assert all(error <= 0.5 for error in errors), "half of the tolerance is for other machines"


def test_half_of_a_training_is_told_apart_everywhere() -> None:
    for name in ("last half of the iterations not run", "bfloat16 operands", "learning rate 10% off"):
        cells = power.read()[name].values()
        assert all(cell.startswith(">") or float(cell.split()[0]) > 1 for cell in cells if cell != "-")


def test_columns_of_other_workloads_are_kept(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{power.BEGIN}{power.END}\nAfter.\n", encoding="utf-8")
    assert power.read(page) == {}
    power.store(
        {"numpy": {"wide, float32": "0.5 (W1)"}, "learning rate 1% off": {"deep, float64": "> 1000 (b1)"}}, page
    )
    found = power.read(page)
    assert found["numpy"] == {"wide, float32": "0.5 (W1)", "deep, float64": "-"}
    assert [*found] == ["learning rate 1% off", "numpy"]
    elsewhere = f"wide{power.OTHER_IMAGES}, float64"
    power.store({**found, "numpy": {**found["numpy"], elsewhere: "0.1 (b1)"}}, page)
    again = power.read(page)
    assert again["numpy"] == {**found["numpy"], elsewhere: "0.1 (b1)"}
    assert again["learning rate 1% off"][elsewhere] == "-"
    assert page.read_text(encoding="utf-8").count("| error, in tolerances | ") == 2
    assert page.read_text(encoding="utf-8").endswith("\nAfter.\n")


@pytest.mark.slow
def test_a_small_workload_shows_the_same() -> None:
    names = ["TF32 operands of every product", "last half of the iterations not run", "numpy"]
    assert {name: found.passed for name, found in power.errors("smoke", "float32", names)} == {
        name: name == "numpy" for name in names
    }


def test_a_cell_is_measured_again(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--all-options"):
        pytest.skip("--all-options runs it")
    table = power.read()
    name = random.choice([*power.FAULTS])
    place, cell = random.choice([(place, cell) for place, cell in table[name].items() if cell != "-"])
    workload, dtype = place.split(", ")
    ((_, found),) = power.errors(workload, "float32" if dtype == "float32" else "float64", [name])
    assert found.passed is (not cell.startswith(">") and float(cell.split()[0]) <= 1)
