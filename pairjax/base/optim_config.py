"""Configuration of the loss and the optimiser, which fine-tuning and pretraining share. Imports no JAX."""

from dataclasses import dataclass, field
from typing import Literal

from pairjax.base.errors import UserError


def at_least(name: str, value: int | float, low: int) -> None:
    """Raises UserError where the option's value is below `low`."""
    if value < low:
        raise UserError(f"--{name} is too small", got=value, expected=f"at least {low}")


def fraction(name: str, value: int | float) -> None:
    """Raises UserError where the option's value is not in [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise UserError(f"--{name} is out of range", got=value, expected="0 <= value < 1")


@dataclass(frozen=True)
class LossConfig:
    """Cross-entropy for classes, mean squared error for scores."""

    class_weights: Literal["none", "balanced", "given"] = "none"
    """balanced: N / (classes x count), as scikit-learn."""
    weights: tuple[float, ...] = ()
    """One weight a class in label order, for --loss.class-weights given."""
    label_smoothing: float = 0.0
    r_drop: float = 0.0
    """Weight of the symmetric KL divergence between two dropout passes (R-Drop); 0 makes one pass. Costs a second
    forward and backward pass."""

    def __post_init__(self) -> None:
        fraction("loss.label-smoothing", self.label_smoothing)
        at_least("loss.r-drop", self.r_drop, 0)
        if (self.class_weights == "given") != bool(self.weights):
            raise UserError(
                "--loss.weights and --loss.class-weights given go together",
                got=f"--loss.class-weights {self.class_weights} and {len(self.weights)} weights",
            )
        if any(weight <= 0 for weight in self.weights):
            raise UserError("--loss.weights must be positive", got=" ".join(map(str, self.weights)))


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank updates of the encoder's kernels (LoRA): W + alpha / rank * A B, where A and B alone train."""

    rank: int = 0
    """Columns of A; 0 for none. The rest of the encoder, and a kept pooler, stay as they are."""
    alpha: float = 16.0
    targets: tuple[str, ...] = (r"encoder/layer_\d+/attention/(query|value)",)
    """Regular expressions, each for whole paths of kernels without `/kernel`: encoder/layer_0/attention/query, key,
    value, out, mlp_in, mlp_out."""

    def __post_init__(self) -> None:
        at_least("optim.lora.rank", self.rank, 0)
        if self.alpha <= 0:
            raise UserError("--optim.lora.alpha must be positive", got=self.alpha)
        if self.rank and not self.targets:
            raise UserError("--optim.lora.targets names no kernel", expected="at least one pattern of paths")
        if not self.rank and (self.alpha, self.targets) != (LoraConfig.alpha, LoraConfig.targets):
            raise UserError("--optim.lora.alpha and --optim.lora.targets go with --optim.lora.rank", got="rank 0")


@dataclass(frozen=True)
class AverageConfig:
    """Averages of the weights over updates; evaluation, and the model that is kept, use them."""

    kind: Literal["none", "ema", "mean"] = "none"
    """ema: exponential moving average; mean: plain mean of the weights after each update."""
    decay: float = 0.999
    """Of the moving average; less in its first updates, (1 + t) / (10 + t)."""
    start: float = 0.0
    """Share of the run after which averaging begins; until then the weights themselves stand in."""

    def __post_init__(self) -> None:
        fraction("optim.average.decay", self.decay)
        fraction("optim.average.start", self.start)
        if self.kind == "none" and self.start:
            raise UserError("--optim.average.start goes with --optim.average.kind", got="kind none")
        if self.kind != "ema" and self.decay != AverageConfig.decay:
            raise UserError("--optim.average.decay goes with --optim.average.kind ema", got=f"kind {self.kind}")


@dataclass(frozen=True)
class OptimConfig:
    """AdamW, its schedule, and which parameters it touches."""

    learning_rate: float = 5e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """From the peak to zero, or constant; after the warm-up."""
    warmup: float = 0.1
    """Share of all steps."""
    weight_decay: float = 0.01
    """Decoupled; not on biases and LayerNorms."""
    decay_to: Literal["zero", "initial"] = "zero"
    """What the decay draws to: zero, or, for what came from the checkpoint, the value that it started from
    (L2-SP)."""
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    bias_correction: bool = True
    """Of Adam's moments; without it, as in BERT's own optimiser, the first updates are several times as large."""
    clip_norm: float = 1.0
    """Global norm of the gradient; 0 clips nothing."""
    accumulate: int = 1
    """Micro-batches a step; equal to the large batch."""
    head_multiplier: float = 1.0
    """Learning rate of all above the encoder, relative to it."""
    layer_decay: float = 1.0
    """Learning rate of each encoder layer relative to the one above."""
    freeze: Literal["none", "embeddings", "layers", "encoder", "all_but_head"] = "none"
    """What gets no gradient, no moments and no checkpoint: the embeddings, also the lowest --optim.freeze-layers, the
    whole encoder, or everything but the classifier."""
    freeze_layers: int = 0
    gradual: float = 0.0
    """Gradual unfreezing: share of the run over which the encoder's layers join from the top down, at even intervals,
    the embeddings last, at its end. 0 trains all from the start."""
    reinit_layers: int = 0
    """The top K encoder layers start anew, drawn from --train.seed."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    average: AverageConfig = field(default_factory=AverageConfig)

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise UserError("--optim.learning-rate must be positive", got=self.learning_rate)
        for name in ("warmup", "b1", "b2", "gradual"):
            fraction(f"optim.{name}", getattr(self, name))
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
        still = self.freeze in ("encoder", "all_but_head")
        for option, given in (
            ("gradual", self.gradual > 0),
            ("decay-to initial", self.decay_to == "initial"),
            ("reinit-layers", self.reinit_layers > 0),
        ):
            if given and still:
                raise UserError(
                    f"--optim.{option} is about an encoder that trains", got=f"--optim.freeze {self.freeze}"
                )
        if self.lora.rank and self.freeze != "none":
            raise UserError(
                "--optim.lora freezes what it does not adapt; --optim.freeze goes without it",
                got=f"--optim.lora.rank {self.lora.rank} --optim.freeze {self.freeze}",
            )
        if self.lora.rank and (self.decay_to == "initial" or self.reinit_layers):
            raise UserError(
                "--optim.lora leaves the encoder's own weights as they are",
                got="--optim.decay-to initial" if self.decay_to == "initial" else "--optim.reinit-layers",
                fix="leave it out: decay of a low-rank update draws to the checkpoint's weights already",
            )
