"""Processor of this machine, as the system describes it: its name, maker, model and instruction sets.

Linux tells it in /proc/cpuinfo, macOS by ``sysctl``, Windows by an environment variable. LLVM adds the name of the
microarchitecture, where llvmlite is installed.
"""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_VENDORS = {
    "GenuineIntel": "Intel",
    "AuthenticAMD": "AMD",
    "HygonGenuine": "Hygon",
    "0x41": "ARM",
    "0x46": "Fujitsu",
    "0x48": "HiSilicon",
    "0x4e": "NVIDIA",
    "0x51": "Qualcomm",
    "0x61": "Apple",
    "0x6d": "Microsoft",
    "0xc0": "Ampere",
}
"""Makers by their name in CPUID, or by their code in the main identification register of ARM."""

_INSTRUCTION_SETS = ("avx2", "avx512f", "fma", "neon", "sve", "sve2")
"""Instruction sets that decide how fast a loop can be, and that Linux has named for many years: a newer one would make
another machine of the same computer when the system is updated."""

_SYNONYMS = {"asimd": "neon", "advsimd": "neon"}


@dataclass(frozen=True)
class Processor:
    """Processor, as far as the system tells it.

    Attributes:
        name: Name without trademark signs and clock rate; maker and model where the system has none, as on ARM.
        vendor: Maker, or maker of the design.
        model: Number of the model, which does not depend on who asks: "family 26 model 2", "part 0xd40".
        microarchitecture: LLVM's name, such as "znver5", or the model where LLVM is missing or knows none.
        instruction_sets: Vector instruction sets that the system enables, in alphabetical order.
        virtual: Whether it says that it is one of a virtual machine.
    """

    name: str
    vendor: str
    model: str
    microarchitecture: str
    instruction_sets: tuple[str, ...]
    virtual: bool

    @property
    def title(self) -> str:
        """Name for people, with the microarchitecture: "AMD EPYC (znver5)", "ARM neoverse-v1", "Apple M1"."""
        if self.name == f"{self.vendor} {self.model}":
            return f"{self.vendor} {self.microarchitecture}"
        told = self.microarchitecture.replace("-", " ") in self.name.lower() or self.microarchitecture in self.name
        return self.name if told else f"{self.name} ({self.microarchitecture})"


def read(root: Path = Path("/")) -> Processor:
    """Return the processor of this machine, or of the one whose files lie below ``root``."""
    told = _told(root)
    microarchitecture = _llvm_name()
    vendor = _first(told, "vendor_id", "machdep.cpu.vendor", "CPU implementer")
    name = _first(told, "model name", "Model", "cpu model", "machdep.cpu.brand_string")
    name = " ".join(re.sub(r"\((R|TM|C)\)|\bCPU\b|@.*| Rev .*", " ", name, flags=re.IGNORECASE).split())
    vendor = _VENDORS.get(vendor, vendor) or name.partition(" ")[0] or platform.machine()
    model = _model(told) or microarchitecture or name or platform.machine()
    flags = " ".join(
        told.get(key, "") for key in ("flags", "Features", "machdep.cpu.features", "machdep.cpu.leaf7_features")
    )
    enabled = {_SYNONYMS.get(flag, flag) for flag in re.split(r"[\s+]+", flags.lower())}
    enabled |= {_optional(key) for key, value in told.items() if key.startswith("hw.optional.") and value == "1"}
    return Processor(
        name=name or f"{vendor} {model}",
        vendor=vendor,
        model=model,
        microarchitecture=microarchitecture or model,
        instruction_sets=tuple(flag for flag in _INSTRUCTION_SETS if flag in enabled),
        virtual="hypervisor" in enabled or told.get("kern.hv_vmm_present") == "1",
    )


def details(root: Path = Path("/")) -> dict[str, str | None]:
    """Return what the system tells of the processor besides :func:`read`; None for what it does not tell."""
    told = _told(root)
    keys = {
        "family": ("cpu family", "machdep.cpu.family", "CPU architecture", "hw.cpufamily"),
        "model": ("model", "machdep.cpu.model", "CPU part"),
        "stepping": ("stepping", "machdep.cpu.stepping", "CPU revision"),
        "microcode": ("microcode", "machdep.cpu.microcode_version"),
        "flags": ("flags", "Features", "machdep.cpu.features"),
    }
    return {name: _first(told, *names) or None for name, names in keys.items()}


