"""Trainers with every option of training: an honest one that computes in another order, and many wrong in one way."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnistbench import reference
from mnistbench.backends import Metrics
from mnistbench.backends.numpy import NumpyMlpTrainer
from mnistbench.datasets import Dataset
from mnistbench.reference import augmentation, counter, mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.recipe import Optimizer, Recipe, Schedule
from mnistbench.task.workload import Workload
from tests.faults.base import Faults, Forward, Steps, scaled
from tests.support import options

FAULTS = fault = Faults()


class InAnotherOrder(NumpyMlpTrainer):
    """The honest computation with its images, pixels and units in another order: other sums, other rounding."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        rng = np.random.default_rng(1)
        self._orders = [rng.permutation(size) for size in workload.network.sizes[:-1]]
        self._undo = [np.argsort(order) for order in self._orders]
        super().__init__(workload, dataset, parameters, threads)
        self._own = self._batches
        self._batches = self.batch  # type: ignore[assignment]

    def batch(self, iteration: int) -> mlp.Batch:
        own = self._own(iteration)
        pixels, *units = self._orders
        X, Y = own.X[pixels][:, ::-1].copy(), own.Y[::-1]
        masks = own.masks and [mask[order][:, ::-1] for mask, order in zip(own.masks, units, strict=True)]
        return mlp.Batch(X, Y, masks)

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters.reordered(self._orders))

    def parameters(self) -> Parameters:
        return super().parameters().reordered(self._undo)

    def gradients(self) -> Parameters:
        return super().gradients().reordered(self._undo)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        X = reference.scale_images(images[:, self._orders[0]], self.workload.dtype)
        return mlp.predict(self._state.parameters, X, self.workload.network.activation)


class OtherWorkload(Steps):
    """Trains another workload than it was asked for."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        super().__init__(self.instead_of(workload), dataset, parameters, threads)

    def instead_of(self, workload: Workload) -> Workload:
        return replace(workload, recipe=replace(workload.recipe, **self.recipe_instead_of(workload.recipe)))

    def recipe_instead_of(self, recipe: Recipe) -> dict[str, Any]:
        """Return the options that are others."""
        return {}


# Activations and layers


class OtherDerivative(Steps):
    """The forward pass is right."""

    def gradient(self, batch: mlp.Batch, found: Forward) -> Parameters:
        masked = {id(Z): A for Z, A in zip(found[0], found[1][1:], strict=True)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mlp, "derivative", lambda Z, _: self.derivative(Z, masked[id(Z)]))
            return super().gradient(batch, found)

    @abstractmethod
    def derivative(self, Z: Array, masked: Array) -> Array:
        """Compute what is wrong."""


@fault("derivative", base=OtherDerivative)
def DerivativeOfWhatWasKept(self: Steps, Z: Array, masked: Array) -> Array:
    """1 - A² of A with dropout's mask."""
    return 1 - masked * masked


@fault("derivative", base=OtherDerivative, activation="sigmoid")
def SigmoidHasTanhsDerivative(self: Steps, Z: Array, masked: Array) -> Array:
    return 1 - mlp.activate(Z, "sigmoid") ** 2


@fault("derivative", base=OtherDerivative, activation="leaky-relu")
def LeakyReluHasRelusDerivative(self: Steps, Z: Array, masked: Array) -> Array:
    return np.asarray(Z > 0, Z.dtype)


@fault("instead_of", base=OtherWorkload, activation="leaky-relu")
def NoLeak(self: Steps, workload: Workload) -> Workload:
    return replace(workload, network=replace(workload.network, activation="relu"))


@fault("update")
def MiddleLayerFrozen(self: Steps, gradient: Parameters) -> mlp.State:
    moved = Steps.update(self, gradient)
    moved.parameters.weights[1] = self._state.parameters.weights[1]
    return moved


# L2


@fault("gradient")
def L2OverTheBatch(self: Steps, batch: mlp.Batch, found: Forward) -> Parameters:
    """lambda / m for the m images of the batch."""
    return mlp.gradients(replace(self.workload, images=batch.Y.size), self._state.parameters, batch, found)


