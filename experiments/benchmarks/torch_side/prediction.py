"""The torch side of prediction, and of evaluation during training."""

import time
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.torch_side.case import PairCase, load_bi_encoder


class Predict(PairCase):
    """Times `CrossEncoder.predict`, which sorts by length."""

    def open(self) -> dict[str, Any]:
        from sentence_transformers import CrossEncoder

        began = time.perf_counter()
        self.model = CrossEncoder(
            str(self.work / f"{self.name}.torch"), max_length=128, device="cpu", activation_fn=torch.nn.Identity()
        )
        loading = time.perf_counter() - began
        first, second, _ = self.read_split("test")
        most = self.settings["most"]
        self.first, self.second = first[:most], second[:most]
        self.outputs(256)
        return {"seconds_to_load": loading}

    def outputs(self, most: int | None = None) -> np.ndarray:
        """Computes the outputs of the first `most` pairs, float32 [N, classes]."""
        pairs = list(zip(self.first[:most], self.second[:most], strict=True))
        return np.asarray(self.model.predict(pairs, batch_size=self.size, show_progress_bar=False))

    def check(self) -> dict[str, Any]:
        path = self.work / "torch.npy"
        np.save(path, self.outputs())
        return {"outputs": str(path)}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        self.outputs()
        return {"seconds": time.perf_counter() - began, "count": len(self.first)}


class BiPredict(Predict):
    """Times `SentenceTransformer.encode` of both sides, then the classifier."""

    def open(self) -> dict[str, Any]:
        began = time.perf_counter()
        self.model = load_bi_encoder(self.encoder)
        loading = time.perf_counter() - began
        start = np.load(self.work / f"{self.name}.bi.npz")
        self.weight, self.bias = torch.from_numpy(start["weight"]), torch.from_numpy(start["bias"])
        first, second, _ = self.read_split("test")
        most = self.settings["most"]
        self.first, self.second = first[:most], second[:most]
        self.outputs(256)
        return {"seconds_to_load": loading}

    def outputs(self, most: int | None = None) -> np.ndarray:
        options = {"batch_size": self.size, "convert_to_tensor": True, "show_progress_bar": False}
        u, v = (self.model.encode(side[:most], **options) for side in (self.first, self.second))
        features = torch.cat([u, v, (u - v).abs()], dim=1)
        return (features @ self.weight.T + self.bias).numpy()


class Evaluation(PairCase):
    """Times a plain loop over the pairs in file order, each batch padded to its longest, and the accuracy."""

    def open(self) -> dict[str, Any]:
        from transformers import DataCollatorWithPadding

        self.data, self.model = self.tokenised("test")[: self.settings["most"]], self.load_model().eval()
        self.collate = DataCollatorWithPadding(self.tokenizer)
        self._outputs(self.size)
        return {}

    def _outputs(self, most: int) -> torch.Tensor:
        """Computes the logits of the first `most` pairs, float32 [N, classes]."""
        logits = []
        with torch.inference_mode():
            for start in range(0, most, self.size):
                batch = self.collate(self.data[start : min(start + self.size, most)])
                logits.append(self.model(**batch).logits)
        return torch.cat(logits)

    def check(self) -> dict[str, Any]:
        path = self.work / "torch.npy"
        np.save(path, self._outputs(len(self.data)).numpy())
        return {"outputs": str(path)}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        predicted = self._outputs(len(self.data)).argmax(dim=1)
        correct = predicted == torch.tensor([example["labels"] for example in self.data])
        float(correct.float().mean())
        return {"seconds": time.perf_counter() - began, "count": len(self.data)}
