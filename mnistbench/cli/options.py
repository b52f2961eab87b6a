"""Options of training, shared by ``train`` and ``crossval``, and the workload they describe.

An option that is not given (None) has the preset's value, or without a preset the classic's. An option that has no
effect together with the others is refused.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mnistbench.cli.common import Data, Seed, Threads, dtype_named, told
from mnistbench.exceptions import OptionError
from mnistbench.task.presets import PRESETS, PUBLISHED, Published, preset
from mnistbench.task.recipe import (
    ACTIVATIONS,
    DISTORTIONS,
    INITIALIZERS,
    OPTIMIZERS,
    SCHEDULES,
    Augmentation,
    Optimizer,
    Recipe,
    Schedule,
)
from mnistbench.task.workload import DTYPES, Network, Workload

if TYPE_CHECKING:
    from mnistbench.datasets import Dataset
    from mnistbench.ranks import Team

Choice = TypeVar("Choice", bound=str)
Text = str | None
Whole = int | None
Number = float | None

_NETWORK, _TRAINING, _IMAGES = "Network", "Training", "Images"


def _option(panel: str, text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)


def _one_of(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]} (default: {names[0]})."


@dataclass(frozen=True)
class TrainingOptions:
    """Options as given on the command line. Methods raise an OptionError if one is out of range or has no effect."""

    backend: Annotated[str, typer.Option(help="Backend to train with; 'mnistbench backends' lists them.")] = "numba"
    workload: Annotated[Text, _option(_NETWORK, f"Preset in place of the defaults: {', '.join(PRESETS)}.")] = None
    hidden: Annotated[Text, _option(_NETWORK, "Units of each hidden layer, such as 500,150 (default: 10).")] = None
    activation: Annotated[Text, _option(_NETWORK, f"Activation of hidden layers: {_one_of(ACTIVATIONS)}")] = None
    initializer: Annotated[
        Text, _option(_NETWORK, f"Initial weights: {_one_of(INITIALIZERS)}", "--initializer", "--init")
    ] = None
    dtype: Annotated[Text, _option(_NETWORK, f"Precision: {_one_of(DTYPES)}")] = None
    iterations: Annotated[Whole, _option(_TRAINING, "Number of gradient steps (default: 500).")] = None
    epochs: Annotated[Whole, _option(_TRAINING, "Number of passes over the images, in place of --iterations.")] = None
    learning_rate: Annotated[Number, _option(_TRAINING, "Learning rate before any schedule (default: 0.1).")] = None
    batch_size: Annotated[Whole, _option(_TRAINING, "Images per gradient step (default: all).")] = None
    optimizer: Annotated[Text, _option(_TRAINING, f"Optimizer: {_one_of(OPTIMIZERS)}")] = None
    momentum: Annotated[Number, _option(_TRAINING, "Momentum coefficient (momentum, nesterov; default: 0.9).")] = None
    rho: Annotated[Number, _option(_TRAINING, "Decay of the mean square (rmsprop; default: 0.9).")] = None
    beta1: Annotated[Number, _option(_TRAINING, "Decay of the first moment (adam, adamw; default: 0.9).")] = None
    beta2: Annotated[Number, _option(_TRAINING, "Decay of the second moment (adam, adamw; default: 0.999).")] = None
    epsilon: Annotated[Number, _option(_TRAINING, "Added to divisors (rmsprop, adam, adamw; default: 1e-8).")] = None
    weight_decay: Annotated[Number, _option(_TRAINING, "Decoupled weight decay (adamw; default: 0.01).")] = None
    schedule: Annotated[Text, _option(_TRAINING, f"Learning rate schedule: {_one_of(SCHEDULES)}")] = None
    schedule_every: Annotated[Whole, _option(_TRAINING, "Epochs between steps (step; default: 10).")] = None
    schedule_factor: Annotated[
        Number, _option(_TRAINING, "Factor of the learning rate at each step (step; default: 0.1).")
    ] = None
    l2: Annotated[Number, _option(_TRAINING, "L2 penalty coefficient lambda (default: 0).")] = None
    dropout: Annotated[Text, _option(_TRAINING, "Dropout rate, or one per hidden layer: 0.2,0.5 (default: 0).")] = None
    augment: Annotated[
        Text, _option(_TRAINING, f"Distortions, separated by commas: {', '.join(DISTORTIONS)} (default: none).")
    ] = None
    shift: Annotated[Whole, _option(_TRAINING, "Largest shift in pixels (shift; default: 2).")] = None
    rotate: Annotated[Number, _option(_TRAINING, "Largest rotation in degrees (rotate; default: 15).")] = None
    elastic_alpha: Annotated[Number, _option(_TRAINING, "Displacement factor alpha (elastic; default: 34).")] = None
    elastic_sigma: Annotated[Number, _option(_TRAINING, "Smoothing sigma in pixels (elastic; default: 4).")] = None
    patience: Annotated[
        Whole, _option(_TRAINING, "Stop after N epochs without a lower dev loss; keep the best parameters.")
    ] = None
    data: Data = None
    train_size: Annotated[
        Whole,
        _option(
            _IMAGES,
            "Number of training images (default: 41,000, the preset's, or all of --data). Beyond MNIST's 60,000, train "
            "takes shifted copies.",
        ),
    ] = None
    dev_size: Annotated[
        Whole,
        _option(
            _IMAGES,
            "Number of dev images (default: 1,000, a tenth of fewer than 10,000, or what the others leave of 60,000).",
        ),
    ] = None
    seed: Seed = 0
    threads: Threads = None

    @property
    def preset(self) -> Workload:
        """Preset, by default the classic, that supplies what was not given."""
        return preset(self.workload or "classic", seed=self.seed)

    def recipe(self) -> Recipe:
        """Return the preset's recipe, changed by the options given."""
        own = self.preset.recipe
        return replace(
            own,
            initializer=self._chosen("initializer", INITIALIZERS) or own.initializer,
            l2=own.l2 if self.l2 is None else self.l2,
            dropout=own.dropout if self.dropout is None else _fractions(self.dropout),
            optimizer=self._optimizer(own.optimizer),
            batch_size=own.batch_size if self.batch_size is None else self.batch_size,
            schedule=self._schedule(own.schedule),
            augmentation=self._augmentation(own.augmentation),
        )

    def check(self) -> None:
        """Check everything that does not depend on the images, before they are loaded."""
        own = self.preset
        hidden = own.network.hidden if self.hidden is None else _layers(self.hidden)
        self._task(Network((own.network.inputs, *hidden, own.network.outputs)), own.images)

    def _chosen(self, name: str, values: tuple[Choice, ...]) -> Choice | None:
        """Return the value given for an option, which must be one of ``values``, or None."""
        given = getattr(self, name)
        if given not in (None, *values):
            raise OptionError(f"{_flag(name)} {given}: choose from {', '.join(values)}")
        return next((value for value in values if value == given), None)

    def _given(self, *names: str) -> dict[str, Any]:
        """Return the values of the named options that were given."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _optimizer(self, own: Optimizer) -> Optimizer:
        # Another optimizer does not take over the constants of the preset's.
        chosen = self._chosen("optimizer", OPTIMIZERS) or own.name
        start = own if chosen == own.name else Optimizer(chosen)
        given = self._given("momentum", "rho", "beta1", "beta2", "epsilon", "weight_decay")
        for name in given:
            if start.name not in _OPTIMIZERS_WITH[name]:
                whose = " and ".join(_OPTIMIZERS_WITH[name])
                raise OptionError(f"{_flag(name)}: has no effect with {start.name}; it is of {whose}")
        return replace(start, **given)

    def _schedule(self, own: Schedule) -> Schedule:
        chosen = self._chosen("schedule", SCHEDULES) or own.name
        start = own if chosen == own.name else Schedule(chosen)
        given = self._given("schedule_every", "schedule_factor")
        if given and start.name != "step":
            raise OptionError(f"{_flag(next(iter(given)))}: has no effect with a {start.name} schedule; it is of step")
        return replace(start, **{name.removeprefix("schedule_"): value for name, value in given.items()})

    def _augmentation(self, own: Augmentation) -> Augmentation:
        start = own
        if self.augment is not None:
            names = [] if self.augment == "none" else [name.strip() for name in self.augment.split(",")]
            for name in names:
                if name not in DISTORTIONS:
                    raise OptionError(f"--augment {self.augment}: choose from {', '.join(DISTORTIONS)}, or none")
            start = Augmentation(**dict(_DISTORTED[name] for name in names))
        given = self._given("shift", "rotate", "elastic_alpha", "elastic_sigma")
        for name in given:
            distortion = name.partition("_")[0]
            if not getattr(start, _DISTORTED[distortion][0]):
                raise OptionError(f"{_flag(name)}: has no effect without --augment {distortion}")
        return replace(start, **given)

    def task(self, dataset: Dataset) -> Workload:
        """Return the workload on a data set's training images, named after the preset if it equals it."""
        own = self.preset
        hidden = own.network.hidden if self.hidden is None else _layers(self.hidden)
        found = self._task(dataset.network(*hidden), dataset.images)
        _require_a_step(found)
        if self.batch_size is not None and self.batch_size > found.images:
            raise OptionError(
                f"--batch-size {self.batch_size}: there are {found.images:,} images to train on; give less"
            )
        named = replace(found, name=own.name)
        return named if self.workload and named == own.with_dtype(found.dtype) else found

    def _task(self, network: Network, images: int) -> Workload:
        own = self.preset
        if self.epochs is not None and self.iterations is not None:
            raise OptionError("--epochs: not with --iterations, which says as much; give one of them")
        found = Workload(
            replace(network, activation=self._chosen("activation", ACTIVATIONS) or own.network.activation),
            images,
            own.iterations if self.iterations is None else self.iterations,
            own.learning_rate if self.learning_rate is None else self.learning_rate,
            "float32" if self.dtype is None else dtype_named(self.dtype),
            self.seed,
            recipe=self.recipe(),
        )
        epochs = self.epochs
        if epochs is None and self.iterations is None and own.recipe.batch_size is not None:
            epochs = own.iterations // own.iterations_per_epoch
        return found if epochs is None else found.for_epochs(epochs)

    def load(self, team: Team | None = None) -> Dataset:
        """Load the images, of a team each rank its share.

        By default they are as many as the preset trains on, and dev has 1,000 others, or those that MNIST has. More
        images than MNIST has are shifted copies.
        """
        from mnistbench import datasets
        from mnistbench.datasets import DEV_SIZE, LABELLED

        load_data = team.load_data if team else datasets.load_data
        load_images = team.load_images if team else datasets.load_images
        train_size, dev_size = self.train_size, self.dev_size
        if self.data is None and train_size is not None and train_size > LABELLED:
            if dev_size not in (None, DEV_SIZE):
                raise OptionError(
                    f"--dev-size {dev_size}: not with --train-size {train_size}, more images than MNIST has: "
                    f"{DEV_SIZE:,} are held out, and copies made of the others; leave it out"
                )
            found = load_images(train_size, self.seed)
        else:
            if self.data is None and (self.workload or train_size is not None):
                if train_size is None:
                    train_size = min(self.preset.images, LABELLED - (dev_size or 0))
                dev_size = min(DEV_SIZE, max(0, LABELLED - train_size)) if dev_size is None else dev_size
            found = load_data(self.data, self.seed, train_size, dev_size)
        return told(found)

    def load_labelled(self) -> Dataset:
        """Load ``train_size`` labelled images, by default all, and hold none out."""
        from mnistbench.datasets import LABELLED, load_data

        train_size = LABELLED if self.data is None and self.train_size is None else self.train_size
        return told(load_data(self.data, self.seed, train_size, dev_size=0))

    def published(self, task: Workload) -> Published | None:
        """Return the published error of the preset, if ``task`` has its layer sizes and MNIST's own images."""
        from mnistbench.datasets import LABELLED

        own = self.data is None and task.images <= LABELLED
        same = own and task.network.sizes == self.preset.network.sizes
        return PUBLISHED.get(self.workload or "") if same else None


