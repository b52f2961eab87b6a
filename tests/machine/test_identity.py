"""Which machine it is: ten real ones, told apart by what they are, and what makes no other machine."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench import machine
from mnistbench.exceptions import OptionError
from mnistbench.machine import processor
from mnistbench.machine.identity import Machine, labels, sold_memory
from mnistbench.threads import usable_cpus
from tests.support.paths import ROOT

MACHINES = Path(__file__).with_name("machines")
"""What ten machines tell of themselves, shortened: no more processors and flags than are read."""


class Expected(NamedTuple):
    """What is known otherwise of a machine, and what is read."""

    llvm: str
    affinity: int
    memory: float
    name: str
    cpus: int
    hypervisor: str | None
    folder: str


TEN = {
    "graviton-2": Expected("neoverse-n1", 2, 7.6, "ARM neoverse-n1, 2 CPUs", 2, "Nitro", "arm-neoverse-n1-2-cpus"),
    "graviton-3": Expected("neoverse-v1", 4, 7.6, "ARM neoverse-v1, 4 CPUs", 4, "Nitro", "arm-neoverse-v1-4-cpus"),
    "graviton-4": Expected("neoverse-v2", 1, 1.8, "ARM neoverse-v2, 1 CPU", 1, "Nitro", "arm-neoverse-v2-1-cpus"),
    "apple-m1": Expected("apple-m1", 8, 16.0, "Apple M1, 8 CPUs", 8, None, "apple-m1-8-cpus"),
    "zen-4": Expected("znver4", 2, 23.5, "AMD EPYC (znver4), 2 CPUs", 2, "unknown", "amd-znver4-2-cpus"),
    "zen-5": Expected("znver5", 2, 23.5, "AMD EPYC (znver5), 2 CPUs", 2, "unknown", "amd-znver5-2-cpus"),
    "sapphire-rapids": Expected(
        *("sapphirerapids", 4, 15.6, "Intel Xeon Processor (sapphirerapids), 4 CPUs", 4, "QEMU"),
        "intel-sapphirerapids-4-cpus",
    ),
    "raspberry-pi-4": Expected(
        *("cortex-a72", 4, 3.7, "Raspberry Pi 4 Model B (cortex-a72), 4 CPUs", 4, None), "arm-cortex-a72-4-cpus"
    ),
    "container": Expected(
        *("znver4", 32, 62.5, "AMD Ryzen 9 7950X 16-Core Processor (znver4), 2 CPUs", 2, None), "amd-znver4-2-cpus"
    ),
    "wsl": Expected(
        *("alderlake", 16, 7.6, "12th Gen Intel Core i7-1260P (alderlake), 16 CPUs", 16, "WSL"),
        "intel-alderlake-16-cpus",
    ),
}


def described(name: str, patch: pytest.MonkeyPatch, llvm: str | None = None, **others: Any) -> dict[str, Any]:
    """The description of one of the ten machines."""
    expected = TEN[name]._replace(**others)
    sysctl = MACHINES / name / "sysctl"
    patch.setattr(platform, "system", lambda: "Darwin" if sysctl.exists() else "Linux")
    patch.setattr(processor, "_output", lambda *command: sysctl.read_text(encoding="utf-8"))
    patch.setattr(processor, "_llvm_name", lambda: expected.llvm if llvm is None else llvm)
    patch.setattr(os, "sched_getaffinity", lambda process: set(range(expected.affinity)), raising=False)
    patch.setattr(machine, "memory_gib", lambda: expected.memory)
    patch.setattr(machine, "gpu_name", lambda: None)
    return machine.describe(MACHINES / name)


def ten(**others: Any) -> dict[str, Machine]:
    """All of them."""
    with pytest.MonkeyPatch.context() as patch:
        return {name: Machine.read(described(name, patch, **others)) for name in TEN}


@pytest.mark.parametrize("name", TEN)
def test_ten_machines_have_names_and_numbers_of_cpus(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected = described(name, monkeypatch), TEN[name]
    assert json.loads(json.dumps(found)) == found
    assert (found["name"], found["usable_cpus"], found["hypervisor"]) == (
        expected.name,
        expected.cpus,
        expected.hypervisor,
    )
    assert found["microarchitecture"] == expected.llvm
    assert re.fullmatch(f"{expected.folder}-[0-9a-f]{{6}}", Machine.read(found).folder)


def test_ten_machines_are_ten() -> None:
    found = ten()
    assert (
        len({*found.values()})
        == len({one.folder for one in found.values()})
        == len({*labels(found.values()).values()})
        == 10
    )
    assert [found[name].instruction_sets for name in ("graviton-2", "graviton-4", "zen-5", "wsl")] == [
        ("neon",),
        ("neon", "sve", "sve2"),
        ("avx2", "avx512f", "fma"),
        ("avx2", "fma"),
    ]
    # Both call themselves "AMD EPYC", with 2 CPUs.
    assert found["zen-4"].cpu == found["zen-5"].cpu == "AMD EPYC"


@pytest.mark.parametrize("llvm", ["", "an older name"])
def test_the_version_of_llvm_makes_no_other_machine(llvm: str) -> None:
    """Nor does its absence: then the model takes the place of its name."""
    found, known = ten(llvm=llvm), ten()
    assert found == known
    assert {name: one.digest for name, one in found.items()} == {name: one.digest for name, one in known.items()}
    if not llvm:
        assert len({one.name for one in found.values()}) == 10
        assert (found["zen-5"].name, found["graviton-3"].name) == (
            "AMD EPYC (family 26 model 2), 2 CPUs",
            "ARM part 0xd40, 4 CPUs",
        )


@pytest.mark.parametrize("name", ["generic", "x86-64", "x86-64-v3", "unknown", ""])
def test_a_processor_unknown_to_llvm_goes_by_its_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    binding = pytest.importorskip("llvmlite.binding")
    monkeypatch.setattr(binding, "get_host_cpu_name", lambda: name)
    assert processor._llvm_name() == ""
    monkeypatch.setattr(binding, "get_host_cpu_name", lambda: "znver6")
    assert processor._llvm_name() == "znver6"
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    assert processor._llvm_name() == ""


@pytest.mark.parametrize(
    "change",
    [{"kernel": "7.0"}, {"memory_gib": 23.4}, {"name": "another"}, {"microarchitecture": "znver6"}, {"versions": {}}],
)
def test_what_makes_no_other_machine(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = described("zen-5", monkeypatch)
    assert Machine.read(found | change) == Machine.read(found)


CHANGES: list[dict[str, Any]] = [
    {"cpu": "AMD EPYC 9R45"},
    {"vendor": "Hygon"},
    {"model": "family 26 model 17"},
    {"instruction_sets": ["avx2", "fma"]},
    {"usable_cpus": 4},
    {"memory_gib": 31.2},
    {"hypervisor": None},
    {"gpu": "NVIDIA H100 80GB HBM3"},
]


@pytest.mark.parametrize("change", CHANGES, ids=[next(iter(change)) for change in CHANGES])
def test_what_makes_another_machine(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = described("zen-5", monkeypatch)
    one, other = Machine.read(found), Machine.read(found | change)
    assert one != other
    assert one.folder != other.folder
    # A name that both have is completed.
    told = labels([one, other, one])
    assert len({*told.values()}) == len(told) == 2
    assert all(label.startswith("AMD EPYC (znver5), 2 CPUs (") for label in told.values())


def test_files_of_earlier_versions_know_a_name_only() -> None:
    older = Machine.read({"name": "AMD EPYC, 2 CPUs", "cpu": "AMD EPYC", "usable_cpus": 2, "memory_gib": 23.5})
    assert older == Machine.named("AMD EPYC, 2 CPUs") != Machine.named("AMD EPYC, 4 CPUs")
    assert older.folder == "amd-epyc-2-cpus"
    assert older not in ten().values()
    for damaged in ({}, {"name": "x", "microarchitecture": "znver5"}):
        with pytest.raises(KeyError):
            Machine.read(damaged)


@pytest.mark.parametrize(
    ("seen", "sold"),
    [
        (0.4, 1),
        (0.9, 1),
        (1.8, 2),
        (3.7, 4),
        (7.6, 8),
        (15.4, 16),
        (15.9, 16),
        (16.0, 16),
        (23.5, 24),
        (30.8, 32),
        (503.7, 512),
    ],
)
def test_memory_as_sold(seen: float, sold: int) -> None:
    assert sold_memory(seen) == sold


@given(st.floats(0.1, 1e5))
def test_the_memory_as_sold_is_little_more_than_what_is_seen(gib: float) -> None:
    assert gib <= sold_memory(gib) < gib + max(1.0, gib / 4)
    assert sold_memory(sold_memory(gib)) == sold_memory(gib)


def test_a_machine_whose_name_has_no_latin_letter_has_a_folder() -> None:
    one, other = Machine.named("服务器"), Machine.named("служба")
    assert re.fullmatch(r"[0-9a-f]{6}", one.folder)
    assert one.folder != other.folder


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_folder_can_have_any_machine(cpu: str, gpu: str) -> None:
    found = Machine(f"{cpu}, 2 CPUs", cpu, cpu, cpu, cpu, (), 2, 1, None, gpu)
    assert re.fullmatch(r"([a-z0-9]+-)*[a-z0-9]+", found.folder)
    assert "2-cpus" in found.folder
    json.dumps(found.facts)


# This machine


def test_the_description_of_this_machine() -> None:
    found = machine.describe()
    assert json.loads(json.dumps(found)) == found
    assert found["usable_cpus"] == usable_cpus() >= 1
    assert f", {usable_cpus()} CPU" in found["name"]
    assert 0.1 < found["memory_gib"] < 1e6
    assert machine.this() == Machine.read(found)
    assert machine.folder_name() == machine.this().folder


def test_the_description_names_no_owner_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for secret in ("somehost", "someuser"):
        monkeypatch.setattr(socket, "gethostname", lambda secret=secret: secret)
        monkeypatch.setattr(platform, "node", lambda secret=secret: secret)
        monkeypatch.setenv("USER", secret)
        monkeypatch.setenv("HOSTNAME", secret)
        text = json.dumps([machine.describe(), machine.versions(), machine.folder_name()])
        assert secret not in text
    monkeypatch.undo()
    values = {str(value).lower() for value in machine.describe().values()}
    words = set(re.findall(r"[^\s,]+", " ".join(values)))
    assert not words & {socket.gethostname().lower(), platform.node().lower()}
    assert getpass.getuser().lower() not in words
    assert str(Path.home()) not in json.dumps(machine.describe())


def tells(monkeypatch: pytest.MonkeyPatch, text: str, llvm: str = "") -> processor.Processor:
    """The processor of a machine on which /proc/cpuinfo is ``text``."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(processor, "_text", lambda root: text)
    monkeypatch.setattr(processor, "_llvm_name", lambda: llvm)
    return processor.read()


