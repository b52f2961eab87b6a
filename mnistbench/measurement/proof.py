"""Record of what was checked of a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CHECKS = ("trajectory", "other images", "one call", "repetition", "fresh weights", "threads")
"""Names of the checks that a complete measurement has passed, in their order."""

ONCE = ("trajectory", "other images")
"""Those of the first of several processes only, whose end the others have to reach."""


_BY_PROCESS = ("seeds", "advance", "whole", "cpu", "watched")


@dataclass(frozen=True)
class Proof:
    """What was checked of a measurement, and what its clocks showed.

    Attributes:
        checks: Those of :data:`CHECKS` that were made and passed.
        host_to_host: Whether work was done outside of ``advance``, so that rounds are timed from before the reset
            until the trained parameters are on the host.
        seeds: Seed of each round's initial parameters, hexadecimal.
        watched: What :class:`mnistbench.timing.noise.Watch` saw during the rounds of each process.
        advance, whole, cpu: Seconds of each round's ``advance``, from host to host, and of CPU time in ``advance``.
    """

    checks: tuple[str, ...]
    host_to_host: bool
    seeds: tuple[str, ...]
    advance: tuple[float, ...]
    whole: tuple[float, ...]
    cpu: tuple[float, ...]
    watched: tuple[Mapping[str, float], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all checks were made and passed."""
        return set(self.checks) >= set(CHECKS)

    def with_process(self, other: Proof) -> Proof:
        """Return the proof of this process's rounds and of those of a later one, which repeats fewer checks."""
        checks = tuple(check for check in self.checks if check in other.checks or check in ONCE)
        rounds = {name: getattr(self, name) + getattr(other, name) for name in _BY_PROCESS}
        return Proof(checks, self.host_to_host or other.host_to_host, **rounds)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Proof:
        """Read a proof from JSON values."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
        return cls(**values)
