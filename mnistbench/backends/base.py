"""The contract of a backend: load a workload once, run many iterations, copy little to the host.

To add a backend, subclass :class:`Backend` and :class:`Trainer` in a module that imports its library at the top, and
register it (see :mod:`mnistbench.backends`). The module's import, on the backend's first use, is timed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, final

import mnistbench.backends as registry
from mnistbench import words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mnistbench.datasets import Dataset
    from mnistbench.reference.mlp import State
    from mnistbench.reference.parameters import Parameters
    from mnistbench.task.workload import Workload


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run here.

    Attributes:
        usable: whether :meth:`Backend.start` will work.
        version: version of its library, if installed.
        device: name of the device it would run on.
        reason: why it is not usable.
        fix: how to make it usable.
    """

    usable: bool
    version: str | None = None
    device: str | None = None
    reason: str | None = None
    fix: str | None = None


@dataclass(frozen=True)
class Metrics:
    """Results of an iteration's forward pass, before its update.

    Attributes:
        loss: mean cross-entropy of the iteration's images (all training images or a mini-batch), after augmentation
            and with dropout.
        accuracy: fraction of those images whose most probable class is their label.
    """

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Sums:
    """Sums over the images of an iteration that a rank holds.

    Attributes:
        gradients: (k,) sums from which a step follows once those of all ranks are added, such as sums of gradients over
            images, without the L2 penalty: an array that MPI can send, in the trainer's layout, dtype and scale, the
            same on every rank.
        scores: (2,) float64 on the host: the sum of the images' cross-entropies, and the number classified correctly.
            They hold only in the last iteration of a call.
    """

    gradients: Any
    scores: NDArray[np.float64]


class Carrier(NamedTuple):
    """What carries the messages of ranks.

    Attributes:
        library: name and version of the library.
        transport: what it carries them over.
    """

    library: str
    transport: str


@dataclass(frozen=True)
class Arithmetic:
    """Units of a GPU that compute the products of a training, which bound its rate.

    Attributes:
        bits: bits of an operand of its matrix units; None for multiply-adds in the workload's dtype.
        products: number of products that a multiply-add of the workload is put together from.
    """

    bits: int | None = None
    products: int = 1

    @classmethod
    def of(cls, dtype: str) -> Self:
        """Return the units of libraries that multiply in ``dtype``; for float64 they may take matrix units."""
        return cls(bits=64) if dtype == "float64" else cls()


@dataclass(frozen=True)
class Ranks:
    """The ranks that trained together.

    Attributes:
        threads: number of threads of each.
        hosts: number of machines that they ran on.
        library: name and version of the library that carried their messages.
        transport: what it carried them over.
        exchange: seconds that an iteration of the last call spent in the exchange, the least of all ranks: the others
            waited for the slowest. In a row, the median of its rounds. None if the backend exchanges by itself, amid
            its computation.
        shared_cores: whether those of a machine had more threads than CPUs.
    """

    threads: tuple[int, ...]
    hosts: int
    library: str
    transport: str
    exchange: float | None
    shared_cores: bool

    @property
    def each(self) -> str:
        """Number of threads of each rank in words: "1 thread", "1 to 2 threads"."""
        few, most = min(self.threads), max(self.threads)
        return words.counted(most, "thread") if few == most else f"{few} to {most} threads"


@dataclass(frozen=True)
class Description:
    """Where a trainer runs, and how. All values can be written as JSON.

    Attributes:
        device: name of the device, "CPU" for the host.
        threads: number of threads in effect on the host.
        versions: library names and versions.
        kernel: method of computing, in words.
        skips: work of the dense computation that is left out because its result is known exactly, in words.
        bytes_read: bytes of image data, as the backend stores them, that one iteration reads; None if unknown. A count,
            not a measurement: every pass over the images counts in full, from cache or memory.
        gpu: measurements of a GPU, such as its clocks and memory.
        failed: ways to compute that were tried and failed, in words; None if none did.
        arithmetic: units of a GPU that compute the products; None if unknown.
        ranks: what several ranks were; None for one process by itself.
    """

    device: str
    threads: int
    versions: dict[str, str]
    kernel: str = ""
    skips: str | None = None
    bytes_read: int | None = None
    gpu: dict[str, Any] | None = None
    failed: str | None = None
    arithmetic: Arithmetic | None = None
    ranks: Ranks | None = None


