"""Trainers of the classic that are wrong in one way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench import reference
from mnistbench.backends import Metrics
from mnistbench.backends.numpy import NumpyMlpTrainer
from mnistbench.datasets import Dataset
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.workload import Workload
from tests.faults.base import Faults, Forward, Steps, changed, scaled

FAULTS = fault = Faults()

# Gradients and updates


@fault("gradient")
def ScalarBiasGradients(self: Steps, batch: mlp.Batch, found: Forward) -> Parameters:
    """The tutorial's: one sum over all units."""
    own = Steps.gradient(self, batch, found)
    return Parameters(own.weights, [np.full_like(db, db.sum()) for db in own.biases])


@fault()
class MisshapenGradients(Steps):
    """A scalar where there should be one for each unit."""

    gradients = NumpyMlpTrainer.gradients

    def gradient(self, batch: mlp.Batch, found: Forward) -> Parameters:
        own = super().gradient(batch, found)
        return changed(own, b2=own.biases[1].sum(keepdims=True))


@fault("update")
def SecondBiasForgotten(self: Steps, gradient: Parameters) -> mlp.State:
    moved, b2 = Steps.update(self, gradient), self._state.parameters.biases[1]
    return replace(moved, parameters=changed(moved.parameters, b2=b2))


@fault("update")
def FirstLayerFrozen(self: Steps, gradient: Parameters) -> mlp.State:
    moved, own = Steps.update(self, gradient), self._state.parameters
    return replace(moved, parameters=changed(moved.parameters, W1=own.weights[0], b1=own.biases[0]))


fault.each(
    "update",
    {
        "LearningRateOff": lambda self, gradient: Steps.update(self, scaled(gradient, 1.001)),
        "Ascent": lambda self, gradient: Steps.update(self, scaled(gradient, -1.0)),
    },
)


@fault("gradient")
def OneImageTooMany(self: Steps, batch: mlp.Batch, found: Forward) -> Parameters:
    """Divides by m + 1."""
    return scaled(Steps.gradient(self, batch, found), batch.Y.size / (batch.Y.size + 1))


@fault("gradient")
def LastImageIgnored(self: Steps, batch: mlp.Batch, found: Forward) -> Parameters:
    """As a loop over blocks that drops the rest would; the metrics are over all images."""
    rest = mlp.Batch(batch.X[:, :-1], batch.Y[:-1], None)
    return scaled(mlp.gradients(self.workload, self._state.parameters, rest), (batch.Y.size - 1) / batch.Y.size)


@fault("batch")
def OneLabelWrong(self: Steps, iteration: int) -> mlp.Batch:
    own = Steps.batch(self, iteration)
    Y = own.Y.copy()
    Y[7] = (Y[7] + 1) % self.workload.network.sizes[-1]
    return replace(own, Y=Y)


@fault("batch")
def LabelsShifted(self: Steps, iteration: int) -> mlp.Batch:
    own = Steps.batch(self, iteration)
    return replace(own, Y=np.roll(own.Y, 1))


@fault("batch")
def PixelsOver256(self: Steps, iteration: int) -> mlp.Batch:
    own = Steps.batch(self, iteration)
    return replace(own, X=(own.X * (255 / 256)).astype(own.X.dtype))


def derivative_at(change: Callable[[Array], Array]) -> Callable[..., Parameters]:
    """Return a gradient that takes the derivative of ReLU at other pre-activations."""
    return lambda self, batch, found: Steps.gradient(self, batch, ([change(found[0][0]), found[0][1]], found[1]))


fault.each(
    "gradient",
    {
        "ReluDerivativeOne": derivative_at(np.ones_like),
        # 1 where Z1 is small, not where it is positive.
        "ReluDerivativeOfTheOther": derivative_at(lambda Z1: Z1 - Z1.dtype.type(0.01)),
    },
)


@fault()
class StaleActivations(Steps):
    """Every update uses the forward pass of the iteration before it; the metrics are its own."""

    gradients = NumpyMlpTrainer.gradients
    previous: Forward | None = None

    def gradient(self, batch: mlp.Batch, found: Forward) -> Parameters:
        stale, self.previous = self.previous or found, found
        return super().gradient(batch, stale)

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self.previous = None


