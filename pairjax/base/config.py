"""Configuration of fine-tuning: frozen dataclasses, set by command-line options or by an experiment file.

This module imports no JAX, so `--help` and a misspelt option answer at once. Checks raise `UserError`, which names the
options as they are spelt on the command line.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.fields import CheckedConfig, FilePath
from pairjax.base.model_config import CombineConfig, HeadConfig, ModelConfig
from pairjax.base.optim_config import LossConfig, OptimConfig, at_least, check_seed


@dataclass(frozen=True)
class TrainConfig(CheckedConfig, section="train"):
    """How long to train, in which steps, and when to stop."""

    epochs: int = 3
    """Passes over the training data."""
    max_steps: int | None = None
    """Number of updates, instead of --train.epochs; the schedule ends there too."""
    batch_size: int = 32
    """Pairs per update."""
    seed: int = 0
    """Seeds the order of the pairs, dropout and new parameters."""
    eval_every: int | None = None
    """Updates between evaluations on dev. By default an epoch."""
    metric: str | None = None
    """Dev metric that selects the best model and stops early. By default accuracy, or spearman for scores."""
    patience: int = 0
    """Evaluations without a better metric before stopping early; 0 never stops."""
    keep: Literal["best", "last"] = "best"
    """Whether the best parameters on dev or the last ones become the model."""

    def check(self) -> None:
        at_least("train.epochs", self.epochs, 1)
        at_least("train.batch-size", self.batch_size, 1)
        check_seed("train.seed", self.seed)
        for name in ("max_steps", "eval_every"):
            if getattr(self, name) is not None:
                at_least(f"train.{name.replace('_', '-')}", getattr(self, name), 1)
        at_least("train.patience", self.patience, 0)


@dataclass(frozen=True)
class MeshConfig(CheckedConfig, section="mesh"):
    """Mesh of devices; one axis may be -1 and takes the devices that the other axes leave."""

    data: int = -1
    """Number of model copies; each computes its share of the rows."""
    fsdp: int = 1
    """Number of shards of the parameters and moments; these devices also share the rows."""
    tensor: int = 1
    """Number of devices that share each layer (attention heads, feed-forward units, vocabulary)."""

    def check(self) -> None:
        sizes = (self.data, self.fsdp, self.tensor)
        if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
            raise UserError(
                "--mesh has a size that is wrong",
                got=f"--mesh.data {self.data} --mesh.fsdp {self.fsdp} --mesh.tensor {self.tensor}",
                expected="sizes of at least 1, and -1 for one axis at most",
            )


@dataclass(frozen=True)
class EvalConfig(CheckedConfig, section="evaluation"):
    """What to measure at the end."""

    batch_size: int = 128
    """Pairs per batch."""
    bootstrap: int = 1000
    """Bootstrap resamples for each 95 % interval."""
    swap: bool = True
    """Also predict each pair with its texts swapped, and report how often both predictions agree."""
    baselines: bool = False
    """Also fit baselines that cannot read meaning: majority class, lengths, second text alone, word overlap."""
    slices: bool = False
    """Also score slices of each split: by word overlap, by length, by negation."""
    fit: bool = True
    """Fit a temperature (and, for two classes, a threshold) on dev, and report metrics with and without them."""
    class_thresholds: bool = False
    """With more than two classes, also fit a threshold for each class on dev: the one with its best F1."""
    abstain_at: float | None = None
    """Let the model abstain from pairs of low confidence, so that it answers the others with this accuracy on dev."""
    conformal: float | None = None
    """Also predict sets of classes that hold the true class with this probability (split conformal prediction)."""
    examples: tuple[tuple[str, str], ...] = ()
    """Pairs to predict and show at the end. By default the first three of dev."""

    def check(self) -> None:
        at_least("evaluation.batch-size", self.batch_size, 1)
        at_least("evaluation.bootstrap", self.bootstrap, 100)
        for name in ("abstain_at", "conformal"):
            value, option = getattr(self, name), f"--evaluation.{name.replace('_', '-')}"
            if value is not None and not 0.0 < value < 1.0:
                raise UserError(f"{option} is out of range", got=value, expected="0 < value < 1")
            if value is not None and not self.fit:
                raise UserError(f"{option} is fitted on dev", got="--evaluation.no-fit", fix="leave one of them out")


@dataclass(frozen=True)
class RunConfig(CheckedConfig, section="run"):
    """The run's folder and what is written to it."""

    dir: FilePath | None = None
    """Folder of the run, on disk or in a bucket. By default runs/NAME."""
    resume: bool = False
    """Resume from the last checkpoint."""
    overwrite: bool = False
    """Delete the run that is in the folder."""
    save_every: int | None = None
    """Updates between checkpoints, besides those at each evaluation."""
    keep_checkpoints: int = 2
    """Number of newest checkpoints to keep; the best one is kept too."""
    tensorboard: bool = False
    """Write TensorBoard event files."""
    wandb: str | None = None
    """Weights & Biases project to log to (needs the extra wandb and the network)."""
    progress: bool = True
    """Show the progress bar."""
    compilation_cache: FilePath | None = None
    """Folder that caches compiled programs. By default ~/.cache/pairjax/xla; '' for none."""

    def check(self) -> None:
        at_least("run.keep-checkpoints", self.keep_checkpoints, 1)
        if self.save_every is not None:
            at_least("run.save-every", self.save_every, 1)
        if self.resume and self.overwrite:
            raise UserError("--run.resume and --run.overwrite exclude each other", fix="use one of the two")


