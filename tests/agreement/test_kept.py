"""The reference's trajectory, kept and read again: the same numbers, and no file of anything else is trusted."""

from __future__ import annotations

import json
import os
import random
import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnistbench import files
from mnistbench.agreement import kept
from mnistbench.agreement import trajectory as trajectory_module
from mnistbench.agreement.checkpoints import along
from mnistbench.agreement.trajectory import Trajectory
from mnistbench.exceptions import MnistbenchError
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Optimizer
from mnistbench.task.workload import DTYPES, Workload
from tests.support import builders, options
from tests.support.builders import identical

DATA = builders.dataset(50, 13, 5)
CLASSIC = builders.workload(DATA, iterations=23)
MLP = options.task(optimizer=Optimizer("adam"), batch_size=16, dropout=(0.2,))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNISTBENCH_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The trainings of the reference, by their number of states."""
    found: list[int] = []

    def counted(*arguments: Any) -> Any:
        found.append(len(arguments[-1]))
        return along(*arguments)

    monkeypatch.setattr(trajectory_module, "along", counted)
    return found


def same(one: Trajectory, other: Trajectory) -> None:
    for a, b in zip([*one.states, *one.forwards.values()], [*other.states, *other.forwards.values()], strict=True):
        assert identical(a.parameters, b.parameters)
        assert a.margins.tobytes() == b.margins.tobytes()
        assert replace(a, parameters=b.parameters, margins=b.margins) == b
    assert [*one.forwards] == [*other.forwards]


@pytest.mark.parametrize(("task", "data"), [(CLASSIC, DATA), (MLP, options.DATA)], ids=["classic", "mlp"])
def test_what_is_read_is_what_was_computed(task: Workload, data: Any, trained: list[int], folder: Path) -> None:
    expected = Trajectory(task, data)
    first, second = kept.trajectory(task, data), kept.trajectory(task.with_dtype("float32"), data)
    assert len(trained) == 2, "the second was read"
    same(first, expected)
    same(second, expected)
    if task is MLP:
        for dtype in DTYPES:
            own, twins = (one.twins(dtype) for one in (expected, first))
            read = kept.trajectory(task, data).twins(dtype)
            assert own.spreads == twins.spreads == read.spreads
            assert all(identical(a, b) for a, b in zip(own.last, read.last, strict=True))
        assert len([*folder.iterdir()]) == 3


def test_the_files_unused_for_longest_are_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [replace(CLASSIC, iterations=number) for number in (20, 21, 22, 23)]
    paths = [kept.compute(task, DATA)[0] for task in tasks[:3]]
    for age, path in enumerate(reversed(paths)):
        os.utime(path, (1e9 - age, 1e9 - age))
    assert kept.missing(tasks[0], DATA) == []  # which reads it
    litter = folder / f".{paths[0].name}.00000000.tmp"
    litter.touch()
    os.utime(litter, (1e9, 1e9))
    monkeypatch.setattr(kept, "MOST_BYTES", 3.5 * paths[0].stat().st_size)
    last = kept.compute(tasks[3], DATA)[0]
    assert {*folder.iterdir()} == {paths[0], paths[2], last}, "the second was unused for longest"
    assert kept.missing(tasks[1], DATA) == [paths[1]]
    monkeypatch.setattr(kept, "MOST_BYTES", 1)
    own = folder / "reference-mine.npz"
    own.touch()
    assert {own, *kept.compute(tasks[1], DATA)} == {*folder.iterdir()}, "what was just written stays, and other files"
    kept.compute(MLP, options.DATA)
    assert len([*folder.iterdir()]) == 4, "all three of a workload stay"


def test_a_file_whose_time_cannot_be_set_is_read(trained: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    kept.trajectory(CLASSIC, DATA)

    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(os, "utime", refuse)
    kept.trajectory(CLASSIC, DATA)
    assert len(trained) == 1


OTHERS: dict[str, Callable[[], tuple[Workload, Any]]] = {
    "iterations": lambda: (replace(CLASSIC, iterations=24), DATA),
    "rate": lambda: (replace(CLASSIC, learning_rate=0.2), DATA),
    "seed": lambda: (replace(CLASSIC, seed=1), DATA),
    "images": lambda: (CLASSIC, builders.dataset(50, 13, 5, seed=1)),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_workload_is_trained_anew(what: str, trained: list[int]) -> None:
    kept.trajectory(CLASSIC, DATA)
    kept.trajectory(*OTHERS[what]())
    assert len(trained) == 2


def test_the_name_of_a_workload_does_not_matter(trained: list[int]) -> None:
    kept.trajectory(CLASSIC, DATA)
    kept.trajectory(replace(CLASSIC, name="another"), DATA)
    assert len(trained) == 1


@pytest.mark.parametrize("what", ["_code", "initial", "order"])
def test_other_code_or_other_random_numbers_train_anew(
    what: str, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a later NumPy draws others from the same seed."""
    task, data = (MLP, options.DATA) if what == "order" else (CLASSIC, DATA)
    kept.trajectory(task, data)
    if what == "_code":
        monkeypatch.setattr(kept, "_code", lambda: "other")
    elif what == "initial":
        initial = Parameters.initial
        monkeypatch.setattr(Parameters, "initial", lambda net, seed, *kind: initial(net, seed + 1, *kind))
    else:
        order = mlp.epoch_order
        # In the second epoch only, which what is computed again need not meet.
        monkeypatch.setattr(mlp, "epoch_order", lambda seed, epoch, n: order(seed + (epoch == 1), epoch, n))
        monkeypatch.setattr(secrets, "choice", lambda places: places[0])
    kept.trajectory(task, data)
    assert len(trained) == 2


