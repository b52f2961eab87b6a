"""Plugin of pytest that makes the smoke workloads smaller, for tests of what surrounds a benchmark."""

from __future__ import annotations

from dataclasses import replace

from mnistbench.task.presets import PRESETS

for _name in ("smoke", "smoke-deep"):
    PRESETS[_name] = replace(PRESETS[_name], images=300, iterations=10)