@fault("gradient")
def UpdatedWeightsBehind(self: Steps, batch: mlp.Batch, found: Forward) -> Parameters:
    """The error goes back through W2 after its update: a classic slip of order."""
    own = self._state.parameters
    W2 = own.weights[1] - self.workload.learning_rate * Steps.gradient(self, batch, found).weights[1]
    return mlp.gradients(self.workload, changed(own, W2=W2), batch, found)


# How many iterations, and which

fault.each(
    "advance",
    {
        "OneTooMany": lambda self, iterations: Steps.advance(self, iterations + 1),
        "OneTooFew": lambda self, iterations: Steps.advance(self, max(1, iterations - 1)),
        "AlwaysOne": lambda self, iterations: Steps.advance(self, 1),
    },
)


@fault()
class OnlyOnce(Steps):
    """After the first call nothing happens, and the metrics stay those of the first."""

    first: Metrics | None = None

    def advance(self, iterations: int) -> Metrics:
        self.first = self.first or super().advance(iterations)
        return self.first


@fault("advance")
def FirstMetricsOfSeveral(self: Steps, iterations: int) -> Metrics:
    """The metrics of a call's first iteration, where it runs several."""
    metrics = Steps.advance(self, 1)
    if iterations > 1:
        Steps.advance(self, iterations - 1)
    return metrics


@fault()
class MetricsOneIterationLate(Steps):
    """A pipeline that shows what went in before."""

    before: Metrics | None = None

    def advance(self, iterations: int) -> Metrics:
        last = super().advance(iterations - 1) if iterations > 1 else self.before
        self.before = super().advance(1)
        return last or self.before


@fault()
class MetricsOfTheCallBefore(Steps):
    before: Metrics | None = None

    def advance(self, iterations: int) -> Metrics:
        last, self.before = self.before, super().advance(iterations)
        return last or self.before


@fault()
class RightAtTheEnd(Steps):
    """Takes no steps until the last iteration but one, and then all of them at once."""

    count = 0

    def advance(self, iterations: int) -> Metrics:
        self.count += iterations
        if self.count < self.workload.iterations:
            return self.metrics_now()
        return super().advance(self.count - self._state.iteration)

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self.count = 0


# Metrics


@fault("advance")
def MetricsAfterTheUpdate(self: Steps, iterations: int) -> Metrics:
    Steps.advance(self, iterations)
    return self.metrics_now()


@fault("loss")
def LossNanOnce(self: Steps, logits: Array, Y: reference.Labels) -> float:
    """At the last iteration compared."""
    return math.nan if self._state.iteration >= self.workload.iterations else Steps.loss(self, logits, Y)


fault.each(
    "loss",
    {
        "LastImageIgnoredInMetrics": lambda self, logits, Y: Steps.loss(self, logits[:, :-1], Y[:-1]),
        "LossScaled": lambda self, logits, Y: Steps.loss(self, logits, Y) / math.log(2),  # bits, not nats
        "LossOff": lambda self, logits, Y: 1.001 * Steps.loss(self, logits, Y),
        "LossSummed": lambda self, logits, Y: Steps.loss(self, logits, Y) * Y.size,
        "LossNan": lambda self, logits, Y: math.nan,
    },
)


@fault()
class AccuracyOfDev(Steps):
    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        super().__init__(workload, dataset, parameters, threads)
        self.dev = dataset.dev

    def accuracy(self, logits: Array, Y: reference.Labels) -> float:
        return float(np.mean(self.predict(self.dev.images) == self.dev.labels))


@fault("accuracy", dtypes=("float64",))
def AccuracyOneImageOff(self: Steps, logits: Array, Y: reference.Labels) -> float:
    """In float32, the two largest logits of one image may be too close to tell apart."""
    return Steps.accuracy(self, logits, Y) + 1 / Y.size


fault.each(
    "accuracy",
    {
        "AccuracyOfTheTwoMostProbable": lambda self, logits, Y: np.mean((logits.argsort(0)[-2:] == Y).any(axis=0)),
        "AccuracyInPercent": lambda self, logits, Y: 100 * Steps.accuracy(self, logits, Y),
        "AccuracyNan": lambda self, logits, Y: math.nan,
    },
)


