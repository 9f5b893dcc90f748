"""Configuration of the loss and of the optimiser, which fine-tuning and pretraining share. Imports no JAX."""

import re
from dataclasses import dataclass, field
from typing import Literal

from pairjax.base.errors import UserError
from pairjax.base.fields import CheckedConfig, FilePath


def at_least(name: str, value: int | float, low: int) -> None:
    """Checks that an option's value is at least `low`.

    Args:
        name: The option, without dashes in front.
        value: Its value.
        low: The smallest valid value.

    Raises:
        UserError: The value is smaller.
    """
    if value < low:
        raise UserError(f"--{name} is too small", got=value, expected=f"at least {low}")


def fraction(name: str, value: int | float) -> None:
    """Checks that an option's value is in [0, 1).

    Args:
        name: The option, without dashes in front.
        value: Its value.

    Raises:
        UserError: The value is out of range.
    """
    if not 0.0 <= value < 1.0:
        raise UserError(f"--{name} is out of range", got=value, expected="0 <= value < 1")


def check_seed(name: str, value: int) -> None:
    """Checks that an option's value can seed JAX and NumPy.

    Args:
        name: The option, without dashes in front.
        value: Its value.

    Raises:
        UserError: The value is out of range.
    """
    if not 0 <= value < 2**31:
        raise UserError(f"--{name} is out of range", got=value, expected="0 <= seed < 2147483648")


@dataclass(frozen=True)
class LossConfig(CheckedConfig, section="loss"):
    """What training minimises."""

    kind: Literal["cross-entropy", "binary", "multi-label", "soft", "cosine", "contrastive", "in-batch"] | None = None
    """cross-entropy: softmax over the classes; binary: one logit with a sigmoid, for two classes; multi-label: a
    sigmoid for each label, with --data.task multi-label; soft: cross-entropy with class probabilities, from
    --data.soft-labels or --loss.teacher. Of a bi-encoder's vectors: cosine: squared error of the cosine; contrastive:
    similar pairs together and others apart; in-batch: each text's own partner among those of the whole batch (multiple
    negatives ranking). By default cross-entropy for classes, and mean squared error for scores."""
    teacher: FilePath | None = None
    """A teacher's predictions for the train pairs, as pairjax predict writes them; goes with --loss.kind soft."""
    temperature: float = 1.0
    """Distillation: divides the logits of teacher and student. The loss is multiplied by its square."""
    hard_share: float = 0.0
    """Share of the cross-entropy with the labels themselves in the loss soft."""
    margin: float = 0.5
    """Cosine distance from which pairs that are not similar cost nothing in the contrastive loss."""
    scale: float = 20.0
    """Multiplies the cosines of the in-batch loss."""
    class_weights: Literal["none", "balanced", "given"] = "none"
    """balanced: N / (classes x count of the class), as in scikit-learn; given: --loss.weights."""
    weights: tuple[float, ...] = ()
    """One weight per class, in label order, for --loss.class-weights given."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes."""
    r_drop: float = 0.0
    """Weight of the symmetric KL divergence between two dropout passes (R-Drop). 0: one pass. Otherwise each step
    runs a second forward and backward pass."""

    def check(self) -> None:
        fraction("loss.label-smoothing", self.label_smoothing)
        at_least("loss.r-drop", self.r_drop, 0)
        self._check_soft()
        self._check_vectors()
        if (self.class_weights == "given") != bool(self.weights):
            raise UserError(
                "--loss.weights and --loss.class-weights given go together",
                got=f"--loss.class-weights {self.class_weights} and {len(self.weights)} weights",
            )
        if any(weight <= 0 for weight in self.weights):
            raise UserError("--loss.weights must be positive", got=" ".join(map(str, self.weights)))

    @property
    def reads_vectors(self) -> bool:
        """Whether the loss reads the vectors of a bi-encoder, and not outputs of a classifier."""
        return self.kind in ("cosine", "contrastive", "in-batch")

    def _check_vectors(self) -> None:
        """Checks the options of the losses of a bi-encoder's vectors."""
        for name, kind in (("margin", "contrastive"), ("scale", "in-batch")):
            value = getattr(self, name)
            if value <= 0:
                raise UserError(f"--loss.{name} must be positive", got=value)
            if value != getattr(LossConfig, name) and self.kind != kind:
                raise UserError(f"--loss.{name} goes with --loss.kind {kind}", got=f"--loss.kind {self.kind}")
        classes = {
            "class-weights": self.class_weights != "none",
            "label-smoothing": self.label_smoothing > 0,
            "r-drop": self.r_drop > 0,
        }
        if self.kind == "multi-label" and (classes["class-weights"] or classes["r-drop"]):
            raise UserError("--loss.class-weights and --loss.r-drop do not go with --loss.kind multi-label")
        for option, given in classes.items():
            if given and self.reads_vectors:
                raise UserError(
                    f"--loss.{option} goes with a classifier, and --loss.kind {self.kind} has none", fix="leave it out"
                )

    def _check_soft(self) -> None:
        """Checks the options of the loss `soft`."""
        if self.temperature <= 0:
            raise UserError("--loss.temperature must be positive", got=self.temperature)
        fraction("loss.hard-share", self.hard_share)
        for option, given in (("teacher", self.teacher is not None), ("hard-share", self.hard_share > 0)):
            if given and self.kind != "soft":
                raise UserError(f"--loss.{option} goes with --loss.kind soft", got=f"--loss.kind {self.kind}")
        if self.temperature != 1.0 and self.teacher is None:
            raise UserError("--loss.temperature goes with --loss.teacher", got=self.temperature)
        if self.kind == "soft" and self.label_smoothing > 0:
            raise UserError(
                "--loss.label-smoothing goes with labels, and --loss.kind soft has class probabilities",
                got=self.label_smoothing,
                fix="leave it out",
            )


