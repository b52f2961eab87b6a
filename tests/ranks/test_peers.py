"""Backends that exchange by their own library, between processes of MPI: agreement, the same bits, faults."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import pytest

from mnistbench.exceptions import UnsupportedWorkload
from mnistbench.ranks import address, local
from tests.ranks.test_mpi import MPIEXEC, ended, job
from tests.support.paths import ROOT

pytest.importorskip("mpi4py", reason="mpi4py is missing: pip install 'mnistbench[mpi]'")

PEERS = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is missing"))
    for name in ("torch", "jax")
]

needs_mpiexec = pytest.mark.skipif(MPIEXEC is None, reason="mpiexec is missing")

START = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from mpi4py import MPI
from mnistbench.agreement import Agreement, Trajectory, check_trainer
from mnistbench.ranks import on_ranks
from tests.support import builders, options

NAME, RANK = sys.argv[1], MPI.COMM_WORLD.rank
CLASSIC = builders.dataset(101, 35, 5, ink=0.5, rows=5)
TWO = builders.dataset(2, 35, 5, ink=0.5, rows=5)  # one of three ranks has no image

def checked(team, task, data):
    \"\"\"Check a training, and that it ends in the same bits in other calls; each call compares the ranks' bits.\"\"\"
    expected = Trajectory(task.with_dtype("float64"), data)
    with team.backend(NAME).start(task, data, expected.fresh()) as trainer:
        found = check_trainer(trainer, Agreement(NAME, task.dtype), expected)
        if not found.passed:
            return found.summary()
        ends = []
        for pieces in ((9,), (2, 7)):
            trainer.reset(expected.fresh())
            for iterations in pieces:
                trainer.advance(iterations)
            ends.append(trainer.parameters())
    return "" if builders.identical(*ends) else "other bits in other calls"
"""

AGREES = """
def main(team):
    catalogue = options.catalogue()
    cases = [(builders.workload(CLASSIC, dtype=dtype), CLASSIC) for dtype in ("float32", "float64")]
    cases.append((builders.workload(TWO), TWO))
    cases.append((options.task("float32", **options.EVERYTHING), options.DATA))
    cases += [(catalogue[name], options.DATA) for name in json.loads(sys.argv[2])]
    print(json.dumps([checked(team, *case) for case in cases]))

on_ranks(MPI.COMM_WORLD.size, main, 1)
"""


def ran(ranks: int, program: str, *arguments: object, within: float = 100.0) -> Any:
    """Return what a program prints on several ranks, which all end well."""
    code, out, errors = ended(job(ranks, *arguments, program=("-c", START + program)), within)
    assert (code, errors) == (0, [])
    return json.loads(out)


@needs_mpiexec
@pytest.mark.compiles
@pytest.mark.process
@pytest.mark.parametrize("peer", PEERS)
def test_peers_agree(peer: str) -> None:
    assert ran(2 if peer == "jax" else 3, AGREES, peer, "[]") == [""] * 4


