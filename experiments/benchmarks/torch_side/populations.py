"""The torch side of populations of heads."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.shared.constants import CHECKED_STEPS, HEADS
from experiments.benchmarks.shared.head_population import Heads, heads_cost


class Populations:
    """Times one head after another by a plain loop with torch's AdamW.

    A round trains only some of the heads, since each takes as long as any other.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.threads = settings["threads"]
        self.heads = Heads.read(Path(settings["work"]) / f"{HEADS}.npz")
        self.features, self.label = torch.from_numpy(self.heads.features), torch.from_numpy(self.heads.label)
        self.dev, self.order = torch.from_numpy(self.heads.dev), torch.from_numpy(self.heads.order)
        self.decay = float(self.heads.decay)

    def open(self) -> dict[str, Any]:
        """Chooses the faster number of threads: products this small may gain nothing from a second one."""
        seconds = {}
        for threads in sorted({1, self.threads}):
            torch.set_num_threads(threads)
            self.train(self.order.shape[1] // 4)
            began = time.perf_counter()
            self.train(self.order.shape[1] // 4)
            seconds[threads] = time.perf_counter() - began
        torch.set_num_threads(min(seconds, key=lambda threads: seconds[threads]))
        return {}

    def _train_head(self, seed: int, rate: int, steps: int) -> list[float]:
        """Trains one head; returns the loss of each step."""
        head = torch.nn.Linear(self.features.shape[1], self.heads.bias.shape[1])
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(self.heads.kernel[seed].T))
            head.bias.copy_(torch.from_numpy(self.heads.bias[seed]))
        groups = [
            {"params": [head.weight], "weight_decay": self.decay},
            {"params": [head.bias], "weight_decay": 0.0},
        ]
        adam = torch.optim.AdamW(groups, lr=float(self.heads.rates[rate]))
        losses = []
        # The last batch of an epoch is smaller.
        batches = [index[index >= 0] for index in self.order[seed, :steps]]
        for index in batches:
            loss = torch.nn.functional.cross_entropy(head(self.features[index]), self.label[index])
            loss.backward()
            adam.step()
            adam.zero_grad()
            losses.append(loss.detach())
        with torch.inference_mode():
            head(self.dev)
        return torch.stack(losses).tolist()

    def train(self, steps: int) -> tuple[int, list[float]]:
        """Trains heads; returns their number, and the losses of the first and the last head of the population."""
        first = self._train_head(0, 0, steps)
        rates = len(self.heads.rates)
        for rate in range(1, rates - 1):
            self._train_head(0, rate, steps)
        return rates, first + self._train_head(-1, rates - 1, steps)

    def check(self) -> dict[str, Any]:
        return {"losses": self.train(CHECKED_STEPS)[1]}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        count, _ = self.train(self.order.shape[1])
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "count": count, "whole": count / seconds} | heads_cost(self.heads, count)


class PopulationsBatched(Populations):
    """Times all heads together: batched products, autograd, and AdamW written out over the stacked parameters."""

    def train(self, steps: int) -> tuple[int, list[float]]:
        seeds, width, classes = self.heads.kernel.shape
        rates = torch.tensor(self.heads.rates, dtype=torch.float32)[None, None, :, None]

        def stack(start: np.ndarray) -> torch.Tensor:
            """Returns [seeds, inputs, rates, classes], with the heads of a seed side by side for one product."""
            tiled = torch.from_numpy(start)[:, :, None, :].expand(-1, -1, rates.shape[2], -1)
            return tiled.clone().requires_grad_()

        kernel, bias = stack(self.heads.kernel), stack(self.heads.bias[:, None])
        moments = [[torch.zeros_like(parameter) for _ in range(2)] for parameter in (kernel, bias)]
        losses = []
        weight = (self.order >= 0).to(torch.float32)
        weight /= weight.sum(dim=2, keepdim=True)
        order = self.order.clamp(min=0)
        for step in range(steps):
            index = order[:, step]
            x, y = self.features[index], self.label[index]
            flat = torch.bmm(x, kernel.reshape(seeds, width, -1)) + bias.reshape(seeds, 1, -1)
            outputs = flat.reshape(seeds, -1, rates.shape[2], classes).permute(0, 3, 1, 2)
            targets = y[:, :, None].expand(-1, -1, len(self.heads.rates))
            example_loss = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
            head_loss = (example_loss * weight[:, step, :, None]).sum(dim=1)
            head_loss.sum().backward()
            with torch.no_grad():
                for parameter, (first, second), decay in zip((kernel, bias), moments, (self.decay, 0.0), strict=True):
                    assert parameter.grad is not None
                    first.lerp_(parameter.grad, 0.1)
                    second.mul_(0.999).addcmul_(parameter.grad, parameter.grad, value=0.001)
                    size = (second / (1 - 0.999 ** (step + 1))).sqrt_().add_(1e-8)
                    parameter.mul_(1 - rates * decay).sub_(rates * (first / (1 - 0.9 ** (step + 1))) / size)
                    parameter.grad = None
            losses.append(head_loss.detach())
        with torch.inference_mode():
            torch.bmm(self.dev.expand(seeds, -1, -1), kernel.reshape(seeds, width, -1)) + bias.reshape(seeds, 1, -1)
        curves = torch.stack(losses)
        return self.heads.count, [*curves[:, 0, 0].tolist(), *curves[:, -1, -1].tolist()]
