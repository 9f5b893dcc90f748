"""pairjax's side of loading an encoder."""

import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.shared.constants import LOADING_TEXT
from pairjax.base.model_config import ModelConfig
from pairjax.data.encode import encode_pairs
from pairjax.data.pipeline import make_batch
from pairjax.data.tokenizer import load_tokenizer
from pairjax.models.build import build_pair_model
from pairjax.step.compilation import use_compilation_cache
from pairjax.weights import load_encoder, read_encoder_spec


class Loading:
    """Times an encoder's folder to tokeniser and parameters on the device, with the libraries already imported."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.work = Path(settings["work"])
        self.folder = Path(json.loads((self.work / "meta.json").read_text())["encoder"])
        use_compilation_cache(str(self.work / "xla"))

    def open(self) -> dict[str, Any]:
        self._load()
        return {}

    def _load(self) -> tuple[Any, Any, Any]:
        """Returns the encoder's spec, tokeniser and parameters."""
        spec = read_encoder_spec(self.folder)
        tokenizer = load_tokenizer(self.folder, family=spec.family)
        params = jax.block_until_ready(jax.device_put(load_encoder(self.folder, spec).params))
        return spec, tokenizer, params

    def check(self) -> dict[str, Any]:
        """Saves the hidden states of one text."""
        spec, tokenizer, params = self._load()
        encoded = encode_pairs([LOADING_TEXT], [""], tokenizer, kind="bi", max_length=128)
        length = int(encoded.first_length[0])
        fns = build_pair_model(ModelConfig(kind="bi", pooling="mean"), spec, 1)
        batch = make_batch(encoded, None, np.zeros((1, 1), np.int32), int(encoded.lengths[0]))
        hidden = np.asarray(jax.jit(fns.encode)({"encoder": params}, batch))[0, :length]
        path = self.work / "pairjax.npy"
        np.save(path, hidden)
        return {"outputs": str(path)}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        self._load()
        return {"seconds": time.perf_counter() - began, "count": 1, "flops": 0.0}
