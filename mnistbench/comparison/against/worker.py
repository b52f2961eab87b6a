"""Script that trains with the revision of this package that its interpreter has, and times slices of it on demand.

It runs in another revision's environment, so it uses public names only. Its argument is a JSON object with the names
``backend``, ``workload`` (as described by :meth:`Workload.describe`), ``threads`` and ``model``. It answers in JSON, a
line each: what it runs, once it is warm; to a number of iterations the seconds they took, for which it starts again
from the initial parameters if fewer are left; to 0 the metrics of the workload's last iteration, after it has finished
the training in progress and stored the parameters in the file ``model``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from typing import Any, TextIO


def main(answers: TextIO) -> None:
    """Answer the lines of standard input until it ends."""
    options = json.loads(sys.argv[1])

    try:
        import mnistbench
        from mnistbench import Parameters, Workload, get_backend, load_images, save_model
    except ImportError as error:
        sys.exit(f"a gate needs a revision with other names: {str(error).partition(' (')[0]}")

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    backend, task, threads = (
        get_backend(options["backend"]),
        Workload.from_description(options["workload"]),
        options["threads"],
    )
    images = load_images(task.images, task.seed)
    initial = Parameters.initial(task.network, task.seed, task.recipe.initializer)
    backend.warm_up(task, threads)
    with backend.start(task, images, initial, threads) as trainer:
        metrics = trainer.advance(task.iterations)
        found = trainer.describe()
        versions = found.versions | {"python": sys.version.split()[0], "numpy": importlib.metadata.version("numpy")}
        answer({"package": mnistbench.__file__, "threads": found.threads, "versions": versions})
        done = task.iterations
        for line in sys.stdin:
            if wanted := int(line):
                if done + wanted > task.iterations:
                    trainer.reset(initial)
                    done = 0
                start = time.perf_counter()
                metrics = trainer.advance(wanted)
                answer(time.perf_counter() - start)
                done += wanted
            else:
                if done < task.iterations:
                    metrics = trainer.advance(task.iterations - done)
                done = task.iterations
                save_model(options["model"], trainer.parameters(), images.image_shape, task.network.activation)
                answer({"loss": float(metrics.loss), "accuracy": float(metrics.accuracy)})


if __name__ == "__main__":
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keep prints of libraries out of the answers
    try:
        main(pipe)
    except Exception as error:
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))
