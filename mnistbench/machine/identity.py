"""Identity of a machine: what it is, not what it is called."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Machine:
    """Machine that something was measured on.

    Two are the same if all facts but ``name`` and ``microarchitecture`` are: another version of LLVM may have another
    name for the same processor. Kernel and library versions, free memory and the host's name tell no machines apart.
    Files of earlier versions give only a name, which makes another machine than any whose facts are known.

    Attributes:
        name: Name for people: processor, CPUs in effect, and GPU.
        microarchitecture: LLVM's name, such as "znver5", or the model if LLVM knows none.
        cpu: Name of the processor, which tells models of one microarchitecture apart.
        vendor: Maker of the processor, or of its design.
        model: Number of the processor's model.
        instruction_sets: Vector instruction sets that the system enables.
        cpus: Number of CPUs in effect, as :func:`mnistbench.threads.usable_cpus` counts them.
        memory_gib: Memory, as :func:`sold_memory` rounds it.
        hypervisor: Hypervisor, or None.
        gpu: GPU that is computed on, or None.
    """

    name: str = field(compare=False)
    microarchitecture: str = field(compare=False)
    cpu: str
    vendor: str
    model: str
    instruction_sets: tuple[str, ...]
    cpus: int
    memory_gib: int
    hypervisor: str | None
    gpu: str | None

    @classmethod
    def named(cls, name: str) -> Machine:
        """Return the machine of which only the name is known."""
        return cls(name, "", name, "", "", (), 0, 0, None, None)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Machine:
        """Read a machine from a description by :func:`mnistbench.machine.describe`, of this version or an earlier one.

        Raises:
            KeyError, TypeError, ValueError: If the record is damaged.
        """
        if "microarchitecture" not in record:
            return cls.named(str(record["name"]))
        for name in _AS_STORED:
            if not isinstance(record[name], str) and not (record[name] is None and name in _OPTIONAL):
                raise TypeError(f"the machine's {name} is no text")
        return cls(
            instruction_sets=tuple(map(str, record["instruction_sets"])),
            cpus=int(record["usable_cpus"]),
            memory_gib=sold_memory(float(record["memory_gib"])),
            **{name: record[name] for name in _AS_STORED},
        )

    def __str__(self) -> str:
        return self.name

    @property
    def facts(self) -> dict[str, Any]:
        """What tells the machine apart, as JSON values."""
        different = asdict(self) | {"instruction_sets": [*self.instruction_sets]}
        return {name: value for name, value in different.items() if name not in ("name", "microarchitecture")}

    @property
    def digest(self) -> str:
        """First six hexadecimal digits of the SHA-256 of the facts."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:6]

    @property
    def folder(self) -> str:
        """Name of the machine's folder: lower-case letters, digits and hyphens.

        It ends in the digest, since machines that differ in memory, hypervisor or instruction sets alone share the
        rest.
        """
        if not self.vendor:
            return _hyphenated(self.name) or self.digest
        processor = self.microarchitecture
        if not processor.startswith(self.vendor.lower()):
            processor = f"{self.vendor} {processor}"
        return _hyphenated(f"{processor} {self.cpus} cpus {self.gpu or ''} {self.digest}")


_AS_STORED = ("name", "microarchitecture", "cpu", "vendor", "model", "hypervisor", "gpu")
"""Attributes that a description holds unchanged."""

_OPTIONAL = ("hypervisor", "gpu")


def _hyphenated(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def sold_memory(gib: float) -> int:
    """Round the memory that a system sees up to a size as sold, since the firmware and the kernel keep some of it.

    Sizes as sold are quarters of powers of two, such as 16, 20, 24, 28 and 32 GiB; of less than 4 GiB, whole numbers.
    """
    step = max(1.0, 2.0 ** math.floor(math.log2(gib)) / 4) if gib > 0 else 1.0
    return math.ceil(gib / step) * int(step)


def labels(machines: Iterable[Machine]) -> dict[Machine, str]:
    """Return a label for each machine: its name, and if several share the name, also its digest."""
    different = dict.fromkeys(machines)
    names = Counter(machine.name for machine in different)
    return {
        machine: machine.name if names[machine.name] == 1 else f"{machine.name} ({machine.digest})"
        for machine in different
    }
