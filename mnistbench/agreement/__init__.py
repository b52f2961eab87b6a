"""Compare a backend with the float64 reference along a whole training run.

At several checkpoints, after the same number of updates from the same initial parameters, compare the parameters, the
loss and the accuracy, and at some of them also the gradients at the backend's own parameters. At the last checkpoint
compare the predictions. Finally check that copies handed out stayed copies and that a reset starts anew. A check that
raises an error or meets a NaN fails.

A value x passes within ``k * eps * (size + |x|)`` of the reference. ``eps`` is the machine epsilon of the dtype, and
``size`` the magnitude of the terms that x was computed from. On the preset "classic" (500 iterations, 41,000 images) a
parameter must end within 1.2e-4 (float32) or 1.8e-13 (float64) times ``size + |x|``. "How far may a backend be off?"
in this folder's README explains k, and the words growth, switching, drift, slack and twins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import mnistbench.backends as registry
from mnistbench import words
from mnistbench.agreement import kept
from mnistbench.agreement.checkpoints import State, checkpoints, last_checkpoint
from mnistbench.agreement.comparisons import check_round, check_training_loss, check_update, comparisons
from mnistbench.agreement.outcome import Agreement, Check
from mnistbench.agreement.trajectory import Trajectory, growth, tolerance
from mnistbench.backends import Backend, Trainer
from mnistbench.datasets import Dataset, load_images
from mnistbench.ranks.team import Team
from mnistbench.task.presets import preset
from mnistbench.task.workload import DTYPES, DType, Workload

__all__ = [
    "Agreement",
    "Check",
    "State",
    "Trajectory",
    "check",
    "check_round",
    "check_trainer",
    "check_training_loss",
    "check_update",
    "checkpoints",
    "comparisons",
    "growth",
    "last_checkpoint",
    "tolerance",
    "verify",
]


def check(
    backend: Backend, workload: Workload, dataset: Dataset, trajectory: Trajectory, threads: int | None = None
) -> Agreement:
    """Start a backend on a workload and compare it with the reference; an exception is recorded as failure."""
    agreement = Agreement(backend.name, workload.dtype)
    try:
        with backend.start(workload, dataset, trajectory.fresh(), threads) as trainer:
            return check_trainer(trainer, agreement, trajectory)
    except Exception as error:  # a faulty backend may raise anything
        return _failed(agreement, error)


def check_trainer(trainer: Trainer, agreement: Agreement, trajectory: Trajectory, gradients: bool = True) -> Agreement:
    """Compare a newly started trainer with the reference, and leave it reset to the initial parameters.

    Args:
        gradients: Whether to compare gradients too, which takes most of the time and the reference's images.

    Returns:
        ``agreement`` with the checks added.
    """
    try:
        for check in comparisons(trainer, agreement, trajectory, gradients):
            agreement.checks.append(check)
    except Exception as error:
        return _failed(agreement, error)
    return agreement


def verify(
    backends: Sequence[str] | None = None,
    dtypes: Sequence[DType] = DTYPES,
    workload: str = "classic",
    seed: int = 0,
    threads: int | None = None,
    callback: Callable[[Agreement], None] | None = None,
    team: Team | None = None,
) -> list[Agreement]:
    """Compare backends with the reference on a preset workload and the embedded MNIST.

    Args:
        backends: Names of backends; by default all that can run here and implement the workload.
        dtypes: Dtypes to compare each backend in.
        workload: Name of a preset.
        seed: Seed for the initial parameters and the order of the images.
        threads: Number of host threads; None for all usable CPUs.
        callback: Called with each outcome when it is known.
        team: Ranks that share the images; ``threads`` is then the team's.

    Raises:
        UnknownBackend, BackendUnavailable, UnsupportedWorkload: If a backend named in ``backends`` cannot be compared.
        OptionError: If there is no such preset.
    """
    task = preset(workload, "float64", seed)
    get: Callable[[str], Backend] = team.backend if team else registry.get_backend
    usable = team.backends if team else partial(registry.list_backends, usable=True)
    chosen: list[Backend] = [get(name) for name in (usable() if backends is None else backends)]
    if backends is None:
        chosen = [backend for backend in chosen if backend.unsupported(task) is None]
    for backend in chosen:
        registry.refuse_unsupported(backend, task)
    dataset = load_images(task.images, seed)
    trajectory = kept.trajectory(task, dataset)
    outcomes = []
    for backend in chosen:
        for dtype in dtypes:
            outcomes.append(check(backend, task.with_dtype(dtype), dataset, trajectory, threads))
            if callback:
                callback(outcomes[-1])
    return outcomes


def _failed(agreement: Agreement, error: Exception) -> Agreement:
    return replace(agreement, failure=words.exception(error))