@pytest.mark.parametrize(
    ("told", "clean"),
    [
        ("Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz", "Intel Xeon E5-2690 v4"),
        ("AMD EPYC 7B13", "AMD EPYC 7B13"),
        ("Apple M2 Max", "Apple M2 Max"),
        ("Raspberry Pi 5 Model B Rev 1.0", "Raspberry Pi 5 Model B"),
        ("", f"{platform.machine()} {platform.machine()}"),
    ],
)
def test_the_name_of_a_processor(told: str, clean: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tells(monkeypatch, f"model name\t: {told}\n" if told else "").name == clean


def test_cores_of_different_kinds_are_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = "".join(f"CPU implementer\t: 0x41\nCPU part\t: {part}\n\n" for part in ("0xd03", "0xd03", "0xd08", "0xd03"))
    assert tells(monkeypatch, cores).model == "part 0xd03+0xd08"


def test_windows_names_the_processor_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(platform, "processor", lambda: "Intel64 Family 6 Model 207 Stepping 2, GenuineIntel")
    monkeypatch.setattr(processor, "_llvm_name", lambda: "emeraldrapids")
    found = processor.read()
    assert (found.vendor, found.model) == ("Intel", "family 6 model 207")
    assert found.title == "Intel64 (emeraldrapids)"


@given(st.text(max_size=200))
def test_whatever_the_system_tells_there_is_a_name(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        found = tells(patch, text)
    assert found.name
    assert found.vendor
    assert found.model
    assert found.microarchitecture


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n", encoding="utf-8")


DMI = "sys/class/dmi/id/"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({DMI + "sys_vendor": "Amazon EC2", DMI + "product_name": "c7g.metal"}, None),
        ({DMI + "sys_vendor": "Amazon EC2", DMI + "product_name": "c7i.metal-24xl"}, None),
        ({DMI + "sys_vendor": "Google", DMI + "product_name": "Eve"}, None),
        ({DMI + "sys_vendor": "Microsoft Corporation", DMI + "product_name": "Surface Laptop"}, None),
        ({DMI + "sys_vendor": "Microsoft Corporation", DMI + "product_name": "Virtual Machine"}, "Hyper-V"),
        ({DMI + "sys_vendor": "Google", DMI + "product_name": "Google Compute Engine"}, "Google"),
        ({DMI + "sys_vendor": "Apple Inc.", DMI + "product_name": "Apple Virtualization Generic Platform"}, "Apple"),
        ({"sys/hypervisor/type": "xen", DMI + "sys_vendor": "Somebody"}, "Xen"),
        ({"proc/cpuinfo": "flags\t: fpu hypervisor"}, "unknown"),
        ({DMI + "sys_vendor": "A private owner", "proc/cpuinfo": "flags\t: fpu hypervisor"}, "unknown"),
    ],
)
def test_hypervisors(
    files: dict[str, str], expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    write(tmp_path, files)
    assert processor.hypervisor(processor.read(tmp_path).virtual, tmp_path) == expected


def test_the_gpu_is_part_of_name_and_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    without = machine.this()
    monkeypatch.setattr(machine, "gpu_name", lambda: "Some GPU 40GB")
    found = machine.this()
    assert found.name == f"{without.name}, Some GPU 40GB"
    assert "-cpus-some-gpu-40gb-" in found.folder


@pytest.mark.process
@pytest.mark.parametrize("visible", ["1", ""])
def test_the_gpu_is_the_one_that_is_computed_on(visible: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA_VISIBLE_DEVICES chooses one of two. The driver is a library that heeds it, as the real one does."""
    driver = """
        #include <cstdlib>
        #include <cstring>
        extern "C" int cuInit(unsigned) { return 0; }
        static const char* visible() { return getenv("CUDA_VISIBLE_DEVICES"); }
        extern "C" int cuDeviceGet(int* device, int) { *device = atoi(visible()); return *visible() ? 0 : 100; }
        extern "C" int cuDeviceGetName(char* name, int, int device) {
            strcpy(name, device ? "Second GPU" : "First GPU"); return 0; }
    """
    library = tmp_path / "libcuda.so.1"
    try:
        command = ["c++", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(library)]
        subprocess.run(command, input=driver, text=True, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a C++ compiler")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(machine, "CUDA", str(library))
    found = machine.gpu_name.__wrapped__  # without its cache
    assert found() == ("Second GPU" if visible else None)
    monkeypatch.setattr(machine, "CUDA", "libmissing.so")
    assert found() is None


NAMED = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def no_repository(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A copy of the code without .git, as on a machine to which it was brought."""
    monkeypatch.setattr(machine, "_git", lambda folder, *arguments: "")
    for name in ("MNISTBENCH_COMMIT", "MNISTBENCH_COMMIT_TIME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("named", "at", "expected"),
    [
        (None, None, ("unversioned", None, False)),
        (NAMED, None, (NAMED, None, False)),
        (f"{NAMED}-dirty", "2026-05-04T03:02:01+02:00", (NAMED, "2026-05-04T03:02:01+02:00", True)),
    ],
)
def test_a_commit_is_named_where_there_is_no_repository(
    named: str | None, at: str | None, expected: tuple[Any, ...], no_repository: pytest.MonkeyPatch
) -> None:
    if named:
        no_repository.setenv("MNISTBENCH_COMMIT", named)
    if at:
        no_repository.setenv("MNISTBENCH_COMMIT_TIME", at)
    found = machine.commit("benchmarks")
    assert (found["id"], found["time"], found["dirty"]) == expected
    assert (found["project"], found["branch"]) == ("mnistbench", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [("MNISTBENCH_COMMIT", "main"), ("MNISTBENCH_COMMIT", f"{NAMED} and more"), ("MNISTBENCH_COMMIT_TIME", "today")],
)
def test_a_commit_that_is_none_is_refused(name: str, value: str, no_repository: pytest.MonkeyPatch) -> None:
    no_repository.setenv(name, value)
    with pytest.raises(OptionError, match=f"{name}={value}: .*; give what 'git "):
        machine.commit()


def test_the_repository_knows_better_than_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNISTBENCH_COMMIT", NAMED)
    if machine._git(ROOT, "rev-parse", "HEAD"):
        assert machine.commit()["id"] != NAMED


def test_versions() -> None:
    found = machine.versions()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert all(isinstance(version, str) for version in found.values())
