"""The types that all layers share: a batch of rows, a task, pairs, an encoder's architecture.

Nothing here computes. Arrays may be NumPy's or JAX's, so the module does not import JAX.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

Params = dict[str, Any]
"""A nested dict of arrays. A parameter's path joins its keys with '/', as in `encoder/layer_0/mlp_in/kernel`."""

POSITIVE_NAMES = ("paraphrase", "entailment", "equivalent", "duplicate", "coherent", "yes", "true", "positive")
"""Usual names of the positive one of two classes."""


class Batch(NamedTuple):
    """A batch of R rows with L token slots and K pair slots each.

    Rows are the leading axis of every array, and no computation crosses rows. All shapes are static under `jit`.

    Attributes:
        input_ids: int32 [R, L]; token ids, and the id of the pad token in empty slots.
        token_type_ids: int32 [R, L]; segment ids, 0 if the encoder family has none.
        position_ids: int32 [R, L]; positions from 0, without the offset that some families add. In a row of a
            bi-encoder each side starts at 0.
        pair_ids: int32 [R, L]; 0 on padding, else the number of the pair in its row, 1..K.
        side_ids: int32 [R, L]; 0 on A's tokens and on padding, 1 on B's tokens. A special token belongs to the side
            that it closes; the first one of a joint row belongs to A.
        label: int32 [R, K] class indices, or float32 [R, K] scores; 0 in empty slots and for unknown labels.
        weight: float32 [R, K]; 1 for a pair, 0 for an empty slot. The loss applies class weights.
        example_id: int32 [R, K]; index of the pair in its split, -1 in empty slots.
        masked_positions: int32 [R, M]; token slots that are masked, in pretraining.
        masked_targets: int32 [R, M]; the original tokens of these slots.
        masked_weights: float32 [R, M]; 1 for a masked token, 0 for an unused entry.
        cached: Outputs of a frozen encoder that replace the tokens: hidden states, float32 [R, L, D], or pooled
            vectors, float32 [R, K, 2, D]. Token arrays that are not read may then be None.
        soft: float32 [R, K, C]; target probabilities of the classes, for the loss `soft`.
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
    soft: Any = None


class PretrainingLogits(NamedTuple):
    """Outputs of the pretraining model for a batch.

    Attributes:
        masked: float32 [R, M, V]; logits over the vocabulary at the masked positions.
        segment: float32 [R, 1, 2]; logits of the segments' labels: 0 for next (or in order), 1 for not next (or
            swapped).
    """

    masked: Any
    segment: Any


class DropoutRates(NamedTuple):
    """Dropout rates in [0, 1); numbers or traced scalars, never static.

    Attributes:
        hidden: Rate in the encoder after the embeddings and each sublayer.
        attention: Rate of the encoder's attention probabilities.
        interaction: Rate in the layers of the interaction and of an attention combiner, after sublayers and of
            attention probabilities.
        head: Rate before the classifier and after each of its hidden layers.
    """

    hidden: Any
    attention: Any
    interaction: Any
    head: Any


class Hypers(NamedTuple):
    """Hyperparameters that a population of runs varies: an argument of the step, never static.

    Attributes:
        learning_rate: Peak learning rate, which the schedule and each path's multiplier scale.
        weight_decay: Decoupled weight decay (AdamW) of the paths that decay.
        label_smoothing: Label smoothing, in [0, 1).
        rates: Dropout rates.
    """

    learning_rate: Any
    weight_decay: Any
    label_smoothing: Any
    rates: DropoutRates


@dataclass(frozen=True)
class TaskSpec:
    """The task: what is predicted for a pair.

    Attributes:
        kind: Classification into one of `labels`, any number of `labels` for each pair, or regression to a float.
        labels: Names of the classes in the order of the model's outputs; empty for regression.
        positive: With two classes, the name of the class whose F1 is reported; None otherwise.
        center: Mean of the training scores of a regression; the model learns `(score - center) / scale`.
        scale: Standard deviation of the training scores; 1 if they do not vary.
        head: How the model computes its outputs. `softmax`: one logit per class (or one score). `sigmoid`: one logit l
            for two classes, whose logits are l for the positive class and 0 for the other one, so that their softmax is
            the sigmoid of l. `cosine`: as `sigmoid`, with l = (c - center) / scale, where c is the cosine of a
            bi-encoder's vectors.
    """

    kind: Literal["classification", "regression", "multi-label"]
    labels: tuple[str, ...] = ()
    positive: str | None = None
    center: float = 0.0
    scale: float = 1.0
    head: Literal["softmax", "sigmoid", "cosine"] = "softmax"

    @property
    def outputs(self) -> int:
        """Number of the model's outputs for a pair: one logit per class or label, or 1 for regression."""
        return 1 if self.kind == "regression" else len(self.labels)

    @property
    def positive_index(self) -> int | None:
        """Index of the positive class; None if there is none."""
        return None if self.positive is None else self.labels.index(self.positive)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as plain data; without `head` if it is `softmax`, as versions before it wrote them."""
        fields = asdict(self)
        if self.head == "softmax":
            del fields["head"]
        return fields


NEGATIONS = ("not", "no", "non", "in", "un", "dis")
"""Prefixes that make the name of a class that of its opposite, such as "not adjacent" or "unrelated"."""


def default_positive(labels: tuple[str, ...]) -> str | None:
    """Returns the positive one of two classes; None unless there are two.

    It is the one that the other negates ("match" of "match" and "no match"), else the one with a usual name, else the
    last.
    """
    if len(labels) != 2:
        return None
    for name, other in (labels, labels[::-1]):
        words, others = (re.sub(r"[\s_-]+", " ", label.strip().lower()) for label in (name, other))
        if words and any(others in (f"{negation} {words}", negation + words) for negation in NEGATIONS):
            return name
    usual = [name for name in labels if re.sub(r"[\s-]+", "_", name.lower()) in POSITIVE_NAMES]
    return usual[0] if len(usual) == 1 else labels[-1]


@dataclass(frozen=True)
class Disentangled:
    """The position scores of DeBERTa's attention (He et al. 2021), beside those of the contents.

    Attributes:
        span: Number S of relative embeddings of each sign; the table has 2 S rows.
        buckets: Number of logarithmic buckets of the distances; 0 if each distance has its own embedding.
        max_distance: Longest distance that the buckets tell apart.
        kinds: Which scores are added: `c2p` (content to position) and `p2c` (position to content).
        shared_keys: Whether the projections of contents serve positions too.
        norm: Whether a LayerNorm is applied to the relative embeddings.
    """

    span: int
    buckets: int
    max_distance: int
    kinds: tuple[Literal["c2p", "p2c"], ...]
    shared_keys: bool
    norm: bool


@dataclass(frozen=True)
class Rotary:
    """The rotary positions and the local layers of ModernBERT (Warner et al. 2024).

    Attributes:
        theta: Base of the frequencies in global layers.
        local_theta: Base of the frequencies in local layers.
        window: Largest distance between a token and those that it attends to, in local layers.
        local: Whether each layer is local.
    """

    theta: float
    local_theta: float
    window: int
    local: tuple[bool, ...]


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder's architecture, read from a Hugging Face `config.json` (`pairjax.weights.read_encoder_spec`).

    Attributes:
        family: Name of a record in `pairjax.base.families`: how tensors are named, positions numbered and pairs joined.
        vocab_size: Number of token embeddings.
        hidden_size: Width of the hidden states, D.
        embedding_size: Width of the embeddings; ELECTRA and ALBERT project them to `hidden_size` if the two differ.
        num_layers: Number of transformer layers.
        num_heads: Attention heads of each layer.
        intermediate_size: Width of the feed-forward sublayers.
        max_positions: Longest row that the encoder can read, in tokens, with `position_offset` already subtracted.
        type_vocab_size: Number of segment embeddings; 0 if the family has none (DistilBERT).
        position_offset: Added to positions: pad id + 1 for RoBERTa and XLM-R, 0 otherwise.
        pad_token_id: Id of the pad token.
        layer_norm_eps: Epsilon of layer normalisation.
        activation: `gelu` (exact, by erf), `gelu_new` (tanh) or `relu`.
        has_pooler: Whether the family has a pooler (a tanh layer on h_CLS), which pretrained weights may include.
        hidden_dropout: Dropout rate after the embeddings and each sublayer.
        attention_dropout: Dropout rate of the attention probabilities.
        absolute_positions: Whether there is a table of position embeddings.
        shared_layers: Whether all layers are one, with the same parameters (ALBERT).
        relative_buckets: Number of relative positions that each add a learnt number to a head's scores (MPNet); 0 for
            none.
        disentangled: DeBERTa's position scores; None in other families.
        rotary: ModernBERT's positions; None in other families.
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
    absolute_positions: bool = True
    shared_layers: bool = False
    relative_buckets: int = 0
    disentangled: Disentangled | None = None
    rotary: Rotary | None = None

    @property
    def stored_layers(self) -> int:
        """Number of layers that have parameters of their own."""
        return 1 if self.shared_layers else self.num_layers

    @property
    def has_projection(self) -> bool:
        """Whether a dense layer maps the embeddings to the hidden size; ALBERT has one even for equal sizes."""
        return self.embedding_size != self.hidden_size or self.shared_layers


@dataclass(frozen=True)
class Pairs:
    """The pairs of one split.

    Attributes:
        first: Texts A, N of them.
        second: Texts B, N of them.
        label: int32 [N] class indices, float32 [N] scores, float32 [N, C] with 1 for each label that a pair carries, or
            None if the split has no labels.
        where: Place of each pair in its source ("train.tsv:17"), for messages; empty if pairs have none.
        soft: float32 [N, C]; probabilities of the classes (`--data.soft-labels`), or None. Rows sum to 1.
        negative: A text for each pair that does not match its first text (triplets); empty if there are none.
        group: int32 [N]; the group of candidates that each pair belongs to, for ranking metrics, or None.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    label: np.ndarray | None
    where: tuple[str, ...] = ()
    soft: np.ndarray | None = None
    negative: tuple[str, ...] = ()
    group: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class PairData:
    """A task and its splits.

    Attributes:
        task: The task.
        splits: Pairs by split: `train`, `dev` and, if there is one, `test`. If a source has several dev or test splits,
            they are called `dev_matched`, `test_r1` and the like.
        source: Provenance for config.json and the model card: name, files with SHA-256, licence if known.
        notes: Lines about the data (lines skipped, duplicates across splits, contradictory labels, ...).
        reading: How each split of the source was understood, one line each.
    """

    task: TaskSpec
    splits: Mapping[str, Pairs]
    source: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    reading: tuple[str, ...] = ()


def dev_split(splits: Iterable[str]) -> str | None:
    """Returns the split that selects the best model: `dev`, else the first of several dev splits; None without one."""
    names = list(splits)
    return "dev" if "dev" in names else next((name for name in names if name.startswith("dev_")), None)


def main_split(splits: Iterable[str]) -> str | None:
    """Returns the split whose scores a report is about: the first of test's, else the first of dev's, else the last."""
    names = list(splits)
    tests = [name for name in names if name == "test"] or [name for name in names if name.startswith("test_")]
    return tests[0] if tests else dev_split(names) or (names[-1] if names else None)
