"""Parameters and their file: what is saved is what is loaded, and anything else is refused."""

from __future__ import annotations

import errno
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mnistbench import reference
from mnistbench.exceptions import MnistbenchError, ModelError
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Array, Parameters, load_model, save_model
from mnistbench.task.recipe import ACTIVATIONS, INITIALIZERS, Activation, Initializer
from mnistbench.task.workload import Network
from tests.support.builders import identical


def zeros(*sizes: int) -> Parameters:
    """Return parameters of 0 for these layer sizes."""
    return Parameters([np.zeros((o, i)) for i, o in pairwise(sizes)], [np.zeros((o, 1)) for o in sizes[1:]])


@st.composite
def parameters(draw: st.DrawFn) -> Parameters:
    """Draw finite parameters of one to three layers, with extreme values and negative zeros."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    bits: Literal[32, 64] = draw(st.sampled_from([32, 64]))
    values = st.floats(allow_nan=False, allow_infinity=False, width=bits)

    def array(*shape: int) -> Array:
        return draw(hnp.arrays(f"float{bits}", shape, elements=values))

    return Parameters([array(o, i) for i, o in pairwise(sizes)], [array(o, 1) for o in sizes[1:]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all examples of a hypothesis test."""
    return tmp_path_factory.mktemp("models")


