"""Rates reached on a workload, compared with the machine's limits."""

from __future__ import annotations

from dataclasses import dataclass

from mnistbench import words
from mnistbench.machine.rates import GpuLimits, Limits, Rates
from mnistbench.task.workload import Workload


@dataclass(frozen=True)
class Speed:
    """Rates that a trainer reached.

    Attributes:
        workload: Workload that was computed.
        seconds: Seconds of the workload's iterations; 0, from a coarse clock, counts as a nanosecond.
        device: "CPU", or a GPU's name.
        threads: Number of CPU threads.
        bytes_read: Bytes of image data that an iteration reads.
        skips: Work skipped because its result is known, in words, or None.
        least_flops: Floating-point operations of an iteration that cannot be skipped; None if unknown.
        bits: Bits of an operand of the matrix units that compute on a GPU; None for its multiply-adds.
        products: Number of their products that make a multiply-add of the workload; None if it is not known which units
            of a GPU compute, and at how many.
        devices: Number of hosts, or of GPUs, that shared the work equally; the limits are those of one.
    """

    workload: Workload
    seconds: float
    device: str
    threads: int
    bytes_read: int
    skips: str | None
    least_flops: float | None = None
    bits: int | None = None
    products: int | None = None
    devices: int = 1

    @property
    def flops_per_second(self) -> float:
        """Rate of the dense computation, as if nothing were skipped."""
        return self._a_second(self.workload.dense_flops)

    @property
    def bytes_per_second(self) -> float:
        """Rate of reading image data."""
        return self._a_second(self.bytes_read)

    def fraction_of_peak(self, limits: Limits | None) -> float | None:
        """Compute the fraction of the multiply-add peak; above 1 if work is skipped, None if the peak is unknown."""
        peak = self._peak(limits)
        return None if peak is None else self.flops_per_second / peak

    def fraction_of_bandwidth(self, limits: Limits | None) -> float | None:
        """Compute the fraction of the bandwidth of the level that holds ``bytes_read``; None if that is unknown.

        It is above 1 if data is read twice and a nearer cache keeps it.
        """
        rates = self.rates(limits)
        if rates is None:
            return None
        return self.bytes_per_second / (self.devices * rates.bandwidth_for(self.bytes_read / self.devices))

    def above(self, limits: Limits) -> str | None:
        """Describe the limit that these rates exceed, which is a measuring error; None if there is none.

        An iteration reads the images twice and may find in a near cache what it has just read, so only half of
        ``bytes_read`` must have come from its level. Trainers that skip work may exceed the limits, but not with what
        cannot be skipped. A GPU's peak is that of the units that its trainer declares, else that of its matrix units in
        any dtype; and a kernel on it may keep images in registers, so that reading has no limit.
        """
        rates = self.rates(limits)
        peak = self._peak_of_gpu(rates) if isinstance(rates, GpuLimits) else self._peak(limits)
        least = None if self.least_flops is None else self._a_second(self.least_flops)
        if peak is not None and least is not None and least > peak:
            found, most = (words.quantity(value, "FLOP/s") for value in (least, peak))
            return f"{found} is above the machine's peak of {most}, counting only what cannot be skipped"
        if self.skips is not None:
            return None
        if peak is not None and (rate := self.flops_per_second) > peak:
            found, most = (words.quantity(value, "FLOP/s") for value in (rate, peak))
            return f"{found} is above the machine's peak of {most}, and nothing is skipped"
        if self.device != "CPU":
            return None
        shortest = limits.least_seconds(self.bytes_read / self.devices / 2)
        if shortest is not None and self.bytes_per_second * shortest > self.bytes_read:
            found, most = (words.quantity(v, "B/s") for v in (self.bytes_per_second, self.bytes_read / shortest))
            return f"reading {found} is above the {most} that caches and memory can give, and nothing is skipped"
        return None

    def rates(self, limits: Limits | None) -> Rates | None:
        """Return the limits of the device; None if they were not measured."""
        if limits is None or self.device == "CPU":
            return limits
        return limits.gpu if limits.gpu is not None and limits.gpu.name == self.device else None

    def _peak(self, limits: Limits | None) -> float | None:
        rates = self.rates(limits)
        peak = None if rates is None else rates.multiply_add.get(self.workload.dtype)
        return peak and self.devices * peak

    def _peak_of_gpu(self, rates: GpuLimits) -> float | None:
        """Return the operations per second of the workload that the declared units can give; None if unknown."""
        if self.products is None:
            return rates.matrix and self.devices * rates.matrix
        units = rates.multiply_add.get(self.workload.dtype) if self.bits is None else rates.matrix_rate(self.bits)
        return units and self.devices * units / self.products

    def _a_second(self, per_iteration: float) -> float:
        return per_iteration * self.workload.iterations / max(self.seconds, 1e-9)


def prepare() -> None:
    """Load what :func:`beside_limits` needs: a package that is missing is missed before anything was measured."""
    from mnistbench.machine import limits

    limits.file_for(None)


def beside_limits(speed: Speed) -> tuple[Limits, str | None]:
    """Return the machine's limits, and the one that the speed exceeds, in words, or None.

    A speed that exceeds the stored limits is compared with newly measured ones: other work may have lowered the former.
    """
    from mnistbench.machine import limits  # loads Numba, which reading rows does not need

    threads = max(1, speed.threads // speed.devices) if speed.device == "CPU" else speed.threads
    found = limits.limits(threads, False)
    if speed.above(found) is not None:
        found = limits.limits(threads, True)
    return found, speed.above(found)
