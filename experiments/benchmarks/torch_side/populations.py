"""The torch side of evaluation, of loading an encoder, and of populations of heads."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.shared.head_population import Heads, heads_cost
from experiments.benchmarks.shared.protocol import Worker
from experiments.benchmarks.torch_side.case import CHECKED, Case


class Evaluation(Case):
    """A plain loop over the pairs in their order, each batch padded to its longest; accuracy."""

    def open(self) -> dict[str, Any]:
        from transformers import DataCollatorWithPadding

        self.data, self.model = self.tokenised("test")[: self.settings["most"]], self.load_model().eval()
        self.collate = DataCollatorWithPadding(self.tokenizer)
        self._outputs(self.size)
        return {}

    def _outputs(self, most: int) -> torch.Tensor:
        found = []
        with torch.inference_mode():
            for start in range(0, most, self.size):
                batch = self.collate(self.data[start : min(start + self.size, most)])
                found.append(self.model(**batch).logits)
        return torch.cat(found)

    def check(self) -> dict[str, Any]:
        path = self.work / "peer.npy"
        np.save(path, self._outputs(len(self.data)).numpy())
        return {"outputs": str(path)}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        right = self._outputs(len(self.data)).argmax(dim=1) == torch.tensor([row["labels"] for row in self.data])
        float(right.float().mean())
        return {"seconds": time.perf_counter() - began, "count": len(self.data)}


class Loading:
    """`AutoTokenizer` and `AutoModel`, libraries imported."""

    TEXT = "Two dogs are running on the beach, and nobody is asleep."

    def __init__(self, settings: dict[str, Any]) -> None:
        self.work = Path(settings["work"])
        self.folder = json.loads((self.work / "meta.json").read_text())["encoder"]
        torch.set_num_threads(settings["threads"])

    def open(self) -> dict[str, Any]:
        self._load()
        return {}

    def _load(self) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder), AutoModel.from_pretrained(self.folder).eval()

    def check(self) -> dict[str, Any]:
        tokenizer, model = self._load()
        path = self.work / "peer.npy"
        with torch.inference_mode():
            np.save(path, model(**tokenizer(self.TEXT, return_tensors="pt")).last_hidden_state[0].numpy())
        return {"outputs": str(path)}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        self._load()
        return {"seconds": time.perf_counter() - began, "count": 1}


class Populations:
    """A head at a time by a plain loop with torch's AdamW; some of them, since each takes as long as the other."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.threads = settings["threads"]
        self.heads = Heads.read(Path(settings["work"]) / "heads.npz")
        self.features, self.label = torch.from_numpy(self.heads.features), torch.from_numpy(self.heads.label)
        self.dev, self.order = torch.from_numpy(self.heads.dev), torch.from_numpy(self.heads.order)
        self.decay = float(self.heads.decay)

    def open(self) -> dict[str, Any]:
        """Takes the number of threads that is faster: products this small may gain nothing by a second."""
        seconds = {}
        for threads in sorted({1, self.threads}):
            torch.set_num_threads(threads)
            self.train(self.order.shape[1] // 4)
            began = time.perf_counter()
            self.train(self.order.shape[1] // 4)
            seconds[threads] = time.perf_counter() - began
        torch.set_num_threads(min(seconds, key=lambda threads: seconds[threads]))
        return {}

    def _head(self, seed: int, rate: int, steps: int) -> list[float]:
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
        # An epoch's last batch is smaller.
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
        """How many heads, and the losses of the first and the last of all."""
        first = self._head(0, 0, steps)
        rates = len(self.heads.rates)
        for rate in range(1, rates - 1):
            self._head(0, rate, steps)
        return rates, first + self._head(-1, rates - 1, steps)

    def check(self) -> dict[str, Any]:
        return {"losses": self.train(CHECKED)[1]}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        count, _ = self.train(self.order.shape[1])
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "count": count, "whole": count / seconds} | heads_cost(self.heads, count)


class PopulationsBatched(Populations):
    """All heads together: batched products, gradients by autograd, AdamW written out over the stacked parameters."""

    def train(self, steps: int) -> tuple[int, list[float]]:
        seeds, width, classes = self.heads.kernel.shape
        rates = torch.tensor(self.heads.rates, dtype=torch.float32)[None, None, :, None]

        def stacked(start: np.ndarray) -> torch.Tensor:
            """[seeds, inputs, rates, classes], a seed's heads side by side as one product takes them."""
            spread = torch.from_numpy(start)[:, :, None, :].expand(-1, -1, rates.shape[2], -1)
            return spread.clone().requires_grad_()

        kernel, bias = stacked(self.heads.kernel), stacked(self.heads.bias[:, None])
        moments = [[torch.zeros_like(one) for _ in range(2)] for one in (kernel, bias)]
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
            every = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
            each = (every * weight[:, step, :, None]).sum(dim=1)
            each.sum().backward()
            with torch.no_grad():
                for one, (first, second), decay in zip((kernel, bias), moments, (self.decay, 0.0), strict=True):
                    assert one.grad is not None
                    first.lerp_(one.grad, 0.1)
                    second.mul_(0.999).addcmul_(one.grad, one.grad, value=0.001)
                    size = (second / (1 - 0.999 ** (step + 1))).sqrt_().add_(1e-8)
                    one.mul_(1 - rates * decay).sub_(rates * (first / (1 - 0.9 ** (step + 1))) / size)
                    one.grad = None
            losses.append(each.detach())
        with torch.inference_mode():
            torch.bmm(self.dev.expand(seeds, -1, -1), kernel.reshape(seeds, width, -1)) + bias.reshape(seeds, 1, -1)
        found = torch.stack(losses)
        return self.heads.count, [*found[:, 0, 0].tolist(), *found[:, -1, -1].tolist()]


CASES: dict[str, type[Worker]] = {
    "evaluation": Evaluation,
    "loading": Loading,
    "populations": Populations,
    "populations_batched": PopulationsBatched,
}
