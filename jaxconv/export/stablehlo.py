"""Writes a trained net as StableHLO, which JAX reads without jaxconv on the CPU, on GPU and TPU."""

import os
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.export  # `import jax` alone does not load it

from jaxconv._checks import check_installed
from jaxconv.export._files import check_path, write_whole
from jaxconv.export._predictor import predictor
from jaxconv.models.forward import Model
from jaxconv.training.state import TrainState

PLATFORMS = ("cpu", "cuda", "tpu")


def save_stablehlo(
    path: str | os.PathLike[str],
    model: Model,
    state: TrainState,
    input_shape: Sequence[int],
    *,
    input_dtype: str = "uint8",
    overwrite: bool = False,
) -> None:
    """Writes a trained net, `images [N, H, W, C] -> probabilities [N, classes]`, as StableHLO.

    The file holds the weights, serves every N, runs on the CPU, on CUDA and on TPU, and appears
    whole or not at all. It needs no jaxconv: JAX reads it, with flatbuffers (see the example).
    That JAX is as new as the one that wrote the file, or newer; JAX promises so for six months.

    Args:
      path: the file to write, such as `lab6.stablehlo`.
      model: the net, as in `classifier`, also one of your own.
      state: its trained state.
      input_shape: the shape of one image, `(height, width, channels)`.
      input_dtype: `"uint8"`, which the net divides by 255, or `"float32"`, which it leaves as is.
      overwrite: whether to replace a file that exists already.

    Raises:
      FileExistsError: if the file exists and `overwrite` is False.
      ModuleNotFoundError: without flatbuffers.
      OSError: if the file cannot be written.
      ValueError: for another `input_dtype`, if the state is not the model's, or if the model
        computes only for a known number of images.

    Example:
      >>> import tempfile
      >>> import jaxconv
      >>> model, tx, shape = jaxconv.create_model("dense"), jaxconv.adam(), (28, 28, 1)
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), shape)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_stablehlo(folder + "/dense.stablehlo", model, state, shape)
      ...     net = jax.export.deserialize(Path(folder, "dense.stablehlo").read_bytes())
      >>> net.call(jaxconv.load_dataset("mnist").test.image[:3]).shape
      (3, 10)

    Source: https://docs.jax.dev/en/latest/export/export.html
    """
    path = Path(path)
    check_path(path, overwrite=overwrite)
    check_installed("stablehlo")
    function = predictor(model, state, input_shape, input_dtype)
    (batch,) = jax.export.symbolic_shape("batch")
    image = jax.ShapeDtypeStruct((batch, *input_shape), input_dtype)
    try:
        jax.eval_shape(function, image)
    except Exception as error:  # the net passed with one image; JAX has moved the class of this
        raise ValueError(
            f"The net must compute for any number of images ({str(error).splitlines()[0]}): take "
            "that from x.shape[0], not from len(x), and let no `if` depend on it."
        ) from error
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(image)
    write_whole(path, bytes(exported.serialize()))
