"""Nested cross-validation of a grid of models on cached tokens: what is chosen, and how well the choice generalises.

For each outer fold, inner folds of the other pairs choose a setting of the grid (a model and a learning rate). Its
score is that of models trained on all of those other pairs and evaluated on the outer fold. A model trained without
folds o and i serves twice: its accuracy on i counts for the outer fold o, and its accuracy on o for the outer fold i.
So K folds need K (K - 1) / 2 inner fits. All fits of a model, with all learning rates, are groups of one population.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float64, Int, Int8

from pairjax.base.config import OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import CombineConfig, Feature, HeadConfig, InteractConfig, ModelConfig
from pairjax.base.types import DropoutRates, Hypers
from pairjax.population.engine import MemberProgram, Trained, make_hypers, train_population
from pairjax.population.members import make_runs
from pairjax.population.tokens import TokenTask, parameter_count, token_program
from pairjax.storage.arrays import cached_arrays
from pairjax.studies.attention.flops import step_flops

FORMAT = 1
FEATURES: tuple[Feature, ...] = ("u", "v", "u-v", "u*v")
TOKEN_KINDS = ("self", "joint", "cross")


@dataclass(frozen=True)
class AttentionSetting:
    """A model of the grid. All models use the combination [u; v; u - v; u * v] of mean-pooled vectors.

    Attributes:
        kind: `none`: no attention; `sized`: a hidden layer that gives the model as many parameters as token attention
            of `layers` layers; `self`, `joint`, `cross`: attention over tokens before pooling; `vectors`: attention
            over the four parts; `gate`: elementwise weights. All kinds except `sized` have a linear head.
        layers: The number of attention layers; 0 without attention.
        heads: The number of attention heads; 0 without attention.
    """

    kind: str
    layers: int = 0
    heads: int = 0

    @property
    def name(self) -> str:
        """The setting as tables name it, for example "cross 2x4"."""
        if self.kind == "sized":
            return f"sized as {self.layers}"
        return f"{self.kind} {self.layers}x{self.heads}" if self.layers else self.kind


@dataclass(frozen=True)
class NestedDesign:
    """How each setting is run; the same for all settings of a table.

    Attributes:
        folds: The number K of outer folds. Each choice is a cross-validation over the other K - 1 folds.
        seeds: The seeds whose scores on outer folds count.
        inner_seeds: The seeds that choose; they are not among `seeds`.
        token_rates: The learning rates to try for attention over tokens.
        pooled_rates: The learning rates to try for models of pooled vectors, which are cheap.
        decay: Weight decay.
        dropout: Dropout rate of attention layers and head, in all settings.
        steps: Updates of a run.
        batch_size: Pairs per update.
        at_once: Groups per chunk of the population. The matrix products of one group with tokens keep a core busy.
    """

    folds: int = 4
    seeds: tuple[int, ...] = tuple(range(5))
    inner_seeds: tuple[int, ...] = (1000,)
    token_rates: tuple[float, ...] = (1.5e-3, 4e-3, 1e-2)
    pooled_rates: tuple[float, ...] = (1.5e-3, 4e-3, 1.2e-2, 4e-2)
    decay: float = 0.01
    dropout: float = 0.0
    steps: int = 400
    batch_size: int = 32
    at_once: int = 1

    def __post_init__(self) -> None:
        if self.folds < 3:
            raise UserError("too few folds to choose a setting and to score it", got=self.folds, expected="at least 3")

    def learning_rates(self, setting: AttentionSetting) -> tuple[float, ...]:
        """Returns the learning rates to try for a setting."""
        return self.token_rates if setting.kind in TOKEN_KINDS else self.pooled_rates


@dataclass(frozen=True)
class SettingResult:
    """The result of a setting.

    Attributes:
        inner: float64 [folds, rates]; accuracy on the inner folds of each outer fold, -inf if a run diverged.
        rates: float64 [folds]; the learning rate chosen for each outer fold.
        predicted: int8 [seeds, N]; class of each pair, predicted by models trained without its fold; -1 if the model
            diverged.
        parameters: The number of trainable parameters.
        notes: Members that diverged.
        reused: Whether the result was read from disk.
    """

    inner: Float64[np.ndarray, "folds rates"]
    rates: Float64[np.ndarray, " folds"]
    predicted: Int8[np.ndarray, "seeds pairs"]
    parameters: int
    notes: tuple[str, ...]
    reused: bool = False

    @property
    def inner_accuracy(self) -> Float64[np.ndarray, " folds"]:
        """float64 [folds]; inner accuracy at the chosen learning rate."""
        return self.inner.max(axis=1)


def setting_model(setting: AttentionSetting, source: TokenTask) -> ModelConfig:
    """Returns the model config of a setting, for the width of a task's tokens."""
    interact, combine = InteractConfig(), CombineConfig(features=FEATURES)
    hidden: tuple[int, ...] = ()
    if setting.kind in TOKEN_KINDS:
        interact = InteractConfig(setting.kind, setting.layers, setting.heads)  # type: ignore[arg-type]
    elif setting.kind == "vectors":
        combine = CombineConfig(FEATURES, "attention", setting.layers, setting.heads)
    elif setting.kind == "gate":
        combine = CombineConfig(FEATURES, "gate")
    elif setting.kind == "sized":
        hidden = (sized_width(setting.layers, source),)
    elif setting.kind != "none":
        raise ValueError(f"unknown kind of setting: {setting.kind}")
    return ModelConfig(kind="bi", interact=interact, combine=combine, head=HeadConfig(hidden=hidden))


