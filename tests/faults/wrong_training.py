"""Trainers with every option of training, one honest and in another order, and each of the others wrong in one way."""

from __future__ import annotations

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
from mnistbench.task.workload import DTYPES, DType, Workload
from tests.support import options


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


class Steps(NumpyMlpTrainer):
    """The honest computation, cut into the steps that a fault replaces."""

    def advance(self, iterations: int) -> Metrics:
        for _ in range(iterations):
            batch = self.batch(self._state.iteration)
            found = mlp.forward(self._state.parameters, batch.X, self.activation, batch.masks)
            metrics = self.metrics(batch, found[0][-1])
            self._state = self.update(self.gradient(batch))
        return metrics

    def gradients(self) -> Parameters:
        return self.gradient(self.batch(self._state.iteration))

    @property
    def activation(self) -> Any:
        return self.workload.network.activation

    def batch(self, iteration: int) -> mlp.Batch:
        return self._batches(iteration)

    def gradient(self, batch: mlp.Batch) -> Parameters:
        return mlp.gradients(self.workload, self._state.parameters, batch)

    def update(self, gradient: Parameters) -> mlp.State:
        return mlp.update(self.workload, self._state, gradient)

    def metrics(self, batch: mlp.Batch, logits: Array) -> Metrics:
        hits = reference.get_accuracy(reference.get_predictions(logits), batch.Y)
        return Metrics(reference.cross_entropy(logits, batch.Y), hits)


# Every fault, the options that it is one of, and the dtypes in which it is large enough.
FAULTS: dict[type[NumpyMlpTrainer], tuple[Workload, tuple[DType, ...]]] = {}


def fault(*dtypes: DType, **changes: Any) -> Callable[[type[NumpyMlpTrainer]], type[NumpyMlpTrainer]]:
    def register(trainer: type[NumpyMlpTrainer]) -> type[NumpyMlpTrainer]:
        FAULTS[trainer] = options.task(**{**options.EVERYTHING, **changes}), dtypes or DTYPES
        return trainer

    return register


class OtherWorkload(Steps):
    """Computes another one than it was asked for."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        super().__init__(self.instead_of(workload), dataset, parameters, threads)

    def instead_of(self, workload: Workload) -> Workload:
        recipe = workload.recipe
        return replace(workload, recipe=replace(recipe, **self.recipe_instead_of(recipe)))

    def recipe_instead_of(self, recipe: Recipe) -> dict[str, Any]:
        raise NotImplementedError


# Activations and layers


class OtherDerivative(Steps):
    """The forward pass is right."""

    def gradient(self, batch: mlp.Batch) -> Parameters:
        found = Zs, As = mlp.forward(self._state.parameters, batch.X, self.activation, batch.masks)
        masked = {id(Z): A for Z, A in zip(Zs, As[1:], strict=True)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mlp, "derivative", lambda Z, _: self.derivative(Z, masked[id(Z)]))
            return mlp.gradients(self.workload, self._state.parameters, batch, found)

    def derivative(self, Z: Array, masked: Array) -> Array:
        raise NotImplementedError


@fault()
class DerivativeOfWhatWasKept(OtherDerivative):
    """1 - A² of A with dropout's mask."""

    def derivative(self, Z: Array, masked: Array) -> Array:
        return 1 - masked * masked


@fault(activation="sigmoid")
class SigmoidHasTanhsDerivative(OtherDerivative):
    def derivative(self, Z: Array, masked: Array) -> Array:
        return 1 - mlp.activate(Z, "sigmoid") ** 2


@fault(activation="leaky-relu")
class LeakyReluHasRelusDerivative(OtherDerivative):
    def derivative(self, Z: Array, masked: Array) -> Array:
        return np.asarray(Z > 0, Z.dtype)


@fault(activation="leaky-relu")
class NoLeak(OtherWorkload):
    def instead_of(self, workload: Workload) -> Workload:
        return replace(workload, network=replace(workload.network, activation="relu"))


@fault()
class MiddleLayerFrozen(Steps):
    def update(self, gradient: Parameters) -> mlp.State:
        moved = super().update(gradient)
        moved.parameters.weights[1] = self._state.parameters.weights[1]
        return moved


# L2


