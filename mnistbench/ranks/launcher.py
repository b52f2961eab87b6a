"""What a launcher of several processes says in their environment; MPI is not loaded."""

from __future__ import annotations

import os

# Numbers of the process and of all of them, by launcher. The first pair is MPICH's and Intel's.
_VARIABLES = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


def launched() -> tuple[int, int] | None:
    """Return the number of this process and that of all that were started with it; None without a launcher.

    A launcher may run within a step of another one, whose variables are then still set: the larger number counts.
    """
    found = [[os.environ.get(name, "") for name in names] for names in _VARIABLES]
    pairs = [(int(number), int(size)) for number, size in found if number.isdecimal() and size.isdecimal()]
    return max(pairs, key=lambda pair: pair[1], default=None)
