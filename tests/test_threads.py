"""CPUs in effect: those that affinity allows, within the quota of the control groups, of either version."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.exceptions import OptionError
from mnistbench.threads import resolve, usable_cpus

UNIFIED = "34 24 0:29 {top} /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate"
OLDER = "36 31 0:33 {top} /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:11 - cgroup cgroup rw,cpu,cpuacct"


def container(root: Path, group: str, mounts: str) -> None:
    """A process in control groups of both versions with the path ``group``."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"5:memory:/\n4:cpu,cpuacct:{group}\n1:name=systemd:/\n0::{group}\n")
    (root / "proc/self/mountinfo").write_text(f"23 1 8:1 / / rw - ext4 /dev/root rw\n{mounts}\n")


def allow(folder: Path, quota: float | None, version: int) -> None:
    """A quota in CPUs, None for none, in a control group's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (folder / "cpu.max").write_text(f"{'max' if quota is None else round(quota * 100_000)} 100000\n")
    else:
        (folder / "cpu.cfs_quota_us").write_text(f"{-1 if quota is None else round(quota * 100_000)}\n")
        (folder / "cpu.cfs_period_us").write_text("100000\n")


def mounted(version: int) -> tuple[str, Path]:
    """The mount of a version's control groups, and its folder below the root."""
    return (OLDER, Path("sys/fs/cgroup/cpu,cpuacct")) if version == 1 else (UNIFIED, Path("sys/fs/cgroup"))


@pytest.fixture(autouse=True, scope="module")
def sixteen_cpus() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
        yield


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("quota", "cpus"), [(None, 16), (2.0, 2), (2.5, 2), (2.99, 2), (0.5, 1), (0.01, 1), (15.99, 15), (64.0, 16)]
)
def test_a_quota_limits_the_cpus(version: int, quota: float | None, cpus: int, tmp_path: Path) -> None:
    mount, folder = mounted(version)
    container(tmp_path, "/", mount.format(top="/"))
    allow(tmp_path / folder, quota, version)
    assert usable_cpus(tmp_path) == cpus


@given(
    st.sampled_from([1, 2]),
    st.lists(st.one_of(st.none(), st.floats(0.01, 40)), min_size=1, max_size=5),
    st.sampled_from(["whole", "own", "namespace"]),
)
def test_the_least_quota_around_the_process_counts(version: int, quotas: list[float | None], view: str) -> None:
    """Whether the container sees the whole tree, its own group mounted as the top, or itself as the top."""
    path = "/" + "/".join("abcde"[: len(quotas) - 1])
    mount, folder = mounted(version)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        seen = quotas if view == "whole" else quotas[-1:]
        container(root, "/" if view == "namespace" else path, mount.format(top=path if view == "own" else "/"))
        below = PurePosixPath(path).relative_to("/").parts if view == "whole" else ()
        for depth, quota in enumerate(seen):
            allow(root / folder / Path(*below[:depth]), quota, version)
        least = min([16.0, *(round(quota * 100_000) / 100_000 for quota in seen if quota is not None)])
        assert usable_cpus(root) == max(1, int(least))


@pytest.mark.parametrize("group", ["/../outside", "/elsewhere"])
def test_a_group_that_is_not_seen_has_the_quota_of_the_mount(group: str, tmp_path: Path) -> None:
    container(tmp_path, group, UNIFIED.format(top="/"))
    allow(tmp_path / "sys/fs/cgroup", 3.0, 2)
    assert usable_cpus(tmp_path) == 3


@pytest.mark.parametrize("content", ["", "max", "100000", "a b", "100000 0 0"])
def test_what_is_no_quota_limits_nothing(content: str, tmp_path: Path) -> None:
    container(tmp_path, "/", UNIFIED.format(top="/"))
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text(content)
    assert usable_cpus(tmp_path) == 16


def test_without_control_groups_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == 16
    (tmp_path / "proc" / "self").mkdir(parents=True)
    for name in ("cgroup", "mountinfo"):
        (tmp_path / "proc" / "self" / name).write_text("no such line\n")
    assert usable_cpus(tmp_path) == 16


def test_many_times_more_threads_than_cpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the environment; sixteen CPUs are seen here."""
    assert resolve(64) == 64
    with pytest.raises(OptionError, match=r"^65 threads: give at most 64; this process may use 16 CPUs$"):
        resolve(65)
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    with pytest.raises(OptionError, match=r"^OMP_NUM_THREADS: 100000 threads: give at most 64"):
        resolve(None)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert resolve(None) == 64
