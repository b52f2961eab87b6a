"""Training from start to end: checks the options, starts a trainer, runs it, and measures the costs."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import mnistbench.backends as registry
from mnistbench import machine
from mnistbench.backends import Backend, Trainer, trials
from mnistbench.datasets import Dataset, combined_digest
from mnistbench.exceptions import ModelError, OptionError
from mnistbench.ranks.team import Team
from mnistbench.reference.mlp import State
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.recipe import Activation, Recipe
from mnistbench.task.workload import DType, Workload
from mnistbench.timing.clock import Costs, timed
from mnistbench.training import keeping
from mnistbench.training.checkpoint import Identity, Past
from mnistbench.training.result import TrainingResult
from mnistbench.training.resuming import Checkpoints
from mnistbench.training.run import Callback, Reports, Run
from mnistbench.words import size

_LATER = 3  # iterations with whose median the first one is compared


class ParametersLike(Protocol):
    """Anything with ``weights``, (out, in) arrays, and ``biases``, (out, 1) arrays, first layer first."""

    @property
    def weights(self) -> list[Array]: ...
    @property
    def biases(self) -> list[Array]: ...


def train(
    dataset: Dataset,
    *,
    workload: Workload | None = None,
    backend: str = "numba",
    iterations: int | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    dtype: DType | None = None,
    seed: int | None = None,
    hidden: int | Sequence[int] | None = None,
    activation: Activation | None = None,
    recipe: Recipe | None = None,
    parameters: ParametersLike | None = None,
    every: int | None = None,
    threads: int | None = None,
    snapshots: Collection[int] = (),
    patience: int | None = None,
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = keeping.SECONDS,
    resume: str | Path | None = None,
    team: Team | None = None,
) -> TrainingResult:
    """Train a network on the training images of a data set; by default the classic's network with its recipe.

    The options from ``iterations`` to ``recipe`` describe a workload; with ``workload`` they cannot be given.

    Args:
        dataset: Images from :func:`mnistbench.load_data` or, for a preset, :func:`mnistbench.load_images`.
        workload: Workload, such as a preset, for the number of training images that the data set has.
        backend: Name that :func:`mnistbench.list_backends` lists.
        iterations: Number of gradient steps, by default 500.
        epochs: Number of passes over all training images, in place of ``iterations``.
        learning_rate: Learning rate before any schedule, by default 0.1.
        dtype: "float32" (the default) or "float64".
        seed: Seed for the initial parameters and everything random in training, by default 0.
        hidden: Number of units of the hidden layer, or of each hidden layer; by default 10, or that of ``parameters``.
        activation: Activation of the hidden layers, by default "relu".
        recipe: Other options of training.
        parameters: Initial parameters; by default drawn from the seed.
        every: Number of iterations between reports; by default 10, with mini-batches an epoch.
        threads: Number of CPU threads; by default all that the process may use.
        snapshots: Numbers of updates after which to keep a copy of the parameters.
        patience: Stop after this many epochs without a lower dev loss; keep the parameters with the lowest.
        callback: Called with each :class:`Progress` and the parameters after it, while no clock runs.
        checkpoint: File in which to keep the state of training: at intervals, at the end, and when SIGTERM or Ctrl-C
            ends the training. It does not replace that of an unfinished training.
        checkpoint_every: Number of seconds between checkpoints.
        resume: Checkpoint of the same training, interrupted, to go on from. The result is that of an uninterrupted one.
            Further checkpoints replace it, unless ``checkpoint`` names another file.
        team: Ranks that train together (:func:`mnistbench.on_ranks`), on a data set that all of them have loaded
            (:meth:`mnistbench.ranks.Team.load_data`) or that is sent to them. ``threads`` is then the team's.

    Raises:
        UnknownBackend, BackendUnavailable, UnsupportedWorkload: If the backend cannot train the workload.
        OptionError: If a value is out of range, or two options contradict each other.
        ModelError: If ``parameters`` do not fit the data set or the workload.
        CheckpointError: If the checkpoint to resume is missing, damaged, or of another training.
        Diverged: If the loss or the parameters become infinite or NaN; the error names the iteration.
        Interrupted: If a signal ended the training, after its checkpoint was written.
    """
    initial = None if parameters is None else _given(parameters)
    given: dict[str, Any] = {"iterations": iterations, "epochs": epochs, "learning_rate": learning_rate}
    given |= {"dtype": dtype, "seed": seed, "hidden": hidden, "activation": activation, "recipe": recipe}
    task = _task(workload, dataset, initial, {name: value for name, value in given.items() if value is not None})
    if dataset.share is not None:
        _require_team(dataset, team)
    _check(task, dataset, initial, every, patience)
    if initial and resume is not None:
        raise OptionError("parameters: not with resume, whose checkpoint holds them")
    chosen = team.backend(backend) if team else registry.get_backend(backend)
    registry.refuse_unsupported(chosen, task)

    def identity() -> Identity:
        digest = team.digest(dataset) if team else combined_digest([dataset.digest_part()])
        return Identity(task, digest, every, patience)

    checkpoints = Checkpoints(identity, backend, checkpoint, checkpoint_every, resume)
    initial = initial or Parameters.initial(task.network, task.seed, task.recipe.initializer)
    initial = initial.astype(task.dtype)
    with checkpoints.choosing():
        trainer, costs = load(chosen, task, dataset, initial, threads)
    with trainer:
        costs.import_ = registry.import_seconds(backend)
        costs.compile += registry.probe_seconds(backend)
        past = checkpoints.start(trainer) or Past(State.start(initial, task.recipe.optimizer))
        run = Run(trainer, task, dataset, past, costs, patience, checkpoints.keeper(trainer))
        run.to_the_end(Reports(task, every), snapshots, callback)
        train_score = team.score_training if team and dataset.share is not None else None
        return run.result(backend, checkpoints.resumed, checkpoints.changes, train_score)


def _require_team(dataset: Dataset, team: Team | None) -> None:
    """Refuse a rank's share of the images without the team that holds the others."""
    if team is None:
        raise OptionError(f"{dataset.source}: holds the share of one rank; train with the team that has loaded it")
    team.require_loaded(dataset)


