"""Agreement: a backend that is wrong in any one way is rejected, and one that is right is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import mnistbench.backends as registry
from mnistbench import agreement, reference
from mnistbench.agreement import Agreement, Check, Trajectory, check, checkpoints, verify
from mnistbench.backends import Metrics, Trainer
from mnistbench.backends.numpy import NumpyBackend, NumpyTrainer
from mnistbench.datasets import Dataset, Split, load_data
from mnistbench.exceptions import BackendUnavailable, OptionError, UnknownBackend
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.presets import preset
from mnistbench.task.workload import DTYPES, DType, Workload

Four = tuple[Array, Array, Array, Array]

# The options of the command line give these names parameters of their own; here they are spelled out.
BOTH = [pytest.param(dtype, id=dtype) for dtype in DTYPES]


class StepTrainer(NumpyTrainer):
    """The honest computation, cut into the steps that a fault replaces; it counts the iterations."""

    _iteration = 0

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self._iteration = 0

    def advance(self, iterations: int) -> Metrics:
        for _ in range(iterations):
            forward = reference.forward_prop(*self._arrays, self._X)
            gradients = self.backward(forward)
            self._arrays = self.update(gradients)
        self._iteration += iterations
        return Metrics(self.loss(forward[2]), self.accuracy(forward[3]))

    def gradients(self) -> Parameters:
        dW1, db1, dW2, db2 = self.backward(reference.forward_prop(*self._arrays, self._X))
        return Parameters([dW1, dW2], [db1, db2])

    def backward(self, forward: Four) -> Four:
        W1, _, W2, _ = self._arrays
        return reference.backward_prop(*forward, W1, W2, self._X, self._Y)

    def update(self, gradients: Four) -> Four:
        return reference.update_params(*self._arrays, *gradients, self.workload.learning_rate)

    def loss(self, Z2: Array) -> float:
        return reference.cross_entropy(Z2, self._Y)

    def accuracy(self, A2: Array) -> float:
        return reference.get_accuracy(reference.get_predictions(A2), self._Y)


class FaultyBackend(NumpyBackend):
    """Starts the trainer it was made with."""

    def __init__(self, trainer: type[NumpyTrainer]) -> None:
        self.trainer = trainer

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        return self.trainer(workload, dataset, parameters, 1)


# Every fault, and the dtypes in which it is one.
FAULTS: dict[type[NumpyTrainer], tuple[DType, ...]] = {}


def fault(*dtypes: DType) -> Callable[[type[NumpyTrainer]], type[NumpyTrainer]]:
    def register(trainer: type[NumpyTrainer]) -> type[NumpyTrainer]:
        FAULTS[trainer] = dtypes or DTYPES
        return trainer

    return register


# Gradients and updates


@fault()
class ScalarBiasGradients(StepTrainer):
    """The tutorial's: one sum over all units."""

    def backward(self, forward: Four) -> Four:
        dW1, db1, dW2, db2 = super().backward(forward)
        return dW1, np.full_like(db1, db1.sum()), dW2, np.full_like(db2, db2.sum())


@fault()
class MisshapenGradients(StepTrainer):
    """A scalar where there should be one for each unit."""

    def backward(self, forward: Four) -> Four:
        dW1, db1, dW2, db2 = super().backward(forward)
        return dW1, db1, dW2, db2.sum(keepdims=True)

    def gradients(self) -> Parameters:
        own = super(StepTrainer, self).gradients()
        return Parameters(own.weights, [own.biases[0], own.biases[1]])


@fault()
class SecondBiasForgotten(StepTrainer):
    def update(self, gradients: Four) -> Four:
        W1, b1, W2, _ = super().update(gradients)
        return W1, b1, W2, self._arrays[3]


@fault()
class FirstLayerFrozen(StepTrainer):
    def update(self, gradients: Four) -> Four:
        _, _, W2, b2 = super().update(gradients)
        return *self._arrays[:2], W2, b2


@fault()
class LearningRateOff(StepTrainer):
    """By one in a thousand."""

    def update(self, gradients: Four) -> Four:
        return reference.update_params(*self._arrays, *gradients, 1.001 * self.workload.learning_rate)


@fault()
class Ascent(StepTrainer):
    def update(self, gradients: Four) -> Four:
        return reference.update_params(*self._arrays, *gradients, -self.workload.learning_rate)


@fault()
class OneImageTooMany(StepTrainer):
    """Divides by m + 1."""

    def backward(self, forward: Four) -> Four:
        scale = self._Y.size / (self._Y.size + 1)
        dW1, db1, dW2, db2 = super().backward(forward)
        return dW1 * scale, db1 * scale, dW2 * scale, db2 * scale