@dataclass(frozen=True)
class LoraConfig(CheckedConfig, section="optim.lora"):
    """Low-rank updates of the encoder's kernels (LoRA): W + alpha / rank * A B, where only A and B train."""

    rank: int = 0
    """Rank of the update (columns of A); 0 turns LoRA off. The rest of the encoder and a pretrained pooler do not
    train."""
    alpha: float = 16.0
    """Scale of the update: it is multiplied by alpha / rank."""
    targets: tuple[str, ...] = (r"encoder/layer_\d+/attention/(query|value)",)
    """Regular expressions that match whole kernel paths without `/kernel`, such as encoder/layer_0/attention/query. The
    kernels are attention/query, key, value and out, mlp_in and mlp_out."""

    def check(self) -> None:
        at_least("optim.lora.rank", self.rank, 0)
        if self.alpha <= 0:
            raise UserError("--optim.lora.alpha must be positive", got=self.alpha)
        if self.rank and not self.targets:
            raise UserError("--optim.lora.targets is empty", expected="at least one pattern of paths")
        for target in self.targets:
            try:
                re.compile(target)
            except re.error as error:
                raise UserError(f"--optim.lora.targets {target}: not a regular expression ({error})") from None
        if not self.rank and (self.alpha, self.targets) != (LoraConfig.alpha, LoraConfig.targets):
            raise UserError("--optim.lora.alpha and --optim.lora.targets go with --optim.lora.rank", got="rank 0")


@dataclass(frozen=True)
class AverageConfig(CheckedConfig, section="optim.average"):
    """Averages of the weights over updates; evaluation and the saved model use them."""

    kind: Literal["none", "ema", "mean"] = "none"
    """ema: exponential moving average; mean: plain mean of the weights after each update."""
    decay: float = 0.999
    """Decay of the moving average; at most (1 + t) / (10 + t) at update t, so the first updates weigh more."""
    start: float = 0.0
    """Share of the run after which averaging begins; before that the average equals the weights."""

    def check(self) -> None:
        fraction("optim.average.decay", self.decay)
        fraction("optim.average.start", self.start)
        if self.kind == "none" and self.start:
            raise UserError("--optim.average.start goes with --optim.average.kind", got="kind none")
        if self.kind != "ema" and self.decay != AverageConfig.decay:
            raise UserError("--optim.average.decay goes with --optim.average.kind ema", got=f"kind {self.kind}")