@fault("gradient")
def L2OfBiasesToo(self: Steps, batch: mlp.Batch, found: Forward) -> Parameters:
    own = Steps.gradient(self, batch, found)
    scale = self.workload.recipe.l2 / self.workload.images
    pairs = zip(own.biases, self._state.parameters.biases, strict=True)
    return Parameters(own.weights, [db + scale * b for db, b in pairs])


fault.each(
    "recipe_instead_of",
    {
        "L2Forgotten": lambda self, recipe: {"l2": 0.0},
        "L2Doubled": lambda self, recipe: {"l2": 2 * recipe.l2},  # lambda times the squares, without the half
    },
    OtherWorkload,
)


# Dropout


class OtherMasks(Steps):
    def batch(self, iteration: int) -> mlp.Batch:
        own = super().batch(iteration)
        assert own.masks
        return replace(own, masks=[self.mask(mask, layer, iteration) for layer, mask in enumerate(own.masks)])

    @abstractmethod
    def mask(self, mask: Array, layer: int, iteration: int) -> Array:
        """Compute what is wrong."""

    def drawn(self, epoch: int, layer: int, places: NDArray[np.int64], scale: Array) -> Array:
        """Draw a mask of a layer, as large as that layer's own."""
        rate = self.workload.recipe.dropout[layer]
        kept = counter.kept(self.workload.seed, epoch, layer, places, scale.shape[0], rate)
        drawn: Array = kept.astype(scale.dtype) * scale.max()
        return drawn


def scaled_by_the_rate(self: Steps, mask: Array, layer: int, iteration: int) -> Array:
    return (mask > 0) / mask.dtype.type(self.workload.recipe.dropout[layer])


def by_position_in_the_batch(self: OtherMasks, mask: Array, layer: int, iteration: int) -> Array:
    epoch = iteration // self.workload.iterations_per_epoch
    return self.drawn(epoch, layer, np.arange(mask.shape[1]), mask)


fault.each(
    "mask",
    {
        "NotScaled": lambda self, mask, layer, iteration: (mask > 0).astype(mask.dtype),
        "ScaledByTheRate": scaled_by_the_rate,
        "MaskOneImageOff": lambda self, mask, layer, iteration: np.roll(mask, 1, axis=1),
        "MaskOneUnitOff": lambda self, mask, layer, iteration: np.roll(mask, 1, axis=0),
        "MasksByPositionInTheBatch": by_position_in_the_batch,
        "MasksOfTheFirstEpoch": lambda self, mask, layer, iteration: self.drawn(
            0, layer, self._batches.places(iteration), mask
        ),
        # In place of the epoch, with which the first batch is right.
        "MasksByIteration": lambda self, mask, layer, iteration: self.drawn(
            iteration, layer, self._batches.places(iteration), mask
        ),
    },
    OtherMasks,
)


@fault("batch", hidden=(6, 6), dropout=(0.3, 0.3))
def OneMaskForAllLayers(self: Steps, iteration: int) -> mlp.Batch:
    own = Steps.batch(self, iteration)
    assert own.masks
    return replace(own, masks=own.masks[:1] * 2)


@fault("gradient")
def MasksForwardOnly(self: Steps, batch: mlp.Batch, found: Forward) -> Parameters:
    return Steps.gradient(self, replace(batch, masks=None), found)


@fault("predict")
def DropoutInPredictions(self: Steps, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    X, network = reference.scale_images(images, self.workload.dtype), self.workload.network
    kept = [counter.kept(0, 0, layer, np.arange(len(images)), units, 0.4) for layer, units in enumerate(network.hidden)]
    masks = [mask.astype(X.dtype) for mask in kept]
    return reference.get_predictions(mlp.forward(self._state.parameters, X, network.activation, masks)[0][-1])


# Batches


class OtherOrder(Steps):
    def batch(self, iteration: int) -> mlp.Batch:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mlp, "epoch_order", self.order)
            return super().batch(iteration)

    @abstractmethod
    def order(self, seed: int, epoch: int, images: int) -> NDArray[np.int64]:
        """Compute what is wrong."""