@fault()
class L2Forgotten(OtherWorkload):
    def recipe_instead_of(self, recipe: Recipe) -> dict[str, Any]:
        return {"l2": 0.0}


@fault()
class L2OverTheBatch(Steps):
    """lambda / m for the m images of the batch."""

    def gradient(self, batch: mlp.Batch) -> Parameters:
        task = replace(self.workload, images=batch.Y.size)
        return mlp.gradients(task, self._state.parameters, batch)


@fault()
class L2OfBiasesToo(Steps):
    def gradient(self, batch: mlp.Batch) -> Parameters:
        own = super().gradient(batch)
        scale = self.workload.recipe.l2 / self.workload.images
        pairs = zip(own.biases, self._state.parameters.biases, strict=True)
        return Parameters(own.weights, [db + scale * b for db, b in pairs])


@fault()
class L2Doubled(OtherWorkload):
    """lambda times the squares, without the half."""

    def recipe_instead_of(self, recipe: Recipe) -> dict[str, Any]:
        return {"l2": 2 * recipe.l2}


# Dropout


class OtherMasks(Steps):
    def batch(self, iteration: int) -> mlp.Batch:
        own = super().batch(iteration)
        assert own.masks
        return replace(own, masks=[self.mask(mask, layer, iteration) for layer, mask in enumerate(own.masks)])

    def mask(self, mask: Array, layer: int, iteration: int) -> Array:
        raise NotImplementedError

    def drawn(self, seed: int, epoch: int, layer: int, places: NDArray[np.int64], scale: Array) -> Array:
        """A mask as it is drawn for a layer, as large as that layer's own."""
        rate = self.workload.recipe.dropout[layer]
        kept = counter.kept(seed, epoch, layer, places, scale.shape[0], rate)
        drawn: Array = kept.astype(scale.dtype) * scale.max()
        return drawn


@fault()
class NotScaled(OtherMasks):
    def mask(self, mask: Array, layer: int, iteration: int) -> Array:
        return (mask > 0).astype(mask.dtype)


@fault()
class ScaledByTheRate(OtherMasks):
    def mask(self, mask: Array, layer: int, iteration: int) -> Array:
        return (mask > 0) / mask.dtype.type(self.workload.recipe.dropout[layer])


@fault()
class MaskOneImageOff(OtherMasks):
    def mask(self, mask: Array, layer: int, iteration: int) -> Array:
        return np.roll(mask, 1, axis=1)


@fault()
class MaskOneUnitOff(OtherMasks):
    def mask(self, mask: Array, layer: int, iteration: int) -> Array:
        return np.roll(mask, 1, axis=0)


@fault()
class MasksByPositionInTheBatch(OtherMasks):
    def mask(self, mask: Array, layer: int, iteration: int) -> Array:
        epoch = iteration // self.workload.iterations_per_epoch
        return self.drawn(self.workload.seed, epoch, layer, np.arange(mask.shape[1]), mask)


@fault()
class MasksOfTheFirstEpoch(OtherMasks):
    def mask(self, mask: Array, layer: int, iteration: int) -> Array:
        return self.drawn(self.workload.seed, 0, layer, self._batches.places(iteration), mask)


@fault()
class MasksByIteration(OtherMasks):
    """In place of the epoch, with which the first batch is right."""

    def mask(self, mask: Array, layer: int, iteration: int) -> Array:
        return self.drawn(self.workload.seed, iteration, layer, self._batches.places(iteration), mask)


@fault(hidden=(6, 6), dropout=(0.3, 0.3))
class OneMaskForAllLayers(Steps):
    def batch(self, iteration: int) -> mlp.Batch:
        own = super().batch(iteration)
        assert own.masks
        return replace(own, masks=own.masks[:1] * 2)


@fault()
class MasksForwardOnly(Steps):
    def gradient(self, batch: mlp.Batch) -> Parameters:
        own = self._state.parameters
        found = mlp.forward(own, batch.X, self.activation, batch.masks)
        return mlp.gradients(self.workload, own, replace(batch, masks=None), found)


@fault()
class DropoutInPredictions(Steps):
    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        X = reference.scale_images(images, self.workload.dtype)
        kept = [
            counter.kept(0, 0, layer, np.arange(len(images)), units, 0.4)
            for layer, units in enumerate(self.workload.network.hidden)
        ]
        masks = [mask.astype(X.dtype) for mask in kept]
        return reference.get_predictions(mlp.forward(self._state.parameters, X, self.activation, masks)[0][-1])


