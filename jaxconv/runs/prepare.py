"""The data and the net of a run, on its devices."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from jaxtyping import PyTree

from jaxconv.data import Batch, Dataset, Stream, StreamedDataset, load_dataset, open_streamed
from jaxconv.export import check_save, load_variables
from jaxconv.models import as_linen
from jaxconv.parallel import World
from jaxconv.runs.config import Augmentation, Config, Training
from jaxconv.runs.plan import Plan
from jaxconv.runs.recipe import Recipe
from jaxconv.runs.result_lines import name_seeds
from jaxconv.runs.trained import load_run
from jaxconv.runs.values import parse_image_size
from jaxconv.training import (
    Classifier,
    Strategy,
    TrainState,
    average_weights,
    check_keys,
    choose_strategy,
    classifier,
    keep_best,
    learning_rate_schedule,
    regularize,
    smoothed_crossentropy,
    stack_states,
)


class Samples(NamedTuple):
    """What a run trains and evaluates on."""

    train: Batch | Stream
    validation: Batch | None
    test: Batch


def load(plan: Plan, config: Config, world: World) -> tuple[Dataset | StreamedDataset, Samples]:
    """Loads the data set, and places on the devices what is in memory.

    Raises:
      ValueError, OSError, ModuleNotFoundError: as `load_dataset` and `open_streamed`.
    """
    own, where = config.data, config.run.data_dir
    if own.stream:
        data = open_streamed(
            own.dataset,
            data_dir=where,
            validation_split=own.validation_split,
            workers=config.parallel.workers,
            mesh=world.mesh,
        )
        train = data.train
    else:
        data = load_dataset(
            own.dataset,
            data_dir=where,
            image_size=parse_image_size(own.image_size),
            test_split=own.test_split,
        ).split_validation(own.validation_split)
        train = world.place(data.train.batch(), same=True)
    test = world.place(data.test.batch(), same=True)
    validation = test if plan.validate_on_test else None
    if data.validation is not None:
        validation = world.place(data.validation.batch(), same=True)
    return data, Samples(train, validation, test)


class Net(NamedTuple):
    """A recipe's net for the data of a run."""

    model: nn.Module
    functions: Classifier
    make_state: Callable[[int], TrainState]
    """The first state of a seed, on one device."""
    given: dict[str, PyTree]
    """The `params` and `batch_stats` to start from, if the seed does not decide them."""
    params_count: int
    strategy: Strategy
    group: int
    """The most replicas that one program trains."""

    def make_states(self, seeds: Sequence[int]) -> TrainState:
        """The first states of seeds, stacked."""
        return stack_states([self.make_state(seed) for seed in seeds])


def build(
    recipe: Recipe, plan: Plan, config: Config, data: Dataset | StreamedDataset, world: World
) -> Net:
    """Makes the net for the data's images and classes.

    Raises:
      ValueError: if the images do not fit the net, or the strategy the keys.
      FileExistsError: if the file to export exists, and `overwrite` is False.
      FileNotFoundError: if there is no file `init_from`.
    """
    shape, steps = data.input_shape, plan.epochs * -(-len(data.train) // plan.batch_size)
    # The functions depend on none of these; on the number of steps only through a schedule.
    training = dataclasses.replace(config.training, epochs=1, batch_size=1, early_stopping=None)
    steps = 1 if plan.grows else steps
    own = (config.augmentation, config.model)
    model, net, init = _functions(recipe, training, steps, *own, data.num_classes, shape)
    given = world.on_first(lambda: _initial_variables(config, model, shape)) or {}
    strategy, group = choose_strategy(plan.strategy, plan.group)
    check_keys(jax.random.key(0), strategy, min(group, len(plan.seeds)))
    params = jax.eval_shape(init, jax.random.key(0), given).params
    return Net(
        model,
        net._replace(
            train_step=world.divide(net.train_step), eval_step=world.divide(net.eval_step)
        ),
        lambda seed: init(jax.random.key(seed), given),
        given,
        sum(x.size for x in jax.tree.leaves(params)),
        strategy,
        group,
    )


def _initial_variables(config: Config, model: nn.Module, shape: tuple[int, int, int]) -> Any:
    """Checks that `export_keras` can be written, and reads the variables of `init_from`."""
    if config.run.export_keras is not None:
        check_save(config.run.export_keras, model, shape, overwrite=config.run.overwrite)
    if (path := config.run.init_from) is None:
        return None
    if is_keras_file(path):
        return load_variables(path, model, shape)
    if not path or not (Path(path).is_dir() or path.endswith(".safetensors")):
        raise ValueError(
            "init_from takes a run's folder, its model.safetensors, NAME.weights.h5 or NAME.keras, "
            f"not {path!r}."
        )
    trained = load_run(path, model)
    if len(trained.states) > 1:
        raise ValueError(
            f"{path} holds the nets of {name_seeds(trained.seeds)}, and a run starts from one: "
            "name a run of one seed."
        )
    return {"params": trained.state.params, "batch_stats": trained.state.batch_stats}


def is_keras_file(path: str) -> bool:
    """Whether `init_from` names a file of Keras, not a run of jaxconv."""
    return path.endswith((".h5", ".keras"))


@functools.lru_cache(maxsize=8)
def _functions(
    recipe: Recipe,
    training: Training,
    steps: int,
    augmentation: Augmentation,
    settings: Any,
    num_classes: int,
    shape: tuple[int, int, int],
) -> tuple[nn.Module, Classifier, Callable[..., TrainState]]:
    """The model, its functions, and `init` compiled once for all seeds.

    JAX knows a program by its functions: a second run in this process does not compile them again.
    """
    model = as_linen(recipe.model(num_classes, **dataclasses.asdict(settings)))
    rate = learning_rate_schedule(training.schedule, training.learning_rate, steps)
    tx = regularize(
        recipe.tx(rate),
        rate,
        weight_decay=training.weight_decay,
        global_clipnorm=training.global_clipnorm,
    )
    if training.ema_momentum is not None:
        tx = average_weights(tx, training.ema_momentum)
    smoothing = training.label_smoothing
    loss = smoothed_crossentropy(smoothing) if smoothing else recipe.loss
    net = classifier(model, tx, loss=loss, augment=augmentation.function())

    def init(rng: Any, given: dict[str, PyTree]) -> TrainState:
        state = net.init(rng, shape, **given)
        return keep_best(state) if training.restore_best else state

    return model, net, jax.jit(init)