ORDER = mlp.epoch_order

fault.each(
    "order",
    {
        "NotShuffled": lambda self, seed, epoch, images: np.arange(images),
        "ShuffledOnce": lambda self, seed, epoch, images: ORDER(seed, 0, images),
        "ShuffledForTheNextEpoch": lambda self, seed, epoch, images: ORDER(seed, epoch + 1, images),
        "ShuffledWithAnotherSeed": lambda self, seed, epoch, images: ORDER(seed + 1, epoch, images),
    },
    OtherOrder,
)


@fault("gradient")
def LastBatchOverTheFullSize(self: Steps, batch: mlp.Batch, found: Forward) -> Parameters:
    """Its sum is divided by the batch size."""
    own = mlp.gradients(replace(self.workload, recipe=Recipe()), self._state.parameters, batch, found)
    own = scaled(own, batch.Y.size / self.workload.batch_size)
    return mlp.with_penalty(own, self._state.parameters, self.workload.recipe.l2, self.workload.images)


@fault("batch")
def LastBatchDropped(self: Steps, iteration: int) -> mlp.Batch:
    """The next epoch begins one iteration early."""
    epoch, place = divmod(iteration, self.workload.images // self.workload.batch_size)
    return Steps.batch(self, epoch * self.workload.iterations_per_epoch + place)


@fault("metrics")
def MetricsOfAllImages(self: Steps, batch: mlp.Batch, found: Forward) -> Metrics:
    X = reference.scale_images(options.DATA.train.images, self.workload.dtype)
    everything = mlp.Batch(X, options.DATA.train.labels, None)
    return Steps.metrics(self, everything, self.forward(everything))


@fault("metrics")
def MetricsWithoutDropout(self: Steps, batch: mlp.Batch, found: Forward) -> Metrics:
    return Steps.metrics(self, batch, self.forward(replace(batch, masks=None)))


# Augmentation


class OtherImages(Steps):
    def batch(self, iteration: int) -> mlp.Batch:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mlp, "augmented", self.augmented)
            return super().batch(iteration)

    @abstractmethod
    def augmented(self, images: Any, places: Any, shape: Any, change: Any, seed: int, epoch: int) -> Any:
        """Compute what is wrong."""


AUGMENTED: Any = augmentation.augmented


def one_row_off(self: Steps, images: Any, places: Any, shape: Any, *how: Any) -> Any:
    found = AUGMENTED(images, places, shape, *how).reshape(-1, *shape)
    return np.roll(found, 1, axis=1).reshape(images.shape)


def bent_before_moved(self: Steps, images: Any, places: Any, shape: Any, change: Any, seed: int, epoch: int) -> Any:
    bent = AUGMENTED(images, places, shape, replace(change, shift=0, rotate=0.0), seed, epoch)
    return AUGMENTED(bent, places, shape, replace(change, elastic_alpha=0.0), seed, epoch)


def one_gray_level_off(self: Steps, *arguments: Any) -> Any:
    """Change one pixel of one image, as rounding down would."""
    found = AUGMENTED(*arguments)
    found[0, found[0].argmax()] -= 1
    return found


fault.each(
    "augmented",
    {
        "NotAugmented": lambda self, images, *_: images,
        "AugmentedOnce": lambda self, *arguments: AUGMENTED(*arguments[:-1], 0),
        "AugmentedByPositionInTheBatch": lambda self, images, places, *how: AUGMENTED(
            images, np.arange(len(places)), *how
        ),
        "AugmentedOneRowOff": one_row_off,
        "AugmentedInAnotherOrder": bent_before_moved,
        "OneGrayLevelOff": one_gray_level_off,
    },
    OtherImages,
)


# Schedules


