"""Lab 6's convnet as a Flax NNX module: the twin of `create_model("lab6")`."""

from flax import nnx


class Lab6(nnx.Module):
    """Three convolutions, two poolings, one dense layer, with the names of the original's."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 32, (3, 3), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), padding="VALID", rngs=rngs)
        self.conv3 = nnx.Conv(64, 128, (3, 3), padding="VALID", rngs=rngs)
        self.logits = nnx.Linear(1152, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), strides=(2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), strides=(2, 2))
        x = nnx.relu(self.conv3(x))
        return self.logits(x.reshape(x.shape[0], -1))