@fault()
class LastImageIgnored(StepTrainer):
    """Such as a loop over blocks that drops the rest; the metrics are of all images."""

    def backward(self, forward: Four) -> Four:
        Z1, A1, Z2, A2 = (values[:, :-1] for values in forward)
        W1, _, W2, _ = self._arrays
        gradients = reference.backward_prop(Z1, A1, Z2, A2, W1, W2, self._X[:, :-1], self._Y[:-1])
        dW1, db1, dW2, db2 = (gradient * ((self._Y.size - 1) / self._Y.size) for gradient in gradients)
        return dW1, db1, dW2, db2


@fault()
class LastImageIgnoredInMetrics(StepTrainer):
    def loss(self, Z2: Array) -> float:
        return reference.cross_entropy(Z2[:, :-1], self._Y[:-1])


@fault()
class OneLabelWrong(NumpyTrainer):
    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int) -> None:
        super().__init__(workload, dataset, parameters, threads)
        self._Y = self._Y.copy()
        self._Y[7] = (self._Y[7] + 1) % dataset.classes


@fault()
class LabelsShifted(NumpyTrainer):
    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int) -> None:
        super().__init__(workload, dataset, parameters, threads)
        self._Y = np.roll(self._Y, 1)


@fault()
class PixelsOver256(NumpyTrainer):
    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int) -> None:
        super().__init__(workload, dataset, parameters, threads)
        self._X = (self._X * (255 / 256)).astype(self._X.dtype)


@fault()
class ReluDerivativeOne(StepTrainer):
    def backward(self, forward: Four) -> Four:
        Z1, A1, Z2, A2 = forward
        W1, _, W2, _ = self._arrays
        return reference.backward_prop(np.ones_like(Z1), A1, Z2, A2, W1, W2, self._X, self._Y)


@fault()
class ReluDerivativeOfTheOther(StepTrainer):
    """1 where Z1 is small, not where it is positive."""

    def backward(self, forward: Four) -> Four:
        Z1, A1, Z2, A2 = forward
        W1, _, W2, _ = self._arrays
        return reference.backward_prop(Z1 - Z1.dtype.type(0.01), A1, Z2, A2, W1, W2, self._X, self._Y)


@fault()
class StaleActivations(StepTrainer):
    """Every update uses the forward pass of the iteration before it; the metrics are its own."""

    previous: Four | None = None

    def advance(self, iterations: int) -> Metrics:
        for _ in range(iterations):
            forward = reference.forward_prop(*self._arrays, self._X)
            self._arrays = self.update(self.backward(self.previous or forward))
            self.previous = forward
        self._iteration += iterations
        return Metrics(self.loss(forward[2]), self.accuracy(forward[3]))

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self.previous = None


@fault()
class UpdatedWeightsBehind(StepTrainer):
    """The error goes back through W2 after its update: a classic slip of order."""

    def backward(self, forward: Four) -> Four:
        _, A1, _, A2 = forward
        dZ2 = A2 - reference.one_hot(self._Y, A2.shape[0]).astype(A2.dtype)
        W1, _, W2, _ = self._arrays
        W2 = W2 - self.workload.learning_rate * (dZ2 @ A1.T / self._Y.size)
        return reference.backward_prop(*forward, W1, W2, self._X, self._Y)


# How many iterations, and which


class Iterations(StepTrainer):
    """Runs others than it was asked for, and counts those it was asked for."""

    def advance(self, iterations: int) -> Metrics:
        before = self._iteration
        metrics = super().advance(self.instead_of(iterations))
        self._iteration = before + iterations
        return metrics

    def instead_of(self, iterations: int) -> int:
        raise NotImplementedError


@fault()
class OneTooMany(Iterations):
    def instead_of(self, iterations: int) -> int:
        return iterations + 1


@fault()
class OneTooFew(Iterations):
    """Except where one is asked for."""

    def instead_of(self, iterations: int) -> int:
        return max(1, iterations - 1)


@fault()
class AlwaysOne(Iterations):
    def instead_of(self, iterations: int) -> int:
        return 1


@fault()
class OnlyOnce(StepTrainer):
    """After the first call nothing happens, and the metrics stay those of the first."""

    first: Metrics | None = None

    def advance(self, iterations: int) -> Metrics:
        if self.first is None:
            self.first = super().advance(iterations)
        return self.first


@fault()
class FirstMetricsOfSeveral(StepTrainer):
    """The metrics of a call's first iteration, where it runs several."""

    def advance(self, iterations: int) -> Metrics:
        metrics = super().advance(1)
        if iterations > 1:
            super().advance(iterations - 1)
        return metrics


@fault()
class MetricsOneIterationLate(StepTrainer):
    """A pipeline that shows what went in before."""

    before: Metrics | None = None

    def advance(self, iterations: int) -> Metrics:
        last = super().advance(iterations - 1) if iterations > 1 else self.before
        self.before = super().advance(1)
        return last or self.before