class OtherRate(Steps):
    def update(self, gradient: Parameters) -> mlp.State:
        rate = self.rate()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Workload, "rate", lambda *_: rate)
            return super().update(gradient)

    @abstractmethod
    def rate(self) -> float:
        """Compute what is wrong."""


@fault("rate", base=OtherRate, schedule=Schedule("cosine"))
def RateOfTheNextIteration(self: Steps) -> float:
    return self.workload.rate(self._state.iteration + 1)


@fault("rate", base=OtherRate)
def StepsByIterations(self: Steps) -> float:
    """Where they should be by epochs."""
    return float(self.workload.learning_rate * 0.5**self._state.iteration)


@fault("rate", base=OtherRate, schedule=Schedule("step", every=2, factor=0.5))
def StepsOneEpochLate(self: Steps) -> float:
    return self.workload.rate(max(0, self._state.iteration - self.workload.iterations_per_epoch))


@fault("rate", base=OtherRate, schedule=Schedule("cosine"))
def CosineOverOneIterationMore(self: Steps) -> float:
    return replace(self.workload, iterations=self.workload.iterations + 1).rate(self._state.iteration)


# Optimizers

Arrays = tuple[Array, ...]
MOVED = mlp._moved


class OtherFormula(Steps):
    """Moves one array after the other, as :func:`mlp.update` does, by its ``formula`` unless ``moved`` is another."""

    formula: Callable[..., Arrays]

    def update(self, gradient: Parameters) -> mlp.State:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mlp, "_moved", self.moved)
            return super().update(gradient)

    def moved(self, workload: Workload, iteration: int, is_weight: bool, p: Array, g: Array, moments: Any) -> Arrays:
        return self.formula(workload.recipe.optimizer, workload.rate(iteration), iteration + 1, p, g, *moments)


