"""Progress and result of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mnistbench.backends import Description
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.timing.clock import Costs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Progress:
    """Metrics of one iteration, and scores of the dev images after it.

    Attributes:
        iteration: Number of the iteration, counted from 0.
        loss, accuracy: Metrics of the iteration's own images before its update, with dropout and augmentation. With
            mini-batches they are those of one batch, and noisy.
        epoch: Number of epochs completed after the iteration.
        dev_loss, dev_accuracy: Scores of the dev images after the update. None without dev images, and in full-batch
            training without patience.
        seconds: Training time so far.
    """

    iteration: int
    loss: float
    accuracy: float
    epoch: int = 0
    dev_loss: float | None = None
    dev_accuracy: float | None = None
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training run.

    Attributes:
        backend: Name of the backend.
        workload: Workload that was computed.
        parameters: Parameters after the last update; with patience, those with the lowest reported dev loss.
        metrics: Progress at every reported iteration; the last entry has ``loss`` and ``accuracy``.
        accuracy, dev_accuracy, test_accuracy: Accuracies of ``parameters``; None if the data set has no such images.
        loss: Mean cross-entropy of the training images, without dropout and augmentation.
        updates: Number of updates behind ``parameters``.
        iterations: Number of iterations that ran; with patience, perhaps fewer than the workload's.
        costs: Seconds of import, load, compile and train; of a resumed training, those of train from its start.
        description: Description of the trainer.
        snapshots: Pairs of a number of updates and the parameters after them.
        resumed: (updates, backend): where each resume began, and which backend had computed up to it.
        changes: What a resume changed of threads and versions of libraries, in words; the bits may be others.
    """

    backend: str
    workload: Workload
    parameters: Parameters
    metrics: list[Progress]
    accuracy: float
    dev_accuracy: float | None
    test_accuracy: float | None
    loss: float
    updates: int
    iterations: int
    costs: Costs
    description: Description
    snapshots: list[tuple[int, Parameters]] = field(default_factory=list)
    resumed: tuple[tuple[int, str], ...] = ()
    changes: tuple[str, ...] = ()

    @property
    def epoch(self) -> int:
        """Number of complete epochs behind ``parameters``."""
        return self.updates // self.workload.iterations_per_epoch

    @cached_property
    def history(self) -> pd.DataFrame:
        """Metrics as a table with columns ``iteration``, ``loss`` and ``accuracy``; with mini-batches or patience
        also ``epoch``, ``dev_loss`` and ``dev_accuracy``."""
        import pandas as pd  # takes a third of a second

        return pd.DataFrame(self.history_records())

    def history_records(self) -> list[dict[str, Any]]:
        """Return the rows of :attr:`history` as JSON values."""
        columns = ["iteration", "loss", "accuracy"]
        if self.workload.recipe.batch_size is not None or any(m.dev_loss is not None for m in self.metrics):
            columns = ["epoch", *columns, "dev_loss", "dev_accuracy"]
        return [{column: getattr(metrics, column) for column in columns} for metrics in self.metrics]