def trained_model(model: ModelConfig, loss: LossConfig) -> ModelConfig:
    """Returns the model that a loss trains: for a loss of vectors, the one whose output is their cosine.

    Args:
        model: The model's configuration.
        loss: The loss.
    """
    return replace(model, head=HeadConfig(kind="cosine")) if loss.reads_vectors else model


@dataclass(frozen=True)
class Config(CheckedConfig):
    """One fine-tuning run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    run: RunConfig = field(default_factory=RunConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def check(self) -> None:
        soft = bool(self.data.soft_labels)
        if soft and (self.loss.kind != "soft" or self.loss.teacher is not None):
            raise UserError(
                "--data.soft-labels goes with --loss.kind soft and without --loss.teacher",
                got=f"--loss.kind {self.loss.kind}" if self.loss.kind != "soft" else "--loss.teacher",
            )
        if self.loss.reads_vectors:
            self._check_vectors()
        dropout = self.model.dropout
        rates = (dropout.hidden, dropout.attention, dropout.interaction, dropout.head)
        if self.loss.r_drop > 0 and not any(rates):
            raise UserError(
                "--loss.r-drop compares two dropout passes, and every --model.dropout rate is 0",
                fix="set a dropout rate, or leave --loss.r-drop out",
            )

    def _check_vectors(self) -> None:
        """Checks that a loss of vectors has a bi-encoder without any layer above them, which trains."""
        model, kind = self.model, self.loss.kind
        plain = model.interact.kind == "none" and model.combine == CombineConfig() and model.combiner is None
        if (
            model.kind != "bi"
            or model.over != "sides"
            or not plain
            or model.head not in (HeadConfig(), HeadConfig(kind="cosine"))
        ):
            raise UserError(
                f"--loss.kind {kind} needs a bi-encoder without interaction, combiner and hidden layers",
                got=f"--model.kind {model.kind}" if model.kind != "bi" else "options of a classifier",
                fix="use --model.kind bi, and leave out --model.interact, .combine and .head",
            )
        if self.optim.freeze in ("encoder", "all_but_head"):
            raise UserError(
                f"--loss.kind {kind} trains the encoder, which has no head above it",
                got=f"--optim.freeze {self.optim.freeze}",
            )
        if kind == "in-batch" and self.optim.accumulate > 1:
            raise UserError(
                "--loss.kind in-batch compares all pairs of a batch, and micro-batches would not see each other",
                got=f"--optim.accumulate {self.optim.accumulate}",
                fix="leave it out",
            )
