"""A case of the scaling benchmark on several ranks: the job that pytest starts, and what its rank 0 does.

Every case is a job of its own, ``mpiexec -n 2 python -m mpi4py -m benchmarks.sharing CASE``, with a time limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from mnistbench import words
from mnistbench.exceptions import MnistbenchError
from mnistbench.files import write_text

if TYPE_CHECKING:
    from mnistbench.ranks import Team
    from mnistbench.results.row import Row
    from mnistbench.task.workload import DType

_HERE = Path(__file__).parent
_ENDING = 10.0  # seconds that a job has to end after a signal


@dataclass(frozen=True)
class Job:
    """What a job measures.

    Attributes:
        images: Number of images of all ranks.
        threads: Number of threads of each rank.
        axes: Axes of the charts that show it: "ranks", "weak".
        share_cores: Whether ranks that have more threads than CPUs are measured too.
    """

    backend: str
    dtype: DType
    images: int
    hidden: int
    ranks: int
    threads: int
    axes: Sequence[str]
    rounds: int
    share_cores: bool


class LeftOut(MnistbenchError):
    """The case cannot be measured here, and the reason is no fault."""


def run(job: Job, launcher: Sequence[str], limit: float) -> tuple[dict[str, Any], list[float], float]:
    """Start a job and wait for it.

    Args:
        launcher: Command that ``-n RANKS`` and a program are added to, such as ``["mpiexec"]``.
        limit: Seconds after which it is ended.

    Returns:
        The row as JSON values, the seconds of its rounds, and those of an iteration.

    Raises:
        LeftOut: If it cannot be measured here.
        MnistbenchError: If it failed, in one line.
    """
    beside = Path(sys.executable).parent  # in a virtual environment that is not activated
    program = shutil.which(launcher[0], path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise LeftOut(f"{launcher[0]} is missing: pip install 'mnistbench[mpi]'")
    with tempfile.TemporaryDirectory(prefix="mnistbench-") as folder:
        outcome = Path(folder) / "outcome.json"
        told = json.dumps(asdict(job) | {"file": str(outcome)})
        rank = [sys.executable, "-m", "mpi4py", "-m", "benchmarks.sharing", told]
        code, errors = _finished([program, *launcher[1:], "-n", str(job.ranks), *rank], limit)
        found = json.loads(outcome.read_text(encoding="utf-8")) if outcome.exists() else {}
    if "left_out" in found:
        raise LeftOut(found["left_out"])
    if "failed" in found or code or not found:
        raise MnistbenchError(found.get("failed") or _reason(errors, code))
    return found["row"], found["samples"], found["iteration"]


def _finished(command: Sequence[str], limit: float) -> tuple[int, str]:
    """Run a job to its end, or until the limit; return its exit status and standard error. None of it stays behind."""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=_HERE.parent
    ) as process:
        try:
            _, errors = process.communicate(timeout=limit)
        except BaseException as error:
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise MnistbenchError(f"the job took more than {limit:g} s, and was ended") from error
            raise
    return process.returncode, errors


def _end(process: subprocess.Popen[str]) -> None:
    """End a launcher, which ends its ranks, and then those that are left."""
    started = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_ENDING)
    process.kill()
    for one in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(started, timeout=_ENDING)


def _reason(errors: str, code: int) -> str:
    """Return the line in which a job said why it failed."""
    lines = [line for line in errors.splitlines() if line.strip()]
    ours = [line.removeprefix("mnistbench: ") for line in lines if line.startswith("mnistbench: ")]
    return next(iter(ours), f"the job ended with {code}: {words.one_line(lines[-1]) if lines else 'it said nothing'}")


def main(told: str) -> None:
    """Follow, or on rank 0 measure the case, and write what came of it."""
    from mnistbench.ranks import join

    case = json.loads(told)
    file = Path(case.pop("file"))
    job = Job(**case)
    team = join(job.ranks)
    if not team.leads:
        team.follow()
        return
    with team:
        try:
            found = _measured(team, job)
        except LeftOut as reason:
            found = {"left_out": str(reason)}
        except Exception as error:
            found = {"failed": words.exception(error)}
        write_text(file, json.dumps(found))


def _measured(team: Team, job: Job) -> dict[str, Any]:
    team.limit_threads(job.threads)
    if team.shares_cores and not job.share_cores:
        raise LeftOut("ranks have more threads than CPUs; --share-cores measures them all the same")
    # These load NumPy, after the number of threads is set.
    from benchmarks.sizes import COMPARED, settle, trajectory
    from mnistbench.task.workload import Network, Workload
    from mnistbench.timing.clock import timed

    reference = trajectory(job.images, job.hidden)
    sizes = reference.workload.network.sizes
    workload = Workload(Network((sizes[0], job.hidden, sizes[-1])), job.images, COMPARED, dtype=job.dtype)
    try:
        backend = team.backend(job.backend)
        backend.warm_up(workload)
        trainer, loading = timed(lambda: backend.start(workload, reference.dataset, reference.fresh()))
    except MnistbenchError as refusal:
        raise LeftOut(str(refusal)) from refusal
    with trainer:
        from mnistbench.agreement import Agreement
        from mnistbench.measurement import Measurement

        measurement = Measurement(trainer, Agreement(job.backend, job.dtype), reference)
        measurement.compare(gradients=False)
        measurement.tie(COMPARED)
        iteration = settle(trainer)
        row = _row(team, job, measurement, workload, loading, iteration)
    return {"row": row.as_dict(), "samples": [*row.samples], "iteration": iteration}


def _row(team: Team, job: Job, measurement: Any, workload: Any, loading: float, iteration: float) -> Row:
    """Time the rounds, repeat some of them, and make the row."""
    from benchmarks.sizes import CHECKED, round_length, trajectory
    from mnistbench.machine.bounds import prepare
    from mnistbench.measurement import Starts
    from mnistbench.measurement.bound import least_flops
    from mnistbench.results import storage
    from mnistbench.results.row import Row, Size
    from mnistbench.timing.clock import timed
    from mnistbench.training.cold import ColdStart, Process

    prepare()
    reference = trajectory(job.images, job.hidden)
    task = replace(workload, iterations=round_length(iteration), name=storage.SCALING)
    starts = Starts(reference)
    with team.watch() as watch:
        for seed in starts.seeds(job.rounds):
            watch.look()
            measurement.round(seed, starts.parameters(seed), task.iterations)
    measurement.watched = [watch.record()]
    measurement.confirm(starts, task.iterations, whole=False)
    description = measurement.describe()
    measurement.judge(description)
    return Row.measured(
        task,
        description,
        ColdStart((Process({"load": loading}, 1, None, None),)),
        measurement.samples or [timed(lambda: measurement.trainer.advance(task.iterations))[1]],
        measurement.agreement,
        reference,
        None,
        problem=measurement.problem,
        size=Size(tuple(job.axes), job.hidden, job.threads, CHECKED),
        proof=measurement.proof(),
        least_flops=least_flops(task, reference.dataset),
        share_cores=job.share_cores,
    )


if __name__ == "__main__":
    main(sys.argv[1])
