"""A world of one process; `test_launched_runs.py` has several."""

import jax
import jax.numpy as jnp
import pytest

from jaxconv import parallel
from jaxconv.parallel import World


@pytest.fixture
def world() -> World:
    return World.join(processes=1)


def test_a_process_alone_is_first_and_keeps_its_values(world):
    assert (world.first, world.count, world.mesh.size) == (True, 1, 1)
    assert world.share({"step": [1, 2]}) == {"step": [1, 2]}
    assert world.on_first(lambda: 3) == 3
    assert (world.signal(None), world.signal(15)) == (0, 15)
    world.agree({"epochs": float("nan")})
    tree = {"x": jnp.arange(3), "rng": jax.random.key(0)}
    assert world.place(tree) is tree
    assert jnp.array_equal(world.own(tree)["x"], tree["x"])


def test_the_first_process_raises_its_own_error(world):
    def fails():
        raise FileNotFoundError("no such run")

    with pytest.raises(FileNotFoundError, match="no such run"):
        world.on_first(fails)


def test_a_mesh_of_one_device_leaves_the_step_as_it_is(world):
    def step(state, batch):
        return state, batch

    assert world.divide(step) is step


@pytest.mark.usefixtures("untyped")
def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="num_processes must be a positive integer, not 0"):
        World.join(processes=0)
    with pytest.raises(ValueError, match="devices must be at most"):
        World.join(processes=1, devices=len(jax.devices()) + 1)
    assert parallel.World is World
