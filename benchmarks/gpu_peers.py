"""The same training in the libraries that a user would pick for a GPU, each in its best idiomatic form.

JAX: one compiled ``fori_loop``. PyTorch: one iteration captured as a CUDA graph and replayed. Both keep the images
widened to float32 on the device and multiply in float32: neither TF32 nor bfloat16.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from mnistbench.datasets import Dataset
from mnistbench.network import Parameters
from mnistbench.workload import Workload

Run = Callable[[int], Parameters]
"""Trains that many iterations from the initial parameters, and returns when the device has finished."""


def installed() -> dict[str, Callable[[Workload, Dataset, Parameters], Run]]:
    """The libraries that can be imported here, by name, and what prepares a run in each."""
    known = {"jax": _jax, "torch": _torch}
    return {name: prepare for name, prepare in known.items() if importlib.util.find_spec(name)}


def _jax(workload: Workload, dataset: Dataset, parameters: Parameters) -> Run:
    # Else JAX takes three quarters of the GPU's memory at once, and leaves the others too little.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "highest")
    X = jnp.asarray(dataset.train.images).T.astype(jnp.float32) / 255
    Y = jnp.asarray(dataset.train.labels)
    initial = tuple(jnp.asarray(array, jnp.float32) for _, array in parameters.named())

    def loss(arrays: Any) -> Any:
        W1, b1, W2, b2 = arrays
        Z2 = W2 @ jax.nn.relu(W1 @ X + b1) + b2
        return (jax.nn.logsumexp(Z2, axis=0) - jnp.take_along_axis(Z2, Y[None], axis=0)[0]).mean()

    def step(_: Any, arrays: Any) -> Any:
        return jax.tree.map(lambda array, d: array - workload.learning_rate * d, arrays, jax.grad(loss)(arrays))

    train = jax.jit(lambda iterations, arrays: jax.lax.fori_loop(0, iterations, step, arrays))

    def run(iterations: int) -> Parameters:
        W1, b1, W2, b2 = (np.asarray(array) for array in jax.block_until_ready(train(iterations, initial)))
        return Parameters([W1, W2], [b1, b2])

    return run


def _torch(workload: Workload, dataset: Dataset, parameters: Parameters) -> Run:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    device = torch.device("cuda")
    X = torch.from_numpy(dataset.train.images).to(device).T.to(torch.float32) / 255
    Y = torch.from_numpy(dataset.train.labels).to(device)
    initial = [torch.tensor(array, dtype=torch.float32, device=device) for _, array in parameters.named()]
    arrays = [array.clone().requires_grad_() for array in initial]

    def step() -> None:
        W1, b1, W2, b2 = arrays
        Z2 = W2 @ torch.relu(W1 @ X + b1) + b2
        gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(Z2.T, Y), arrays)
        with torch.no_grad():
            for array, gradient in zip(arrays, gradients, strict=True):
                array.sub_(gradient, alpha=workload.learning_rate)

    # Capturing needs libraries and memory that earlier steps, on a stream of their own, have set up.
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def run(iterations: int) -> Parameters:
        with torch.no_grad():
            for array, start in zip(arrays, initial, strict=True):
                array.copy_(start)
        for _ in range(iterations):
            graph.replay()
        torch.cuda.synchronize()
        W1, b1, W2, b2 = (array.detach().cpu().numpy() for array in arrays)
        return Parameters([W1, W2], [b1, b2])

    return run
