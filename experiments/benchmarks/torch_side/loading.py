"""The torch side of loading an encoder."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.shared.constants import LOADING_TEXT


class Loading:
    """Times `AutoTokenizer` and `AutoModel`, with the libraries already imported."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.work = Path(settings["work"])
        self.folder = json.loads((self.work / "meta.json").read_text())["encoder"]
        torch.set_num_threads(settings["threads"])

    def open(self) -> dict[str, Any]:
        self._load()
        return {}

    def _load(self) -> tuple[Any, Any]:
        """Returns the tokeniser and the model."""
        from transformers import AutoModel, AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder), AutoModel.from_pretrained(self.folder).eval()

    def check(self) -> dict[str, Any]:
        tokenizer, model = self._load()
        path = self.work / "torch.npy"
        with torch.inference_mode():
            np.save(path, model(**tokenizer(LOADING_TEXT, return_tensors="pt")).last_hidden_state[0].numpy())
        return {"outputs": str(path)}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        self._load()
        return {"seconds": time.perf_counter() - began, "count": 1}
