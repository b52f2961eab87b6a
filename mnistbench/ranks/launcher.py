"""What a launcher of several processes says in their environment; MPI is not loaded."""

from __future__ import annotations

import os

# Numbers of the process and of all of them. The first pair is MPICH's and Intel's.
_VARIABLES = (
    ("PMI_RANK", "PMI_SIZE"),
    ("PMIX_RANK", "PMIX_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


def launched() -> tuple[int, int] | None:
    """Return the number of this process and that of all that were started with it; None without a launcher."""
    for names in _VARIABLES:
        found = [os.environ.get(name, "") for name in names]
        if all(text.isdecimal() for text in found):
            return int(found[0]), int(found[1])
    return None
