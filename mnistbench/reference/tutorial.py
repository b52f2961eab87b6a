"""The classic network in pure NumPy, with the names of a widely read tutorial. Every backend must reproduce it.

One hidden layer with ReLU, softmax outputs, cross-entropy loss and full-batch gradient descent::

    Z1 = W1 X + b1        A1 = ReLU(Z1)        Z2 = W2 A1 + b2        A2 = softmax(Z2)
    dZ2 = A2 - Y          dW2 = dZ2 A1ᵀ / m    db2 = sum over images of dZ2 / m
    dZ1 = W2ᵀ dZ2 * (Z1 > 0)                   dW1 = dZ1 Xᵀ / m      db1 = sum over images of dZ1 / m
    W := W - alpha dW     b := b - alpha db    for both layers

Each column is one image. The shapes below use ``n`` inputs (784 pixels), ``h`` hidden units (10), ``c`` outputs (10
classes) and ``m`` images (41,000):

    X (n, m)   W1 (h, n)   b1 (h, 1)   Z1, A1 (h, m)   W2 (c, h)   b2 (c, 1)   Z2, A2 (c, m)   Y (m,)

Function names and signatures are those of "Simple MNIST NN from scratch (NumPy, no TensorFlow/Keras)" by Samson Zhang.
Results differ from it where the tutorial is wrong:

- Bias gradients are summed per unit; the tutorial sums all units to one scalar.
- Softmax subtracts the column maximum; in the tutorial, logits above 709 overflow to NaN.
- The one-hot matrix has a row for each output; the tutorial's has one for each label up to ``Y.max()``, so it does not
  fit the network if no image has the last class.
- ``m`` comes from ``Y``; the tutorial takes it from a global variable, which may belong to other data.

Every function computes in the dtype of its array arguments, float64 or float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mnistbench.exceptions import DataError, Diverged
from mnistbench.reference import mistakes

Array = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def scale_images(images: NDArray[np.uint8], dtype: DTypeLike = np.float64) -> Array:
    """Convert uint8 images (m, n), one per row, to X (n, m) in [0, 1], one per column, by dividing by 255.

    Inputs about as large as the weights keep the first gradients, and so the useful learning rates, moderate.

    Raises:
        DataError: If the images are fractions, so scaled before.
    """
    if images.dtype.kind == "f" and images.size and images.max() <= 1:
        raise DataError("images up to 1 are scaled already; give pixels from 0 to 255, or use images.T as X")
    X: Array = np.ascontiguousarray(images.T, dtype)
    X /= 255
    return X


def init_params(
    inputs: int = 784, hidden: int = 10, outputs: int = 10, seed: int | None = None
) -> tuple[Array, Array, Array, Array]:
    """Draw W1 (h, n), b1 (h, 1), W2 (c, h), b2 (c, 1) uniformly from [-0.5, 0.5), float64.

    Random weights make the hidden units differ; with equal weights they would get equal gradients and stay copies of
    each other. The values are multiples of 2⁻²⁴, which float32 can represent, so that float32 and float64 start from
    exactly the same numbers.

    With ``seed=None`` every call draws other values, as in the tutorial.
    """
    rng = np.random.default_rng(seed)

    def uniform(rows: int, columns: int) -> Array:
        return rng.random((rows, columns), dtype=np.float32).astype(np.float64) - 0.5

    return uniform(hidden, inputs), uniform(hidden, 1), uniform(outputs, hidden), uniform(outputs, 1)


def ReLU(Z: Array) -> Array:
    """Compute max(Z, 0) elementwise. Without a non-linearity, two layers could compute no more than one."""
    return np.maximum(Z, 0)


def ReLU_deriv(Z: Array) -> NDArray[np.bool_]:
    """Compute the derivative of ReLU as booleans: 1 where Z > 0, else 0; at 0, where it has none, 0 by convention."""
    return Z > 0


def softmax(Z: Array) -> Array:
    """Compute exp(Z) / sum of exp(Z) over each column: logits (c, m) become probabilities (c, m) that sum to 1.

    Subtracting a column's maximum from its logits cancels in the quotient and keeps exp from overflowing: the largest
    exponent is 0.
    """
    exp_Z: Array = np.exp(Z - Z.max(axis=0))
    probabilities: Array = exp_Z / exp_Z.sum(axis=0)
    return probabilities


def cross_entropy(Z2: Array, Y: Labels) -> float:
    """Compute the loss, the mean over images of -log(probability of the true label), from the logits Z2 (c, m).

    -log softmax(z)[y] = log(sum of exp(z)) - z[y]. Using the logits keeps the loss finite if a probability is too small
    to represent.
    """
    shifted = Z2 - Z2.max(axis=0)
    log_sum = np.log(np.exp(shifted).sum(axis=0))
    return float(np.mean(log_sum - shifted[Y, np.arange(Y.size)], dtype=np.float64))


def one_hot(Y: Labels, outputs: int = 10) -> NDArray[np.float64]:
    """Convert labels (m,) to the ideal outputs (c, m): the column for label k is the k-th unit vector.

    Raises:
        DataError: If the labels are no row of whole numbers from 0 to below ``outputs``.
    """
    one_hot_Y = np.zeros((outputs, Y.size))
    if Y.ndim != 1 or (Y.size and Y.min() < 0):
        raise mistakes.wrong_labels(Y, outputs)
    try:
        one_hot_Y[Y, np.arange(Y.size)] = 1
    except IndexError:
        raise mistakes.wrong_labels(Y, outputs) from None
    return one_hot_Y


def forward_prop(W1: Array, b1: Array, W2: Array, b2: Array, X: Array) -> tuple[Array, Array, Array, Array]:
    """Compute Z1 = W1 X + b1, A1 = ReLU(Z1), Z2 = W2 A1 + b2 and A2 = softmax(Z2).

    All four are returned, since the backward pass needs the intermediate values. The biases (h, 1) and (c, 1) broadcast
    over the images.

    Raises:
        DataError: If X does not have an image in each column, or b1 a row for each hidden unit.
    """
    mistakes.check_layer(W1, b1, X)
    Z1 = W1 @ X + b1
    A1 = ReLU(Z1)
    Z2 = W2 @ A1 + b2
    A2 = softmax(Z2)
    return Z1, A1, Z2, A2


def backward_prop(
    Z1: Array, A1: Array, Z2: Array, A2: Array, W1: Array, W2: Array, X: Array, Y: Labels
) -> tuple[Array, Array, Array, Array]:
    """Compute the gradients of the mean cross-entropy: dW1 (h, n), db1 (h, 1), dW2 (c, h), db2 (c, 1).

    The derivative of the cross-entropy with respect to the logits is A2 - Y: probability minus ideal output. The chain
    rule propagates it back through each layer: W2ᵀ dZ2 is the derivative with respect to A1, and ReLU passes it where
    Z1 > 0. The gradient of a weight is the derivative at its output times its input, averaged over images; that of a
    bias is the same with input 1.

    ``Z2`` and ``W1`` are unused; the tutorial's signature has them.

    Raises:
        DataError: If the labels do not fit the images or the outputs.
    """
    m = Y.size
    mistakes.check_count(Y, A2.shape[1])
    dZ2 = A2 - one_hot(Y, A2.shape[0]).astype(A2.dtype)
    dW2 = dZ2 @ A1.T / m
    db2 = dZ2.sum(axis=1, keepdims=True) / m
    dZ1 = W2.T @ dZ2 * ReLU_deriv(Z1)
    dW1 = dZ1 @ X.T / m
    db1 = dZ1.sum(axis=1, keepdims=True) / m
    return dW1, db1, dW2, db2


def update_params(
    W1: Array, b1: Array, W2: Array, b2: Array, dW1: Array, db1: Array, dW2: Array, db2: Array, alpha: float
) -> tuple[Array, Array, Array, Array]:
    """Take one gradient descent step, W := W - alpha dW and b := b - alpha db; return new arrays.

    Raises:
        DataError: If the gradient of a bias has another shape, such as that of one number for all units.
    """
    mistakes.check_bias_gradients(b1, b2, db1, db2)
    W1 = W1 - alpha * dW1
    b1 = b1 - alpha * db1
    W2 = W2 - alpha * dW2
    b2 = b2 - alpha * db2
    return W1, b1, W2, b2


def get_predictions(A2: Array) -> NDArray[np.int64]:
    """Return the most probable class of each column: (c, m) to (m,). The first class wins a tie."""
    predictions: NDArray[np.int64] = np.argmax(A2, axis=0)
    return predictions


def get_accuracy(predictions: Labels, Y: Labels) -> float:
    """Return the fraction of predictions (m,) that equal their label."""
    return float(np.mean(predictions == Y))


def gradient_descent(
    X: Array, Y: Labels, alpha: float, iterations: int, hidden: int = 10, outputs: int = 10, seed: int | None = None
) -> tuple[Array, Array, Array, Array]:
    """Train on all images at every iteration and return W1, b1, W2, b2.

    Every tenth iteration prints the accuracy of its forward pass, which is that of the parameters before its update.

    Raises:
        DataError: If X and Y are not images in columns, from 0 to about 1, and their labels below ``outputs``.
        Diverged: If an output is infinite or NaN in an iteration that prints.
    """
    mistakes.check_data(X, Y, outputs)
    dtype = np.result_type(X.dtype, np.float32)  # an integer dtype would round the parameters to 0
    W1, b1, W2, b2 = (p.astype(dtype) for p in init_params(X.shape[0], hidden, outputs, seed))
    for i in range(iterations):
        Z1, A1, Z2, A2 = forward_prop(W1, b1, W2, b2, X)
        dW1, db1, dW2, db2 = backward_prop(Z1, A1, Z2, A2, W1, W2, X, Y)
        W1, b1, W2, b2 = update_params(W1, b1, W2, b2, dW1, db1, dW2, db2, alpha)
        if i % 10 == 0:
            if not np.isfinite(Z2).all():
                raise Diverged(i, alpha)
            print(f"Iteration: {i}, Accuracy: {get_accuracy(get_predictions(A2), Y):.3f}")
    return W1, b1, W2, b2


def make_predictions(X: Array, W1: Array, b1: Array, W2: Array, b2: Array) -> NDArray[np.int64]:
    """Return the predicted class of each column of X (n, m), as (m,) integers."""
    _, _, _, A2 = forward_prop(W1, b1, W2, b2, X)
    return get_predictions(A2)
