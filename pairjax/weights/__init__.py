"""Reads pretrained weights from Hugging Face folders, and writes such folders."""

from pairjax.weights.safetensors_folder import (
    UNTRAINED,
    LoadedEncoder,
    bert_config,
    copy_tokeniser,
    load_encoder,
    load_pretraining,
    save_encoder,
    save_pretraining,
)
from pairjax.weights.source import encoder_content, read_encoder_spec, resolve_encoder, weights_hash

__all__ = [
    "UNTRAINED",
    "LoadedEncoder",
    "bert_config",
    "copy_tokeniser",
    "encoder_content",
    "load_encoder",
    "load_pretraining",
    "read_encoder_spec",
    "resolve_encoder",
    "save_encoder",
    "save_pretraining",
    "weights_hash",
]