def sized_width(layers: int, source: TokenTask) -> int:
    """Returns the hidden width that gives a head about the parameters of token attention with a linear head."""
    spec, outputs = source.heads.spec, source.heads.task.outputs
    width, inner, inputs = spec.hidden_size, spec.intermediate_size, len(FEATURES) * spec.hidden_size
    layer = 4 * (width**2 + width) + 2 * width * inner + inner + width + 4 * width
    return max(1, round((layers * layer + inputs * outputs) / (inputs + 1 + outputs)))


def setting_flops(source: TokenTask, setting: AttentionSetting, design: NestedDesign) -> float:
    """Returns the FLOPs of all updates of a setting (`step_flops`), without evaluation (less than a tenth of them)."""
    inner = math.comb(design.folds, 2) * len(design.inner_seeds) * len(design.learning_rates(setting))
    runs = inner + design.folds * len(design.seeds)
    update = step_flops(source, setting_model(setting, source), batch_size=design.batch_size)
    return sum(update.values()) * design.steps * runs


def run_setting(
    source: TokenTask, fold: Int[np.ndarray, " pairs"], setting: AttentionSetting, design: NestedDesign, *, folder: Path
) -> SettingResult:
    """Runs a setting, or reads its result if it was run before.

    Args:
        source: The task; all pairs are in its split `train`.
        fold: int [N]; the outer fold of each pair.
        setting: The model.
        design: The folds, seeds, learning rates and steps.
        folder: The folder of finished settings, which are named by identity.
    """
    parts: list[Any] = [FORMAT, source.key, asdict(setting), asdict(design)]
    described = json.dumps(parts, sort_keys=True).encode() + fold.astype(np.int64).tobytes()
    identity = hashlib.sha256(described).hexdigest()
    arrays, reused = cached_arrays(folder, identity, lambda: _run(source, fold, setting, design))
    notes = tuple(str(note) for note in arrays["notes"])
    return SettingResult(
        arrays["inner"], arrays["rates"], arrays["predicted"], int(arrays["parameters"]), notes, reused=reused
    )


