"""A checkpoint: a file with the state of a training, from which another process goes on to the same bits."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.exceptions import CheckpointError
from mnistbench.files import write_atomically
from mnistbench.reference.mlp import State
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.training.result import Progress

SCHEMA = 3
"""Version of the file's format."""


@dataclass(frozen=True)
class Identity:
    """What the bits of a training depend on, apart from the backend.

    Attributes:
        workload: Workload; its name does not matter.
        data_digest: Digest of the images of all splits and ranks, :func:`mnistbench.datasets.combined_digest`.
        every: Iterations between reports, as given.
        patience: Epochs without a lower dev loss after which to stop, as given.
    """

    workload: Workload
    data_digest: str
    every: int | None
    patience: int | None

    def difference(self, other: Identity) -> str | None:
        """Return the first thing in which another training differs, in words; None if it is the same training."""
        own, others = (_flat(asdict(identity.workload)) for identity in (self, other))
        for name in own:
            if name != "name" and own[name] != others[name]:
                return f"{name.removeprefix('recipe ').replace('_', ' ')} was {own[name]}, and is {others[name]}"
        for name in ("every", "patience"):
            if getattr(self, name) != getattr(other, name):
                return f"{name} was {getattr(self, name)}, and is {getattr(other, name)}"
        if self.data_digest != other.data_digest:
            return "the images were others; give the data, sizes and seed of that training"
        return None


def _flat(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of nested dictionaries, the inner ones with the names of the outer: "optimizer beta1"."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found |= (
            {f"{name} {key}": one for key, one in _flat(value).items()} if isinstance(value, dict) else {name: value}
        )
    return found


@dataclass
class Past:
    """What a training has done so far.

    Attributes:
        state: State of training after the last iteration.
        reports: Progress at every reported iteration.
        best: With patience, the report with the lowest dev loss, and the parameters then.
        snapshots: Pairs of a number of updates and the parameters after them.
        seconds: Training time.
        finished: Whether all iterations have run, or patience has ended.
    """

    state: State
    reports: list[Progress] = field(default_factory=list)
    best: tuple[Progress, Parameters] | None = None
    snapshots: list[tuple[int, Parameters]] = field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False


class _OtherSchema(Exception):
    """A file of another :data:`SCHEMA`."""


@dataclass(frozen=True)
class Checkpoint:
    """A training in progress.

    Attributes:
        identity: What is trained.
        backend: Name of the backend that trains.
        choices: Ways of computing that its trials chose, from :class:`mnistbench.backends.trials.Session`.
        threads: Number of CPU threads in effect.
        versions: Versions of the backend's libraries, by name.
        resumed: (updates, backend): where each resume began, and which backend had computed up to it.
        changes: What a resume changed of threads and versions, in words.
        past: What it has done so far.
    """

    identity: Identity
    backend: str
    choices: dict[str, str]
    threads: int
    versions: dict[str, str]
    resumed: tuple[tuple[int, str], ...]
    changes: tuple[str, ...]
    past: Past

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            MnistbenchError: If it cannot be written.
        """
        past, buffer = self.past, io.BytesIO()
        header = {
            "schema": SCHEMA,
            **asdict(self.identity),
            "workload": self.identity.workload.describe(),
            "backend": self.backend,
            "choices": self.choices,
            "threads": self.threads,
            "versions": self.versions,
            "resumed": self.resumed,
            "changes": self.changes,
            "iteration": past.state.iteration,
            "moments": len(past.state.moments),
            "reports": [asdict(progress) for progress in past.reports],
            "best": None if past.best is None else past.reports.index(past.best[0]),
            "snapshots": [updates for updates, _ in past.snapshots],
            "seconds": past.seconds,
            "finished": past.finished,
        }
        arrays = {f"{part}_{name}": array for part, values in self._parts() for name, array in values.named()}
        np.savez(buffer, checkpoint=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
        write_atomically(path, lambda file: file.write(buffer.getbuffer()))

    def _parts(self) -> Iterator[tuple[str, Parameters]]:
        """Yield all parameters and moments, with the names of their arrays' first parts in the file."""
        yield "parameters", self.past.state.parameters
        yield from ((f"moment{place}", moment) for place, moment in enumerate(self.past.state.moments))
        yield from ((f"snapshot{updates}", parameters) for updates, parameters in self.past.snapshots)
        if self.past.best is not None:
            yield "best", self.past.best[1]

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read a file that :meth:`write` wrote.

        Raises:
            CheckpointError: If it is missing, cannot be read, is not such a file, or is one of another version. Pickled
                data is refused.
        """
        try:
            file = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
            arrays = {name: file[name] for name in file.files}
            header = json.loads(str(arrays.pop("checkpoint")))
            if header["schema"] != SCHEMA:
                raise _OtherSchema(header["schema"])
            return cls._from_arrays(header, arrays)
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such file; begin with 'mnistbench train --checkpoint {path}'") from None
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
        except MemoryError as error:
            raise CheckpointError(f"{path}: does not fit into the memory that is free, or is damaged") from error
        except _OtherSchema as error:
            raise CheckpointError(
                f"{path}: is of another version of mnistbench (format {error}, not {SCHEMA}); go on with that version"
            ) from error
        except Exception as error:  # a damaged file can fail in zip, zlib, the arrays' headers or what they hold
            raise CheckpointError(f"{path}: not a checkpoint that 'mnistbench train --checkpoint' wrote") from error

    @classmethod
    def _from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Checkpoint:
        workload = Workload.from_description(header["workload"])
        layers = range(1, len(workload.network.sizes))

        def values(part: str) -> Parameters:
            found = Parameters.from_arrays(arrays[f"{part}_{kind}{layer}"] for layer in layers for kind in "Wb")
            if found.network.sizes != workload.network.sizes or {a.dtype.name for a in found.arrays()} != {
                workload.dtype
            }:
                raise ValueError(part)
            return found

        if header["moments"] != workload.recipe.optimizer.moments:
            raise ValueError("moments")
        reports = [Progress(**record) for record in header["reports"]]
        moments = [values(f"moment{place}") for place in range(header["moments"])]
        return cls(
            Identity(workload, header["data_digest"], header["every"], header["patience"]),
            header["backend"],
            header["choices"],
            header["threads"],
            header["versions"],
            tuple((updates, backend) for updates, backend in header["resumed"]),
            tuple(header["changes"]),
            Past(
                State(header["iteration"], values("parameters"), moments),
                reports,
                None if header["best"] is None else (reports[header["best"]], values("best")),
                [(updates, values(f"snapshot{updates}")) for updates in header["snapshots"]],
                header["seconds"],
                header["finished"],
            ),
        )
