import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from jaxconv.data import _warp
from jaxconv.data.augment import compose, erase, warp

KEYS = jax.random.split(jax.random.key(0), 2000)
ALL = {"rotation": 15.0, "zoom": 0.1, "shear": 10.0, "shift": 1.0, "elastic": 0.7}


@pytest.fixture(scope="module")
def images(mnist):
    return mnist.train.image[:64]


def applied(own, keys, images) -> np.ndarray:
    """The images, changed in one compiled program."""
    return np.asarray(jax.jit(own)(keys, jnp.asarray(images)))


def draws(keys=KEYS, shape=(28, 28), **most) -> _warp.Draws:
    """What `warp` draws."""
    limits = tuple(most.get(name, 0.0) for name in ("rotation", "zoom", "shear", "elastic"))
    return _warp.draw(keys, shape, limits, 6.0)


def test_an_affine_warp_is_that_of_scipy(images):
    """SciPy's matrix leads from the result to the image, ours from the image to the result."""
    own = draws(KEYS[:64], rotation=40.0, zoom=0.3, shear=20.0)
    offset = np.random.default_rng(0).integers(-6, 7, (64, 2))
    found = _warp.resample(
        images / np.float32(255), _warp.sources(own, jnp.array(offset), (28, 28))
    )
    for i in range(64):
        inverse = np.linalg.inv(np.asarray(own.matrix[i], np.float64))
        first = 13.5 - inverse @ (13.5 + offset[i])
        expected = ndimage.affine_transform(
            images[i, :, :, 0] / 255, inverse, first, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(found[i, :, :, 0], expected, atol=2e-5)


def test_a_warp_is_that_of_scipy_with_channels_and_sides_of_its_own():
    images = np.random.default_rng(0).random((3, 9, 14, 2)).astype(np.float32)
    own = draws(KEYS[:3], (9, 14), rotation=40.0, elastic=1.5)
    sources = _warp.sources(own, jnp.array([[1, -2], [0, 3], [2, 0]]), (9, 14))
    found = _warp.resample(images, sources)
    for i in range(3):
        for channel in range(2):
            expected = ndimage.map_coordinates(
                images[i, :, :, channel], np.asarray(sources[i]), order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(found[i, :, :, channel], expected, atol=1e-5)


def test_a_matrix_is_a_zoom_then_a_shear_then_a_rotation():
    own = jax.vmap(jax.random.split)(KEYS[:20])[:, 0]
    u = jax.vmap(lambda key: jax.random.uniform(key, (6,), minval=-1.0))(own)
    u = np.asarray(u, np.float64)
    found = draws(KEYS[:20], rotation=30.0, zoom=0.2, shear=25.0).matrix
    for i in range(20):
        turn, lean = np.deg2rad(30 * u[i, 0]), np.tan(np.deg2rad(25) * u[i, 1])
        rotation = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        expected = rotation @ np.array([[1, 0], [lean, 1]]) @ np.diag(1 + 0.2 * u[i, 2:4])
        np.testing.assert_allclose(found[i], expected, atol=1e-6)


def test_what_is_drawn_is_uniform():
    def uniform(values, most):
        return stats.kstest(np.asarray(values, np.float64), "uniform", (-most, 2 * most)).pvalue

    turned, scaled = draws(rotation=15.0).matrix, draws(zoom=0.1).matrix
    assert uniform(jnp.rad2deg(jnp.arctan2(turned[:, 1, 0], turned[:, 0, 0])), 15) > 0.01
    assert uniform(scaled[:, 0, 0] - 1, 0.1) > 0.01
    assert uniform(scaled[:, 1, 1] - 1, 0.1) > 0.01
    assert uniform(jnp.rad2deg(jnp.arctan(draws(shear=8.0).matrix[:, 1, 0])), 8) > 0.01
    moved = draws(elastic=0.7).field
    for place in ((0, 0, 0), (0, 14, 14), (1, 27, 5)):
        assert stats.kstest(np.asarray(moved[:, *place]) / 0.7, "norm").pvalue > 0.01


def test_shifts_and_squares_are_uniform():
    dot = jnp.zeros((2000, 7, 5, 1), jnp.uint8).at[:, 1, 3].set(9)
    moved = applied(warp(shift=1.0), KEYS, dot)[..., 0]
    assert stats.chisquare((moved == 9).sum(axis=0).ravel()).pvalue > 0.01
    ones = jnp.ones((2000, 7, 5, 1))
    first = np.argwhere(np.diff(applied(erase(3), KEYS, ones), axis=1, prepend=1.0) == -1)
    corners = np.unique(first[::3, 1:3], axis=0, return_counts=True)[1]
    assert len(corners) == 5 * 3
    assert stats.chisquare(corners).pvalue > 0.01


def test_a_shift_moves_a_digit_and_cuts_nothing(images):
    moved = applied(warp(shift=1.0), KEYS[:64], images)
    for before, after in zip(images[..., 0], moved[..., 0], strict=True):
        boxes = [x[np.ix_(x.any(axis=1), x.any(axis=0))] for x in (before, after)]
        np.testing.assert_array_equal(*boxes)
    assert (moved != images).any(axis=(1, 2, 3)).mean() > 0.9
    half = applied(warp(shift=0.5), KEYS, jnp.zeros((2000, 21, 21, 1)).at[:, 10, 10].set(1))
    assert set(np.argwhere(half)[:, 1]) == {*range(5, 16)}


@pytest.mark.parametrize(("share", "elastic"), [(1.0, 0.0), (0.2, 0.0), (1.0, 0.6)])
def test_no_warp_with_a_shift_cuts_a_digit(images, share, elastic):
    """All ink of a larger canvas lies within the image's own part of it, near the edges too."""
    images = applied(warp(shift=1.0), KEYS[:64], images)
    own = draws(KEYS[64:128], rotation=15.0, shear=10.0, elastic=elastic)
    offset = _warp.place_shift(jnp.asarray(images), own, share)
    margin = ((0, 0), (0, 0), (20, 20), (20, 20))
    canvas = np.pad(images / np.float32(255), (margin[0], *margin[2:], margin[0]))
    wide = own._replace(field=jnp.pad(own.field, margin, mode="edge") if elastic else own.field)
    ink = np.asarray(_warp.resample(canvas, _warp.sources(wide, offset, (68, 68))))
    assert ink.sum(axis=(1, 2, 3)) == pytest.approx(ink[:, 20:48, 20:48].sum(axis=(1, 2, 3)))
    assert len(np.unique(offset, axis=0)) > 20


def test_a_digit_that_is_turned_and_deformed_still_has_room(mnist):
    """Bounds that are too wide would centre it: those of its box did so to a fifth of digits."""
    own = draws(KEYS, rotation=15.0, zoom=0.1, shear=10.0, elastic=0.5)
    image = jnp.asarray(mnist.train.image[:2000])
    low, high = (
        np.asarray(_warp.place_shift(image, own._replace(place=jnp.full((2000, 2), place)), 1.0))
        for place in (0.0, 0.9999)
    )
    assert (low < high).mean(axis=0).min() > 0.95
    nothing = _warp.place_shift(jnp.zeros((2000, 28, 28, 1)), own, 1.0)
    assert np.isfinite(nothing).all()


def test_what_does_not_fit_is_centred():
    whole = jnp.full((4, 6, 6, 1), 7, jnp.uint8)
    np.testing.assert_array_equal(applied(warp(shift=1.0), KEYS[:4], whole), whole)
    turned = applied(warp(rotation=45.0, shift=1.0), KEYS[:4], whole)
    assert (turned[:, 2:4, 2:4] == 7).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_warp_of_nothing_changes_no_bit(images, dtype):
    given = images.astype(dtype)
    found = applied(warp(), KEYS[:64], given)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, given)


def test_uint8_is_the_rounded_result_of_floats(images):
    floats = applied(warp(**ALL), KEYS[:64], images.astype(np.float32))
    bytes_ = applied(warp(**ALL), KEYS[:64], images)
    assert bytes_.dtype == np.uint8
    np.testing.assert_allclose(bytes_, floats, atol=0.5001)


def test_an_image_follows_from_its_key_alone(images):
    both = compose(warp(**ALL), erase(5))
    whole = applied(both, KEYS[:64], images)
    np.testing.assert_array_equal(applied(both, KEYS[7:9], images[7:9]), whole[7:9])
    by_four = KEYS[:64].reshape(4, 16), images.reshape(4, 16, 28, 28, 1)
    stacked = applied(jax.vmap(both), *by_four)
    np.testing.assert_array_equal(stacked.reshape(whole.shape), whole)
    assert (applied(warp(**ALL), KEYS[:64], images) != whole).any()


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: warp(rotation=-1.0), r"rotation must be in \[0, 180\], not -1.0"),
        (lambda: warp(zoom=1.0), r"zoom must be in \[0, 0.9\], not 1.0"),
        (lambda: warp(shear=90.0), r"shear must be in \[0, 80\], not 90.0"),
        (lambda: warp(shift=1.5), r"shift must be in \[0, 1\], not 1.5"),
        (lambda: warp(elastic=float("nan")), r"elastic must be in \[0, inf\], not nan"),
        (lambda: warp(elastic=float("inf")), r"elastic must be in \[0, inf\], not inf"),
        (lambda: warp(smoothness=0.5), "smoothness must be at least 1 pixel, not 0.5"),
        (lambda: erase(0), "size must be a positive integer, not 0"),
        (lambda: warp()(KEYS[:2], jnp.ones((2, 9, 9))), r"\[batch, .*, not float32 \(2, 9, 9\)"),
        (lambda: warp()(KEYS[:2], jnp.ones((2, 9, 9, 1), int)), r"not int32 \(2, 9, 9, 1\)"),
        (lambda: erase(2)(KEYS[:2], jnp.ones((2, 9, 9))), r"not float32 \(2, 9, 9\): add axes"),
        (lambda: warp()(KEYS[:2], jnp.ones((3, 9, 9, 1))), r"keys are \(2,\) for 3 images"),
        (lambda: erase(2)(KEYS[0], jnp.ones((3, 9, 9, 1))), r"keys are \(\) for 3 images"),
        (lambda: erase(6)(KEYS[:1], jnp.ones((1, 9, 5, 1))), r"A square of 6 .* \(9, 5\)"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
