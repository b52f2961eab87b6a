"""Energy counters: a GPU's, which NVIDIA's management library (NVML) reads, and those of CPUs, as Linux shows RAPL.

Each counts all that its device does, whoever asks for it. A counter that the system hides, as virtual machines do, or
that only its owner may read, does not exist.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from pathlib import Path
from typing import Any, Protocol

_NVML = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
"""Management library, which comes with the driver."""


class Counter(Protocol):
    """A counter of energy.

    Attributes:
        name: "NVML" or "RAPL".
    """

    name: str

    def joules(self) -> float:
        """Return the joules spent since some moment before the first call.

        Raises:
            OSError: If the counter can no longer be read.
        """


class GpuCounter:
    """Total energy of a GPU since its driver was loaded, in steps of a millijoule; compute capability 7.0 and later.

    Raises:
        OSError, AttributeError: If the library or the counter does not exist.
    """

    name = "NVML"

    def __init__(self, bus_id: str) -> None:
        self._library: Any = ctypes.CDLL(_NVML)
        self._device = ctypes.c_void_p()
        self._require(self._library.nvmlInit_v2())
        self._require(self._library.nvmlDeviceGetHandleByPciBusId_v2(bus_id.encode(), ctypes.byref(self._device)))
        self.joules()

    def joules(self) -> float:
        total = ctypes.c_ulonglong()
        self._require(self._library.nvmlDeviceGetTotalEnergyConsumption(self._device, ctypes.byref(total)))
        return total.value / 1e3

    def _require(self, status: int) -> None:
        if status:
            raise OSError(f"NVML: error {status}")


class CpuCounter:
    """Energy of all CPU packages, in microjoules that wrap around.

    Raises:
        OSError, ValueError: If a package's counter cannot be read, or there is none.
    """

    name = "RAPL"

    def __init__(self, root: Path) -> None:
        # Subdomains such as intel-rapl:0:0 are part of their package, and "psys" is more than the CPUs.
        zones = [
            zone
            for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
            if re.fullmatch(r"intel-rapl:\d+", zone.name) and (zone / "name").read_text().startswith("package")
        ]
        if not zones:
            raise OSError("no package")
        self._files = [zone / "energy_uj" for zone in zones]
        self._ranges = [int((zone / "max_energy_range_uj").read_text()) for zone in zones]
        self._last = self._read()
        self._total = 0

    def joules(self) -> float:
        now = self._read()
        # A counter begins anew after its largest value; it takes minutes to get there.
        passed = [(new - old) % (most + 1) for new, old, most in zip(now, self._last, self._ranges, strict=True)]
        self._last, self._total = now, self._total + sum(passed)
        return self._total / 1e6

    def _read(self) -> list[int]:
        return [int(file.read_text()) for file in self._files]


def of_gpu(bus_id: str | None) -> Counter | None:
    """Return the counter of the GPU with a PCI bus id; None if it has none."""
    with contextlib.suppress(OSError, AttributeError):
        return None if bus_id is None else GpuCounter(bus_id)
    return None


def of_cpus(root: Path = Path("/")) -> Counter | None:
    """Return the counter of this machine's CPUs; None if it has none that this process may read.

    Args:
        root: Root of the file system that describes the machine.
    """
    with contextlib.suppress(OSError, ValueError):
        return CpuCounter(root)
    return None
