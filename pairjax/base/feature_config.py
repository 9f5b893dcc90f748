"""Configuration of `pairjax features`."""

from dataclasses import dataclass
from typing import Literal

from pairjax.base.fields import CheckedConfig, FilePath
from pairjax.base.model_config import MINILM
from pairjax.base.optim_config import at_least


@dataclass(frozen=True)
class FeatureConfig(CheckedConfig, section="features"):
    """Cached outputs of a frozen encoder for each text."""

    encoder: FilePath = MINILM
    """Folder, package:NAME or hub id of the encoder, as for `pairjax train --model.encoder`."""
    download: bool = False
    """Download the hub encoder if it is not in the cache (needs the network)."""
    pooling: Literal["cls", "pooler", "mean", "max"] = "mean"
    """How the tokens of a text become one vector; pooler uses the pretrained pooler."""
    tokens: bool = False
    """Also cache the vector of every token, for interactions between texts."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Type of the cached values; the encoder runs in float32."""
    batch_size: int = 128
    """Texts per batch."""

    def check(self) -> None:
        at_least("features.batch-size", self.batch_size, 1)