# What the sources import besides each other: classes that hold the images, which the key has, and no arithmetic; and
# tolerances, which are computed from what is kept whenever something is compared.
NOT_KEPT = ("datasets", "exceptions", "files", "agreement.rounding")


def test_the_digest_of_the_code_covers_every_module_that_computes() -> None:
    package = Path(kept.__file__).parents[1]
    covered = tuple(name.removesuffix(".py").replace("/", ".") for name in kept._SOURCES)
    imported = set()
    for path in kept._files():
        text = path.read_text(encoding="utf-8")
        imported |= {module[1] for module in re.finditer(r"^\s*from mnistbench\.?(\S*) import", text, re.MULTILINE)}
        imported |= {
            f"{module[1]}.{name}"
            for module in re.finditer(r"^\s*from mnistbench\.?(agreement|) import (.*)", text, re.MULTILINE)
            for name in re.findall(r"\w+", module[2])
        }
        assert path.is_relative_to(package)
    whole = {module.strip(".") for module in imported} - {"", "agreement"}
    assert {"agreement.checkpoints", "reference.parameters", "task.workload"} <= whole
    assert not [module for module in whole if not module.startswith((*covered, *NOT_KEPT))]


def test_a_changed_module_is_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept._code()
    read = Path.read_bytes
    changed = "mlp.py"
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.name == changed))
    assert kept._code() != before