_OPTIMIZERS_WITH = {
    "momentum": ("momentum", "nesterov"),
    "rho": ("rmsprop",),
    "beta1": ("adam", "adamw"),
    "beta2": ("adam", "adamw"),
    "epsilon": ("rmsprop", "adam", "adamw"),
    "weight_decay": ("adamw",),
}

# The field that turns a distortion on, and its default value.
_DISTORTED: dict[str, tuple[str, Any]] = {
    "shift": ("shift", 2),
    "rotate": ("rotate", 15.0),
    "elastic": ("elastic_alpha", 34.0),
}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _layers(text: str) -> tuple[int, ...]:
    """Parse --hidden: "10", or "500,150"."""
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() and int(part) > 0 for part in parts):
        raise OptionError(f"--hidden {text}: give whole numbers above 0, such as 10, or 500,150")
    return tuple(int(part) for part in parts)


def _fractions(text: str) -> tuple[float, ...]:
    """Parse --dropout: "0.5", or "0.2,0.5"."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"--dropout {text}: give a fraction, such as 0.5, or one for each hidden layer") from None


def _require_a_step(task: Workload) -> None:
    """Refuse a step schedule that changes nothing."""
    schedule, epochs = task.recipe.schedule, -(-task.iterations // task.iterations_per_epoch)
    if schedule.name == "step" and schedule.factor == 1:
        raise OptionError("--schedule-factor 1: changes nothing; give less, or leave out --schedule step")
    if schedule.name == "step" and schedule.every >= epochs:
        raise OptionError(
            f"--schedule step: changes nothing in {epochs} epochs with a step after {schedule.every}; "
            "give a smaller --schedule-every"
        )


def taking_training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's first argument, the :class:`TrainingOptions`, by one option for each of its fields."""
    hints = typing.get_type_hints(TrainingOptions, include_extras=True)
    own = typing.get_type_hints(command, include_extras=True)
    _, *others = inspect.signature(command).parameters.values()
    taken = [(field.name, field.default, hints[field.name]) for field in fields(TrainingOptions)]
    taken += [(other.name, other.default, own[other.name]) for other in others]

    def run(**given: Any) -> None:
        first = {field.name: given.pop(field.name) for field in fields(TrainingOptions)}
        command(TrainingOptions(**first), **given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, kind, default=default, annotation=hint) for name, default, hint in taken]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {name: hint for name, _, hint in taken}
    return run