# Batches


class OtherOrder(Steps):
    def batch(self, iteration: int) -> mlp.Batch:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mlp, "epoch_order", self.order)
            return super().batch(iteration)

    def order(self, seed: int, epoch: int, images: int) -> NDArray[np.int64]:
        raise NotImplementedError


ORDER = mlp.epoch_order


@fault()
class NotShuffled(OtherOrder):
    def order(self, seed: int, epoch: int, images: int) -> NDArray[np.int64]:
        return np.arange(images)


@fault()
class ShuffledOnce(OtherOrder):
    def order(self, seed: int, epoch: int, images: int) -> NDArray[np.int64]:
        return ORDER(seed, 0, images)


@fault()
class ShuffledForTheNextEpoch(OtherOrder):
    def order(self, seed: int, epoch: int, images: int) -> NDArray[np.int64]:
        return ORDER(seed, epoch + 1, images)


@fault()
class ShuffledWithAnotherSeed(OtherOrder):
    def order(self, seed: int, epoch: int, images: int) -> NDArray[np.int64]:
        return ORDER(seed + 1, epoch, images)


@fault()
class LastBatchOverTheFullSize(Steps):
    """Its sum is divided by the batch size."""

    def gradient(self, batch: mlp.Batch) -> Parameters:
        own = mlp.gradients(replace(self.workload, recipe=Recipe()), self._state.parameters, batch)
        scale = batch.Y.size / self.workload.batch_size
        scaled = Parameters([scale * dW for dW in own.weights], [scale * db for db in own.biases])
        return mlp.with_penalty(scaled, self._state.parameters, self.workload.recipe.l2, self.workload.images)


@fault()
class LastBatchDropped(Steps):
    """The next epoch begins one iteration early."""

    def batch(self, iteration: int) -> mlp.Batch:
        full = self.workload.images // self.workload.batch_size
        epoch, place = divmod(iteration, full)
        return super().batch(epoch * self.workload.iterations_per_epoch + place)


@fault()
class MetricsOfAllImages(Steps):
    def metrics(self, batch: mlp.Batch, logits: Array) -> Metrics:
        X = reference.scale_images(options.DATA.train.images, self.workload.dtype)
        Zs, _ = mlp.forward(self._state.parameters, X, self.activation)
        return super().metrics(replace(batch, Y=options.DATA.train.labels), Zs[-1])


@fault()
class MetricsWithoutDropout(Steps):
    def metrics(self, batch: mlp.Batch, logits: Array) -> Metrics:
        return super().metrics(batch, mlp.forward(self._state.parameters, batch.X, self.activation)[0][-1])


# Augmentation


class OtherImages(Steps):
    def batch(self, iteration: int) -> mlp.Batch:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mlp, "augmented", self.augmented)
            return super().batch(iteration)

    def augmented(
        self, images: NDArray[np.uint8], places: NDArray[np.int64], shape: Any, change: Any, seed: int, epoch: int
    ) -> NDArray[np.uint8]:
        raise NotImplementedError


AUGMENTED = augmentation.augmented


@fault()
class NotAugmented(OtherImages):
    def augmented(self, images: NDArray[np.uint8], *_: Any) -> NDArray[np.uint8]:
        return images


@fault()
class AugmentedOnce(OtherImages):
    def augmented(self, images: Any, places: Any, shape: Any, change: Any, seed: int, epoch: int) -> Any:
        return AUGMENTED(images, places, shape, change, seed, 0)


@fault()
class AugmentedByPositionInTheBatch(OtherImages):
    def augmented(self, images: Any, places: Any, shape: Any, change: Any, seed: int, epoch: int) -> Any:
        return AUGMENTED(images, np.arange(len(places)), shape, change, seed, epoch)


@fault()
class AugmentedOneRowOff(OtherImages):
    def augmented(self, images: Any, places: Any, shape: Any, change: Any, seed: int, epoch: int) -> Any:
        found = AUGMENTED(images, places, shape, change, seed, epoch).reshape(-1, *shape)
        return np.roll(found, 1, axis=1).reshape(images.shape)