@pytest.mark.parametrize("place", [0, 40, 70, 500, 5_000, -1])
def test_a_damaged_file_is_replaced(place: int, trained: list[int], folder: Path) -> None:
    kept.trajectory(CLASSIC, DATA)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1
    for content in (bytes(damaged), whole[: len(whole) // 2], b"", b"\xff\n"):
        path.write_bytes(content)
        same(kept.trajectory(CLASSIC, DATA), Trajectory(CLASSIC, DATA))
        assert path.read_bytes() == whole
    assert len(trained) == 1 + 4 * 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY no array", b"anything"])
def test_a_file_of_another_program_is_replaced_whatever_digest_it_has(content: bytes, folder: Path) -> None:
    kept.trajectory(CLASSIC, DATA)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(kept._digest([content]).encode() + b"\n" + content)
    same(kept.trajectory(CLASSIC, DATA), Trajectory(CLASSIC, DATA))
    assert path.read_bytes() == whole


def forged(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a file's arrays, and give it the digest of what it then holds."""
    (path,) = folder.glob("*trajectory*")
    key = kept._Kept(CLASSIC, DATA).key
    arrays = kept._read("trajectory", key)
    assert arrays is not None
    change(arrays)
    kept._write("trajectory", key, arrays)
    assert path.is_file()


def scaled(name: str, factor: float) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name] = arrays[name] * factor

    return change


def without(arrays: dict[str, Any], beginning: str) -> None:
    for name in [name for name in arrays if name.startswith(beginning)]:
        del arrays[name]


FORGERIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "start": scaled("000000000-W1", 1.0001),
    "first update": scaled("000000001-W1", 1.0000001),
    "first loss": scaled("000000000-scalars", 1.0000001),
    "first margins": scaled("000000000-margins", 1.0000001),
    "a state is missing": lambda arrays: without(arrays, "000000009-"),
    "an array is missing": lambda arrays: without(arrays, "000000009-b1"),
    "other shapes": lambda arrays: arrays.update({"000000001-margins": np.zeros(3)}),
    "another dtype": lambda arrays: arrays.update({"000000000-W1": arrays["000000000-W1"].astype("float32")}),
    "a foreign array": lambda arrays: arrays.update({"what": np.zeros(3)}),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_wrong_file_with_a_right_digest_is_found_by_what_is_computed_again(
    what: str, folder: Path, trained: list[int]
) -> None:
    kept.trajectory(CLASSIC, DATA)
    forged(folder, FORGERIES[what])
    del trained[:]
    found = kept.trajectory(CLASSIC, DATA)
    assert len(trained) == 1
    same(found, Trajectory(CLASSIC, DATA))
    assert kept._read("trajectory", found.key) is not None  # type: ignore[attr-defined]


def test_a_wrong_update_at_a_random_place_is_found_where_it_is_looked_at(
    folder: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.trajectory(CLASSIC, DATA)
    forged(folder, scaled("000000020-W2", 1.000001))
    looked: list[int] = []

    def choice(places: list[int]) -> int:
        looked.append(random.choice(places))
        return looked[-1]

    monkeypatch.setattr(secrets, "choice", choice)
    del trained[:]
    for _ in range(200):
        kept.trajectory(CLASSIC, DATA)
        if trained:
            break
    assert looked[-1] in (19, 20)
    assert trained


def test_of_a_training_with_moments_any_forward_pass_may_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    first = kept.trajectory(MLP, options.DATA)
    seen: list[list[int]] = []

    def last(places: list[int]) -> int:
        seen.append(places)
        return places[-1]

    monkeypatch.setattr(secrets, "choice", last)
    same(kept.trajectory(MLP, options.DATA), first)
    assert seen[0][0] == 1
    wrong = dict(kept._arrays_of([*first.forwards.values(), *first.states]))
    place = f"{seen[0][-1]:09}"
    wrong[f"{place}-W1"] = wrong[f"{place}-W1"] * 1.00001
    kept._write("trajectory", first.key, wrong)  # type: ignore[attr-defined]
    same(kept.trajectory(MLP, options.DATA), first)


def test_where_nothing_can_be_kept_it_is_computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MNISTBENCH_CACHE_DIR", str(tmp_path / "file"))
    same(kept.trajectory(CLASSIC, DATA), Trajectory(CLASSIC, DATA))
    with pytest.raises(MnistbenchError, match="cannot be written"):
        kept.compute(CLASSIC, DATA)


def test_what_is_computed_beforehand_is_named(folder: Path, trained: list[int]) -> None:
    (classic,) = kept.compute(CLASSIC, DATA)
    assert classic.parent == folder == files.cache_folder()
    assert len(kept.compute(MLP, options.DATA)) == 3
    count = len(trained)
    kept.trajectory(MLP, options.DATA).twins("float32")
    kept.trajectory(CLASSIC, DATA)
    assert len(trained) == count
    assert json.dumps(kept._Kept(CLASSIC, DATA).key)
