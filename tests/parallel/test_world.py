"""A world of one process; `test_launched_runs.py` has several."""

import jax
import jax.numpy as jnp
import pytest

from jaxconv import parallel
from jaxconv.parallel import World

LOST = "UNKNOWN: Gloo all-reduce failed: [x/pair.cc:538] Read error: Connection reset by peer"


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


@pytest.mark.parametrize(
    ("error", "processes", "lost"),
    [
        (ValueError(LOST), 2, True),
        (RuntimeError("INTERNAL: NCCL operation failed: connection closed"), 2, True),
        (ValueError(LOST), 1, False),
        (ValueError("no file /data/gloo/peer"), 2, False),
        (parallel.AgreedError(LOST), 2, False),
    ],
)
def test_only_a_lost_connection_is_explained_as_a_lost_process(monkeypatch, error, processes, lost):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    expected = ConnectionError if lost else type(error)
    with pytest.raises(expected) as caught, parallel.name_lost_peer():
        raise error
    assert ("Process 0 of 2 has lost another one" in str(caught.value)) is lost