@fault()
class AugmentedInAnotherOrder(OtherImages):
    """Bent first, and then moved."""

    def augmented(self, images: Any, places: Any, shape: Any, change: Any, seed: int, epoch: int) -> Any:
        bent = AUGMENTED(images, places, shape, replace(change, shift=0, rotate=0.0), seed, epoch)
        return AUGMENTED(bent, places, shape, replace(change, elastic_alpha=0.0), seed, epoch)


@fault()
class OneGrayLevelOff(OtherImages):
    """In one pixel of one image, as rounding down would have it."""

    def augmented(self, images: Any, places: Any, shape: Any, change: Any, seed: int, epoch: int) -> Any:
        found = AUGMENTED(images, places, shape, change, seed, epoch)
        found[0, found[0].argmax()] -= 1
        return found


# Schedules


@fault(schedule=Schedule("cosine"))
class RateOfTheNextIteration(Steps):
    def update(self, gradient: Parameters) -> mlp.State:
        rate = self.rate()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Workload, "rate", lambda *_: rate)
            return super().update(gradient)

    def rate(self) -> float:
        return self.workload.rate(self._state.iteration + 1)


@fault()
class StepsByIterations(RateOfTheNextIteration):
    """Where they should be by epochs."""

    def rate(self) -> float:
        return float(self.workload.learning_rate * 0.5**self._state.iteration)


@fault(schedule=Schedule("step", every=2, factor=0.5))
class StepsOneEpochLate(RateOfTheNextIteration):
    def rate(self) -> float:
        return self.workload.rate(max(0, self._state.iteration - self.workload.iterations_per_epoch))


@fault(schedule=Schedule("cosine"))
class CosineOverOneIterationMore(RateOfTheNextIteration):
    def rate(self) -> float:
        return replace(self.workload, iterations=self.workload.iterations + 1).rate(self._state.iteration)


# Optimizers


