import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxconv.training.transforms import update


def test_an_optimizer_gets_those_of_the_loss_that_it_takes():
    """optax.contrib.sam takes no more than optax.sgd does."""
    inner, ascent = optax.sgd(0.1), optax.sgd(0.05)
    tx = optax.contrib.sam(inner, ascent, sync_period=2, reset_state=False)
    params, grads = {"x": jnp.ones(3)}, {"x": jnp.ones(3)}
    updates, _ = update(tx, grads, tx.init(params), params, value=1.0, grad=grads, value_fn=sum)
    np.testing.assert_allclose(updates["x"], 0.05 * np.ones(3))  # SAM's first step goes up
    tx = optax.lookahead(inner, 5, 0.5)
    opt_state = tx.init(params)
    with pytest.raises(ValueError, match=r"The optimizer lookahead fails: .* one tree of param"):
        update(tx, grads, opt_state, params)


def test_an_error_of_jax_itself_stays():
    """It says which value a traced program branched on."""

    def branch(updates, state, params=None):
        return (updates, state) if updates["x"].sum() > 0 else (params, state)

    tx = optax.GradientTransformation(lambda params: optax.EmptyState(), branch)
    grads = {"x": jnp.ones(3)}
    with pytest.raises(jax.errors.TracerBoolConversionError):
        jax.jit(lambda grads: update(tx, grads, optax.EmptyState(), grads))(grads)