@fault()
class MetricsOfTheCallBefore(StepTrainer):
    before: Metrics | None = None

    def advance(self, iterations: int) -> Metrics:
        last, self.before = self.before, super().advance(iterations)
        return last or self.before


@fault()
class RightAtTheEnd(StepTrainer):
    """Takes no steps until the last iteration but one, and then all of them at once."""

    def advance(self, iterations: int) -> Metrics:
        last = self.workload.iterations
        count, self._iteration = self._iteration + iterations, 0
        steps = count if count >= last and not getattr(self, "arrived", False) else iterations
        self.arrived = count >= last
        if not self.arrived:
            forward = reference.forward_prop(*self._arrays, self._X)
            metrics = Metrics(self.loss(forward[2]), self.accuracy(forward[3]))
        else:
            metrics = super().advance(steps)
        self._iteration = count
        return metrics

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self.arrived = False


# Metrics


@fault()
class MetricsAfterTheUpdate(StepTrainer):
    def advance(self, iterations: int) -> Metrics:
        super().advance(iterations)
        _, _, Z2, A2 = reference.forward_prop(*self._arrays, self._X)
        return Metrics(self.loss(Z2), self.accuracy(A2))


@fault()
class LossScaled(StepTrainer):
    """In bits, not nats."""

    def loss(self, Z2: Array) -> float:
        return super().loss(Z2) / math.log(2)


@fault()
class LossOff(StepTrainer):
    """By one in a thousand."""

    def loss(self, Z2: Array) -> float:
        return 1.001 * super().loss(Z2)


@fault()
class LossSummed(StepTrainer):
    def loss(self, Z2: Array) -> float:
        return super().loss(Z2) * self._Y.size


@fault()
class LossNan(StepTrainer):
    def loss(self, Z2: Array) -> float:
        return math.nan


@fault()
class LossNanOnce(StepTrainer):
    """At the last iteration compared."""

    def loss(self, Z2: Array) -> float:
        return math.nan if self._iteration > self.workload.iterations else super().loss(Z2)


@fault()
class AccuracyOfDev(StepTrainer):
    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int) -> None:
        super().__init__(workload, dataset, parameters, threads)
        self.dev = dataset.dev

    def accuracy(self, A2: Array) -> float:
        return float(np.mean(self.predict(self.dev.images) == self.dev.labels))


@fault()
class AccuracyOfTheTwoMostProbable(StepTrainer):
    def accuracy(self, A2: Array) -> float:
        return float(np.mean((A2.argsort(axis=0)[-2:] == self._Y).any(axis=0)))


@fault("float64")
class AccuracyOneImageOff(StepTrainer):
    """Which in float32, on so few images, could be one whose two largest logits are too close to tell."""

    def accuracy(self, A2: Array) -> float:
        return super().accuracy(A2) + 1 / self._Y.size


@fault()
class AccuracyInPercent(StepTrainer):
    def accuracy(self, A2: Array) -> float:
        return 100 * super().accuracy(A2)


@fault()
class AccuracyNan(StepTrainer):
    def accuracy(self, A2: Array) -> float:
        return math.nan


# gradients()


@fault()
class GradientsOfTheInitialParameters(StepTrainer):
    """Whatever the parameters are now."""

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self.initial_gradients = StepTrainer.gradients(self)

    def gradients(self) -> Parameters:
        return self.initial_gradients


@fault()
class GradientsOfTheNextParameters(StepTrainer):
    def gradients(self) -> Parameters:
        kept = self._arrays
        super().gradients()
        self._arrays = self.update(self.backward(reference.forward_prop(*self._arrays, self._X)))
        gradients = super().gradients()
        self._arrays = kept
        return gradients


@fault()
class GradientsThatUpdate(StepTrainer):
    """Right, but a step has been taken on the way."""

    def gradients(self) -> Parameters:
        gradients = super().gradients()
        (dW1, dW2), (db1, db2) = gradients.weights, gradients.biases
        self._arrays = self.update((dW1, db1, dW2, db2))
        return gradients


class ChangedGradients(StepTrainer):
    """Trains rightly, and hands out something else as its gradients."""

    change: ClassVar[Callable[[str, Array], Array]]

    def gradients(self) -> Parameters:
        changed = {name: type(self).change(name, array) for name, array in super().gradients().named()}
        return Parameters([changed["W1"], changed["W2"]], [changed["b1"], changed["b2"]])


def gradients_fault(name: str, change: Callable[[str, Array], Array]) -> None:
    FAULTS[type(name, (ChangedGradients,), {"change": staticmethod(change)})] = DTYPES