class Trainer(ABC):
    """A workload loaded on a backend's device. A context manager; leaving it frees the device."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    @abstractmethod
    def advance(self, iterations: int) -> Metrics:
        """Run ``iterations`` iterations (at least 1), wait for the device, and return the last one's metrics.

        Several calls end in the same bits as one of as many iterations.
        """

    @abstractmethod
    def reset(self, parameters: Parameters) -> None:
        """Restart at iteration 0 from a copy of ``parameters``, on the same data; the optimizer's state is reset."""

    @abstractmethod
    def parameters(self) -> Parameters:
        """Copy the current parameters to the host, in the workload's dtype."""

    @abstractmethod
    def gradients(self) -> Parameters:
        """Return the gradients that the next iteration would use, L2 penalty included, as copies on the host.

        The trainer's state does not change.
        """

    @abstractmethod
    def describe(self) -> Description:
        """Describe what is running."""

    @property
    def keeps_state(self) -> bool:
        """Whether :meth:`moments` and :meth:`restore` keep the state of the workload's training."""
        own = type(self)
        return self.workload.is_classic or (own.moments is not Trainer.moments and own.restore is not Trainer.restore)

    def moments(self) -> list[Parameters]:
        """Copy the optimizer's moments, as many as it has, to the host, in the workload's dtype.

        The parameters and these are what :meth:`restore` needs. By default there are none, which suits the classic.

        Raises:
            NotImplementedError: the trainer implements more than the classic, but not this.
        """
        if not self.workload.is_classic:
            raise NotImplementedError
        return []

    def restore(self, state: State) -> None:
        """Go on from a copy of ``state`` on the same data, to the same bits as the trainer that was in that state.

        By default by :meth:`reset`, which suits the classic: its iterations depend on nothing but the parameters.

        Raises:
            NotImplementedError: the trainer implements more than the classic, but not this.
        """
        if not self.workload.is_classic:
            raise NotImplementedError
        self.reset(state.parameters)

    def split(self, iterations: int) -> Generator[Sums]:
        """Run ``iterations`` iterations of a rank's share, each in two parts around what the ranks exchange.

        The data set that was loaded has a share. Each time the caller adds the other ranks' sums to those that it got,
        in place, and goes on; then the trainer takes the step for all ranks' images, :attr:`Workload.images` or those
        of a mini-batch. From the same sums, all ranks compute the same bits. A caller that closes the iterator leaves
        the state as it was before that iteration.

        Only trainers of backends with :attr:`Backend.ranks` implement it, except peers.
        """
        raise NotImplementedError

    def mean_gradients(self, sums: Sums) -> Parameters:
        """Return what :meth:`gradients` does, from the sums of all ranks that :meth:`split` has yielded first.

        Only trainers of backends with :attr:`Backend.ranks` implement it, except peers.
        """
        raise NotImplementedError

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
    """A way to train a network, in a library or in kernels of its own."""

    name: ClassVar[str]
    """Name in flags, tables and charts."""
    ranks: ClassVar[bool] = False
    """Whether several ranks can share a workload: by :meth:`Trainer.split`, or as peers."""
    peers: ClassVar[bool] = False
    """Whether the ranks' processes exchange by the backend's own library, once :meth:`connect` has joined them.

    A trainer of a data set with a share then adds up with the others' in :meth:`Trainer.advance` and
    :meth:`Trainer.gradients`, which all ranks call together, and whose results are those of all images. Nothing else
    that ranks call may wait for another rank. A trainer whose exchange breaks off raises RankFailed.
    """

    def connect(self, rank: int, size: int, address: str) -> Carrier:
        """Join the other ranks, which do so at the same time; only backends of :attr:`peers` implement it.

        Args:
            rank: number of this rank, from 0.
            size: number of ranks.
            address: "host:port" of rank 0, free there, at which the ranks find each other.
        """
        raise NotImplementedError

    def disconnect(self) -> None:
        """Leave the other ranks, which do so at the same time; only backends of :attr:`peers` implement it."""
        raise NotImplementedError

    def availability(self) -> Availability:
        """Return whether the backend can run here, and on what device; by default yes, on the CPU."""
        return Availability(usable=True, device="CPU")

    def warm_up(self, workload: Workload, threads: int | None = None) -> None:  # noqa: B027
        """Do a process's one-time work before its first such workload: create a device context, compile kernels.

        It is timed as part of *compile*. What needs the data is compiled by the first iteration, and timed there.
        """

    def warm_up_split(self, workload: Workload, threads: int | None = None) -> None:
        """Do the same for trainers of a share, which run :meth:`Trainer.split`; by default :meth:`warm_up`."""
        self.warm_up(workload, threads)

    def unsupported(self, workload: Workload) -> str | None:
        """Name the first option of ``workload`` that this backend does not implement; None if it implements all.

        By default a backend implements only the classic.
        """
        return workload.mlp_option

    @final
    def start(
        self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None = None
    ) -> Trainer:
        """Load the training images and labels, and a copy of ``parameters``, onto the device.

        The backend sees no others: what a network is tested on is not for its training.

        Args:
            workload: dtype, network, learning rate, recipe, and the seed of random numbers during training.
            dataset: source of the training images and labels.
            parameters: initial values in any float dtype; rounded to the workload's.
            threads: number of host threads to use; None for all that the process may use.

        Raises:
            UnsupportedWorkload: an option that this backend does not implement.
            BackendUnavailable: the library or its device is missing, or is out of memory.
        """
        registry.refuse_unsupported(self, workload)
        return self.load(workload, dataset.training_only(), parameters, threads)

    @abstractmethod
    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        """Load a workload that the backend implements; see :meth:`start`.

        If the trainer's constructor takes these arguments, ``load = staticmethod(ItsTrainer)`` is enough.
        """