def refusal(path: Path) -> str:
    """Return the message with which a model file is refused, which must be one line after the file's name."""
    with pytest.raises(ModelError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


# Parameters


@pytest.mark.parametrize(
    ("weights", "biases", "message"),
    [
        ([], [], "0 weight and 0 bias arrays"),
        ([(3, 2)], [], "1 weight and 0 bias arrays"),
        ([(3, 2)], [(3, 1), (3, 1)], "1 weight and 2 bias arrays"),
        ([(6,)], [(6, 1)], r"layer 1 has weights \(6,\)"),
        ([(3, 2)], [(3,)], r"layer 1 has weights \(3, 2\) and biases \(3,\)"),
        ([(3, 2)], [(1, 3)], r"layer 1 has weights \(3, 2\) and biases \(1, 3\)"),
        ([(3, 2), (4, 3)], [(3, 1), (3, 1)], r"layer 2 has weights \(4, 3\) and biases \(3, 1\)"),
        ([(3, 2), (4, 2)], [(3, 1), (4, 1)], "layer 2 takes 2 inputs, but layer 1 gives 3"),
        ([(0, 2), (4, 0)], [(0, 1), (4, 1)], "layer 1"),
    ],
    ids=str,
)
def test_arrays_that_do_not_chain_are_refused(weights: list[Any], biases: list[Any], message: str) -> None:
    with pytest.raises(ModelError, match=f"^parameters: .*{message}"):
        Parameters([np.zeros(shape) for shape in weights], [np.zeros(shape) for shape in biases])


def test_parameters_know_their_network_and_names() -> None:
    found = zeros(5, 4, 3, 2)
    assert found.network == Network((5, 4, 3, 2))
    shapes = {"W1": (4, 5), "b1": (4, 1), "W2": (3, 4), "b2": (3, 1), "W3": (2, 3), "b3": (2, 1)}
    assert [(name, array.shape) for name, array in found.named()] == [*shapes.items()]
    assert [(w.shape, b.shape) for w, b in found.layers()] == [((4, 5), (4, 1)), ((3, 4), (3, 1)), ((2, 3), (2, 1))]


def test_initial_parameters_are_the_references() -> None:
    found = Parameters.initial(Network((7, 5, 3)), seed=11)
    assert identical(found, Parameters.from_arrays(reference.init_params(7, 5, 3, seed=11)))


@pytest.mark.parametrize("sizes", [(7, 3), (7, 5, 4, 3)], ids=str)
@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_any_network_has_initial_parameters(sizes: tuple[int, ...], initializer: Initializer) -> None:
    parameters = Parameters.initial(Network(sizes), 0, initializer)
    assert parameters.network.sizes == sizes
    assert identical(parameters, Parameters.initial(Network(sizes), 0, initializer))
    for name, array in parameters.named():
        np.testing.assert_array_equal(array, array.astype(np.float32))
        assert (initializer == "uniform" or name.startswith("W")) == bool(array.any())


@pytest.mark.parametrize(
    ("initializer", "spread"),
    [("uniform", 1 / 12**0.5), ("xavier", (2 / (784 + 300)) ** 0.5), ("he", (2 / 784) ** 0.5)],
)
def test_initial_weights_have_their_publications_standard_deviation(initializer: Initializer, spread: float) -> None:
    weights = Parameters.initial(Network((784, 300, 10)), 0, initializer).weights[0]
    assert weights.std() == pytest.approx(spread, rel=0.01)
    assert abs(weights.mean()) < 0.01 * spread


def test_astype_copies_even_to_the_same_dtype(dtype: str) -> None:
    original = zeros(3, 2, 2)
    copy = original.astype(dtype)
    assert {array.dtype for array in copy.arrays()} == {np.dtype(dtype)}
    for array in copy.arrays():
        array += 1
    assert identical(original, zeros(3, 2, 2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["W1", "b1", "W2", "b2"])
def test_one_value_that_is_not_finite_is_noticed(name: str, value: float) -> None:
    found = zeros(3, 2, 2)
    assert found.is_finite()
    dict(found.named())[name][-1, -1] = value
    assert not found.is_finite()


# Saving and loading


@given(original=parameters())
def test_what_is_saved_is_what_is_loaded(original: Parameters, folder: Path) -> None:
    path = folder / "model.npz"
    shape = (1, original.network.inputs)
    save_model(path, original, shape)
    loaded, image_shape, *_ = load_model(path)
    assert identical(loaded, original)
    assert image_shape == shape
    assert [file.name for file in folder.iterdir()] == ["model.npz"]


def test_the_file_holds_plain_arrays_under_the_equations_names(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "model.npz"
    save_model(path, zeros(6, 4, 3), (2, 3))
    with np.load(path, allow_pickle=False) as file:
        shapes = {name: file[name].shape for name in file.files}
        assert file["image_shape"].tolist() == [2, 3]
        assert str(file["activation"]) == "relu"
    assert shapes == {"W1": (4, 6), "b1": (4, 1), "W2": (3, 4), "b2": (3, 1), "image_shape": (2,), "activation": ()}


def test_an_old_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.npz"
    save_model(path, zeros(6, 4, 3), (2, 3))
    old = path.read_bytes()
    with path.open("rb") as reader:
        save_model(path, zeros(6, 5, 3), (2, 3))
        assert reader.read() == old
    assert load_model(path).parameters.network == Network((6, 5, 3))
    new = path.read_bytes()

    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(MnistbenchError, match=r"model\.npz: cannot be written: No space left on device"):
        save_model(path, zeros(6, 4, 3), (2, 3))
    assert path.read_bytes() == new
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_refused_with_the_way_to_write_one(tmp_path: Path) -> None:
    assert "mnistbench train --save" in refusal(tmp_path / "model.npz")


class Trap:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_pickles_are_refused_unopened(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = np.array([[Trap(sprung)]], dtype=object)
    np.savez(tmp_path / "model.npz", W1=trap, b1=np.zeros((1, 1)), image_shape=np.array([1, 1]))
    refusal(tmp_path / "model.npz")
    np.save(tmp_path / "array.npy", trap)
    refusal(tmp_path / "array.npy")
    trap.dump(tmp_path / "pickle.npz")
    refusal(tmp_path / "pickle.npz")
    assert not sprung.exists()
    np.load(tmp_path / "array.npy", allow_pickle=True)
    assert sprung.exists()  # the trap works


@pytest.fixture(scope="module")
def model(folder: Path) -> bytes:
    """Return the content of a valid model file."""
    save_model(folder / "valid.npz", Parameters.initial(Network((6, 4, 3)), seed=0), (2, 3))
    return (folder / "valid.npz").read_bytes()


@given(data=st.data())
def test_a_truncated_file_is_refused(data: st.DataObject, model: bytes, folder: Path) -> None:
    path = folder / "truncated.npz"
    path.write_bytes(model[: data.draw(st.integers(0, len(model) - 1))])
    refusal(path)


@given(data=st.data())
def test_a_damaged_file_is_refused_or_harmless(data: st.DataObject, model: bytes, folder: Path) -> None:
    # Damage to a member's date, for instance, changes nothing that is loaded; damaged numbers are always noticed.
    path = folder / "damaged.npz"
    damaged = bytearray(model)
    damaged[data.draw(st.integers(0, len(model) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    (folder / "valid.npz").write_bytes(model)
    try:
        found = load_model(path)
    except ModelError:
        refusal(path)
    else:
        expected = load_model(folder / "valid.npz")
        assert identical(found.parameters, expected.parameters)
        assert found[1:] == expected[1:]


def foreign_files() -> Iterator[tuple[str, bytes]]:
    """Yield a description and the content of files that are not models."""
    array, archive, lying = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros((4, 6)))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("hello.txt", "hello")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000, 100000000), }".ljust(117) + b"\n"
    with zipfile.ZipFile(lying, "w") as file:
        file.writestr("W1.npy", b"\x93NUMPY\x01\x00\x76\x00" + header)
    yield from (("empty", b""), ("text", b"hello\n"), ("zeros", bytes(1000)), ("one array", array.getvalue()))
    yield from (("another archive", archive.getvalue()), ("an array beyond any memory", lying.getvalue()))


@pytest.mark.parametrize("content", [pytest.param(content, id=kind) for kind, content in foreign_files()])
def test_a_foreign_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.npz").write_bytes(content)
    refusal(tmp_path / "model.npz")
    refusal(tmp_path)


VALID: dict[str, Any] = {"W1": np.zeros((4, 6)), "b1": np.zeros((4, 1)), "W2": np.zeros((3, 4)), "b2": np.zeros((3, 1))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({name: None}, "holds") for name in ("b2", "W1", "image_shape")),
        ({"W4": np.zeros((3, 3)), "b4": np.zeros((3, 1))}, "holds"),
        ({"extra": np.zeros(3)}, "holds"),
        (dict.fromkeys(VALID), "holds"),
        ({"W1": np.zeros((4, 6), np.int64)}, "W1 is int64"),
        ({"b2": np.zeros((3, 1), np.float16)}, "b2 is float16"),
        ({"W2": np.zeros((3, 5))}, "layer 2 takes 5 inputs, but layer 1 gives 4"),
        ({"b1": np.zeros(4)}, "layer 1 has weights"),
        ({"W1": np.zeros((0, 6)), "b1": np.zeros((0, 1)), "W2": np.zeros((3, 0))}, "layer 1"),
        ({"b1": np.full((4, 1), np.nan)}, "NaN or infinite"),
        ({"W2": np.full((3, 4), -np.inf)}, "NaN or infinite"),
        ({"image_shape": np.array([6])}, "images of shape"),
        ({"image_shape": np.array([2, 4])}, "do not fit 6 inputs"),
        *(({"image_shape": np.array(shape)}, "image") for shape in ([-2, -3], [2.5, 3.0], [np.nan, 3.0], ["2", "3"])),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_an_archive_of_other_arrays_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    arrays = VALID | {"image_shape": np.array([2, 3])} | changes
    kept = {name: array for name, array in arrays.items() if array is not None}
    np.savez(tmp_path / "model.npz", **kept)
    assert message in refusal(tmp_path / "model.npz")


def test_the_archive_that_those_were_made_from_is_accepted(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", image_shape=np.array([2, 3]), **VALID)
    found = load_model(tmp_path / "model.npz")
    assert identical(found.parameters, zeros(6, 4, 3))
    assert found[1:] == ((2, 3), "relu", ()), "what names no activation is of ReLU"


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_file_keeps_the_activation(tmp_path: Path, activation: Activation) -> None:
    save_model(tmp_path / "model.npz", zeros(6, 5, 4, 3), (2, 3), activation)
    assert load_model(tmp_path / "model.npz")[1:] == ((2, 3), activation, ())


def test_the_file_keeps_the_names_of_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    save_model(path, zeros(6, 4, 3), (2, 3), "relu", ("bird", "cat", "dog"))
    found = load_model(path)
    assert found.class_names == ("bird", "cat", "dog")
    assert [found.named(label) for label in (1, 3)] == ["cat", "3"]
    for names in (("cat", "dog"), ("cat", "dog", "dog")):
        save_model(path, zeros(6, 4, 3), (2, 3), "relu", names)
        with pytest.raises(ModelError, match="class_names must be 3 different texts, one for each output"):
            load_model(path)


@pytest.mark.parametrize("written", [np.array("step"), np.array(["relu"]), np.array(3), np.array(b"relu")], ids=str)
def test_an_activation_that_is_none_is_refused(tmp_path: Path, written: Any) -> None:
    arrays: dict[str, Any] = dict(zeros(6, 4, 3).named())
    np.savez(tmp_path / "model.npz", image_shape=np.array([2, 3]), activation=written, **arrays)
    with pytest.raises(ModelError, match=r"model\.npz: the activation .* is none of relu, "):
        load_model(tmp_path / "model.npz")


def test_units_in_another_order_are_the_same_network() -> None:
    network, rng = Network((6, 5, 4, 3), "tanh"), np.random.default_rng(0)
    parameters, X = Parameters.initial(network, 0), rng.random((6, 9))
    orders = [rng.permutation(size) for size in (6, 5, 4)]
    other = parameters.reordered(orders)
    logits, found = (
        mlp.forward(own, pixels, "tanh")[0][-1] for own, pixels in ((parameters, X), (other, X[orders[0]]))
    )
    np.testing.assert_allclose(found, logits, rtol=1e-13)
    assert not identical(other, parameters)
    assert identical(other.reordered([np.argsort(order) for order in orders]), parameters)
