"""Measurement of the exchange alone: the time of a sum of vectors, by their size."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnistbench.timing.statistics import Median, median

if TYPE_CHECKING:
    from mnistbench.ranks.team import Team

SIZES = tuple(2**k for k in range(15, 24))
"""Bytes of the vectors: 32 kB, which the classic exchanges in float32, to 8 MB."""

_TRIED = 5  # sums that warm up, and tell how many fit
_SECONDS = 0.3  # seconds for those of a size
_FEWEST, _MOST = 15, 1_000


@dataclass(frozen=True)
class Sums:
    """Times of sums of vectors of one size.

    Attributes:
        bytes: Size of the vector of each rank.
        count: Number of sums timed.
        timing: Median and interval of the seconds of a sum on the slowest rank.
        quartiles: First and third quartile of these seconds.
    """

    bytes: int
    count: int
    timing: Median
    quartiles: tuple[float, float]

    @property
    def bytes_per_second(self) -> float:
        """Bytes of a vector per second of the median."""
        return self.bytes / self.timing.value

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return {
            "bytes": self.bytes,
            "sums": self.count,
            "seconds": self.timing.value,
            "interval": [self.timing.low, self.timing.high],
            "quartiles": [*self.quartiles],
            "bytes_per_second": self.bytes_per_second,
        }


def time_sums(team: Team, size: int) -> Sums:
    """Time sums of float32 vectors of ``size`` bytes over all ranks of a team, as many as fit 0.3 s."""

    def slowest(count: int) -> Sequence[float]:
        return [max(seconds) for seconds in zip(*team.call("time_sums", size, count), strict=True)]

    few = statistics.median(slowest(_TRIED))
    found = slowest(max(_FEWEST, min(_MOST, round(_SECONDS / max(few, 1e-9)))))
    first, _, third = statistics.quantiles(found, n=4)
    return Sums(size, len(found), median(found), (first, third))
