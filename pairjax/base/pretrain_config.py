"""Configuration of pretraining: frozen dataclasses beside those of fine-tuning, whose optimiser and run they share.

Imports no JAX.
"""

from dataclasses import dataclass, field
from typing import Literal

from pairjax.base.config import DropoutConfig, MeshConfig, OptimConfig, RunConfig, TrainConfig
from pairjax.base.errors import UserError

Objective = Literal["nsp", "sop", "none"]
TokenizerKind = Literal["wordpiece", "bpe"]
SMALLEST_BPE = 5 + 256
"""Tokens: the special ones and the bytes."""


@dataclass(frozen=True)
class CorpusConfig:
    """Text, its tokens, and the segments drawn from it."""

    corpus: str | None = None
    """Train text: a glob of UTF-8 files; without it or --data.tfds connected texts are made by rules, no file
    needed."""
    dev: str | None = None
    """Glob of held-out text, for the curve during training; default: documents cut off from the corpus."""
    test: str | None = None
    """Glob of held-out text that is scored at the end only."""
    tfds: str | None = None
    """TFDS text set instead, such as wiki40b/pt or imdb_reviews: each example is a document. Its own splits are
    train, dev and test."""
    text: str = "text"
    """Its column that holds the text."""
    tfds_dir: str | None = None
    """Where TFDS keeps prepared sets (default: TFDS_DATA_DIR, else ~/tensorflow_datasets)."""
    download: bool = False
    """Let TFDS download and prepare a set that is not there (needs the network)."""
    dev_fraction: float = 0.05
    """Share of each file's documents cut off as dev where --data.dev names none."""
    format: Literal["lines", "prose"] = "lines"
    """lines: one sentence a line, blank lines between documents; prose: a file (or an example of a TFDS set) is a
    document, paragraphs are split into sentences."""
    language: Literal["en", "pt"] = "en"
    """Of the rule-made texts, and of the sentence splitter."""
    documents: int = 2000
    """Rule-made documents to train on; dev and test get a tenth as many each."""
    tokenizer: str | None = None
    """Folder, package:NAME or hub id whose tokeniser to use; default: the continued encoder's, else one trained on
    the corpus."""
    tokenizer_kind: TokenizerKind = "wordpiece"
    """Of a trained tokeniser: WordPiece, or byte-level BPE, to which no text is unknown."""
    vocabulary: int = 8192
    """Most tokens of a trained tokeniser."""
    lowercase: bool = True
    """Whether a trained tokeniser lower-cases and strips accents."""
    objective: Objective = "nsp"
    """Beside masked tokens: nsp tells a true next segment from one of another document, sop two segments in order from
    swapped ones, none reads single segments."""
    max_length: int = 128
    """Row length in tokens, special ones included; segments are filled up to it."""
    short: float = 0.1
    """Share of the examples that aim at a random shorter length (BERT's short-sequence probability)."""
    mask_rate: float = 0.15
    """Share of the tokens to predict: 80 % of them masked, 10 % replaced, 10 % left."""
    whole_words: bool = False
    """Mask all pieces of a word together."""
    seed: int = 0
    """Seeds the rule-made texts, the dev cut, and which segments and masks are drawn."""
    cache: str | None = None
    """Folder of token indexes and trained tokenisers; default: ~/.cache/pairjax/corpora."""

    def __post_init__(self) -> None:
        if self.corpus is None and (self.dev or self.test):
            raise UserError("--data.dev and --data.test go with --data.corpus", fix="name the train text too")
        if self.corpus is not None and self.tfds is not None:
            raise UserError("more than one corpus", got="--data.corpus and --data.tfds", expected="one")
        if self.tokenizer_kind == "bpe" and self.vocabulary < SMALLEST_BPE:
            raise UserError(
                "--data.vocabulary is too small for --data.tokenizer-kind bpe",
                got=self.vocabulary,
                expected=f"at least {SMALLEST_BPE}: the special tokens and all bytes",
            )
        for name in ("dev_fraction", "mask_rate"):
            if not 0.0 < getattr(self, name) < 1.0:
                option = f"--data.{name.replace('_', '-')}"
                raise UserError(f"{option} is out of range", got=getattr(self, name), expected="0 < value < 1")
        if not 0.0 <= self.short <= 1.0:
            raise UserError("--data.short is out of range", got=self.short, expected="0 <= value <= 1")
        for name, low in (("max_length", 16), ("vocabulary", 128), ("documents", 20)):
            if getattr(self, name) < low:
                option = f"--data.{name.replace('_', '-')}"
                raise UserError(f"{option} is too small", got=getattr(self, name), expected=f"at least {low}")

    @property
    def budget(self) -> int:
        """Tokens of a row that are left for the segments: all but its special ones."""
        return self.max_length - (2 if self.objective == "none" else 3)

    @property
    def most_masked(self) -> int:
        """Masked positions of a row, at most: M of the batch."""
        return max(1, round(self.mask_rate * self.max_length))


