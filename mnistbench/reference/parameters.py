"""Parameters of a network, their initial values, and the file that stores them."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mnistbench.exceptions import ModelError
from mnistbench.files import write_atomically
from mnistbench.reference import Array as Array
from mnistbench.task.recipe import ACTIVATIONS, Activation, Initializer
from mnistbench.task.workload import Network


@dataclass(frozen=True)
class Parameters:
    """Weights and biases of a network, or anything with one value for each, such as gradients.

    Attributes:
        weights: Array (outputs, inputs) of each layer.
        biases: Array (outputs, 1) of each layer.

    Raises:
        ModelError: If the shapes are not those of consecutive layers.
    """

    weights: list[Array]
    biases: list[Array]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.biases) or not self.weights:
            raise ModelError(
                f"parameters: {len(self.weights)} weight and {len(self.biases)} bias arrays; give one of each per layer"
            )
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True), 1):
            if weight.ndim != 2 or 0 in weight.shape or bias.shape != (weight.shape[0], 1):
                raise ModelError(
                    f"parameters: layer {layer} has weights {weight.shape} and biases {bias.shape}; "
                    "they must be (outputs, inputs) and (outputs, 1), none of them 0"
                )
            if layer > 1 and weight.shape[1] != self.weights[layer - 2].shape[0]:
                raise ModelError(
                    f"parameters: layer {layer} takes {weight.shape[1]} inputs, but layer {layer - 1} "
                    f"gives {self.weights[layer - 2].shape[0]}"
                )

    @classmethod
    def initial(cls, network: Network, seed: int, initializer: Initializer = "uniform") -> Parameters:
        """Draw initial values, float64, layer by layer, weights before biases.

        uniform: all from [-0.5, 0.5), with one hidden layer the values of :func:`reference.init_params`; xavier:
        weights from ±sqrt(6 / (inputs + outputs)), biases 0; he: weights from a normal distribution with variance
        2 / inputs, biases 0. Values have float32 resolution, so both dtypes start from the same numbers.
        """
        rng = np.random.default_rng(seed)
        weights, biases = [], []
        for inputs, outputs in zip(network.sizes, network.sizes[1:], strict=False):
            weights.append(_drawn(rng, outputs, inputs, initializer))
            zeros = np.zeros((outputs, 1))
            biases.append(_drawn(rng, outputs, 1, initializer) if initializer == "uniform" else zeros)
        return cls(weights, biases)

    @classmethod
    def from_arrays(cls, arrays: Iterable[Array]) -> Parameters:
        """Group the arrays W1, b1, W2, b2, ... into weights and biases; they are not copied."""
        arrays = list(arrays)
        return cls(arrays[::2], arrays[1::2])

    @property
    def network(self) -> Network:
        """Network with the layer sizes of these arrays."""
        return Network((self.weights[0].shape[1], *(weight.shape[0] for weight in self.weights)))

    def layers(self) -> Iterator[tuple[Array, Array]]:
        """Iterate over the weights and biases of each layer, first to last."""
        return zip(self.weights, self.biases, strict=True)

    def named(self) -> Iterator[tuple[str, Array]]:
        """Iterate over the arrays and their names in the equations: W1, b1, W2, b2, ..."""
        for layer, (weight, bias) in enumerate(self.layers(), 1):
            yield f"W{layer}", weight
            yield f"b{layer}", bias

    def arrays(self) -> list[Array]:
        """Return W1, b1, W2, b2, ..., the inverse of :meth:`from_arrays`."""
        return [array for _, array in self.named()]

    def astype(self, dtype: DTypeLike) -> Parameters:
        """Return a copy in ``dtype``."""
        return Parameters([w.astype(dtype) for w in self.weights], [b.astype(dtype) for b in self.biases])

    def reordered(self, orders: Sequence[NDArray[np.int64]]) -> Parameters:
        """Permute the inputs and the units of each hidden layer; the network computes the same function.

        Args:
            orders: Permutation of the inputs, and one of the units of each hidden layer.
        """
        rows = [*orders[1:], np.arange(self.weights[-1].shape[0])]
        weights = [W[np.ix_(*order)] for W, order in zip(self.weights, zip(rows, orders, strict=True), strict=True)]
        return Parameters(weights, [b[order] for b, order in zip(self.biases, rows, strict=True)])

    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        return all(bool(np.isfinite(array).all()) for array in self.arrays())


def _drawn(rng: np.random.Generator, outputs: int, inputs: int, initializer: Initializer) -> Array:
    """Draw weights (outputs, inputs), or the uniform initializer's biases (outputs, 1)."""
    if initializer == "he":
        values = rng.standard_normal((outputs, inputs), np.float32) * np.float32(math.sqrt(2 / inputs))
    else:
        values = rng.random((outputs, inputs), np.float32) - np.float32(0.5)
    if initializer == "xavier":
        values *= np.float32(2 * math.sqrt(6 / (inputs + outputs)))
    return values.astype(np.float64)