# gradients()


@fault()
class GradientsOfTheInitialParameters(Steps):
    """Whatever the parameters are now."""

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self.initial_gradients = super().gradients()

    def gradients(self) -> Parameters:
        return self.initial_gradients


@fault("gradients")
def GradientsOfTheNextParameters(self: Steps) -> Parameters:
    kept = self._state
    self._state = self.update(Steps.gradients(self))
    gradients = Steps.gradients(self)
    self._state = kept
    return gradients


@fault("gradients")
def GradientsThatUpdate(self: Steps) -> Parameters:
    """Right, but a step has been taken on the way."""
    gradients = Steps.gradients(self)
    self._state = self.update(gradients)
    return gradients


def handed_out(change: Callable[[str, Array], Array]) -> Callable[[Steps], Parameters]:
    """Return a method that trains with the right gradients and hands out others."""
    return lambda self: Parameters.from_arrays(change(name, array) for name, array in Steps.gradients(self).named())


fault.each(
    "gradients",
    {
        "GradientsWithTheWrongSign": handed_out(lambda name, array: -array),
        "GradientOfOneArrayWithTheWrongSign": handed_out(lambda name, array: -array if name == "b2" else array),
        "GradientsTransposed": handed_out(lambda name, array: array.T.copy() if name == "W2" else array),
        "GradientsSummed": handed_out(lambda name, array: array * 200),
        "GradientsNan": handed_out(lambda name, array: np.where(np.arange(array.shape[1]) == 3, np.nan, array)),
        "GradientsZero": handed_out(lambda name, array: np.zeros_like(array)),
    },
)


# Precision


def rounding(rounded: Callable[[Array], Array]) -> Callable[[Steps, mlp.Batch], Forward]:
    """Return a forward pass that rounds what it multiplies."""

    def forward(self: Steps, batch: mlp.Batch) -> Forward:
        own, dtype = self._state.parameters, batch.X.dtype
        Zs, As = mlp.forward(Parameters.from_arrays(map(rounded, own.arrays())), rounded(batch.X), "relu")
        return [Z.astype(dtype) for Z in Zs], [batch.X, *(A.astype(dtype) for A in As[1:])]

    return forward


@fault("forward", dtypes=("float64",))
def SingleInDouble(self: Steps, batch: mlp.Batch) -> Forward:
    """float32 arithmetic behind a float64 face."""
    return rounding(lambda values: values.astype(np.float32))(self, batch)


def ten_bits(values: Array) -> Array:
    """TF32: the exponents of float32, the ten bits of float16."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent).astype(values.dtype)


fault.each(
    "forward",
    {
        # float16 operands, float32 or float64 sums: a tensor core's way.
        "HalfInside": rounding(lambda values: values.astype(np.float16).astype(values.dtype)),
        "TenBitOperands": rounding(ten_bits),
    },
)


@fault("update", dtypes=("float64",))
def SingleParameters(self: Steps, gradient: Parameters) -> mlp.State:
    """float64 arithmetic on parameters kept in float32."""
    moved = Steps.update(self, gradient)
    return replace(moved, parameters=moved.parameters.astype("float32").astype("float64"))


# parameters(), reset(), start()


def overwritten(own: Parameters, values: Parameters) -> Parameters:
    """Copy the values into the very arrays of ``own``."""
    for array, value in zip(own.arrays(), values.arrays(), strict=True):
        array[...] = value
    return own


@fault()
class LiveView(Steps):
    """parameters() hands out the very arrays, which are updated in place."""

    def update(self, gradient: Parameters) -> mlp.State:
        moved = super().update(gradient)
        return replace(moved, parameters=overwritten(self._state.parameters, moved.parameters))

    def reset(self, parameters: Parameters) -> None:
        kept = self._state.parameters if hasattr(self, "_state") else parameters.astype(self.workload.dtype)
        self._state = mlp.State(0, overwritten(kept, parameters), [])

    def parameters(self) -> Parameters:
        return self._state.parameters


@fault(dtypes=("float64",))
class KeepsTheCallersArrays(LiveView):
    """Starts from them without a copy, so that training changes them."""

    parameters = NumpyMlpTrainer.parameters

    def reset(self, parameters: Parameters) -> None:
        self._state = mlp.State(0, parameters, [])


@fault("parameters")
def OtherDtype(self: Steps) -> Parameters:
    return Steps.parameters(self).astype("float64" if self.workload.dtype == "float32" else "float32")


@fault("parameters")
def OneArrayOfOtherDtype(self: Steps) -> Parameters:
    own = Steps.parameters(self)
    return changed(own, b2=own.biases[1].astype(np.float16))


@fault("parameters")
def FewerUnits(self: Steps) -> Parameters:
    """A shape that chains, but is not the network's."""
    W1, b1, W2, b2 = Steps.parameters(self).arrays()
    return Parameters([W1[:-1], W2[:, :-1]], [b1[:-1], b2])