def _told(root: Path) -> dict[str, str]:
    """Return what the system tells of its processors, by its own names; values that differ are joined by "+"."""
    found: dict[str, dict[str, None]] = {}
    for line in _text(root).splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        found.setdefault(key, {})[value] = None
    return {key: "+".join(values) for key, values in found.items()}


def _first(told: dict[str, str], *keys: str) -> str:
    """Return the value of the first key that is told; empty if none is."""
    return next((told[key] for key in keys if key in told), "")


def _text(root: Path) -> str:
    """Return the system's description of the processors as lines of "key : value"."""
    system = platform.system()
    if system == "Linux":
        try:
            return (root / "proc" / "cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
    if system == "Darwin":
        return _output("/usr/sbin/sysctl", "machdep.cpu", "hw.cpufamily", "hw.optional", "kern.hv_vmm_present")
    # "Intel64 Family 6 Model 207 Stepping 2, GenuineIntel", or "ARMv8 (64-bit) Family 8 Model D4B Revision 0, ..."
    description, _, vendor = platform.processor().rpartition(", ")
    found = re.search(r"Family (\w+) Model (\w+)", description)
    numbers = f"\ncpu family: {found[1]}\nmodel: {found[2]}" if found else ""
    return f"vendor_id: {vendor}\nmodel name: {description.partition(' Family')[0]}{numbers}"


def _output(*command: str) -> str:
    """Return what a command prints; empty if it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def _model(told: dict[str, str]) -> str:
    """Return the number of the model; empty if it is not told."""
    for prefix, family, model in (("", "cpu family", "model"), ("machdep.cpu.", "family", "model")):
        if prefix + family in told and prefix + model in told:
            return f"family {told[prefix + family]} model {told[prefix + model]}"
    for word, key in (("part", "CPU part"), ("family", "hw.cpufamily")):
        if key in told:
            return f"{word} {told[key]}"
    return ""


def _optional(key: str) -> str:
    """Return the instruction set that a key of macOS such as "hw.optional.avx2_0" or "hw.optional.AdvSIMD" means."""
    name = key.rpartition(".")[2].lower().removesuffix("_0").removeprefix("feat_")
    return _SYNONYMS.get(name, name)


def _llvm_name() -> str:
    """Return LLVM's name of the processor; empty without llvmlite, or if LLVM knows none."""
    try:
        from llvmlite import binding

        name: str = binding.get_host_cpu_name()
    except Exception:  # a missing or damaged library; its errors have no common base class
        return ""
    return "" if re.match(r"generic|unknown|x86-64|i\d86", name) else name


_HYPERVISORS = {
    "amazon ec2": "Nitro",
    "google google compute engine": "Google",
    "microsoft corporation virtual machine": "Hyper-V",
    "qemu": "QEMU",
    "vmware": "VMware",
    "innotek": "VirtualBox",
    "xen": "Xen",
    "parallels": "Parallels",
    "apple inc. apple virtualization": "Apple",
}
"""Hypervisors by what the maker and the name of the product begin with, in the tables of the firmware."""


def hypervisor(virtual: bool, root: Path = Path("/")) -> str | None:
    """Return the hypervisor that this machine runs on: "WSL", "Xen", ..., "unknown"; None if it seems to be real.

    Args:
        virtual: Whether the processor says that it is one of a virtual machine.
        root: Root of the file system that describes the machine.
    """
    if "microsoft" in _line(root / "proc" / "sys" / "kernel" / "osrelease").lower():
        return "WSL"
    if "xen" in _line(root / "sys" / "hypervisor" / "type").lower():
        return "Xen"
    firmware = root / "sys" / "class" / "dmi" / "id"
    product = _line(firmware / "product_name")
    if ".metal" not in product:  # such as the machines "c7g.metal" and "c7i.metal-24xl" of Amazon EC2
        described = f"{_line(firmware / 'sys_vendor')} {product}".lower()
        for beginning, name in _HYPERVISORS.items():
            if described.startswith(beginning):
                return name
    return "unknown" if virtual else None


def _line(path: Path) -> str:
    """Return the text of a small file without the line's end; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