class Model(NamedTuple):
    """A trained network.

    Attributes:
        parameters: Its parameters.
        image_shape: Shape (height, width) of the images.
        activation: Activation of the hidden layers.
        class_names: Names of the outputs in their order, or none if they are numbers.
    """

    parameters: Parameters
    image_shape: tuple[int, int]
    activation: Activation
    class_names: tuple[str, ...] = ()

    def named(self, label: int) -> str:
        """Return the name of a class; its number if it has none."""
        return self.class_names[label] if label < len(self.class_names) else str(label)


def save_model(
    path: str | Path,
    parameters: Parameters,
    image_shape: Sequence[int],
    activation: Activation = "relu",
    class_names: Sequence[str] = (),
) -> None:
    """Write a model to an ``.npz`` file: arrays W1, b1, W2, b2, ..., image_shape, activation, and class_names if given.

    Missing folders are created, and an old file is replaced whole or not at all. ``save_model(path, *model)`` writes
    what :func:`load_model` returned.

    Raises:
        MnistbenchError: If the file cannot be written.
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = dict(parameters.named())
    if class_names:
        arrays["class_names"] = np.array(class_names, np.str_)
    np.savez(buffer, image_shape=np.array(image_shape, np.int64), activation=np.array(activation), **arrays)
    write_atomically(Path(path), lambda file: file.write(buffer.getvalue()))


def load_model(path: str | Path) -> Model:
    """Read a file that :func:`save_model` wrote; without a named activation, it is ReLU, and without names of classes
    they are numbers.

    Raises:
        ModelError: If the file is missing or is not a model file. Pickled data is refused.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    layers = sum(name.startswith("W") for name in arrays)
    expected = {"image_shape", *(f"{kind}{layer}" for kind in "Wb" for layer in range(1, layers + 1))}
    if layers == 0 or {*arrays} - {"activation", "class_names"} != expected:
        raise ModelError(f"{path}: holds {sorted(arrays)}, not image_shape, activation, W1, b1, W2, b2, ...")
    activation = arrays.pop("activation", np.array("relu"))
    if activation.shape or activation.dtype.kind != "U" or str(activation) not in ACTIVATIONS:
        raise ModelError(f"{path}: the activation {activation.tolist()!r} is none of {', '.join(ACTIVATIONS)}")
    names = arrays.pop("class_names", np.array((), np.str_))
    parameters = _checked_parameters(path, arrays, layers)
    sides = arrays["image_shape"]
    inputs = parameters.network.inputs
    whole = sides.shape == (2,) and sides.dtype.kind in "iu" and sides.min() >= 1
    if not whole or int(sides[0]) * int(sides[1]) != inputs:
        raise ModelError(f"{path}: images of shape {sides.tolist()} do not fit {inputs} inputs")
    known = next(name for name in ACTIVATIONS if name == str(activation))
    return Model(
        parameters, (int(sides[0]), int(sides[1])), known, _class_names(path, names, parameters.network.outputs)
    )


def _class_names(path: Path, names: NDArray[Any], outputs: int) -> tuple[str, ...]:
    """Return the names of the classes; raise a ModelError that names the file if they are not those of the outputs."""
    found = tuple(map(str, names.tolist())) if names.ndim == 1 and names.dtype.kind == "U" else None
    if found is None or (found and not len({*found}) == len(found) == outputs):
        raise ModelError(f"{path}: class_names must be {outputs} different texts, one for each output")
    return found


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        file = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; write one with 'mnistbench train --save {path}'") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged file can fail in zip, zlib or the array's header, or exhaust the memory
        raise ModelError(f"{path}: not a model file written by 'mnistbench train --save'") from error


def _checked_parameters(path: Path, arrays: dict[str, NDArray[Any]], layers: int) -> Parameters:
    """Convert the arrays to parameters; raise a ModelError that names the file if they are not."""
    for name, array in arrays.items():
        if name != "image_shape" and array.dtype not in (np.float32, np.float64):
            raise ModelError(f"{path}: {name} is {array.dtype}, not float32 or float64")
    try:
        parameters = Parameters.from_arrays(arrays[f"{kind}{n}"] for n in range(1, layers + 1) for kind in "Wb")
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    if not parameters.is_finite():
        raise ModelError(f"{path}: holds values that are NaN or infinite")
    return parameters
