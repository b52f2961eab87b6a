"""The interface of a backend: load a workload once, run many iterations, bring little back.

To add a backend, subclass :class:`Backend` and :class:`Trainer` in a module of their own, which imports the library
it is made with at its top, and register it (see :mod:`mnistbench.backends`). The module is imported when somebody
first asks for the backend, and what that costs is measured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mnistbench.exceptions import UnsupportedWorkload

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
        version: of its library, where that is installed.
        device: what it would run on, in words.
        reason: where it is not usable, why.
        fix: and what to do about it.
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
        iteration: counted from 0 since the last reset.
        loss: mean cross-entropy of the iteration's images, which are all training images or a batch of them, as
            augmentation and dropout have them in this iteration.
        accuracy: fraction of those images whose most probable class is their label.
    """

    iteration: int
    loss: float
    accuracy: float


class Trainer(ABC):
    """One workload loaded on one backend's device. A context manager; leaving it frees the device."""

    @abstractmethod
    def advance(self, iterations: int) -> Metrics:
        """Run that many iterations (at least 1) and return when the device has finished them.

        Returns:
            the metrics of the last iteration run.
        """

    @abstractmethod
    def reset(self, parameters: Parameters) -> None:
        """Start again at iteration 0 from a copy of ``parameters``, on the same data; the optimizer forgets."""

    @abstractmethod
    def parameters(self) -> Parameters:
        """The current parameters: copies on the host, in the workload's dtype."""

    @abstractmethod
    def gradients(self) -> Parameters:
        """What the next iteration's optimizer is given, at the current parameters, which stay as they are: the
        gradients of its images' loss, and of the penalty of L2. Copies on the host."""

    @abstractmethod
    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The most probable class, (k,), of each of the images (k, inputs) under the current parameters."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What is running, as JSON values. Every backend gives ``device`` (words), ``threads`` (in effect on the
        host), ``versions`` (library name to version), ``kernel`` (words), ``skips`` (which work of the dense
        computation is left out because its result is known exactly, in words, or None) and ``bytes_read``: the bytes
        of image data, as this backend stores them, that one iteration reads, or None if that is not known. It is a
        count and no measurement: every pass over the images counts in full, wherever its bytes then come from.
        """

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

    @abstractmethod
    def availability(self) -> Availability:
        """Whether the backend can run here, on what, and if not, why and what to do."""

    def warm_up(self, workload: Workload, threads: int | None = None) -> None:  # noqa: B027
        """Pay what a process pays once before its first such workload: a device context, compiled kernels.

        It is measured as part of *compile*. What a backend cannot build without the data is built by the
        first iteration, and is measured there.
        """

    def missing(self, workload: Workload) -> str | None:
        """The first option of ``workload`` that this backend does not implement, in words, or None.

        By default everything beyond the classic, see :attr:`Workload.beyond_classic`.
        """
        return workload.beyond_classic

    def require(self, workload: Workload) -> None:
        """Refuse a workload that this backend does not implement.

        Raises:
            UnsupportedWorkload: naming the option and the backends that do implement it.
        """
        if (option := self.missing(workload)) is None:
            return
        import mnistbench.backends as registry  # which imports this module

        others = [name for name in registry.available() if registry.get(name).missing(workload) is None]
        by_whom = f"use --backend {' or '.join(others)}" if others else "no backend does"
        raise UnsupportedWorkload(f"backend {self.name} does not implement {option}; {by_whom}")

    @abstractmethod
    def start(
        self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None = None
    ) -> Trainer:
        """Load the training images and labels, and a copy of ``parameters``, onto the device.

        Args:
            workload: what to compute; its dtype, network, learning rate and recipe count here, and its seed for what
                is random in training.
            dataset: its training images and labels are what is trained on.
            parameters: the initial values, in any float dtype; rounded to the workload's.
            threads: how many threads of the host to use; None for as many as the process is allowed.

        Raises:
            UnsupportedWorkload: an option that this backend does not implement.
            BackendUnavailable: the library or its device is missing, or is out of memory.
        """
