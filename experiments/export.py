"""Hands a run's trained net to another program: as StableHLO, as ONNX, or as weights for Keras.

    python experiments/export.py runs/lab6-0-1 --format stablehlo

StableHLO is for JAX and XLA, ONNX for onnxruntime and many others; both files hold the whole net,
from the images to the probabilities. Keras' file holds the weights alone.
"""

import argparse
from pathlib import Path

from jaxconv.export import save_onnx, save_stablehlo, save_weights
from jaxconv.runs import exit_codes, load_run

NAMES = {"stablehlo": "model.stablehlo", "keras": "model.weights.h5", "onnx": "model.onnx"}
SNIPPETS = {
    "stablehlo": """\
import jax.export, pathlib  # pip install jax flatbuffers
net = jax.export.deserialize(bytearray(pathlib.Path({path!r}).read_bytes()))
probabilities = net.call(images)""",
    "onnx": """\
import onnxruntime  # pip install onnxruntime
net = onnxruntime.InferenceSession({path!r})
probabilities = net.run(None, {{"image": images}})[0]""",
    "keras": """\
model.load_weights({path!r})  # the same net, built in Keras 3
logits = model.predict(images / 255)
probabilities = keras.ops.softmax(logits)""",
}


def main(
    run: str,
    form: str,
    output: str | None = None,
    *,
    member: int | None = None,
    overwrite: bool = False,
) -> Path:
    trained = load_run(run)
    member = trained.kept[0] if member is None else member
    if not 0 <= member < len(trained.states):
        raise ValueError(f"The run has the nets 0 to {len(trained.states) - 1}, not {member}.")
    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    path = Path(output) if output else folder / NAMES[form]
    model, state, shape = trained.model, trained.states[member], trained.input_shape
    if form == "keras":
        own = {"params": state.params, "batch_stats": state.batch_stats}
        save_weights(path, model=model, input_shape=shape, overwrite=overwrite, **own)
    else:
        save = {"stablehlo": save_stablehlo, "onnx": save_onnx}[form]
        save(path, model, state, shape, input_dtype=trained.input_dtype, overwrite=overwrite)
    sizes = ", ".join(map(str, ("N", *shape)))
    of = f"net {member} of {len(trained.states)}, " if len(trained.states) > 1 else ""
    print(f"Export: {path} ({path.stat().st_size:,} bytes; {of}images [{sizes}] of ", end="")
    print(f"{trained.input_dtype}). Read it with:\n\n{SNIPPETS[form].format(path=str(path))}")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="The folder of a finished run, or its model.safetensors.")
    parser.add_argument("--format", choices=[*NAMES], required=True, help="The format to write.")
    parser.add_argument("--output", help="The file to write (model.FORMAT in the run's folder).")
    parser.add_argument("--member", type=int, help="The net of several, from 0 (the first).")
    parser.add_argument("--overwrite", action="store_true", help="Replace a file that exists.")
    with exit_codes():
        given = parser.parse_args()
        main(given.run, given.format, given.output, member=given.member, overwrite=given.overwrite)
