"""What training tells: its progress on the way, and its result at the end."""

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
    """Metrics of one iteration, and how the dev images fare after it.

    Attributes:
        iteration: counted from 0.
        loss, accuracy: of the iteration's own images before its update. With mini-batches these are the images of one
            batch, so that the values are noisy; dropout and augmentation take part.
        epoch: complete epochs after the iteration.
        dev_loss, dev_accuracy: under the parameters after the update. They are computed with mini-batches or patience
            where there are dev images, and else None.
        seconds: training time so far.
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
        backend: name of the backend.
        workload: what was computed.
        parameters: parameters after the last update; with patience, those with the lowest reported dev loss.
        metrics: progress at every reported iteration; the last entry has the ``loss`` and ``accuracy`` below.
        accuracy, dev_accuracy, test_accuracy: accuracies of ``parameters``; None where the data set has no such
            images.
        loss: mean cross-entropy of the training images under ``parameters``, without dropout and augmentation.
        updates: number of updates that made ``parameters``.
        iterations: number of iterations that ran: the workload's, or fewer where patience ended.
        costs: import, load, compile and train, in seconds.
        description: what the trainer says of itself.
        snapshots: (updates done, parameters then), where asked for.
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

    @property
    def epoch(self) -> int:
        """Complete epochs behind ``parameters``."""
        return self.updates // self.workload.iterations_per_epoch

    @cached_property
    def history(self) -> pd.DataFrame:
        """The metrics as a table with columns ``iteration``, ``loss`` and ``accuracy``; with mini-batches or patience
        also ``epoch``, ``dev_loss`` and ``dev_accuracy``."""
        import pandas as pd  # a third of a second that a run without a table does not pay

        return pd.DataFrame(self.history_records())

    def history_records(self) -> list[dict[str, Any]]:
        """The rows of :attr:`history` as JSON values."""
        columns = ["iteration", "loss", "accuracy"]
        if self.workload.recipe.batch_size is not None or any(m.dev_loss is not None for m in self.metrics):
            columns = ["epoch", *columns, "dev_loss", "dev_accuracy"]
        return [{column: getattr(metrics, column) for column in columns} for metrics in self.metrics]
