"""A trainer of all ranks, as rank 0 sees it."""

from __future__ import annotations

import statistics
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import mnistbench.backends as registry
from mnistbench.backends import Availability, Backend, Description, Metrics, Trainer, trials
from mnistbench.backends.base import Ranks
from mnistbench.exceptions import MnistbenchError, OptionError, RankFailed, UnsupportedWorkload
from mnistbench.ranks.member import Spent
from mnistbench.task.share import Share

if TYPE_CHECKING:
    from mnistbench.datasets import Dataset
    from mnistbench.ranks.team import Team
    from mnistbench.reference.mlp import State
    from mnistbench.reference.parameters import Parameters
    from mnistbench.task.workload import Workload


class RanksBackend(Backend):
    """A backend on all ranks of a team."""

    ranks = True

    def __init__(self, team: Team, name: str) -> None:
        """Wrap the backend called ``name``.

        Raises:
            UnknownBackend, BackendUnavailable: It does not exist, or cannot run on rank 0.
            UnsupportedWorkload: Ranks cannot share its workloads.
        """
        self.name = name  # type: ignore[misc]
        self._team, self._backend = team, registry.get_backend(name)
        self._each = [(place.threads,) for place in team.places]
        if not self._backend.ranks:
            others = " or ".join(team.backends())
            raise UnsupportedWorkload(f"backend {name} cannot share a workload among ranks; use --backend {others}")
        self.peers = self._backend.peers  # type: ignore[misc]
        if not self.peers:
            return
        if not team.exchange.apart:
            raise UnsupportedWorkload(f"backend {name} needs ranks that are processes: start them by mpiexec")
        team.connect(name)

    def availability(self) -> Availability:
        return self._backend.availability()

    def unsupported(self, workload: Workload) -> str | None:
        return self._backend.unsupported(workload)

    def warm_up(self, workload: Workload, threads: int | None = None) -> None:
        team, ways = self._team, None
        if self.peers:
            team.lead("warm_up", self.name, workload, None, *self._each[0])
            ways = trials.chosen()
        team.call("warm_up", self.name, workload, ways, each=self._each.__getitem__)

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        return RanksTrainer(self._team, self, workload, dataset, parameters)


class RanksTrainer(Trainer):
    """Trainer whose every call all ranks take part in: it returns when the slowest has done its part.

    Attributes:
        spent: What the last call of ``advance`` cost each rank.

    Raises:
        RankFailed: If the ranks' parameters are no longer the same bits.
    """

    def __init__(
        self,
        team: Team,
        backend: Backend,
        workload: Workload,
        dataset: Dataset,
        parameters: Parameters,
    ) -> None:
        """Start a trainer on each rank, on the share that it has loaded or, of a whole data set, on one sent to it.

        Of a backend that tries ways to compute, all take the ways that rank 0 has chosen: others round otherwise.
        """
        super().__init__(workload)
        self._team, self._number, self._backend = team, team.handle(), backend
        self.spent = [Spent()] * team.size
        if dataset.share is not None:
            team.require_loaded(dataset)

        def own(rank: int) -> tuple[int, Dataset | None]:
            part = dataset.part(Share(rank, team.size, dataset.images)) if dataset.share is None else None
            return team.places[rank].threads, part

        start, ways = ("start", self._number, backend.name, workload, parameters), None
        try:
            if backend.peers:
                team.lead(*start, None, *own(0))
                ways = trials.chosen()
            team.call(*start, ways, each=own)
            self._require_same_versions()
        except MnistbenchError:
            self.close()
            raise

    def _require_same_versions(self) -> None:
        """Raise an OptionError if a rank has other versions of libraries than rank 0: its bits would be others."""
        first, *others = [description.versions for description in self._call("describe")]
        for rank, versions in enumerate(others, 1):
            for name in first:
                if versions.get(name) != first[name]:
                    raise OptionError(
                        f"rank {rank}: has {name} {versions.get(name)}, and rank 0 has {first[name]}; install the same"
                    )

    def advance(self, iterations: int) -> Metrics:
        answers = self._call("advance", iterations)
        self.spent = [spent for _, spent in answers]
        return answers[0][0]  # type: ignore[no-any-return]

    def time_parts(self, iterations: int) -> float:
        """Return the mean seconds of an iteration without the exchange, each on its slowest rank, while all compute.

        A reset has to follow, since each rank then has its own parameters.
        """
        slowest: list[float] = [max(times) for times in zip(*self._call("time_parts", iterations), strict=True)]
        return statistics.mean(slowest)

    @property
    def waited(self) -> float | None:
        """Seconds that an iteration of the last call spent in the exchange, the least of all ranks; None if unknown."""
        return min((spent.exchange for spent in self.spent if spent.exchange is not None), default=None)

    def reset(self, parameters: Parameters) -> None:
        self._call("reset", parameters)

    def parameters(self) -> Parameters:
        return self._same(self._call("parameters"), "parameters")  # type: ignore[no-any-return]

    def gradients(self) -> Parameters:
        return self._call("gradients")[0]  # type: ignore[no-any-return]

    @property
    def keeps_state(self) -> bool:
        return all(self._call("keeps_state"))

    def moments(self) -> list[Parameters]:
        return self._same(self._call("moments"), "moments")  # type: ignore[no-any-return]

    def restore(self, state: State) -> None:
        self._call("restore", state)

    def describe(self) -> Description:
        answers, team = self._call("describe"), self._team
        own: Description = answers[0]
        carrier = team.connect(self._backend.name) if self._backend.peers else team.exchange
        ranks = Ranks(
            threads=tuple(description.threads for description in answers),
            hosts=team.hosts,
            library=carrier.library,
            transport=carrier.transport,
            exchange=self.waited,
            shared_cores=team.shares_cores,
        )
        read = [description.bytes_read for description in answers]
        total = None if None in read else sum(count for count in read if count is not None)
        return replace(own, threads=sum(ranks.threads), bytes_read=total, ranks=ranks)

    def close(self) -> None:
        with suppress(RankFailed):  # the failure itself is raised elsewhere
            self._call("close")

    def _call(self, name: str, *arguments: Any) -> list[Any]:
        return self._team.call(name, self._number, *arguments)

    def _same(self, answers: list[tuple[Any, bytes]], what: str) -> Any:
        """Return rank 0's values, if those of all ranks are the same."""
        (own, digest), *others = answers
        for rank, (_, other) in enumerate(others, 1):
            if other != digest:
                raise RankFailed(f"rank {rank}: its {what} are no longer those of rank 0")
        return own