@dataclass(frozen=True)
class OptimConfig(CheckedConfig, section="optim"):
    """AdamW, its schedule, and the parameters that it updates."""

    learning_rate: float = 5e-5
    """Peak learning rate."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """After the warm-up: linear or cosine decay from the peak to zero, or constant."""
    warmup: float = 0.1
    """Share of all steps in which the learning rate rises from zero to the peak."""
    weight_decay: float = 0.01
    """Decoupled weight decay; not applied to biases and LayerNorms."""
    decay_to: Literal["zero", "initial"] = "zero"
    """Value that weights decay to: zero, or, for pretrained weights, their initial value (L2-SP)."""
    b1: float = 0.9
    """Decay of Adam's first moment."""
    b2: float = 0.999
    """Decay of Adam's second moment."""
    eps: float = 1e-8
    """Added to the denominator of Adam's update."""
    bias_correction: bool = True
    """Bias correction of Adam's moments. Without it, as in the original BERT, the first updates are several times as
    large."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient; larger gradients are scaled down to it. 0 turns clipping off."""
    accumulate: int = 1
    """Micro-batches per step: less memory for the same gradient as the whole batch."""
    head_multiplier: float = 1.0
    """Learning rate of all parameters above the encoder, as a multiple of the encoder's."""
    layer_decay: float = 1.0
    """Learning rate of each encoder layer, as a multiple of that of the layer above."""
    freeze: Literal["none", "embeddings", "layers", "encoder", "all_but_head"] = "none"
    """Parameters that do not train: the embeddings; layers: the embeddings and the lowest --optim.freeze-layers; the
    whole encoder; or all but the classifier. They have no gradients, no moments and no place in checkpoints."""
    freeze_layers: int = 0
    """Number of encoder layers that --optim.freeze layers freezes, from the bottom."""
    gradual: float = 0.0
    """Gradual unfreezing: share of the run over which encoder layers start to train, from the top down at even
    intervals; the embeddings come last, at its end. 0: all train from the start."""
    reinit_layers: int = 0
    """Number of encoder layers, from the top, that start from new random weights (--train.seed)."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    average: AverageConfig = field(default_factory=AverageConfig)

    def check(self) -> None:
        if self.learning_rate <= 0:
            raise UserError("--optim.learning-rate must be positive", got=self.learning_rate)
        for name in ("warmup", "b1", "b2", "gradual"):
            fraction(f"optim.{name}", getattr(self, name))
        for name in ("head_multiplier", "layer_decay"):
            if getattr(self, name) <= 0:
                raise UserError(f"--optim.{name.replace('_', '-')} must be positive", got=getattr(self, name))
        at_least("optim.eps", self.eps, 0)
        at_least("optim.freeze-layers", self.freeze_layers, 0)
        at_least("optim.weight-decay", self.weight_decay, 0)
        at_least("optim.clip-norm", self.clip_norm, 0)
        at_least("optim.accumulate", self.accumulate, 1)
        at_least("optim.reinit-layers", self.reinit_layers, 0)
        if (self.freeze == "layers") != (self.freeze_layers > 0):
            raise UserError(
                "--optim.freeze layers and --optim.freeze-layers K go together",
                got=f"--optim.freeze {self.freeze} --optim.freeze-layers {self.freeze_layers}",
            )
        if self.decay_to == "initial" and self.weight_decay == 0:
            raise UserError("--optim.decay-to initial does nothing without --optim.weight-decay", got="0")
        frozen = self.freeze in ("encoder", "all_but_head")
        for option, given in (
            ("gradual", self.gradual > 0),
            ("decay-to initial", self.decay_to == "initial"),
            ("reinit-layers", self.reinit_layers > 0),
        ):
            if given and frozen:
                raise UserError(f"--optim.{option} needs an encoder that trains", got=f"--optim.freeze {self.freeze}")
        if self.lora.rank and self.freeze != "none":
            raise UserError(
                "--optim.lora and --optim.freeze exclude each other: LoRA freezes all that it does not adapt",
                got=f"--optim.lora.rank {self.lora.rank} --optim.freeze {self.freeze}",
            )
        if self.lora.rank and (self.decay_to == "initial" or self.reinit_layers):
            raise UserError(
                "--optim.lora leaves the encoder's own weights as they are",
                got="--optim.decay-to initial" if self.decay_to == "initial" else "--optim.reinit-layers",
                fix="leave it out: weight decay of a low-rank update already pulls towards the pretrained weights",
            )