class OtherAdam(OtherFormula):
    """v and s are right."""

    def formula(self, o: Optimizer, rate: float, t: int, p: Array, g: Array, *moments: Array) -> Arrays:
        v = o.beta1 * moments[0] + (1 - o.beta1) * g
        s = o.beta2 * moments[1] + (1 - o.beta2) * (g * g)
        return p - rate * self.direction(o, v, s, *o.bias_corrections(t)), v, s

    def direction(self, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
        return first * v / (np.sqrt(s) * second + o.epsilon)


fault.each(
    "direction",
    {
        "AdamEpsilonInsideOfTheRoot": lambda self, o, v, s, first, second: (
            first * v / np.sqrt(s * second**2 + o.epsilon)
        ),
        "AdamWithoutCorrections": lambda self, o, v, s, *_: v / (np.sqrt(s) + o.epsilon),
        "AdamWithoutTheFirstCorrection": lambda self, o, v, s, _, second: v / (np.sqrt(s) * second + o.epsilon),
        "AdamWithoutTheSecondCorrection": lambda self, o, v, s, first, _: first * v / (np.sqrt(s) + o.epsilon),
    },
    OtherAdam,
)


@fault("direction", base=OtherAdam, dtypes=("float64",))
def AdamEpsilonCorrectedToo(self: Steps, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
    """30 times as large in the first step, and then less and less."""
    return first / second * v / (np.sqrt(s) + o.epsilon)


@fault("direction", base=OtherAdam, dtypes=("float64",))
def AdamWithoutEpsilon(self: Steps, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
    return np.divide(first * v, np.sqrt(s) * second, out=np.zeros_like(v), where=s > 0)


@fault("direction", base=OtherAdam, dtypes=("float64",))
def MomentsInSingle(self: OtherAdam, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
    return OtherAdam.direction(self, o, v.astype(np.float32), s.astype(np.float32), first, second).astype(np.float64)


@fault("formula", base=OtherAdam)
def AdamCountsFromZero(self: OtherAdam, o: Optimizer, rate: float, t: int, *arrays: Array) -> Arrays:
    """Its second step has the corrections of the first, and so on."""
    return OtherAdam.formula(self, o, rate, max(1, t - 1), *arrays)


@fault("moved", base=OtherFormula, optimizer=Optimizer("adamw"))
def BiasesDecayToo(self: Steps, w: Workload, iteration: int, is_weight: bool, *arrays: Any) -> Arrays:
    return MOVED(w, iteration, True, *arrays)


@fault("moved", base=OtherFormula, optimizer=Optimizer("adamw"))
def DecayInTheGradient(self: Steps, w: Workload, iteration: int, is_weight: bool, p: Array, g: Array, m: Any) -> Arrays:
    """Adam's own, which AdamW is named for not doing."""
    decay = w.recipe.optimizer.weight_decay if is_weight else 0.0
    return MOVED(w, iteration, False, p, g + decay * p, m)


@fault("moved", base=OtherFormula, optimizer=Optimizer("adamw"))
def DecayWithoutTheRate(
    self: Steps, w: Workload, iteration: int, is_weight: bool, p: Array, g: Array, m: Any
) -> Arrays:
    shrunk = p * (1 - w.recipe.optimizer.weight_decay) if is_weight else p
    return MOVED(w, iteration, False, shrunk, g, m)


@fault("recipe_instead_of", base=OtherWorkload, optimizer=Optimizer("adamw"))
def DecayForgotten(self: Steps, recipe: Recipe) -> dict[str, Any]:
    return {"optimizer": Optimizer("adam")}


@fault("formula", base=OtherFormula, optimizer=Optimizer("rmsprop"))
def RmspropEpsilonInsideOfTheRoot(
    self: Steps, o: Optimizer, rate: float, t: int, p: Array, g: Array, s: Array
) -> Arrays:
    s = o.rho * s + (1 - o.rho) * (g * g)
    return p - rate * g / np.sqrt(s + o.epsilon), s


@fault("formula", base=OtherFormula, optimizer=Optimizer("rmsprop"))
def RmspropOfTheStepBefore(self: Steps, o: Optimizer, rate: float, t: int, p: Array, g: Array, before: Array) -> Arrays:
    """Divides by the mean square without this gradient's, but in the first step."""
    s = o.rho * before + (1 - o.rho) * (g * g)
    return p - rate * g / (np.sqrt(s if t == 1 else before) + 1e-3), s


@fault("recipe_instead_of", base=OtherWorkload, optimizer=Optimizer("nesterov"))
def NesterovIsMomentum(self: Steps, recipe: Recipe) -> dict[str, Any]:
    return {"optimizer": replace(recipe.optimizer, name="momentum")}


@fault("formula", base=OtherFormula, optimizer=Optimizer("momentum"))
def Dampened(self: Steps, o: Optimizer, rate: float, t: int, p: Array, g: Array, v: Array) -> Arrays:
    """A mean of the gradients, as Adam has it."""
    v = o.momentum * v + (1 - o.momentum) * g
    return p - rate * v, v


@fault("formula", base=OtherFormula, optimizer=Optimizer("momentum"), schedule=Schedule("cosine"))
def RateInTheMomentum(self: Steps, o: Optimizer, rate: float, t: int, p: Array, g: Array, v: Array) -> Arrays:
    """v := mu v - a g, which differs where the rate changes."""
    v = o.momentum * v - rate * g
    return p + v, v


def keep_the_moments(self: Steps, parameters: Parameters) -> None:
    """Reset everything but the moments."""
    kept = self._state.moments if hasattr(self, "_state") else None
    Steps.reset(self, parameters)
    self._state = replace(self._state, moments=kept or self._state.moments)


fault.each("reset", {"KeepsItsMomentum": keep_the_moments}, optimizer=Optimizer("momentum"))
fault.each("reset", {"KeepsItsMoments": keep_the_moments}, optimizer=Optimizer("adam"))


@fault()
class KeepsItsEpoch(Steps):
    """Through a reset: its batches go on where they were."""

    before = 0

    def batch(self, iteration: int) -> mlp.Batch:
        return super().batch(self.before + iteration)

    def reset(self, parameters: Parameters) -> None:
        self.before += self._state.iteration if hasattr(self, "_state") else 0
        super().reset(parameters)