class OtherFormula(Steps):
    """Moves one array after the other, as :func:`general.update` does."""

    def update(self, gradient: Parameters) -> mlp.State:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mlp, "_moved", self.moved)
            return super().update(gradient)

    def moved(
        self, workload: Workload, iteration: int, is_weight: bool, p: Array, g: Array, moments: list[Array]
    ) -> tuple[Array, ...]:
        return self.formula(workload.recipe.optimizer, workload.rate(iteration), iteration + 1, p, g, *moments)

    def formula(self, o: Optimizer, rate: float, t: int, p: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        raise NotImplementedError


class OtherAdam(OtherFormula):
    """v and s are right."""

    def formula(self, o: Optimizer, rate: float, t: int, p: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        v = o.beta1 * moments[0] + (1 - o.beta1) * g
        s = o.beta2 * moments[1] + (1 - o.beta2) * (g * g)
        return p - rate * self.direction(o, v, s, *o.bias_corrections(t)), v, s

    def direction(self, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
        raise NotImplementedError


@fault()
class AdamEpsilonInsideOfTheRoot(OtherAdam):
    def direction(self, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
        return first * v / np.sqrt(s * second**2 + o.epsilon)


@fault("float64")
class AdamEpsilonCorrectedToo(OtherAdam):
    """30 times as large in the first step, and then less and less."""

    def direction(self, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
        return first / second * v / (np.sqrt(s) + o.epsilon)


@fault("float64")
class AdamWithoutEpsilon(OtherAdam):
    def direction(self, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
        return np.divide(first * v, np.sqrt(s) * second, out=np.zeros_like(v), where=s > 0)


@fault()
class AdamWithoutCorrections(OtherAdam):
    def direction(self, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
        return v / (np.sqrt(s) + o.epsilon)


@fault()
class AdamWithoutTheFirstCorrection(OtherAdam):
    def direction(self, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
        return v / (np.sqrt(s) * second + o.epsilon)


@fault()
class AdamWithoutTheSecondCorrection(OtherAdam):
    def direction(self, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
        return first * v / (np.sqrt(s) + o.epsilon)


@fault()
class AdamCountsFromZero(OtherAdam):
    """Its second step has the corrections of the first, and so on."""

    def formula(self, o: Optimizer, rate: float, t: int, p: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        return super().formula(o, rate, max(1, t - 1), p, g, *moments)

    def direction(self, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
        return first * v / (np.sqrt(s) * second + o.epsilon)


@fault("float64")
class MomentsInSingle(OtherAdam):
    def direction(self, o: Optimizer, v: Array, s: Array, first: float, second: float) -> Any:
        v, s = v.astype(np.float32), s.astype(np.float32)
        return (first * v / (np.sqrt(s) * second + o.epsilon)).astype(np.float64)


@fault(optimizer=Optimizer("adamw"))
class BiasesDecayToo(OtherFormula):
    def moved(
        self, workload: Workload, iteration: int, is_weight: bool, p: Array, g: Array, moments: list[Array]
    ) -> tuple[Array, ...]:
        return MOVED(workload, iteration, True, p, g, moments)


MOVED = mlp._moved


@fault(optimizer=Optimizer("adamw"))
class DecayInTheGradient(OtherFormula):
    """Adam's own, which AdamW is named for not doing."""

    def moved(
        self, workload: Workload, iteration: int, is_weight: bool, p: Array, g: Array, moments: list[Array]
    ) -> tuple[Array, ...]:
        decay = workload.recipe.optimizer.weight_decay if is_weight else 0.0
        return MOVED(workload, iteration, False, p, g + decay * p, moments)


@fault(optimizer=Optimizer("adamw"))
class DecayWithoutTheRate(OtherFormula):
    def moved(
        self, workload: Workload, iteration: int, is_weight: bool, p: Array, g: Array, moments: list[Array]
    ) -> tuple[Array, ...]:
        shrunk = p * (1 - workload.recipe.optimizer.weight_decay) if is_weight else p
        return MOVED(workload, iteration, False, shrunk, g, moments)


@fault(optimizer=Optimizer("adamw"))
class DecayForgotten(OtherWorkload):
    def recipe_instead_of(self, recipe: Recipe) -> dict[str, Any]:
        return {"optimizer": Optimizer("adam")}


@fault(optimizer=Optimizer("rmsprop"))
class RmspropEpsilonInsideOfTheRoot(OtherFormula):
    def formula(self, o: Optimizer, rate: float, t: int, p: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        s = o.rho * moments[0] + (1 - o.rho) * (g * g)
        return p - rate * g / np.sqrt(s + o.epsilon), s


@fault(optimizer=Optimizer("rmsprop"))
class RmspropOfTheStepBefore(OtherFormula):
    """Divides by the mean square without this gradient's, but in the first step."""

    def formula(self, o: Optimizer, rate: float, t: int, p: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        s = o.rho * moments[0] + (1 - o.rho) * (g * g)
        return p - rate * g / (np.sqrt(s if t == 1 else moments[0]) + 1e-3), s


@fault(optimizer=Optimizer("nesterov"))
class NesterovIsMomentum(OtherWorkload):
    def recipe_instead_of(self, recipe: Recipe) -> dict[str, Any]:
        return {"optimizer": replace(recipe.optimizer, name="momentum")}


@fault(optimizer=Optimizer("momentum"))
class Dampened(OtherFormula):
    """A mean of the gradients, as Adam has it."""

    def formula(self, o: Optimizer, rate: float, t: int, p: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        v = o.momentum * moments[0] + (1 - o.momentum) * g
        return p - rate * v, v


@fault(optimizer=Optimizer("momentum"), schedule=Schedule("cosine"))
class RateInTheMomentum(OtherFormula):
    """v := mu v - a g, which is another thing where the rate changes."""

    def formula(self, o: Optimizer, rate: float, t: int, p: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        v = o.momentum * moments[0] - rate * g
        return p + v, v


@fault(optimizer=Optimizer("momentum"))
class KeepsItsMomentum(Steps):
    """Through a reset."""

    def reset(self, parameters: Parameters) -> None:
        kept = self._state.moments if hasattr(self, "_state") else None
        super().reset(parameters)
        self._state = replace(self._state, moments=kept or self._state.moments)


@fault(optimizer=Optimizer("adam"))
class KeepsItsMoments(KeepsItsMomentum):
    pass


@fault()
class KeepsItsEpoch(Steps):
    """Through a reset: its batches go on where they were."""

    before = 0

    def batch(self, iteration: int) -> mlp.Batch:
        return super().batch(self.before + iteration)

    def reset(self, parameters: Parameters) -> None:
        self.before += self._state.iteration if hasattr(self, "_state") else 0
        super().reset(parameters)
