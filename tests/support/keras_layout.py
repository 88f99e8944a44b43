"""A file of weights as Keras 3 lays it out, written by hand."""

import h5py
import numpy as np

import jaxconv

MODEL = jaxconv.create_model("dropout", filters=(4, 8))
SMALL = {  # layers/... of MODEL's twin in Keras
    "conv2d": [(3, 3, 1, 4), (4,)],
    "conv2d_1": [(3, 3, 4, 8), (8,)],
    "dense": [(200, 10), (10,)],
}


def write_weights(path, layers=SMALL, **names: str):
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for group, shapes in layers.items():
            variables = file.create_group(f"layers/{group}/vars")
            if group in names:
                variables.attrs["name"] = names[group]
            for index, shape in enumerate(shapes):
                variables[str(index)] = rng.normal(size=shape).astype(np.float32)
    return path
