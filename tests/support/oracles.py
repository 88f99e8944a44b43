"""Independent oracles: NumPy in float64, written from the definitions, not from our code."""

import hashlib
from collections.abc import Iterator

import jax
import numpy as np

Pads = tuple[tuple[int, int], tuple[int, int]]


def same_pads(shape: tuple[int, int], window: tuple[int, int], strides: tuple[int, int]) -> Pads:
    """Keras' rule: as many outputs as ceil(n / stride), the odd cell of padding at the end."""
    pads = []
    for n, size, step in zip(shape, window, strides, strict=True):
        total = max((-(-n // step) - 1) * step + size - n, 0)
        pads.append((total // 2, total - total // 2))
    return pads[0], pads[1]


def positions(
    shape: tuple[int, ...], window: tuple[int, int], strides: tuple[int, int]
) -> Iterator[tuple[tuple[int, int], tuple[slice, slice, slice, slice]]]:
    """Each output position with the slice of the padded image that it sees."""
    rows = range(0, shape[1] - window[0] + 1, strides[0])
    columns = range(0, shape[2] - window[1] + 1, strides[1])
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            here = slice(row, row + window[0]), slice(column, column + window[1])
            yield (i, j), (slice(None), *here, slice(None))


def pad(image: np.ndarray, pads: Pads, value: float) -> np.ndarray:
    return np.pad(image.astype(np.float64), ((0, 0), *pads, (0, 0)), constant_values=value)


def unpad(image: np.ndarray, pads: Pads) -> np.ndarray:
    (top, bottom), (left, right) = pads
    return image[:, top : image.shape[1] - bottom, left : image.shape[2] - right]


def output_shape(padded: np.ndarray, window: tuple[int, int], strides: tuple[int, int]):
    last = list(positions(padded.shape, window, strides))[-1][0]
    return last[0] + 1, last[1] + 1


def conv(image, kernel, strides, pads, cotangent=None):
    """Value, and with a cotangent the gradients of image and kernel."""
    padded, kernel = pad(image, pads, 0.0), kernel.astype(np.float64)
    window = kernel.shape[:2]
    value = np.zeros((len(image), *output_shape(padded, window, strides), kernel.shape[3]))
    d_padded, d_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for (i, j), see in positions(padded.shape, window, strides):
        value[:, i, j] = np.einsum("nhwc,hwcf->nf", padded[see], kernel)
        if cotangent is not None:
            d_padded[see] += np.einsum("nf,hwcf->nhwc", cotangent[:, i, j], kernel)
            d_kernel += np.einsum("nf,nhwc->hwcf", cotangent[:, i, j], padded[see])
    return value if cotangent is None else (value, unpad(d_padded, pads), d_kernel)


def max_pool(image, window, strides, pads, cotangent):
    """Value and gradient; the first maximum in row-major order takes it all."""
    padded = pad(image, pads, -np.inf)
    shape = (len(image), *output_shape(padded, window, strides), image.shape[3])
    value, gradient = np.zeros(shape), np.zeros_like(padded)
    for (i, j), see in positions(padded.shape, window, strides):
        for n in range(shape[0]):
            for c in range(shape[3]):
                cells = padded[see][n, :, :, c]
                first = np.unravel_index(np.argmax(cells), cells.shape)  # argmax takes the first
                value[n, i, j, c] = cells[first]
                gradient[n, see[1], see[2], c][first] += cotangent[n, i, j, c]
    return value, unpad(gradient, pads)


def avg_pool(image, window, strides, pads, cotangent):
    """Value and gradient; padding counts for nothing."""
    padded, real = pad(image, pads, 0.0), pad(np.ones(image.shape), pads, 0.0)
    shape = (len(image), *output_shape(padded, window, strides), image.shape[3])
    value, gradient = np.zeros(shape), np.zeros_like(padded)
    for (i, j), see in positions(padded.shape, window, strides):
        count = np.maximum(real[see].sum(axis=(1, 2), keepdims=True), 1)
        value[:, i, j] = (padded[see].sum(axis=(1, 2), keepdims=True) / count)[:, 0, 0]
        gradient[see] += cotangent[:, i, j][:, None, None] / count
    return value, unpad(gradient, pads)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def bits(state) -> str:
    """A fingerprint of every bit of a TrainState."""
    leaves = jax.tree.leaves(state._replace(rng=jax.random.key_data(state.rng)))
    return hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in leaves)).hexdigest()