gradients_fault("GradientsWithTheWrongSign", lambda name, array: -array)
gradients_fault("GradientOfOneArrayWithTheWrongSign", lambda name, array: -array if name == "b2" else array)
gradients_fault("GradientsTransposed", lambda name, array: array.T.copy() if name == "W2" else array)
gradients_fault("GradientsSummed", lambda name, array: array * 200)
gradients_fault("GradientsNan", lambda name, array: np.where(np.arange(array.shape[1]) == 3, np.nan, array))
gradients_fault("GradientsZero", lambda name, array: np.zeros_like(array))


# Precision


class Rounded(StepTrainer):
    """Rounds what it multiplies."""

    @staticmethod
    def rounded(values: Array) -> Array:
        raise NotImplementedError

    def advance(self, iterations: int) -> Metrics:
        for _ in range(iterations):
            forward = self.forward()
            self._arrays = self.update(self.backward(forward))
        self._iteration += iterations
        return Metrics(self.loss(forward[2]), self.accuracy(forward[3]))

    def forward(self) -> Four:
        W1, b1, W2, b2 = self._arrays
        forward = reference.forward_prop(
            self.rounded(W1), self.rounded(b1), self.rounded(W2), self.rounded(b2), self.rounded(self._X)
        )
        Z1, A1, Z2, A2 = (values.astype(W1.dtype) for values in forward)
        return Z1, A1, Z2, A2

    def gradients(self) -> Parameters:
        dW1, db1, dW2, db2 = self.backward(self.forward())
        return Parameters([dW1, dW2], [db1, db2])


@fault("float64")
class SingleInDouble(Rounded):
    """float32 arithmetic behind a float64 face."""

    @staticmethod
    def rounded(values: Array) -> Array:
        return values.astype(np.float32)


@fault()
class HalfInside(Rounded):
    """float16 operands, float32 or float64 sums: a tensor core's way."""

    @staticmethod
    def rounded(values: Array) -> Array:
        return values.astype(np.float16).astype(values.dtype)


@fault()
class TenBitOperands(Rounded):
    """TF32: the exponents of float32, the ten bits of float16."""

    @staticmethod
    def rounded(values: Array) -> Array:
        mantissa, exponent = np.frexp(values)
        return np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent).astype(values.dtype)


@fault("float64")
class SingleParameters(StepTrainer):
    """float64 arithmetic on parameters kept in float32."""

    def update(self, gradients: Four) -> Four:
        W1, b1, W2, b2 = (array.astype(np.float32).astype(np.float64) for array in super().update(gradients))
        return W1, b1, W2, b2


# parameters(), reset(), start()


@fault()
class LiveView(NumpyTrainer):
    """parameters() hands out the very arrays, which are updated in place."""

    def advance(self, iterations: int) -> Metrics:
        own = self._arrays
        metrics = super().advance(iterations)
        for array, value in zip(own, self._arrays, strict=True):
            array[...] = value
        self._arrays = own
        return metrics

    def reset(self, parameters: Parameters) -> None:
        if hasattr(self, "_arrays"):
            for array, value in zip(self._arrays, parameters_in_order(parameters), strict=True):
                array[...] = value
            self._iteration = 0
        else:
            super().reset(parameters)

    def parameters(self) -> Parameters:
        W1, b1, W2, b2 = self._arrays
        return Parameters([W1, W2], [b1, b2])


@fault("float64")
class KeepsTheCallersArrays(LiveView):
    """Starts from them without a copy, so that training changes them."""

    def reset(self, parameters: Parameters) -> None:
        W1, b1, W2, b2 = parameters_in_order(parameters)
        self._arrays = W1, b1, W2, b2

    def parameters(self) -> Parameters:
        return NumpyTrainer.parameters(self)


@fault()
class OtherDtype(NumpyTrainer):
    def parameters(self) -> Parameters:
        other = "float64" if self.workload.dtype == "float32" else "float32"
        return super().parameters().astype(other)


@fault()
class OneArrayOfOtherDtype(NumpyTrainer):
    def parameters(self) -> Parameters:
        own = super().parameters()
        return Parameters(own.weights, [own.biases[0], own.biases[1].astype(np.float16)])


@fault()
class FewerUnits(NumpyTrainer):
    """A shape that chains, but is not the network's."""

    def parameters(self) -> Parameters:
        (W1, W2), (b1, b2) = super().parameters().weights, super().parameters().biases
        return Parameters([W1[:-1], W2[:, :-1]], [b1[:-1], b2])


@fault()
class ParametersNan(StepTrainer):
    """From the second update on, in one place."""

    def update(self, gradients: Four) -> Four:
        W1, b1, W2, b2 = super().update(gradients)
        b2[3] = np.nan
        return W1, b1, W2, b2


@fault()
class ParametersNanOutside(NumpyTrainer):
    """Trains on, but one weight that is handed out is NaN."""

    def parameters(self) -> Parameters:
        own = super().parameters()
        own.weights[0][0, 0] = np.nan
        return own


