"""PyTorch, eager or compiled, channels last. `bench_peers.py` starts it."""

import os
import time

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from experiments.benchmarks.keras_nets import Notebook
from experiments.benchmarks.peers.peer_main import Digits, main

LAYERS = {
    "lab6": "conv 1 32, relu, pool, conv 32 64, relu, pool, conv 64 128, relu, flatten, "
    "dense 1152 10",
    "intro": "conv 1 32, relu, pool, conv 32 64, relu, pool, conv 64 64, relu, flatten, "
    "dense 576 64, relu, dense 64 10",
    "strided": "conv 1 16 2, conv 16 32 2, conv 32 64 2, flatten, dense 256 64, relu, dense 64 10",
    "dropout": "conv 1 32, relu, pool, conv 32 64, relu, pool, flatten, dropout, dense 1600 10",
    "dense": "flatten, dense 784 512, relu, dense 512 10",
}
MAKE = {
    "conv": lambda channels, filters, stride=1: nn.Conv2d(channels, filters, 3, stride),
    "dense": nn.Linear,
    "dropout": nn.Dropout,
    "flatten": nn.Flatten,
    "pool": lambda: nn.MaxPool2d(2),
    "relu": nn.ReLU,
}


class Torch:
    """A training without a DataLoader to wait for: all digits lie on the device."""

    def __init__(self, net: str, notebook: Notebook) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.set_float32_matmul_precision("high")  # as JAX does by default on a GPU
        torch.backends.cudnn.benchmark = True
        layers = []
        for line in LAYERS[net].split(", "):
            kind, *numbers = line.split()
            layers.append(MAKE[kind](*map(int, numbers)))
            if kind in ("conv", "dense"):
                nn.init.xavier_uniform_(layers[-1].weight)
                nn.init.zeros_(layers[-1].bias)
        self.model = nn.Sequential(*layers).to(self.device, memory_format=torch.channels_last)
        parameters = self.model.parameters()
        if notebook.optimizer == "adam":
            self.optimizer = torch.optim.Adam(parameters, lr=1e-3, eps=1e-7, fused=True)
        else:
            self.optimizer = torch.optim.RMSprop(parameters, lr=1e-3, alpha=0.9, eps=1e-7)
        compiled = os.environ.get("TORCH_PEER") == "compile"
        self.metrics = torch.compile(self._metrics) if compiled else self._metrics

    def _metrics(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self.model(image)
        return functional.cross_entropy(logits, label), (logits.argmax(1) == label).sum()

    def prepare(self, digits: Digits) -> Digits:
        image = torch.tensor(digits.image).to(self.device).permute(0, 3, 1, 2)
        image = image.to(torch.float32, memory_format=torch.channels_last).div_(255)
        return Digits(image, torch.tensor(digits.label).to(self.device, torch.int64))

    def fit(self, train: Digits, notebook: Notebook, epochs: int, test: Digits | None) -> float:
        kept = int(len(train.image) * (1 - (notebook.validation_split if test else 0)))
        held_out = Digits(train.image[kept:], train.label[kept:])
        if notebook.validate_on_test and test:
            held_out = test
        seconds = 0.0
        for _ in range(epochs):
            began = time.perf_counter()
            self.model.train()
            loss_sum = correct = torch.zeros((), device=self.device)
            for rows in torch.randperm(kept, device=self.device).split(notebook.batch_size):
                loss, right = self.metrics(train.image[rows], train.label[rows])
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self.optimizer.step()
                loss_sum, correct = loss_sum + loss.detach() * len(rows), correct + right
            self.means = loss_sum.item() / kept, correct.item() / kept
            if len(held_out.image):
                self.accuracy(held_out)
            seconds = time.perf_counter() - began
        return seconds

    def accuracy(self, test: Digits) -> float:
        self.model.eval()
        correct = torch.zeros((), device=self.device)
        with torch.inference_mode():
            for image, label in zip(test.image.split(200), test.label.split(200), strict=True):
                correct = correct + self.metrics(image, label)[1]
        return correct.item() / len(test.label)


if __name__ == "__main__":
    main(Torch, "torch", "numpy")
