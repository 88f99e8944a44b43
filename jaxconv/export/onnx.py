"""Writes a trained net as ONNX, by jax2onnx, and checks the file with onnxruntime."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from jaxconv._checks import check_installed
from jaxconv.export._files import check_path, write_whole
from jaxconv.export._predictor import predictor
from jaxconv.models.forward import Model
from jaxconv.models.layers import Pool
from jaxconv.training.state import TrainState

TOLERANCE = 1e-5
"""The most by which onnxruntime's probabilities may differ from `predict`'s."""


def save_onnx(
    path: str | os.PathLike[str],
    model: Model,
    state: TrainState,
    input_shape: Sequence[int],
    *,
    input_dtype: str = "uint8",
    overwrite: bool = False,
) -> None:
    """Writes a trained net, `images [N, H, W, C] -> probabilities [N, classes]`, as ONNX.

    The file holds the weights, serves every N, and appears whole or not at all: only if onnxruntime
    computes what `predict` does for random images, to 1e-5. jax2onnx 0.17 knows JAX before 0.12.
    In nets of your own it takes the arguments of Flax' pooling by name alone, as in
    `nn.max_pool(x, window_shape=(2, 2))`, and their padding as `"VALID"` or `"SAME"`.

    Args:
      path: the file to write, such as `lab6.onnx`.
      model: the net, as in `classifier`, also one of your own.
      state: its trained state.
      input_shape: the shape of one image, `(height, width, channels)`.
      input_dtype: `"uint8"`, which the net divides by 255, or `"float32"`, which it leaves as is.
      overwrite: whether to replace a file that exists already.

    Raises:
      FileExistsError: if the file exists and `overwrite` is False.
      ModuleNotFoundError: without jax2onnx.
      OSError: if the file cannot be written.
      ValueError: for another `input_dtype`, if the state is not the model's, or if jax2onnx cannot
        write the net or writes another one.

    Example:
      >>> import jaxconv
      >>> model, tx, shape = jaxconv.create_model("dense"), jaxconv.adam(), (28, 28, 1)
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), shape)
      >>> save_onnx("/", model, state, shape)
      Traceback (most recent call last):
      IsADirectoryError: / is a folder: name a file in it.

    Source: https://github.com/enpasos/jax2onnx
    """
    path = Path(path)
    check_path(path, overwrite=overwrite)
    check_installed("export")
    import jax2onnx  # pyright: ignore[reportMissingImports]

    function = predictor(model, state, input_shape, input_dtype)

    def converted(image: Any) -> jax.Array:
        with nn.intercept_methods(_pool):
            return function(image)

    spec = jax.ShapeDtypeStruct(("batch", *input_shape), input_dtype)  # pyright: ignore
    names: Any = {"input_names": ["image"], "output_names": ["probabilities"]}
    try:
        content = jax2onnx.to_onnx(converted, [spec], **names).SerializeToString()
        difference = _difference(content, function, input_shape, input_dtype)
    except Exception as error:  # jax2onnx and onnxruntime raise anything
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"jax2onnx {version('jax2onnx')} with JAX {jax.__version__} cannot write this net as "
            f"ONNX ({text}): use another JAX (0.9 to 0.11 are known to work), plainer layers "
            "(jaxconv's with form='xla'), or StableHLO."
        ) from error
    if not difference <= TOLERANCE:
        raise ValueError(
            f"jax2onnx {version('jax2onnx')} writes a net whose probabilities differ from this "
            f"one's by {difference:.1g}; nothing was written: use plainer layers, or StableHLO."
        )
    write_whole(path, content)


def _difference(
    content: bytes, function: Any, input_shape: Sequence[int], input_dtype: str
) -> float:
    """The largest difference of probabilities that onnxruntime computes, for one image and five."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 256, (5, *input_shape), np.uint8)
    if input_dtype == "float32":
        image = image.astype(np.float32) / 255
    expected = np.asarray(jax.jit(function)(image))
    found = [np.asarray(session.run(None, {"image": image[:size]})[0]) for size in (1, 5)]
    return max(float(np.abs(x - expected[: len(x)]).max()) for x in found)


def _pool(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Computes a `Pool` as Flax does, or by slices: what jax2onnx writes of the rest runs nowhere.

    jax2onnx writes a window of XLA's with the axes of batch and channels, which onnxruntime lacks.
    """
    pool = context.module
    if not isinstance(pool, Pool) or pool.form == "patches":
        return next_function(*args, **kwargs)
    if pool.kind == "max" and str(pool.padding).lower() == "valid":
        sizes = (pool.window, pool.strides or pool.window)
        window, strides = (tuple(np.broadcast_to(x, 2).tolist()) for x in sizes)
        return nn.max_pool(*args, window_shape=window, strides=strides)
    return pool.clone(form="patches", parent=None).apply({}, *args)