@fault()
class ResetForgetsTheWeights(NumpyTrainer):
    def reset(self, parameters: Parameters) -> None:
        if not hasattr(self, "_arrays"):
            super().reset(parameters)


@fault()
class ResetForgetsOneArray(NumpyTrainer):
    def reset(self, parameters: Parameters) -> None:
        old = getattr(self, "_arrays", None)
        super().reset(parameters)
        if old is not None:
            self._arrays = (*self._arrays[:3], old[3])


@fault()
class ResetForgetsTheMetrics(StepTrainer):
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
class ResetForgetsInternalState(StepTrainer):
    """Momentum, say: here a learning rate that decays, and goes on doing so."""

    updates = 0

    def update(self, gradients: Four) -> Four:
        self.updates += 1
        decay = 1.0 if self.updates <= self.workload.iterations + 1 else 0.5
        return reference.update_params(*self._arrays, *gradients, decay * self.workload.learning_rate)


@fault()
class StartsFromOtherParameters(NumpyTrainer):
    """Only a reset brings those it was given."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int) -> None:
        other = Parameters.initial(workload.network, workload.seed + 1)
        super().__init__(workload, dataset, other, threads)


# predict()


@fault()
class SomePredictionsOff(NumpyTrainer):
    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        labels = super().predict(images)
        labels[::50] = (labels[::50] + 1) % 10
        return labels


@fault()
class LastPredictionMissing(NumpyTrainer):
    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        return super().predict(images)[:-1]


@fault()
class LastPredictionZero(NumpyTrainer):
    """A block of images that is never computed, and whose memory is as it was."""

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        labels = super().predict(images)
        labels[-16:] = 0
        return labels


@fault()
class PredictionsAsARow(NumpyTrainer):
    """(1, k), not (k,)."""

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        return super().predict(images)[np.newaxis]


@fault()
class PredictionsOfTheInitialParameters(NumpyTrainer):
    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        kept = self._arrays
        self.reset(Parameters.initial(self.workload.network, self.workload.seed))
        labels = super().predict(images)
        self._arrays = kept
        return labels


# Errors


@fault()
class RaisesOnTheWay(StepTrainer):
    def advance(self, iterations: int) -> Metrics:
        if self._iteration > 30:
            raise RuntimeError("out of\nmemory")
        return super().advance(iterations)


@fault()
class RaisesAtTheStart(NumpyTrainer):
    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int) -> None:
        raise ValueError("no kernel for this device")


@fault()
class RaisesAtTheEnd(NumpyTrainer):
    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        raise AssertionError


def parameters_in_order(parameters: Parameters) -> list[Array]:
    return [array for _, array in parameters.named()]


# The tests


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The arrays are too small for more: threads would spend their time waiting for each other."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="module")
def images() -> Dataset:
    """Real digits: enough to draw from, few enough to be quick."""
    dataset = load_data(train_size=4000, dev_size=150)
    assert dataset.test is not None
    return replace(dataset, test=Split(dataset.test.images[:150], dataset.test.labels[:150]))


def drawn(images: Dataset, m: int, seed: int) -> Dataset:
    chosen = np.random.default_rng(seed).choice(len(images.train), m, replace=False)
    return replace(images, train=Split(images.train.images[chosen], images.train.labels[chosen]))


def workload_of(dataset: Dataset, iterations: int, hidden: int = 10, alpha: float = 0.1, seed: int = 0) -> Workload:
    return Workload(dataset.network(hidden), len(dataset.train), iterations, alpha, "float64", seed)


@pytest.fixture(scope="module")
def computed(images: Dataset) -> Trajectory:
    """Enough iterations for calls of more than one."""
    dataset = drawn(images, 200, seed=1)
    return Trajectory(workload_of(dataset, 110), dataset)


@pytest.fixture
def task(computed: Trajectory) -> Trajectory:
    """With initial parameters that no other test has had in its hands."""
    own = copy(computed)
    own.initial = Parameters.initial(own.workload.network, own.workload.seed)
    return own


def compared(trainer: type[NumpyTrainer], task: Trajectory, dtype: DType) -> Agreement:
    outcome = check(FaultyBackend(trainer), task.workload.with_dtype(dtype), task.dataset, task)
    assert len(outcome.summary().splitlines()) == 1
    return outcome


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("trainer", [NumpyTrainer, StepTrainer])
def test_the_unmodified_backend_agrees(trainer: type[NumpyTrainer], task: Trajectory, precision: DType) -> None:
    outcome = compared(trainer, task, precision)
    assert outcome.passed, outcome.summary()
    assert outcome.failure is None
    named = {check.quantity for check in outcome.checks}
    assert named >= {"W1", "b1", "W2", "b2", "dW1", "db1", "dW2", "db2", "loss", "accuracy", "predictions", "reset"}
    stops = checkpoints(task.workload.iterations)
    for quantity in ("W1", "b1", "W2", "b2", "dW1", "db1", "dW2", "db2", "loss", "accuracy"):
        # Gradients are compared at the start, at the end, and once in every power of ten.
        expected = {0, 1, 10, 100, stops[-1]} if quantity[0] == "d" else {*stops}
        assert {check.iteration for check in outcome.checks if check.quantity == quantity} == expected


@pytest.mark.parametrize(
    ("trainer", "precision"),
    [pytest.param(t, d, id=f"{t.__name__}-{d}") for t, dtypes in FAULTS.items() for d in dtypes],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wrong_backend_is_rejected(trainer: type[NumpyTrainer], precision: DType, task: Trajectory) -> None:
    assert not compared(trainer, task, precision).passed


@pytest.mark.parametrize("trainer", [LiveView, KeepsTheCallersArrays])
def test_a_wrong_backend_does_not_spoil_the_next(trainer: type[NumpyTrainer], images: Dataset) -> None:
    dataset = drawn(images, 50, seed=2)
    trajectory = Trajectory(workload_of(dataset, 5), dataset)
    assert not compared(trainer, trajectory, "float64").passed
    outcome = compared(NumpyTrainer, trajectory, "float64")
    assert outcome.passed, outcome.summary()


@pytest.mark.parametrize(
    "trainer", [OneTooFew, AlwaysOne, FirstMetricsOfSeveral, ResetForgetsTheMetrics, LearningRateOff, LastImageIgnored]
)
def test_the_preset_for_a_quick_check_rejects_too(trainer: type[NumpyTrainer], images: Dataset) -> None:
    """It has too few iterations for calls of more than one on the way."""
    workload = replace(preset("smoke"), images=400)
    dataset = drawn(images, workload.images, seed=0)
    outcome = compared(trainer, Trajectory(workload, dataset), workload.dtype)
    assert not outcome.passed


class NaiveSoftmax(StepTrainer):
    """exp of the logits as they are."""

    def loss(self, Z2: Array) -> float:
        exp = np.exp(Z2)
        return float(np.mean(np.log(exp.sum(axis=0)) - Z2[self._Y, np.arange(self._Y.size)]))


class ClippedProbabilities(StepTrainer):
    """-log of a probability kept above 1e-7."""

    def loss(self, Z2: Array) -> float:
        true = reference.softmax(Z2)[self._Y, np.arange(self._Y.size)]
        return float(-np.mean(np.log(np.maximum(true, 1e-7))))


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_losses_of_large_logits(images: Dataset, precision: DType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights so large that exp overflows, also in float64."""
    dataset = drawn(images, 20, seed=0)
    initial = Parameters.initial(dataset.network(10), 0)
    large = Parameters([25 * weight for weight in initial.weights], initial.biases)
    monkeypatch.setattr(Parameters, "initial", lambda *_: large)
    trajectory = Trajectory(workload_of(dataset, 1), dataset)
    assert trajectory.states[0].largest_logit > 710
    outcome = compared(StepTrainer, trajectory, precision)
    assert outcome.passed, outcome.summary()
    for wrong in (NaiveSoftmax, ClippedProbabilities):
        assert not compared(wrong, trajectory, precision).passed


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("seed", range(12))
def test_the_honest_backend_is_never_rejected(images: Dataset, seed: int, precision: DType) -> None:
    for m, iterations, hidden, alpha in (
        (1, 20, 10, 0.1),
        (2, 50, 32, 0.1),
        (3, 20, 32, 0.01),
        (10, 7, 3, 0.01),
        (100, 60, 10, 0.1),
        (700, 20, 10, 0.1),
    ):
        dataset = drawn(images, m, seed)
        workload = workload_of(dataset, iterations, hidden, alpha, seed)
        trajectory = Trajectory(workload, dataset)
        outcome = check(NumpyBackend(), workload.with_dtype(precision), dataset, trajectory, threads=1)
        assert outcome.passed, f"{m} images, {iterations} iterations, {hidden} units: {outcome.summary()}"