def _run(source: TokenTask, fold: np.ndarray, setting: AttentionSetting, design: NestedDesign) -> dict[str, np.ndarray]:
    """Runs a setting and returns the arrays to keep."""
    program = token_program(
        source, setting_model(setting, source), optim=OptimConfig(), steps=design.steps, dropout=design.dropout > 0
    )
    inner, inner_notes = _inner(source, fold, program, design, rates=design.learning_rates(setting))
    rates = np.asarray(design.learning_rates(setting))[inner.argmax(axis=1)]
    fits = [(outer, seed) for outer in range(design.folds) for seed in design.seeds]
    trained = _train(
        source,
        program,
        design,
        subsets=[np.flatnonzero(fold != outer) for outer, _ in fits],
        seeds=[seed for _, seed in fits],
        rates=[float(rates[outer]) for outer, _ in fits],
    )
    classes = _classes(trained)
    predicted = np.full((len(design.seeds), len(fold)), -1, np.int8)
    for fit, (outer, seed) in enumerate(fits):
        inside = fold == outer
        predicted[design.seeds.index(seed), inside] = classes[fit, inside]
    return {
        "inner": inner,
        "rates": rates,
        "predicted": predicted,
        "parameters": np.asarray(parameter_count(program)),
        "notes": np.asarray([*inner_notes, *trained.notes()], dtype=np.str_),
    }


def _inner(
    source: TokenTask, fold: np.ndarray, program: MemberProgram, design: NestedDesign, *, rates: Sequence[float]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns accuracy on inner folds, mean over them and over the inner seeds, [folds, rates]; and notes."""
    excluded = list(itertools.combinations(range(design.folds), 2))
    runs = list(itertools.product(excluded, design.inner_seeds, range(len(rates))))
    trained = _train(
        source,
        program,
        design,
        subsets=[np.flatnonzero(~np.isin(fold, folds)) for folds, _, _ in runs],
        seeds=[seed for _, seed, _ in runs],
        rates=[rates[column] for _, _, column in runs],
    )
    hits = _classes(trained) == source.heads.label("train")
    total = np.zeros((design.folds, len(rates)))
    for run, (folds, _, column) in enumerate(runs):
        for outer, inner in (folds, folds[::-1]):
            diverged = trained.diverged[run, 0] >= 0
            total[outer, column] += -np.inf if diverged else hits[run, fold == inner].mean()
    return total / ((design.folds - 1) * len(design.inner_seeds)), trained.notes()


def _train(
    source: TokenTask,
    program: MemberProgram,
    design: NestedDesign,
    *,
    subsets: Sequence[np.ndarray],
    seeds: Sequence[int],
    rates: Sequence[float],
) -> Trained:
    """Trains a group for each subset of pairs, with its own seed and learning rate."""
    base = Hypers(0.0, design.decay, 0.0, DropoutRates(0.0, 0.0, design.dropout, design.dropout))
    hypers = jax.tree.map(lambda leaf: leaf[:, None], make_hypers(base, learning_rate=rates))
    runs = make_runs(subsets, seeds=seeds, hypers=hypers, batch_size=design.batch_size, steps=design.steps)
    return train_population(program, runs, evaluate={"all": source.heads.rows["train"]}, at_once=design.at_once)


def _classes(trained: Trained) -> Int8[np.ndarray, "groups pairs"]:
    """Returns every group's predicted class of every pair; -1 for a group that diverged."""
    outputs = trained.outputs["all"][:, 0]
    diverged = ~np.isfinite(outputs).all(axis=(1, 2))
    return np.where(diverged[:, None], -1, outputs.argmax(axis=-1)).astype(np.int8)


def chosen_settings(results: Mapping[AttentionSetting, SettingResult]) -> list[AttentionSetting]:
    """Returns, for each outer fold, the setting with the highest inner accuracy; the first one among equals."""
    settings = list(results)
    accuracy = np.stack([results[setting].inner_accuracy for setting in settings])
    return [settings[index] for index in accuracy.argmax(axis=0)]


def out_of_fold(
    results: Mapping[AttentionSetting, SettingResult],
    chosen: Sequence[AttentionSetting],
    fold: Int[np.ndarray, " pairs"],
) -> Int8[np.ndarray, "seeds pairs"]:
    """Returns predictions in which each outer fold comes from the setting chosen for that fold.

    Args:
        results: The results of all settings.
        chosen: The setting of each outer fold.
        fold: int [N]; the outer fold of each pair.
    """
    predicted = np.empty_like(results[chosen[0]].predicted)
    for number, setting in enumerate(chosen):
        predicted[:, fold == number] = results[setting].predicted[:, fold == number]
    return predicted
