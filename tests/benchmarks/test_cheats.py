"""``pytest benchmarks/`` validates nobody who times other work than was compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnistbench.results import storage
from tests.support.benchmarks import benchmarks, stored

pytestmark = pytest.mark.process

pytest.importorskip("pytest_benchmark")

PROBLEMS = {
    "half": "ends elsewhere than calls of a few iterations each do",
    "at-once": "one call of 10 iterations disagrees with the reference: ",
    "failing": "RuntimeError: out of luck",
    "boasting": "one call of 10 iterations disagrees with the reference: loss",
}


def test_cheats_are_no_results(tmp_path: Path) -> None:
    info = tmp_path / "site" / "cheats-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cheats\nVersion: 1\n")
    places = {"half": "Half", "at-once": "AtOnce", "boasting": "Boasting", "failing": "Failing", "ahead": "Ahead"}
    lines = [f"{name} = tests.support.cheats:{place}Backend" for name, place in places.items()]
    (info / "entry_points.txt").write_text("\n".join(["[mnistbench.backends]", *lines]) + "\n")
    named = [option for name in places for option in ("--backend", name)]
    options = ["--workload", "smoke", "--dtype", "float64", "--threads", 1, "--rounds", 3, *named]
    found = benchmarks(*options, "--results", tmp_path / "results", sites=(info.parent,))
    assert found.returncode != 0
    (path,) = stored(tmp_path / "results")
    rows = {row.backend: row for row in storage.load(path.parent)}
    assert set(rows) == set(places)
    for name, problem in PROBLEMS.items():
        assert problem in str(rows[name].problem)
        proof = rows[name].proof
        assert proof is not None
        assert not proof.complete
    ahead = rows["ahead"]
    assert ahead.problem is None
    assert ahead.proof is not None
    assert ahead.proof.complete
    assert ahead.proof.host_to_host
    assert min(ahead.samples) > 0.05
    assert "ahead float64 works outside of its iterations too: train is from host to host" in found.stdout