@pytest.mark.parametrize("precision", BOTH)
def test_probabilities_too_small_for_the_dtype_are_no_disagreement(images: Dataset, precision: DType) -> None:
    """With one image and long steps, all other classes' probabilities vanish."""
    for seed in (0, 126, 334):
        dataset = drawn(images, 1, seed)
        trajectory = Trajectory(workload_of(dataset, 5, 32, 0.5, seed), dataset)
        outcome = check(NumpyBackend(), trajectory.workload.with_dtype(precision), dataset, trajectory, threads=1)
        assert outcome.passed, outcome.summary()


@pytest.mark.parametrize("seed", range(3))
def test_the_honest_backend_agrees_on_the_quick_preset(images: Dataset, seed: int) -> None:
    workload = preset("smoke", "float64", seed)
    dataset = drawn(images, workload.images, seed)
    trajectory = Trajectory(workload, dataset)
    for dtype in DTYPES:
        outcome = check(NumpyBackend(), workload.with_dtype(dtype), dataset, trajectory)
        assert outcome.passed, outcome.summary()


def test_one_class_and_one_unit() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(4, 6)
    split = Split(images, np.zeros(4, np.int64))
    dataset = Dataset("one class", (2, 3), 1, split, split, None)
    trajectory = Trajectory(workload_of(dataset, 3, hidden=1), dataset)
    for dtype in DTYPES:
        assert check(NumpyBackend(), trajectory.workload.with_dtype(dtype), dataset, trajectory).passed