def _task(workload: Workload | None, dataset: Dataset, initial: Parameters | None, options: dict[str, Any]) -> Workload:
    """Return the workload that was given, or that the options describe; refuse both."""
    if workload is None:
        return _workload(dataset, initial, **options)
    if options:
        raise OptionError(f"{', '.join(options)}: the workload says it already; change it with dataclasses.replace")
    return workload


def _workload(
    dataset: Dataset,
    parameters: Parameters | None,
    hidden: int | Sequence[int] | None = None,
    activation: Activation = "relu",
    epochs: int | None = None,
    **options: Any,
) -> Workload:
    """Return the workload that the options of :func:`train` describe."""
    if epochs is not None and "iterations" in options:
        raise OptionError(f"{options['iterations']} iterations and {epochs} epochs: give one of them")
    if parameters is None or hidden is not None:
        units = 10 if hidden is None else hidden
        network = dataset.network(*(units if isinstance(units, Sequence) else (units,)))
    else:
        network = parameters.network
    workload = Workload(replace(network, activation=activation), dataset.images, **options)
    return workload if epochs is None else workload.for_epochs(epochs)


def _check(
    workload: Workload, dataset: Dataset, given: Parameters | None, every: int | None, patience: int | None
) -> None:
    """Check the options against the data, before anything is loaded."""
    if every is not None and every < 1:
        raise OptionError(f"every {every}: at least 1 iteration is needed")
    if patience is not None and patience < 1:
        raise OptionError(f"patience {patience}: at least 1 epoch is needed")
    if patience is not None and not len(dataset.dev):
        raise OptionError(f"patience {patience}: there are no dev images to judge by; hold some out, by the dev size")
    network = workload.network if given is None else given.network
    what = "the workload" if given is None else "parameters"
    if (network.inputs, network.outputs) != (dataset.pixels, dataset.classes):
        raise ModelError(
            f"{what} of a {network} network cannot fit the data: {dataset.source} has "
            f"{dataset.pixels} pixels and {dataset.classes} classes"
        )
    if network.sizes != workload.network.sizes:
        raise ModelError(f"parameters of a {network} network: the workload is of a {workload.network} network")
    if workload.images != dataset.images:
        raise OptionError(f"{workload.images} images: {dataset.source} has {dataset.images} to train on; load as many")
    _require_memory(workload)


def _require_memory(workload: Workload) -> None:
    """Refuse a network whose parameters, gradients and moments alone do not fit into the memory that is free."""
    sizes = workload.network.sizes
    parameters = sum(inputs * outputs + outputs for inputs, outputs in pairwise(sizes))
    needed = parameters * (8 + workload.itemsize * (2 + workload.recipe.optimizer.moments))
    if needed > (free := machine.available_memory()):
        raise OptionError(
            f"a {workload.network} network: takes {size(needed)} of memory, and {size(free)} are free; "
            "use fewer hidden units"
        )


def load(
    backend: Backend, workload: Workload, dataset: Dataset, initial: Parameters, threads: int | None
) -> tuple[Trainer, Costs]:
    """Start a trainer at iteration 0 with everything compiled, and return what that cost."""
    costs, before = Costs(), trials.tuning_seconds()
    _, warming = timed(lambda: backend.warm_up(workload, threads))
    between = trials.tuning_seconds()
    trainer, loading = timed(lambda: backend.start(workload, dataset, initial, threads))
    costs.tuning = trials.tuning_seconds() - before
    costs.compile = warming - (between - before)
    costs.load = loading - (trials.tuning_seconds() - between)
    first, *later = (timed(lambda: trainer.advance(1))[1] for _ in range(1 + _LATER))
    costs.first_call = first - statistics.median(later)
    trainer.reset(initial)
    return trainer, costs


def _given(parameters: ParametersLike) -> Parameters:
    """Convert and check the parameters that a caller gave."""
    given = Parameters([np.asarray(w) for w in parameters.weights], [np.asarray(b) for b in parameters.biases])
    if not given.is_finite():
        raise ModelError("parameters: hold values that are NaN or infinite")
    return given
