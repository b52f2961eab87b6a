"""Forms of stored documents: of runs with their rows, and of test errors; fields of earlier versions included.

Ranges leave out what no machine does. What a row says of itself is compared by
:mod:`mnistbench.results.merging.plausibility`.
"""

from __future__ import annotations

from typing import Any

from mnistbench.measurement import CHECKS
from mnistbench.results import reproduction
from mnistbench.results.merging.forms import (
    anything,
    date,
    flag,
    in_utc,
    items,
    listed,
    mapping,
    number,
    one_of,
    optional,
    record,
    scalar,
    text,
    whole,
)
from mnistbench.results.merging.machines import THREADS, VERSIONS, machine
from mnistbench.results.row import SCHEMA
from mnistbench.task.presets import PUBLISHED
from mnistbench.task.recipe import ACTIVATIONS, INITIALIZERS, OPTIMIZERS, SCHEDULES
from mnistbench.task.workload import DTYPES, MOST_ITERATIONS

_SECONDS = number(1e-9, 1e8)
_COST = number(0, 1e8)
"""Seconds of a cost."""
_EXTRA = number(-1e4, 1e8)
"""Seconds that the first call takes longer: a difference, which may be negative."""
_RATE = number(1e-3, 1e18)
_SHARE = number(0, 1)
_ERROR = number(0, 1e300)
_BYTES = whole(1, 1 << 50)
_ITERATIONS = whole(1, MOST_ITERATIONS)
_ROUNDS = 1_000
"""Most rounds of a row; what is computed of all pairs of them would take a server's memory."""
_LINE = text(1_000)
_NAME = text(64, r"[A-Za-z][A-Za-z0-9._+-]*", called="a name: a letter, and letters, digits, '.', '_', '+' and '-'")
_WORKLOAD_NAME = text(64, r"[A-Za-z0-9][A-Za-z0-9._+-]*", called="a name of letters, digits, '.', '_', '+' and '-'")
_SHA256 = text(64, r"[0-9a-f]{64}", called="a SHA-256 of 64 hexadecimal digits")
_DTYPE = one_of(*DTYPES)
_COMMIT = text(64, r"[0-9a-f]{7,64}|unversioned", called="a commit of 7 to 64 hexadecimal digits")

_OF_A_START = {**dict.fromkeys(("import", "load", "compile", "tuning"), _COST), "first_call": _EXTRA}
_COSTS = record({"train": _SECONDS}, _OF_A_START)
_ALL_COSTS = record({"train": _SECONDS, **_OF_A_START})

_CONSTANTS = {"momentum": _SHARE, "rho": _SHARE, "beta1": _SHARE, "beta2": _SHARE, "epsilon": number(0, 1)}

_RECIPE = record(
    {
        "initializer": one_of(*INITIALIZERS),
        "l2": number(0, 1e6),
        "dropout": items(_SHARE, 64),
        "optimizer": record({"name": one_of(*OPTIMIZERS), **_CONSTANTS, "weight_decay": number(0, 1e6)}),
        "batch_size": optional(whole(1, 10**9)),
        "schedule": record({"name": one_of(*SCHEDULES), "every": whole(1, 10**9), "factor": _SHARE}),
        "augmentation": record(
            {"shift": whole(0, 1000), "rotate": number(0, 360)},
            {name: number(0, 1e6) for name in ("elastic_alpha", "elastic_sigma", "elastic", "sigma")},
        ),
    }
)

_TASK = {
    "name": _WORKLOAD_NAME,
    "network": items(whole(1, 10**6), 64, 2),
    "images": whole(1, 10**9),
    "iterations": _ITERATIONS,
    "learning_rate": number(1e-12, 1e6),
}
_OWN = {"dtype": _DTYPE, "seed": whole(0, (1 << 64) - 1)}
_MORE = {"activation": one_of(*ACTIVATIONS), "recipe": _RECIPE}

