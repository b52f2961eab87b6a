"""Plugin of pytest for tests of what surrounds a benchmark: smaller smoke workloads, one cold process of a case with
empty caches, and a Ctrl-C that counts.

A process that is started in the background ignores Ctrl-C, and so would a session that a test starts in there.
"""

from __future__ import annotations

import signal
from dataclasses import replace

from mnistbench.task.presets import PRESETS
from mnistbench.training import cold

signal.signal(signal.SIGINT, signal.default_int_handler)

for _name in ("smoke", "smoke-deep"):
    PRESETS[_name] = replace(PRESETS[_name], images=300, iterations=10)

cold.MOST = 1
