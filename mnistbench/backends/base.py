"""The contract of a backend: load a workload once, run many iterations, bring little back.

To add a backend, subclass :class:`Backend` and :class:`Trainer` in a module of their own, which imports the library
it is made with at its top, and register it (see :mod:`mnistbench.backends`). The module is imported when somebody
first asks for the backend, and what that costs is measured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import mnistbench.backends as registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mnistbench.datasets import Dataset
    from mnistbench.reference.parameters import Parameters
    from mnistbench.task.workload import Workload


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run here.

    Attributes:
        usable: whether :meth:`Backend.start` will work.
        version: version of its library, where that is installed.
        device: name of the device it would run on.
        reason: why it is not usable, if it is not.
        fix: what to do about that.
    """

    usable: bool
    version: str | None = None
    device: str | None = None
    reason: str | None = None
    fix: str | None = None


@dataclass(frozen=True)
class Metrics:
    """What an iteration's own forward pass shows: the state before that iteration's update.

    Attributes:
        loss: mean cross-entropy of the iteration's images, which are all training images or a batch of them, after
            augmentation and with dropout.
        accuracy: fraction of those images whose most probable class is their label.
    """

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Description:
    """What a trainer runs on and how. All values can be written as JSON.

    Attributes:
        device: name of the device, "CPU" for the host.
        threads: threads in effect on the host.
        versions: library name to version.
        kernel: the way of computing, in words.
        skips: work of the dense computation that is left out because its result is known exactly, in words.
        bytes_read: bytes of image data, as the backend stores them, that one iteration reads; None if unknown. It is
            a count and no measurement: every pass over the images counts in full, wherever its bytes then come from.
        gpu: measured facts of a GPU, such as its clocks and memory.
    """

    device: str
    threads: int
    versions: dict[str, str]
    kernel: str = ""
    skips: str | None = None
    bytes_read: int | None = None
    gpu: dict[str, Any] | None = None


class Trainer(ABC):
    """One workload loaded on one backend's device. A context manager; leaving it frees the device.

    Attributes:
        workload: what is computed.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    @abstractmethod
    def advance(self, iterations: int) -> Metrics:
        """Run ``iterations`` iterations (at least 1) and return when the device has finished them.

        Returns:
            the metrics of the last iteration run.
        """

    @abstractmethod
    def reset(self, parameters: Parameters) -> None:
        """Start again at iteration 0 from a copy of ``parameters``, on the same data; the optimizer forgets."""

    @abstractmethod
    def parameters(self) -> Parameters:
        """Copy the current parameters to the host, in the workload's dtype."""

    @abstractmethod
    def gradients(self) -> Parameters:
        """Compute the gradients that the next iteration would use, those of the penalty of L2 included.

        Changes nothing. Returns copies on the host.
        """

    @abstractmethod
    def describe(self) -> Description:
        """Say what is running."""

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the most probable class, (k,), of each of the images (k, inputs) under the current parameters.

        By default the host computes it, with NumPy.
        """
        from mnistbench.reference import evaluation  # which loads NumPy

        return evaluation.predict(self.parameters(), images, self.workload.network.activation)

    def close(self) -> None:  # noqa: B027 - most backends leave freeing to the garbage collector
        """Free the device. The trainer cannot be used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Backend(ABC):
    """A way to compute."""

    name: ClassVar[str]
    """What it is called in flags, tables and charts."""

    def availability(self) -> Availability:
        """Say whether the backend can run here, on what, and if not, why and what to do.

        By default it can, on the CPU: its module could be imported.
        """
        return Availability(usable=True, device="CPU")

    def warm_up(self, workload: Workload, threads: int | None = None) -> None:  # noqa: B027
        """Pay what a process pays once before its first such workload: a device context, compiled kernels.

        It is measured as part of *compile*. What a backend cannot build without the data is built by the
        first iteration, and is measured there.
        """

    def unsupported(self, workload: Workload) -> str | None:
        """Name the first option of ``workload`` that this backend does not implement; None if it implements all.

        By default a backend implements the classic only.
        """
        return mlp_option(workload)

    @final
    def start(
        self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None = None
    ) -> Trainer:
        """Load the training images and labels, and a copy of ``parameters``, onto the device.

        Args:
            workload: what to compute; its dtype, network, learning rate and recipe count here, and its seed for what
                is random in training.
            dataset: its training images and labels are what is trained on.
            parameters: the initial values, in any float dtype; rounded to the workload's.
            threads: threads of the host to use; None for as many as the process is allowed.

        Raises:
            UnsupportedWorkload: an option that this backend does not implement.
            BackendUnavailable: the library or its device is missing, or is out of memory.
        """
        registry.refuse_unsupported(self, workload)
        return self.load(workload, dataset, parameters, threads)

    @abstractmethod
    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        """Do what :meth:`start` promises, for a workload that the backend implements.

        A trainer's class whose constructor takes these arguments can stand here as ``staticmethod(ItsTrainer)``.
        """


def mlp_option(workload: Workload) -> str | None:
    """Name the first option that makes a workload more than the classic; None if it is the classic in any size."""
    recipe, layers = workload.recipe, len(workload.network.hidden)
    found = {
        f"{layers} hidden layers": layers != 1,
        f"the activation {workload.network.activation}": workload.network.activation != "relu",
        f"the optimizer {recipe.optimizer.name}": recipe.optimizer.name != "gd",
        "batches": recipe.batch_size is not None,
        "dropout": any(recipe.dropout),
        "L2 regularisation": recipe.l2 > 0,
        f"the schedule {recipe.schedule.name}": recipe.schedule.name != "constant",
        "augmentation": bool(recipe.augmentation),
    }
    return next((words for words, needed in found.items() if needed), None)
