"""The checkpoints of one training: the one that it goes on from, and those that it writes."""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mnistbench.backends import Description, Trainer, trials
from mnistbench.exceptions import CheckpointError, OptionError, UnsupportedWorkload
from mnistbench.files import remove_litter, require_writable
from mnistbench.training.checkpoint import Checkpoint, Identity, Past
from mnistbench.training.keeping import Keeper


class Checkpoints:
    """Where a training keeps its state, and what it goes on from; nothing if no file is given.

    Attributes:
        resumed: (updates, backend): where each resume began, and which backend had computed up to it.
        changes: What a resume changed of threads and versions of libraries, in words; the bits may be others.
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
        self.changes: tuple[str, ...] = ()
        self._choices: dict[str, str] = {}
        self._found: Checkpoint | None = None
        if self._path is None:
            return
        require_writable(self._path)
        place = self._path.resolve()
        remove_litter(place.parent, glob.escape(place.name))
        self._identity = identity()
        self._found = self._read() if self._resume else None
        if self._resume is None or self._path.resolve() != self._resume.resolve():
            _require_place(self._path)

    def _read(self) -> Checkpoint:
        """Read the checkpoint to resume."""
        assert self._resume is not None
        found = Checkpoint.read(self._resume)
        if difference := found.identity.difference(self._identity):
            raise CheckpointError(f"{self._resume}: is of another training: {difference}")
        self.resumed = *found.resumed, (found.past.state.iteration, found.backend)
        self.changes = found.changes
        return found

    @contextmanager
    def choosing(self) -> Iterator[None]:
        """Let the trials of the trainer that is loaded choose what they chose before the checkpoint to resume."""
        same = self._found is not None and self._found.backend == self._backend
        with trials.session(self._found.choices if self._found and same else {}) as session:
            yield
        self._choices = session.choices

    def start(self, trainer: Trainer) -> Past | None:
        """Let a trainer at iteration 0 go on from the checkpoint, and return what was done before it, if any.

        Raises:
            UnsupportedWorkload: If the trainer cannot.
            CheckpointError: If the way of computing before the checkpoint does not work here.
        """
        if self._path is None:
            return None
        if not trainer.keeps_state:
            raise UnsupportedWorkload(
                f"backend {self._backend} cannot keep the state of a training with {trainer.workload.mlp_option}: it "
                "lacks moments and restore; train without a checkpoint, or with another backend"
            )
        if self._found is None:
            return None
        if self._found.backend == self._backend:
            self._compare(self._found, trainer.describe())
        trainer.restore(self._found.past.state)
        return self._found.past

    def _compare(self, found: Checkpoint, now: Description) -> None:
        """Refuse another way of computing than that of a checkpoint, and note other threads and versions."""
        for what, way in found.choices.items():
            if self._choices.get(what, way) != way:
                failed = f" ({now.failed})" if now.failed else ""
                raise CheckpointError(
                    f"{self._resume}: was computed in a way that does not work here, {way}{failed}; "
                    "go on where it works, or name another backend"
                )
        before, after = {"threads": str(found.threads), **found.versions}, {"threads": str(now.threads), **_used(now)}
        after_iteration = f"after iteration {found.past.state.iteration:,}"
        self.changes += tuple(
            f"{after_iteration} {name} was {before.get(name, 'missing')}, and is {after.get(name, 'missing')}"
            for name in {**before, **after}
            if before.get(name) != after.get(name)
        )

    def keeper(self, trainer: Trainer) -> Keeper | None:
        """Return what writes the checkpoints of a trainer that has started, if any are wanted."""
        if self._path is None:
            return None
        now = trainer.describe()
        own = self._backend, self._choices, now.threads, _used(now), self.resumed, self.changes

        def compose(past: Past) -> Checkpoint:
            return Checkpoint(self._identity, *own, past)

        return Keeper(self._path, self._seconds, compose)


def _used(description: Description) -> dict[str, str]:
    """Return the versions of the libraries that compute, and the number of ranks: what the bits depend on besides."""
    return {**description.versions, "ranks": str(len(description.ranks.threads) if description.ranks else 1)}


def _require_place(path: Path) -> None:
    """Refuse to overwrite anything but the checkpoint of a finished training."""
    if not path.exists():
        return
    try:
        finished = Checkpoint.read(path).past.finished
    except CheckpointError as error:
        raise CheckpointError(f"{error}; give another name") from error
    if not finished:
        raise CheckpointError(
            f"{path}: holds a training that is not finished; go on with --resume {path}, or remove the file"
        )