_BY_DTYPE = record({}, dict.fromkeys(DTYPES, _RATE))
_LEVEL = record({"name": text(16, least=1), "bytes": optional(_BYTES), "bytes_per_second": _RATE})
_RATES = {"multiply_add": _BY_DTYPE, "levels": items(_LEVEL, 8, 1)}
_GPU_LIMITS = record({**_RATES, "name": text(120), "launch_latency": _SECONDS}, {"matrix": optional(_RATE)})
_BLAS = record({"library": text(64), "version": optional(text(64)), "kernel": optional(text(64))})
_LIMITS = record(
    {
        **_RATES,
        "threads": THREADS,
        "product": _BY_DTYPE,
        "blas": optional(_BLAS),
        "gpu": optional(_GPU_LIMITS),
        "cpu_share": number(1e-6, 1.5),
    },
    {"date": optional(date)},
)

_POINTS = items(record({"iteration": whole(0, MOST_ITERATIONS), "error": _ERROR}), 1_000)

_PROCESS = record(
    {
        "costs": _ALL_COSTS,
        "iterations": _ITERATIONS,
        "baseline_memory": optional(_BYTES),
        "peak_memory": optional(_BYTES),
    },
    {"blas": optional(text(64))},
)

_SECONDS_OF_ROUNDS = items(_SECONDS, _ROUNDS)

_PROOF = record(
    {
        "checks": items(one_of(*CHECKS), len(CHECKS)),
        "host_to_host": flag,
        "seeds": items(text(16, r"[0-9a-f]{1,16}", called="a seed of 1 to 16 hexadecimal digits"), _ROUNDS),
        "advance": _SECONDS_OF_ROUNDS,
        "whole": _SECONDS_OF_ROUNDS,
        "cpu": items(number(0, 1e9), _ROUNDS),
    },
    {
        "watched": items(
            record({"others": number(0, 1e5), "stolen": number(0, 1e5)}, {"throttlings": _ERROR, "clock_lost": _SHARE}),
            _ROUNDS,
        )
    },
)

_ACCURACIES = {f"{of}_accuracy": optional(_SHARE) for of in ("train", "dev", "test")}
_SCORES = record({**_ACCURACIES, "loss": optional(_ERROR)})
_KNOWN_SCORES = record({**_ACCURACIES, "loss": _ERROR, "train_accuracy": _SHARE})


def _final(value: Any, where: str) -> None:
    _SCORES(value, where)
    if value["loss"] is not None:
        _KNOWN_SCORES(value, where)


_RANKS = record(
    {
        "threads": items(THREADS, 4_096, 1),
        "hosts": whole(1, 4_096),
        **dict.fromkeys(("library", "transport"), text(200)),
        "exchange": optional(number(0, 1e8)),
        "shared_cores": flag,
    }
)

_GPU_REPORT = mapping(text(64), scalar, 64)


def _gpu_report(value: Any, where: str) -> None:
    _GPU_REPORT(value, where)
    optional(_LINE)(value.get("throttled"), f"{where}, throttled")


ROW = record(
    {
        "schema": one_of(SCHEMA),
        "backend": _NAME,
        "workload": record({**_TASK, **_OWN}, _MORE),
        "device": text(120, least=1),
        "threads": THREADS,
        "kernel": _LINE,
        "skips": optional(_LINE),
        "versions": VERSIONS,
        "gpu": optional(_gpu_report),
        "costs": _COSTS,
        "compile_cached": optional(_COST),
        "peak_memory_bytes": optional(_BYTES),
        "dense_flops": whole(1, 1 << 62),
        "image_bytes": whole(0, 1 << 62),
        "flops_per_second": _RATE,
        "fraction_of_peak": optional(_ERROR),
        "final": _final,
        "agreement": record({"passed": flag, "summary": _LINE, "tolerance": _ERROR, "trajectory": _POINTS}),
        "data_sha256": _SHA256,
        "validated": flag,
        "problem": optional(_LINE),
    },
    {
        "bytes_read": optional(_BYTES),
        "bytes_per_second": number(0, 1e18),
        "fraction_of_bandwidth": optional(_ERROR),
        "limits": optional(_LIMITS),
        "errors": items(record({"iteration": whole(0, MOST_ITERATIONS), "error": _SHARE}), 1_000),
        "interleaved": flag,
        "timed": optional(_ITERATIONS),
        "processes": optional(items(whole(1, _ROUNDS), 1_000, 1)),
        "proof": optional(_PROOF),
        "cold": optional(
            record({"empty": items(_PROCESS, 100, 1)}, {name: items(_PROCESS, 100) for name in ("filled", "kernels")})
        ),
        "failed": optional(_LINE),
        "arithmetic": optional(record({"bits": optional(whole(1, 64)), "products": whole(1, 1_000)})),
        "energy": optional(
            record(
                {
                    **dict.fromkeys(("joules", "idle_watts"), number(0, 1e12)),
                    "seconds": _SECONDS,
                    **dict.fromkeys(("trainings", "updates"), whole(1, 10**9)),
                    "counter": one_of("NVML", "RAPL"),
                }
            )
        ),
        "ranks": optional(_RANKS),
        "axes": items(one_of("images", "hidden", "threads", "ranks", "weak"), 3, 1),
        "hidden": whole(1, 10**6),
        "allowed_threads": THREADS,
        "compared": _LINE,
        # Fields of earlier versions.
        "history": items(
            record({"iteration": whole(0, MOST_ITERATIONS), "loss": _ERROR, "accuracy": _SHARE}), MOST_ITERATIONS
        ),
        "peak_flops_per_second": optional(_RATE),
        "image_bytes_per_second": _RATE,
    },
)
"""Form of a row."""

