"""Workloads and networks: descriptions, refusals, and the counts of operations and bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench import reference
from mnistbench.exceptions import OptionError
from mnistbench.task.recipe import Optimizer, Recipe
from mnistbench.task.workload import DType, Network, Workload

BAD_RATES = (0.0, -0.1, float("nan"), float("inf"))
sizes = st.integers(1, 12)


class Counting(np.ndarray[Any, Any]):
    """Array that counts the operations of its matrix products."""

    operations = 0

    def __matmul__(self, other: Any) -> Any:
        (rows, terms), columns = self.shape, other.shape[1]
        Counting.operations += rows * columns * 2 * terms
        return (np.asarray(self) @ np.asarray(other)).view(Counting)


@given(n=sizes, h=sizes, c=sizes, m=sizes)
def test_dense_flops_are_those_of_the_reference(n: int, h: int, c: int, m: int) -> None:
    rng = np.random.default_rng(0)
    shapes = ((h, n), (h, 1), (c, h), (c, 1), (n, m))
    W1, b1, W2, b2, X = (rng.random(shape).view(Counting) for shape in shapes)
    Counting.operations = 0
    Z1, A1, Z2, A2 = reference.forward_prop(W1, b1, W2, b2, X)
    reference.backward_prop(Z1, A1, Z2, A2, W1, W2, X, rng.integers(0, c, m))
    assert Workload(Network((n, h, c)), m).dense_flops == Counting.operations


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"dtype": "float16"}, r"^dtype 'float16': choose from float32, float64$"),
        ({"images": 0}, r"^0 images: at least 1"),
        *(({"iterations": number}, rf"^{number} iterations: at least 1") for number in (0, -5)),
        *(({"learning_rate": rate}, rf"^learning rate {rate}: must be a finite number above 0$") for rate in BAD_RATES),
        ({"seed": -1}, r"^seed -1: must be 0 or"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        replace(Workload(Network((4, 3, 2)), images=10), **option)


@pytest.mark.parametrize("bad", [(), (784,), (784, 0, 10), (784, -3, 10), (784, 2.0, 10), (784, "10")], ids=str)
def test_impossible_layer_sizes_are_refused(bad: tuple[Any, ...]) -> None:
    with pytest.raises(OptionError, match=r"^layer sizes .*: (give two or more positive|must be) whole numbers"):
        Network(bad)


def test_network_names_its_layers() -> None:
    network = Network((784, 500, 150, 10))
    assert (network.inputs, network.hidden, network.outputs) == (784, (500, 150), 10)
    assert str(network) == "784-500-150-10"
    assert Network((5, 2)).hidden == ()


def test_a_workload_describes_itself_in_json(dtype: DType) -> None:
    task = Workload(Network((4, 3, 2)), 10, 20, 0.25, dtype, 7)
    expected = {"name": "custom", "network": [4, 3, 2], "images": 10, "iterations": 20, "learning_rate": 0.25}
    assert json.loads(json.dumps(task.describe())) == {**expected, "dtype": dtype, "seed": 7}


def test_numbers_of_numpys_are_taken_as_pythons() -> None:
    sizes: tuple[Any, ...] = (np.int64(4), np.int32(3), 2)
    network = Network(sizes)
    task = Workload(network, 10, learning_rate=np.float64(0.25))
    assert network == Network((4, 3, 2))
    assert {type(size) for size in network.sizes} == {int}
    assert type(task.learning_rate) is float
    assert json.loads(json.dumps(task.describe()))["network"] == [4, 3, 2]


def test_with_dtype_changes_nothing_else(dtype: DType) -> None:
    task = Workload(Network((4, 3, 2)), 10, 20, 0.25, "float64", 7)
    assert task.with_dtype(dtype).describe() == task.describe() | {"dtype": dtype}
    assert task.with_dtype(dtype).itemsize == np.dtype(dtype).itemsize


def test_a_number_of_epochs() -> None:
    task = Workload(Network((4, 3, 2)), 10, recipe=Recipe(batch_size=4))
    assert task.for_epochs(7).iterations == 21
    assert replace(task, recipe=Recipe()).for_epochs(7).iterations == 7
    with pytest.raises(OptionError, match=r"^0 epochs: at least 1 is needed$"):
        task.for_epochs(0)


def test_the_bytes_that_an_update_moves() -> None:
    """Two passes over the weights, one that writes gradients, one that reads them, two of parameters, and moments."""
    task = Workload(Network((3, 2)), 10)
    assert task.parameter_bytes == 6 * 4 * 8
    assert replace(task, dtype="float64").parameter_bytes == 6 * 8 * 8
    assert replace(task, recipe=Recipe(optimizer=Optimizer("adam"))).parameter_bytes == 10 * 4 * 8
