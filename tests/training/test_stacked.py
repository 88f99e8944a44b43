import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxconv
from jaxconv import epoch_permutation, train_epoch
from jaxconv.training._stacked import (
    each,
    epoch_permutations,
    first_state,
    join_states,
    slice_states,
    stack_states,
)
from jaxconv.training.sources import train_epoch_replicas
from tests.support.oracles import bits

KEYS = [jax.random.key(seed) for seed in (3, 7, 11, 2**32 - 1)]
MODEL, TX = jaxconv.create_model("dense", hidden=(16,)), jaxconv.adam()
make_state = jax.jit(lambda key: jaxconv.create_train_state(MODEL, TX, key, (28, 28, 1)))


class Noise(nn.Module):
    @nn.compact
    def __call__(self, image, *, train: bool = False):
        return nn.Dropout(0.5, deterministic=not train)(jnp.ones((len(image), 32)))


@pytest.mark.parametrize("strategy", ["map", "vmap"])
def test_each_replica_sees_the_parameters_batches_and_masks_that_it_sees_alone(digits, strategy):
    def see(state, batch):
        noise = jax.random.fold_in(jax.random.fold_in(state.rng, 1), state.step)
        mask = Noise().apply({}, batch["image"], train=True, rngs={"dropout": noise})
        seen = {"image": batch["image"], "label": batch["label"], "mask": mask}
        seen |= {"params": state.params["logits"]["kernel"], "count": jnp.int32(1)}
        return state._replace(step=state.step + 1), seen

    options = {"train_step": see, "batch_size": 50}
    epoch = functools.partial(train_epoch, **options)
    data = digits.train.batch()
    stack = stack_states([make_state(key) for key in KEYS])
    orders = epoch_permutations(stack.rng, 1, samples=300, strategy=strategy)
    run = functools.partial(train_epoch_replicas, strategy=strategy, **options)
    _, together = jax.jit(run)(stack, data, orders, 0, 6)
    for i, key in enumerate(KEYS):
        order = epoch_permutation(key, 1, 300)
        alone = jax.jit(epoch)(make_state(key), data, order, 0, 6)[1]
        for name, seen in alone.items():
            np.testing.assert_array_equal(together[name][i], seen, err_msg=name)
    masks = np.asarray(together["mask"]).reshape(24, -1)
    assert len(np.unique(masks, axis=0)) == 24  # every replica and step has its own


def test_stacks_are_cut_and_joined_without_a_change():
    states = [make_state(key) for key in KEYS]
    stack = stack_states(states)
    parts = [slice_states(stack, start, size=2) for start in (0, 2)]
    assert bits(parts[1]) == bits(stack_states(states[2:]))
    assert bits(join_states(parts)) == bits(stack)


@pytest.mark.parametrize("strategy", ["map", "vmap"])
def test_a_single_replica_needs_no_loop(strategy):
    stack = stack_states([make_state(KEYS[0])])
    program = jax.jit(lambda x: each(strategy, lambda state: state.step + 1, x))
    assert program(stack).tolist() == [1]
    assert "while" not in program.lower(stack).as_text()
    assert bits(first_state(stack)) == bits(make_state(KEYS[0]))