@fault("update")
def ParametersNan(self: Steps, gradient: Parameters) -> mlp.State:
    """In one place, from the second update on."""
    moved = Steps.update(self, gradient)
    moved.parameters.biases[1][3] = np.nan
    return moved


@fault("parameters")
def ParametersNanOutside(self: Steps) -> Parameters:
    """Trains on, but one weight that is handed out is NaN."""
    own = Steps.parameters(self)
    own.weights[0][0, 0] = np.nan
    return own


@fault("reset")
def ResetForgetsTheWeights(self: Steps, parameters: Parameters) -> None:
    if not hasattr(self, "_state"):
        Steps.reset(self, parameters)


@fault("reset")
def ResetForgetsOneArray(self: Steps, parameters: Parameters) -> None:
    old = self._state.parameters if hasattr(self, "_state") else parameters
    Steps.reset(self, changed(parameters, b2=old.biases[1]))


@fault()
class ResetForgetsTheMetrics(Steps):
    """The first call after a reset returns those of the last before it."""

    last: Metrics | None = None
    stale = False

    def advance(self, iterations: int) -> Metrics:
        found = super().advance(iterations)
        stale, self.stale = self.stale, False
        if stale and self.last:
            return self.last
        self.last = found
        return found

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self.stale = True


@fault()
class ResetForgetsInternalState(Steps):
    """Momentum, say: here a learning rate that decays, and goes on doing so."""

    updates = 0

    def update(self, gradient: Parameters) -> mlp.State:
        self.updates += 1
        return super().update(scaled(gradient, 1.0 if self.updates <= self.workload.iterations + 1 else 0.5))


@fault()
class StartsFromOtherParameters(Steps):
    """Only a reset brings those it was given."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        super().__init__(workload, dataset, Parameters.initial(workload.network, workload.seed + 1), threads)


# predict()


def predicting(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[..., NDArray[Any]]:
    """Return a ``predict`` that changes the right labels."""
    return lambda self, images: change(Steps.predict(self, images))


fault.each(
    "predict",
    {
        "SomePredictionsOff": predicting(lambda labels: (labels + (np.arange(len(labels)) % 50 == 0)) % 10),
        "LastPredictionMissing": predicting(lambda labels: labels[:-1]),
        # A block of images that is never computed, and whose memory is left unchanged.
        "LastPredictionZero": predicting(lambda labels: np.append(labels[:-16], [0] * 16)),
        "PredictionsAsARow": predicting(lambda labels: labels[np.newaxis]),  # (1, k), not (k,)
    },
)


@fault("predict")
def PredictionsOfTheInitialParameters(self: Steps, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    kept = self._state
    self.reset(Parameters.initial(self.workload.network, self.workload.seed))
    labels = Steps.predict(self, images)
    self._state = kept
    return labels


# Errors


@fault("advance")
def RaisesOnTheWay(self: Steps, iterations: int) -> Metrics:
    if self._state.iteration > 30:
        raise RuntimeError("out of\nmemory")
    return Steps.advance(self, iterations)


@fault("__init__")
def RaisesAtTheStart(self: Steps, *_: Any) -> None:
    raise ValueError("no kernel for this device")


@fault("predict")
def RaisesAtTheEnd(self: Steps, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    raise AssertionError