_STATS = record(
    {
        "data": items(_SECONDS, _ROUNDS, 1),
        "rounds": whole(1, _ROUNDS),
        "iterations": whole(1, 1),
        **dict.fromkeys(("min", "max", "mean", "median", "total"), _SECONDS),
        "stddev": number(0, 1e9),
        **dict.fromkeys(("q1", "q3", "ld15iqr", "hd15iqr"), _SECONDS),
        "iqr": number(0, 1e9),
        "ops": number(1e-9, 1e10),
        **dict.fromkeys(("iqr_outliers", "stddev_outliers"), whole(0, _ROUNDS)),
        "outliers": text(16, r"\d+;\d+", called="two counts"),
    }
)

ENTRY = record(
    {**dict.fromkeys(("name", "fullname"), _LINE), "extra_info": ROW, "stats": _STATS},
    {"group": optional(_LINE), "params": anything, "param": optional(_LINE), "options": anything},
)
"""Form of an entry of pytest-benchmark that holds a row."""

HEADER = record(
    {
        "machine_info": machine,
        "datetime": in_utc,
        "commit_info": record(
            {"id": _COMMIT, "dirty": flag},
            {**dict.fromkeys(("time", "author_time"), optional(date)), **dict.fromkeys(("project", "branch"), _LINE)},
        ),
        "benchmarks": listed(100_000, 1),
    },
    {
        "version": text(64),
        "finished": flag,
        "merged": in_utc,
        "code_sha256": _SHA256,
        **dict.fromkeys(("options", "environment", "process"), anything),
    },
)
"""Form of a document of a run, without that of its rows."""

ERRORS = record(
    {
        "schema": one_of(reproduction.SCHEMA),
        "machine": machine,
        "workload": record({**_TASK, "name": one_of(*PUBLISHED)}, _MORE),
        "published": record({"test_error": _SHARE, "source": _LINE, "method": _LINE}),
        "mean_test_error": mapping(text(100), _SHARE, 1_000),
        "runs": listed(10_000, 1),
    }
)
"""Form of a document of test errors, without that of its runs."""

TRAINING = record(
    {
        **_OWN,
        **dict.fromkeys(("test_error", "train_accuracy"), _SHARE),
        "loss": number(0, 1e4),
        "epochs": whole(1, 10**6),
        "seconds": _SECONDS,
        "costs": _COSTS,
        "backend": _NAME,
        "device": text(120, least=1),
        "threads": THREADS,
        "kernel": _LINE,
        "versions": VERSIONS,
        "commit": _COMMIT,
        "dirty": flag,
        "date": in_utc,
        "data_sha256": _SHA256,
        "curve": items(record({"epoch": whole(1, 10**6), "seconds": _SECONDS, "test_error": _SHARE}), 10**6, 1),
    }
)
"""Form of a training in a document of test errors."""