def test_the_comparison_ends_reset(task: Trajectory) -> None:
    with NumpyBackend().start(task.workload, task.dataset, task.initial) as trainer:
        outcome = agreement.check_trainer(trainer, Agreement("numpy", "float64"), task)
        assert outcome.passed
        for own, initial in zip(
            parameters_in_order(trainer.parameters()), parameters_in_order(task.initial), strict=True
        ):
            assert np.array_equal(own, initial)
        first = task.states[0]
        metrics = trainer.advance(1)
        assert metrics.loss == pytest.approx(first.loss)
        assert metrics.accuracy == first.accuracy


def test_the_history_covers_the_run(task: Trajectory) -> None:
    outcome = compared(NumpyTrainer, task, "float32")
    iterations = [iteration for iteration, _ in outcome.history]
    assert iterations == sorted(set(iterations))
    assert (iterations[0], iterations[-1]) == (0, task.workload.iterations)
    assert len(iterations) > 50


def test_one_round_alone(task: Trajectory) -> None:
    with NumpyBackend().start(task.workload, task.dataset, task.initial) as trainer:
        metrics = trainer.advance(task.workload.iterations)
        assert all(c.passed for c in agreement.check_round(trainer.parameters(), metrics, "float64", task))
        for wrong in ({"loss": metrics.loss * 1.001}, {"accuracy": 0.999}):
            checks = agreement.check_round(trainer.parameters(), replace(metrics, **wrong), "float64", task)
            assert [c.quantity for c in checks if not c.passed] == [*wrong]
        trainer.advance(1)
        checks = agreement.check_round(trainer.parameters(), metrics, "float64", task)
        assert {c.quantity for c in checks if not c.passed} == {"W1", "b1", "W2", "b2"}


def test_all_but_the_gradients_needs_no_images(task: Trajectory, monkeypatch: pytest.MonkeyPatch) -> None:
    with NumpyBackend().start(task.workload, task.dataset, task.initial) as trainer:
        whole = agreement.check_trainer(trainer, Agreement("numpy", "float64"), task)
        task.free_images()
        assert "X" not in vars(task)
        monkeypatch.setattr(reference, "scale_images", only_small(len(task.Y)))
        outcome = agreement.check_trainer(trainer, Agreement("numpy", "float64"), task, gradients=False)
        assert outcome.passed
        gradients = {check.quantity for check in whole.checks} - {check.quantity for check in outcome.checks}
        assert gradients == {"dW1", "db1", "dW2", "db2"}
        left = [check for check in whole.checks if check.quantity not in gradients]
        assert [str(check) for check in outcome.checks] == [str(check) for check in left]


def only_small(images: int) -> Any:
    """``scale_images`` that refuses so many images or more."""
    scale = reference.scale_images

    def limited(pixels: Any, *dtype: Any) -> Any:
        assert len(pixels) < images
        return scale(pixels, *dtype)

    return limited


def test_the_images_come_again_when_gradients_are_compared(task: Trajectory) -> None:
    before = task.X.copy()
    task.free_images()
    assert compared(NumpyTrainer, task, "float64").passed
    assert np.array_equal(task.X, before)


def test_tolerances_grow_with_the_images_beyond_the_classics_only(task: Trajectory) -> None:
    assert agreement.growth(1) == agreement.growth(preset("classic").images) == 1
    assert agreement.growth(4 * 41_000) == 2
    few, many = copy(task), copy(task)
    few.workload = replace(task.workload, images=41_000, learning_rate=1e-12)
    many.workload = replace(task.workload, images=16 * 41_000, learning_rate=1e-12)
    for dtype in DTYPES:
        assert many.drift(7, dtype) == pytest.approx(4 * few.drift(7, dtype), rel=1e-4)
    with NumpyBackend().start(task.workload, task.dataset, task.initial) as trainer:
        losses = []
        for trajectory in (few, many):
            checks = agreement.check_trainer(trainer, Agreement("numpy", "float32"), trajectory, False).checks
            losses.append([check.error for check in checks if check.quantity == "loss"])
        assert losses[0] == pytest.approx([4 * error for error in losses[1]])


