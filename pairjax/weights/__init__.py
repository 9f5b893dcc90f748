"""Hugging Face folders and parameter trees, both ways."""

from pairjax.weights.checkpoint import LoadedEncoder, load_encoder, save_encoder
from pairjax.weights.source import read_encoder_spec, resolve_encoder

__all__ = ["LoadedEncoder", "load_encoder", "read_encoder_spec", "resolve_encoder", "save_encoder"]
