"""What is read from a model of another library."""

from dataclasses import dataclass
from pathlib import Path

from pairjax.base.data_config import Truncation
from pairjax.base.model_config import ModelConfig
from pairjax.base.types import EncoderSpec, Params, TaskSpec

PAIRJAX = "pairjax"
"""Key of config.json under which an export of pairjax keeps what the format has no place for."""


@dataclass(frozen=True)
class ImportedModel:
    """A model of another library in pairjax's terms.

    Attributes:
        folder: The folder with the encoder's config.json and tokeniser.
        task: The task.
        model: The model's configuration.
        max_length: Longest row in tokens, special tokens included: of a pair (cross-encoder) or a text (bi-encoder).
        spec: The encoder's architecture.
        params: All parameters, float32.
        truncation: How longer rows are cut.
        temperature: Divides the logits; 1 unless an export of pairjax names another.
        threshold: Smallest probability that is predicted as the positive class; None if there is none.
        notes: Lines for the user: what was ignored, and how the outputs were understood.
    """

    folder: Path
    task: TaskSpec
    model: ModelConfig
    max_length: int
    spec: EncoderSpec
    params: Params
    truncation: Truncation = "longest_first"
    temperature: float = 1.0
    threshold: float | None = None
    notes: tuple[str, ...] = ()