@dataclass(frozen=True)
class PretrainModelConfig:
    """A BERT encoder with its two heads: new, or one to go on with."""

    encoder: str | None = None
    """Encoder to continue: folder, package:NAME, hub id or run folder; its heads are carried over where it has them.
    Default: a new one of --model.size."""
    download: bool = False
    """Fetch the hub encoder where the cache lacks it (needs the network)."""
    size: Literal["tiny", "mini", "small", "base"] = "mini"
    """tiny: 2 layers of width 128; mini: 4 of 256; small: 4 of 512; base: 12 of 768 (Turc et al. 2019)."""
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    """Its hidden and attention rates are read."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations; parameters stay float32."""
    remat: bool = False
    """Recompute each encoder layer in the backward pass: less memory, more time."""


@dataclass(frozen=True)
class PretrainEvalConfig:
    """What is measured on held-out text."""

    examples: int = 2000
    """Held-out examples of each split, at the end; fewer where the text gives fewer."""
    during: int = 512
    """Of these, how many each evaluation during training reads (dev)."""
    batch_size: int = 64
    bootstrap: int = 1000
    """Resamples, of documents, for each 95 % interval."""
    baselines: bool = True
    """Also score what needs no pretraining on the same segments: majority, the second segment alone, TF-IDF overlap,
    cosine of a frozen sentence encoder."""
    baseline_train: int = 2000
    """Train examples that the baselines are fitted on."""

    def __post_init__(self) -> None:
        for name, low in (
            ("examples", 2),
            ("during", 2),
            ("batch_size", 1),
            ("bootstrap", 100),
            ("baseline_train", 20),
        ):
            if getattr(self, name) < low:
                option = f"--evaluation.{name.replace('_', '-')}"
                raise UserError(f"{option} is too small", got=getattr(self, name), expected=f"at least {low}")


def _optim() -> OptimConfig:
    return OptimConfig(learning_rate=1e-4, warmup=0.1, weight_decay=0.01)


def _train() -> TrainConfig:
    return TrainConfig(epochs=1, keep="last")


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run."""

    data: CorpusConfig = field(default_factory=CorpusConfig)
    model: PretrainModelConfig = field(default_factory=PretrainModelConfig)
    optim: OptimConfig = field(default_factory=_optim)
    train: TrainConfig = field(default_factory=_train)
    evaluation: PretrainEvalConfig = field(default_factory=PretrainEvalConfig)
    run: RunConfig = field(default_factory=RunConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        if self.data.tokenizer is not None and self.model.encoder is not None:
            raise UserError(
                "--data.tokenizer goes with a new model: a continued encoder keeps its own tokeniser",
                fix="leave --data.tokenizer out, or --model.encoder",
            )
        for option, given in (
            ("gradual", self.optim.gradual > 0),
            ("decay-to initial", self.optim.decay_to == "initial"),
            ("reinit-layers", self.optim.reinit_layers > 0),
            ("lora.rank", self.optim.lora.rank > 0),
        ):
            if given:
                raise UserError(f"--optim.{option} is for fine-tuning", fix="leave it out of pretraining")