@needs_mpiexec
@pytest.mark.compiles
@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
def test_sampled_options_agree(peer: str, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--all-options"):
        pytest.skip("compiles each; --all-options runs it")
    names = ["l2 0.5", "optimizer momentum", "batch_size 1", "combination 3"]
    assert ran(2, AGREES, peer, json.dumps(names)) == [""] * (4 + len(names))


FAULTY = {
    "torch": """
import mnistbench.backends.torch.group as module
name, calls = "add", 5
""",
    "jax": """
import mnistbench.backends.jax.group as module
name, calls = "added", 0
""",
}
"""The function that adds up, and after how many calls a rank does it wrong; JAX calls it once for all iterations."""

WRONG = """
right, made = getattr(module, name), 0

def scaled(values, factor):
    return [value * factor for value in values] if isinstance(values, list) else values * factor

def wrong(values):
    global made
    made += 1
    faulty = RANK == 1 and made > calls
    if sys.argv[2] == "doubles its share":
        return right(scaled(values, 2) if faulty else values)
    return scaled(right(values), 1 + 2**-20) if faulty else right(values)

setattr(module, name, wrong)
on_ranks(2, lambda team: print(json.dumps(checked(team, builders.workload(CLASSIC), CLASSIC))), 1)
"""


@needs_mpiexec
@pytest.mark.compiles
@pytest.mark.process
@pytest.mark.parametrize(
    ("fault", "found"),
    [("doubles its share", ""), ("takes another step", "rank 1: its parameters are no longer those of rank 0")],
)
@pytest.mark.parametrize("peer", PEERS)
def test_a_fault_of_one_rank_is_found(peer: str, fault: str, found: str) -> None:
    outcome = ran(2, FAULTY[peer] + WRONG, peer, fault)
    assert outcome
    assert found in outcome


RAISES = """
import mnistbench.backends.torch.group as module
right, made = module.add, 0

def add(vector):
    global made
    made += 1
    if RANK == 1 and made == 30:
        raise ValueError("out of ink")
    return right(vector)

module.add = add
on_ranks(3, lambda team: checked(team, builders.workload(CLASSIC), CLASSIC), 1)
"""


@needs_mpiexec
@pytest.mark.compiles
@pytest.mark.process
@pytest.mark.parametrize("peer", PEERS[:1])
def test_a_peer_that_raises_ends_the_job_with_its_line(peer: str) -> None:
    code, _, errors = ended(job(3, peer, program=("-c", START + RAISES)), 60)
    assert code != 0
    assert errors == ["mnistbench: rank 1: ValueError: out of ink"]


CHOICES = """
import itertools
from mnistbench.backends import trials
import mnistbench.backends.torch.classic as classic

classic.ways = lambda *sizes: ([classic.Way(False, False), classic.Way(True, False)], [])
clock = itertools.count(*((1, 1) if RANK == 0 else (1000, -1)))  # what others would time is fastest last
trials.timed = lambda function: (function(), next(clock))

def main(team):
    task = builders.workload(CLASSIC)
    backend = team.backend(NAME)
    found = []
    for _ in range(2):
        with backend.start(task, CLASSIC, builders.initial(task)) as trainer:
            found += [description.kernel for description in trainer._call("describe")]
        backend.warm_up(task)
    print(json.dumps(found))

on_ranks(2, main, 1)
"""


@needs_mpiexec
@pytest.mark.compiles
@pytest.mark.process
@pytest.mark.parametrize("peer", PEERS[:1])
def test_all_ranks_take_the_way_that_rank_0_has_chosen(peer: str) -> None:
    assert ran(2, CHOICES, peer) == ["operations in place, images in columns"] * 4


@pytest.mark.compiles
@pytest.mark.parametrize("peer", PEERS)
def test_peers_need_processes(peer: str) -> None:
    def main(team: Any) -> None:
        assert peer not in team.backends()
        team.backend(peer)

    with pytest.raises(UnsupportedWorkload, match=f"^backend {peer} needs ranks that are processes: start them by mpi"):
        local.run(2, main)


@needs_mpiexec
@pytest.mark.compiles
@pytest.mark.process
@pytest.mark.parametrize("peer", PEERS)
def test_nothing_but_the_result_is_printed(peer: str) -> None:
    """JAX's gloo would tell on stdout that it is connected."""
    options = ("--train-size", 300, "--dev-size", 50, "--iterations", 5, "--ranks", 2, "--threads", 1, "--json")
    code, out, errors = ended(job(2, "train", "--backend", peer, *options))
    assert (code, errors) == (0, [])
    ranks = json.loads(out)["description"]["ranks"]
    assert (ranks["threads"], ranks["exchange"], ranks["transport"]) == ([1, 1], None, "TCP")
    assert ranks["library"].startswith("gloo of ")


def test_an_address_is_free_and_can_be_reached() -> None:
    assert address.free_address(None).startswith("127.0.0.1:")
    host, _, port = address.free_address("127.0.0.2").partition(":")  # a route to it begins here
    assert host.startswith("127.")
    assert int(port) > 0
