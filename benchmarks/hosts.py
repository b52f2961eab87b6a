"""Two hosts on one machine, made of network namespaces, and the classic trained over them; Linux, by root, by hand.

``python -m benchmarks.hosts`` joins the namespaces by a pair of virtual interfaces, holds their bandwidth down by
``tc tbf``, and delays messages by ``netem``, or, where the kernel has none, in the exchange. MPICH's launcher starts a
rank in each. The efficiency that is measured is printed beside the one computed from what an iteration takes on one
rank, on the slower half of the images while both compute, and what an exchange alone takes: these hosts share a
memory, so that two halves take longer than a whole. Nothing is left behind, also if the program is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnistbench.ranks import Team
from mnistbench.ranks.mpi import Mpi
from mnistbench.words import percent, quantity, seconds

_ADDRESSES = ("10.77.0.1", "10.77.0.2")
_BURST = 6_000  # bytes that pass at once: four packets, so that a message of 32 kB is held down too
_DEVICE = "eth0"

_ROUND = 0.5
"""Seconds of the iterations of a round, at most."""


class Delayed(Mpi):
    """Exchange in which a vector arrives later than it does, by ``delay`` seconds."""

    delay = 0.0

    def swap(self, rank: int, vector: Any, room: Any) -> None:
        end = time.perf_counter() + self.delay
        super().swap(rank, vector, room)
        while time.perf_counter() < end:
            pass


def main() -> int:
    """Make the hosts, train, and print what was found; return the exit status."""
    options = _options()
    if options.member is not None:
        return _member(options)
    if os.geteuid() or sys.platform != "linux":
        return _fail("network namespaces need Linux, and root")
    for program in ("ip", "tc", "unshare", "mpiexec"):
        if shutil.which(program) is None:
            return _fail(f"{program} is missing; install iproute2, util-linux and mnistbench[mpi]")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    with _hosts(options) as (first, folder, delay):
        found = _train(options, first, folder, delay)
    if found is None:
        return 1
    _print(options, found, delay)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hosts", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--images", type=int, default=41_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rate", default="1gbit", help="bandwidth of the link, as tc reads it (default: 1gbit)")
    parser.add_argument(
        "--delay", type=float, default=50.0, help="microseconds that a message takes longer (default: 50)"
    )
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which it gives up (default: 300)")
    parser.add_argument("--member", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    return parser.parse_args()


def _fail(message: str) -> int:
    print(f"hosts: {message}", file=sys.stderr)
    return 1


@contextmanager
def _hosts(options: argparse.Namespace) -> Iterator[tuple[str, Path, float]]:
    """Make both hosts; yield the first's name, a folder with a launcher, and the delay left to the exchange."""
    names = [f"mnistbench-{os.getpid()}-{number}" for number in (1, 2)]
    folder = Path(tempfile.mkdtemp(prefix="mnistbench-hosts-"))
    ending = f"cat > /dev/null; for name in {' '.join(names)}; do ip netns pids $name | xargs -r kill -9; "
    ending += f"ip netns delete $name; done 2> /dev/null; rm -rf {shlex.quote(str(folder))}"
    # Waits for the end of this process, whatever it is, in a session of its own: no signal to this one reaches it.
    with subprocess.Popen(["sh", "-c", ending], stdin=subprocess.PIPE, start_new_session=True) as cleaner:
        try:
            for name in names:
                _run("ip", "netns", "add", name)
            peer = ("peer", "name", _DEVICE, "netns", names[1])
            _run("ip", "link", "add", _DEVICE, "netns", names[0], "type", "veth", *peer)
            delays = [_link(name, address, options) for name, address in zip(names, _ADDRESSES, strict=True)]
            _await_link(names)
            launcher = folder / "launcher"
            launcher.write_text(_launcher(names))
            launcher.chmod(0o700)
            yield names[0], folder, max(delays)
        finally:
            assert cleaner.stdin is not None, "it is a pipe"
            cleaner.stdin.close()


def _link(name: str, address: str, options: argparse.Namespace) -> float:
    """Bring up a host's interfaces; return the seconds of delay that the kernel cannot give."""
    inside = ("ip", "netns", "exec", name)
    _run(*inside, "ip", "address", "add", f"{address}/24", "dev", _DEVICE)
    for device in ("lo", _DEVICE):
        _run(*inside, "ip", "link", "set", device, "up")
    bucket = ("tbf", "rate", options.rate, "burst", str(_BURST), "latency", "50ms")
    _run(*inside, "tc", "qdisc", "add", "dev", _DEVICE, "root", "handle", "1:", *bucket)
    late = ("netem", "delay", f"{options.delay:g}us", "limit", "10000")
    command = [*inside, "tc", "qdisc", "add", "dev", _DEVICE, "parent", "1:1", *late]
    lacking = options.delay and subprocess.run(command, capture_output=True, check=False).returncode
    return options.delay / 1e6 if lacking else 0.0


def _await_link(names: list[str]) -> None:
    """Wait until the kernel calls both ends up: UCX takes no other."""
    end = time.monotonic() + 10
    for name in names:
        while "state UP" not in _run("ip", "-netns", name, "-oneline", "link", "show", _DEVICE):
            if time.monotonic() > end:
                raise SystemExit(f"hosts: {_DEVICE} of {name} does not come up")
            time.sleep(0.05)


def _run(*command: str) -> str:
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"hosts: {' '.join(command)}: {found.stderr.strip()}")
    return found.stdout


