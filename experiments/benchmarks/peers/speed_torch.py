"""The speed record's recipe in PyTorch, eager or compiled. `bench_record.py` starts it."""

import os
import time

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from experiments.benchmarks.peers.peer_main import Digits
from experiments.benchmarks.peers.speed_main import main


def make_net(recipe: dict, side: int) -> nn.Sequential:
    """The record's net, with the same initial distributions."""
    first, second = recipe["filters"]
    side = (side - 4) // 2  # two convolutions of 3×3, pooling
    net = nn.Sequential(
        nn.Conv2d(4, first, 3),
        nn.ReLU(),
        nn.Conv2d(first, second, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(side * side * second, recipe["units"]),
        nn.ReLU(),
        nn.Linear(recipe["units"], 10),
    )
    for layer in net:
        if hasattr(layer, "weight"):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return net.to(memory_format=torch.channels_last)


class Torch:
    """All digits lie in memory as the first convolution takes them, before the clock starts."""

    def __init__(self, recipe: dict, train: Digits, test: Digits) -> None:
        self.recipe, self.compiled = recipe, os.environ.get("TORCH_PEER") == "compile"
        self.train, self.test = self.prepare(train), self.prepare(test)
        self.net = make_net(recipe, self.train.image.shape[-1])
        self.start = [x.detach().clone() for x in self.net.parameters()]
        self.loss = torch.compile(self.smoothed) if self.compiled else self.smoothed

    def prepare(self, digits: Digits) -> Digits:
        crop = self.recipe["crop"]
        image = torch.tensor(digits.image[:, crop : 28 - crop, crop : 28 - crop])
        image = functional.pixel_unshuffle(image.permute(0, 3, 1, 2).float() / 255, 2)
        image = image.contiguous(memory_format=torch.channels_last)
        return Digits(image, torch.tensor(digits.label).to(torch.int64))

    def smoothed(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        smoothing = self.recipe["label_smoothing"]
        return functional.cross_entropy(self.net(image), label, label_smoothing=smoothing)

    def fit(self) -> float:
        """Trains anew from the same initial weights, in another order; returns the seconds."""
        with torch.no_grad():
            for x, start in zip(self.net.parameters(), self.start, strict=True):
                x.copy_(start)
        began, peak = time.perf_counter(), self.recipe["learning_rate"]
        tx = torch.optim.Adam(self.net.parameters(), lr=peak, betas=(0.7, 0.9), fused=True)
        orders = torch.randperm(self.recipe["samples"]).split(self.recipe["batch_size"])
        steps, up = len(orders), len(orders) // 5
        rates = np.interp(np.arange(steps), [0, up, steps], [peak / 25, peak, 0])
        for rows, rate in zip(orders, rates, strict=True):
            tx.param_groups[0]["lr"] = float(rate)
            tx.zero_grad(set_to_none=True)
            self.loss(self.train.image[rows], self.train.label[rows]).backward()
            tx.step()
        return time.perf_counter() - began

    def accuracy(self) -> float:
        with torch.inference_mode():
            parts = [self.net(x).argmax(1) for x in self.test.image.split(1000)]
        return (torch.cat(parts) == self.test.label).float().mean().item()


if __name__ == "__main__":
    main(Torch, "torch")