@given(st.integers(1, 10**7))
def test_checkpoints(iterations: int) -> None:
    found = checkpoints(iterations)
    assert found == sorted(set(found))
    assert (found[0], found[1], found[-1]) == (0, 1, iterations)
    assert all(str(k).strip("0") in ("1", "2", "5") for k in found[1:-1])
    # None is further from the next than a factor of 2.5.
    assert all(later <= 2.5 * earlier for earlier, later in pairwise(found[1:]))


@pytest.mark.parametrize("error", [1.0000001, math.inf, math.nan])
def test_an_error_beyond_its_tolerance_or_nan_does_not_pass(error: float) -> None:
    assert not Check("W1", 0, error, error).passed
    assert Check("W1", 0, 1.0, 0.1).passed
    assert not Agreement("x", "float32", [Check("W1", 0, 0.5, 0.0), Check("b1", 0, error, 0.0)]).passed


def test_nothing_compared_is_no_agreement() -> None:
    empty = Agreement("x", "float32")
    assert not empty.passed
    assert empty.worst is None
    assert empty.trajectory() == []
    assert not Agreement("x", "float32", [Check("W1", 0, 0.0, 0.0)], failure="stopped").passed


def test_nan_is_the_worst_and_stays_visible() -> None:
    checks = [
        Check("W1", 0, 0.1, 1e-9),
        Check("b2", 5, math.nan, math.nan),
        Check("W1", 5, 99.0, 0.3),
        Check("loss", 5, 0.2, 7.0),
    ]
    outcome = Agreement("x", "float32", checks)
    assert outcome.worst is checks[1]
    assert outcome.summary() == "b2 after 5 updates: nan of its tolerance"
    (first, relative), (last, unknown) = outcome.trajectory()
    assert (first, relative, last) == (0, 1e-9, 5)
    assert math.isnan(unknown)
    # In whichever order they come.
    (_, unknown) = Agreement("x", "float32", checks[:0:-1]).trajectory()[-1]
    assert math.isnan(unknown)


def test_the_summary_names_what_failed_first() -> None:
    checks = [Check("W1", 0, 0.9, 0.0), Check("db1", 2, 3.0, 0.0), Check("W2", 5, 1e9, 0.0)]
    assert Agreement("x", "float32", checks).summary() == "db1 after 2 updates: 3 of its tolerance"
    assert Agreement("x", "float32", checks[:1]).summary() == "W1 after 0 updates: 0.9 of its tolerance"
    assert "out of memory" in Agreement("x", "float32", checks, failure="out of memory").summary()


def test_the_trajectory_takes_the_largest_of_the_parameters() -> None:
    checks = [Check("W1", 1, 0.1, 2e-8), Check("b1", 1, 0.1, 3e-8), Check("dW1", 1, 0.1, 1.0), Check("W2", 0, 0.0, 0.0)]
    assert Agreement("x", "float32", checks).trajectory() == [(0, 0.0), (1, 3e-8)]


def test_an_error_is_reported_in_one_line(task: Trajectory) -> None:
    outcome = compared(RaisesOnTheWay, task, "float32")
    assert outcome.failure == "RuntimeError: out of memory"
    assert outcome.summary() == "not compared: RuntimeError: out of memory"
    assert outcome.checks, "what was compared before it is kept"


def test_verify_compares_all_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Agreement] = []
    monkeypatch.setattr(agreement, "check", lambda backend, workload, *_: Agreement(backend.name, workload.dtype))
    outcomes = verify(workload="smoke", progress=seen.append)
    assert seen == outcomes
    assert [(o.backend, o.dtype) for o in outcomes] == [
        (b, d) for b in registry.list_backends(usable=True) for d in DTYPES
    ]


def test_verify_compares_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def recorded(*arguments: Any) -> Agreement:
        asked.append(arguments)
        return Agreement(arguments[0].name, arguments[1].dtype)

    monkeypatch.setattr(agreement, "check", recorded)
    verify(["numpy"], ["float32"], "smoke", seed=3, threads=1)
    ((backend, workload, dataset, trajectory, threads),) = asked
    assert (backend.name, workload, threads) == ("numpy", preset("smoke", "float32", 3), 1)
    assert len(dataset.train) == workload.images
    assert trajectory.workload.dtype == "float64"


def test_verify_refuses_what_it_cannot_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownBackend, match="abacus"):
        verify(["numpy", "abacus"], workload="smoke")
    with pytest.raises(OptionError, match="huge"):
        verify(["numpy"], workload="huge")
    gone = registry.Availability(usable=False, reason="switched off")
    monkeypatch.setattr(registry, "availability", lambda name: gone)
    with pytest.raises(BackendUnavailable, match="switched off"):
        verify(["numpy"], workload="smoke")
