"""How fast a workload was computed, beside what the machine can do at best."""

from __future__ import annotations

from dataclasses import dataclass

from mnistbench import words
from mnistbench.machine.rates import Limits, Rates
from mnistbench.task.workload import Workload


@dataclass(frozen=True)
class Speed:
    """The rates that a trainer reached.

    Attributes:
        workload: what it computed.
        seconds: how long the workload's iterations took; 0, as a coarse clock reads, counts as a nanosecond.
        device: what it ran on: "CPU", or a GPU's name.
        threads: threads of the CPU.
        bytes_read: bytes of image data that an iteration reads.
        skips: which work it leaves out because the result is known, in words, or None.
    """

    workload: Workload
    seconds: float
    device: str
    threads: int
    bytes_read: int
    skips: str | None

    @property
    def flops_per_second(self) -> float:
        """Rate of the dense computation, as if nothing were skipped."""
        return self._a_second(self.workload.dense_flops)

    @property
    def bytes_per_second(self) -> float:
        """Rate of reading image data."""
        return self._a_second(self.bytes_read)

    def fraction_of_peak(self, limits: Limits | None) -> float | None:
        """Fraction of the device's multiply-add peak; above 1 where work is skipped, None where the peak is unknown."""
        peak = self._peak(limits)
        return None if peak is None else self.flops_per_second / peak

    def fraction_of_bandwidth(self, limits: Limits | None) -> float | None:
        """Fraction of the bandwidth of the place that holds ``bytes_read``; None where that is unknown.

        It is above 1 where data is read twice and a nearer cache keeps it.
        """
        rates = self.rates(limits)
        return None if rates is None else self.bytes_per_second / rates.bandwidth_for(self.bytes_read)

    def above(self, limits: Limits) -> str | None:
        """Name the limit of the CPU that these rates are above, a measuring error unless work is skipped; else None.

        An iteration passes over the images twice and may find in a near cache what it has just read, so only half of
        ``bytes_read`` must have come from where it lies. Nothing else is allowed for. A GPU's limits reject nothing:
        its matrix units are faster than its multiply-adds, and a kernel may keep images in memory of its own.
        """
        if self.device != "CPU" or self.skips is not None:
            return None
        rate, peak = self.flops_per_second, self._peak(limits)
        if peak is not None and rate > peak:
            found, most = (words.quantity(value, "FLOP/s") for value in (rate, peak))
            return f"{found} is above the machine's peak of {most}, and nothing is skipped"
        least = limits.least_seconds(self.bytes_read / 2)
        if least is not None and self.bytes_per_second * least > self.bytes_read:
            found, most = (words.quantity(v, "B/s") for v in (self.bytes_per_second, self.bytes_read / least))
            return f"reading {found} is above the {most} that caches and memory can give, and nothing is skipped"
        return None

    def rates(self, limits: Limits | None) -> Rates | None:
        """The limits of the device; None of one that was not measured."""
        if limits is None or self.device == "CPU":
            return limits
        return limits.gpu if limits.gpu is not None and limits.gpu.name == self.device else None

    def _peak(self, limits: Limits | None) -> float | None:
        rates = self.rates(limits)
        return None if rates is None else rates.multiply_add.get(self.workload.dtype)

    def _a_second(self, per_iteration: int) -> float:
        return per_iteration * self.workload.iterations / max(self.seconds, 1e-9)


def beside_limits(speed: Speed) -> tuple[Limits, str | None]:
    """The machine's limits, and which of them the speed is above, in words, or None.

    Before a speed is found too fast, the limits are measured again: they may have been measured in a bad moment.
    """
    from mnistbench.machine import limits  # which loads Numba; reading rows needs none

    found = limits.limits(speed.threads, False)
    if speed.above(found) is not None:
        found = limits.limits(speed.threads, True)
    return found, speed.above(found)
