"""The shapes that every layer agrees on: a batch of rows, a task, an encoder's description.

Nothing here computes. Arrays may be NumPy's or JAX's, so the module imports neither a model nor JAX.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

Params = dict[str, Any]
"""A nested dict of arrays; a parameter's path joins its keys by '/', as in `encoder/layer_0/mlp_in/kernel`."""

POSITIVE_NAMES = ("paraphrase", "entailment", "equivalent", "duplicate", "coherent", "yes", "true", "positive")


class Batch(NamedTuple):
    """Rows of token slots; every array leads with the row axis, and nothing crosses rows.

    Rows R, token slots L, pair slots K; all shapes are static under `jit`.

    Attributes:
        input_ids: int32 [R, L]; the pad token's id on empty slots.
        token_type_ids: int32 [R, L]; segment ids, 0 where the family has none.
        position_ids: int32 [R, L]; logical positions from 0 (a family's offset is the encoder's affair). In a
            bi-encoder's row each side starts again at 0.
        pair_ids: int32 [R, L]; 0 on padding, 1..K elsewhere.
        side_ids: int32 [R, L]; 0 on A's tokens and on padding, 1 on B's. A special token belongs to the side that it
            closes, the leading one of a joint row to A.
        label: int32 [R, K] class index, or float32 [R, K] for regression; 0 in an empty slot and where unknown.
        weight: float32 [R, K]; 1 for a pair, 0 for an empty slot. Class weights are the loss's affair.
        example_id: int32 [R, K]; index of the pair in its split, -1 in an empty slot.
        masked_positions: int32 [R, M] token slots, pretraining only.
        masked_targets: int32 [R, M] the tokens that stood there.
        masked_weights: float32 [R, M]; 0 for an unused place.
        cached: What a frozen encoder gave, read from a cache in place of the tokens: hidden states float32 [R, L, D] or
            pooled vectors float32 [R, K, 2, D]. The token arrays may then be None where nothing reads them.
    """

    input_ids: Any
    token_type_ids: Any
    position_ids: Any
    pair_ids: Any
    side_ids: Any
    label: Any
    weight: Any
    example_id: Any
    masked_positions: Any = None
    masked_targets: Any = None
    masked_weights: Any = None
    cached: Any = None


class PretrainingLogits(NamedTuple):
    """What the pretraining model gives for a batch, float32.

    Attributes:
        masked: [R, M, V], scores of the vocabulary at the masked positions.
        segment: [R, 1, 2], scores of the segments' labels: 0 is next (or in order), 1 is not (or swapped).
    """

    masked: Any
    segment: Any


class DropoutRates(NamedTuple):
    """Dropout rates in [0, 1); numbers or traced scalars, never static.

    Attributes:
        hidden: Encoder, after the embeddings and each sublayer.
        attention: Encoder, attention probabilities.
        interaction: Interaction and attention-combiner layers, both kinds of site.
        head: Before the classifier and after each of its hidden layers.
    """

    hidden: Any
    attention: Any
    interaction: Any
    head: Any


class Hypers(NamedTuple):
    """The numbers that a population of runs varies: an argument of the step, never static.

    Attributes:
        learning_rate: Peak rate, scaled by the schedule and by each path's multiplier.
        weight_decay: Decoupled decay (AdamW), on the paths that decay.
        label_smoothing: In [0, 1).
        rates: Dropout rates.
    """

    learning_rate: Any
    weight_decay: Any
    label_smoothing: Any
    rates: DropoutRates


@dataclass(frozen=True)
class TaskSpec:
    """What is predicted for a pair.

    Attributes:
        kind: Classification into `labels`, or regression to a float (then `labels` is empty).
        labels: Class names in the order of the model's outputs; never sorted again.
        positive: For two classes, the name whose F1 is reported; None otherwise.
        center: Mean of the train scores (regression): the model learns `(score - center) / scale`.
        scale: Their standard deviation; 1 where they do not vary.
    """

    kind: Literal["classification", "regression"]
    labels: tuple[str, ...] = ()
    positive: str | None = None
    center: float = 0.0
    scale: float = 1.0

    @property
    def outputs(self) -> int:
        """Size of the model's last axis: classes, or 1 for regression."""
        return len(self.labels) if self.kind == "classification" else 1

    @property
    def positive_index(self) -> int | None:
        return None if self.positive is None else self.labels.index(self.positive)


def default_positive(labels: tuple[str, ...]) -> str | None:
    """The positive one of two classes: a usual name for it, else the last; None unless there are two."""
    if len(labels) != 2:
        return None
    usual = [name for name in labels if re.sub(r"[\s-]+", "_", name.lower()) in POSITIVE_NAMES]
    return usual[0] if len(usual) == 1 else labels[-1]


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder's architecture, read from a Hugging Face `config.json` (`pairjax.weights.read_encoder_spec`).

    Attributes:
        family: Name of a record in `pairjax.base.families`: how tensors are named, positions numbered and pairs joined.
        embedding_size: Width of the embeddings; ELECTRA projects it to `hidden_size` where they differ.
        position_offset: Added to logical positions: pad id + 1 for RoBERTa and XLM-R, 0 otherwise.
        type_vocab_size: Segment embeddings; 0 where the family has none (DistilBERT).
        activation: `gelu` (exact, by erf), `gelu_new` (tanh) or `relu`.
        has_pooler: Whether the family has a pooler (a tanh layer on h_CLS) that a checkpoint may carry.
        max_positions: Longest row that the encoder can read, in tokens (already less `position_offset`).
    """

    family: str
    vocab_size: int
    hidden_size: int
    embedding_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int
    type_vocab_size: int
    position_offset: int
    pad_token_id: int
    layer_norm_eps: float
    activation: Literal["gelu", "gelu_new", "relu"]
    has_pooler: bool
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1


@dataclass(frozen=True)
class Pairs:
    """One split: texts and labels, row by row.

    Attributes:
        first: A's texts.
        second: B's texts.
        label: int32 [N] class indices, float32 [N] scores, or None where the split carries no labels.
        where: Each row's place in its source ("train.tsv:17"), for messages; empty where rows have none.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    label: np.ndarray | None
    where: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class PairData:
    """A task's splits.

    Attributes:
        task: What is predicted.
        splits: `train`, `dev` and, where there is one, `test`.
        source: Provenance for config.json and the model card: name, files with SHA-256, licence where known.
        notes: Counts worth a line each (rows skipped, duplicates across splits, contradictory labels, ...).
    """

    task: TaskSpec
    splits: Mapping[str, Pairs]
    source: Mapping[str, Any]
    notes: tuple[str, ...] = ()
