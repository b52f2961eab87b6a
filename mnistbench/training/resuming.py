"""The checkpoints of one training: the one that it goes on from, and those that it writes."""

from __future__ import annotations

import glob
import math
from collections.abc import Callable
from pathlib import Path

from mnistbench.backends import Trainer, trials
from mnistbench.exceptions import CheckpointError, OptionError, UnsupportedWorkload
from mnistbench.files import remove_litter, require_writable
from mnistbench.training.checkpoint import Checkpoint, Identity, Past
from mnistbench.training.keeping import Keeper


class Checkpoints:
    """Where a training keeps its state, and what it goes on from; nothing if no file is given.

    Attributes:
        resumed: Pairs of a number of updates, at which the training was interrupted, and the backend up to there.
    """

    def __init__(
        self,
        identity: Callable[[], Identity],
        backend: str,
        path: str | Path | None,
        seconds: float,
        resume: str | Path | None,
    ) -> None:
        """Read the checkpoint to ``resume``, and check that one can be written to ``path``, before anything is loaded.

        Raises:
            OptionError: If ``seconds`` is not a number above 0.
            CheckpointError: If the checkpoint is missing, damaged, or of another training than ``identity`` returns;
                or if ``path`` holds an unfinished training that is not resumed.
            MnistbenchError: If no file can be written to ``path``.
        """
        if not (math.isfinite(seconds) and seconds > 0):
            raise OptionError(f"checkpoint every {seconds:g} s: must be a number of seconds above 0")
        self._backend, self._seconds = backend, seconds
        self._resume = None if resume is None else Path(resume)
        self._path = self._resume if path is None else Path(path)
        self.resumed: tuple[tuple[int, str], ...] = ()
        if self._path is None:
            return
        require_writable(self._path)
        remove_litter(self._path.parent, glob.escape(self._path.name))
        self._identity = identity()
        self._found = self._read() if self._resume else None
        if self._found is None or self._path != self._resume:
            _require_place(self._path)

    def _read(self) -> Checkpoint:
        """Read the checkpoint to resume, and let trials choose what they chose before it."""
        assert self._resume is not None
        found = Checkpoint.read(self._resume)
        if difference := found.identity.difference(self._identity):
            raise CheckpointError(f"{self._resume}: is of another training: {difference}")
        self.resumed = *found.resumed, (found.past.state.iteration, found.backend)
        if found.backend == self._backend:
            trials.settle(found.choices)
        return found

    def start(self, trainer: Trainer) -> Past | None:
        """Let a trainer at iteration 0 go on from the checkpoint, and return what was done before it, if any.

        Raises:
            UnsupportedWorkload: If the trainer cannot.
            CheckpointError: If trials in this process have chosen other ways of computing before.
        """
        if self._path is None:
            return None
        own, default = type(trainer), Trainer
        if not trainer.workload.is_classic and (own.moments is default.moments or own.restore is default.restore):
            raise UnsupportedWorkload(
                f"backend {self._backend} cannot keep the state of a training with {trainer.workload.mlp_option}: it "
                "lacks moments and restore; train without a checkpoint, or with another backend"
            )
        if self._found is None:
            return None
        chosen = trials.choices()
        if self._found.backend == self._backend and any(
            chosen.get(what, way) != way for what, way in self._found.choices.items()
        ):
            raise CheckpointError(f"{self._resume}: was computed in another way than this process does; use a new one")
        trainer.restore(self._found.past.state)
        return self._found.past

    def keeper(self) -> Keeper | None:
        """Return what writes the checkpoints of a training that has started, if any are wanted."""
        if self._path is None:
            return None

        def compose(past: Past) -> Checkpoint:
            return Checkpoint(self._identity, self._backend, trials.choices(), self.resumed, past)

        return Keeper(self._path, self._seconds, compose)


def _require_place(path: Path) -> None:
    """Refuse to overwrite anything but the checkpoint of a finished training."""
    if path.exists() and not Checkpoint.read(path).past.finished:
        raise CheckpointError(
            f"{path}: holds a training that is not finished; go on with --resume {path}, or remove the file"
        )