def _launcher(names: list[str]) -> str:
    """Return the program that MPICH calls in place of ssh: options, a host's address, a command."""
    cases = "".join(f'{address}) host="{name}" ;; ' for name, address in zip(names, _ADDRESSES, strict=True))
    return (
        '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\n'
        f'case "$1" in {cases}esac\nshift\n'
        'exec ip netns exec "$host" unshare --uts sh -c "hostname $host; $*"\n'
    )


def _train(options: argparse.Namespace, first: str, folder: Path, delay: float) -> dict[str, Any] | None:
    """Measure over both hosts; return what rank 0 has found, or None after an error."""
    mpiexec = [
        "mpiexec",
        "-launcher",
        "ssh",
        "-launcher-exec",
        str(folder / "launcher"),
        "-hosts",
        ",".join(_ADDRESSES),
    ]
    # UCX, which carries MPICH's messages, would see that both hosts have one memory, and take that.
    mpiexec += ["-genv", "UCX_TLS", "tcp"]
    mpiexec += ["-localhost", _ADDRESSES[0], "-n", "2", "-ppn", "1"]
    same = [f"--{name}={getattr(options, name)}" for name in ("backend", "dtype", "images", "rounds")]
    rank = [sys.executable, "-m", "mpi4py", "-m", "benchmarks.hosts", f"--member={delay}", *same]
    inside = ["ip", "netns", "exec", first, "unshare", "--uts", "sh", "-c", f'hostname {first}; exec "$@"', "sh"]
    try:
        found = subprocess.run(
            [*inside, *mpiexec, *rank], stdout=subprocess.PIPE, text=True, check=False, timeout=options.limit
        )
    except subprocess.TimeoutExpired:
        _fail(f"no result after {options.limit:g} s")
        return None
    if found.returncode:
        _fail(f"the job ended with {found.returncode}")
        return None
    return json.loads(found.stdout)  # type: ignore[no-any-return]


def _member(options: argparse.Namespace) -> int:
    """Follow, or lead the measurement and print what was found; runs in each host."""
    Delayed.delay = options.member
    team = Team(Delayed(2))
    if not team.leads:
        team.follow()
        return 0
    with team:
        team.limit_threads(1)
        print(json.dumps(_measure(team, options)))
    return 0


def _measure(team: Team, options: argparse.Namespace) -> dict[str, Any]:
    """Time one rank, both, their parts without the exchange, and the exchange, in turn; return the seconds of each."""
    import mnistbench.backends as registry
    from mnistbench.datasets import load_images
    from mnistbench.ranks.measuring import time_sums
    from mnistbench.ranks.trainer import RanksTrainer
    from mnistbench.reference.parameters import Parameters
    from mnistbench.task.presets import variant

    task = variant("classic", 0, options.images).with_dtype(options.dtype)
    dataset, initial = load_images(task.images), Parameters.initial(task.network, 0)
    size = task.itemsize * sum(array.size for array in initial.arrays())
    alone: list[float] = []
    shared: list[float] = []
    parts: list[float] = []
    sums: list[float] = []
    with (
        registry.get_backend(options.backend).start(task, dataset, initial, 1) as one,
        team.backend(options.backend).start(task, dataset, initial) as both,
    ):
        assert isinstance(both, RanksTrainer), "it is a team's"
        for _ in range(2):  # the first warms up
            slowest = max(_seconds(one, 2), _seconds(both, 2))
        few = max(1, min(1000, round(_ROUND / slowest)))
        for number in range(options.rounds):
            for trainer, found in ((one, alone), (both, shared))[:: -1 if number % 2 else 1]:
                found.append(_seconds(trainer, few))
            parts.append(both.time_parts(few))
            both.reset(initial)
            sums.append(time_sums(team, size).timing.value)
        ranks = both.describe().ranks
    assert ranks is not None, "a team has trained"
    bulk = time_sums(team, 2**23).bytes_per_second
    return {
        "alone": alone,
        "shared": shared,
        "parts": parts,
        "sums": sums,
        "bytes": size,
        "hosts": ranks.hosts,
        "bulk": bulk,
    }


def _seconds(trainer: Any, iterations: int) -> float:
    """Return the seconds of an iteration."""
    begun = time.perf_counter()
    trainer.advance(iterations)
    return (time.perf_counter() - begun) / iterations


def _print(options: argparse.Namespace, found: dict[str, Any], delay: float) -> None:
    one, two, part, exchange = (statistics.median(found[name]) for name in ("alone", "shared", "parts", "sums"))
    measured = statistics.median(a / b for a, b in zip(found["alone"], found["shared"], strict=True)) / 2
    rounds = zip(found["alone"], found["parts"], found["sums"], strict=True)
    computed = statistics.median(a / (2 * (part + e)) for a, part, e in rounds)
    where = "in the exchange" if delay else "by netem"
    print(f"{found['hosts']} hosts, {options.rate} by tbf, {options.delay:g} us a message {where}")
    print(f"{options.backend} {options.dtype}, {options.images:,} images, 1 thread a rank, {options.rounds} rounds")
    for name, value, values in (
        ("one rank", one, "alone"),
        ("two ranks", two, "shared"),
        ("a part", part, "parts"),
        ("exchange", exchange, "sums"),
    ):
        low, _, high = statistics.quantiles(found[values], n=4)
        print(f"{name:<11}{seconds(value)} an iteration, half of them {seconds(low)} to {seconds(high)}")
    print(f"exchanged  {found['bytes']:,} bytes an iteration; of 8 MB, {quantity(found['bulk'], 'B/s')}")
    print(
        f"efficiency measured {percent(measured)}, computed {percent(computed)}: {percent(measured / computed - 1)} off"
    )


if __name__ == "__main__":
    sys.exit(main())
