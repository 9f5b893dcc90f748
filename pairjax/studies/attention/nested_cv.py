"""Nested cross-validation of a grid of models on cached tokens: what is chosen, and how well it then does elsewhere.

For each outer fold, a setting of the grid (model, rate) is judged by inner folds of the other rows alone, and its score
is that of models trained on all of those other rows and read on the outer fold. A model trained without the folds o and
i serves twice: it is judged on i for the outer fold o, and on o for the outer fold i; so K folds need K (K - 1) / 2
inner fits. All fits of a model, and their rates, are groups of one population.
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

from pairjax.base.config import CombineConfig, Feature, HeadConfig, InteractConfig, ModelConfig, OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.types import DropoutRates, Hypers
from pairjax.population.engine import MemberProgram, Trained, make_hypers, train_population
from pairjax.population.members import make_runs
from pairjax.population.tokens import TokenTask, parameter_count, step_flops, token_program
from pairjax.storage.arrays import cached_arrays

FORMAT = 1
FEATURES: tuple[Feature, ...] = ("u", "v", "u-v", "u*v")
TOKEN_KINDS = ("self", "joint", "cross")
POOLED_KINDS = ("none", "sized", "vectors", "gate")


@dataclass(frozen=True)
class AttentionSetting:
    """A model of the grid; all read the combination [u; v; u - v; u * v] of mean-pooled vectors.

    Attributes:
        kind: `none`: a linear head; `sized`: a hidden layer, so wide that there are as many parameters as in token
            attention of `layers` layers; `self`, `joint`, `cross`: attention over tokens before pooling; `vectors`:
            attention over the four parts; `gate`: elementwise weights. All but `sized` have a linear head.
        layers: Of attention; 0 where there is none.
        heads: Likewise.
    """

    kind: str
    layers: int = 0
    heads: int = 0

    @property
    def name(self) -> str:
        """As in tables: cross 2x4."""
        if self.kind == "sized":
            return f"sized as {self.layers}"
        return f"{self.kind} {self.layers}x{self.heads}" if self.layers else self.kind


@dataclass(frozen=True)
class NestedDesign:
    """How each setting is run; the same for all of a table.

    Attributes:
        folds: Outer folds K; each inner choice is a cross-validation over the K - 1 others.
        seeds: Whose scores on outer folds count.
        inner_seeds: Seeds that choose; none of `seeds`.
        token_rates: Learning rates tried for attention over tokens.
        pooled_rates: Those of models of pooled vectors, which cost little.
        decay: Weight decay.
        dropout: Of attention layers and the head, in all settings.
        steps: Updates of a run.
        batch_size: Pairs a step.
        at_once: Groups of a chunk; products of tokens fill a core with one.
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
            raise UserError("too few folds for a choice and a score", got=self.folds, expected="at least 3")

    def rates(self, setting: AttentionSetting) -> tuple[float, ...]:
        return self.token_rates if setting.kind in TOKEN_KINDS else self.pooled_rates


@dataclass(frozen=True)
class SettingResult:
    """What a setting gives.

    Attributes:
        inner: float64 [folds, rates], accuracy on the inner folds of each outer one; -inf where a run diverged.
        rates: float64 [folds], the rate chosen for each outer fold.
        predicted: int8 [seeds, N], each pair's class by models that trained without its fold; -1 where one diverged.
        parameters: That train.
        notes: Members that diverged.
        read: Whether it was run before.
    """

    inner: Float64[np.ndarray, "folds rates"]
    rates: Float64[np.ndarray, " folds"]
    predicted: Int8[np.ndarray, "seeds pairs"]
    parameters: int
    notes: tuple[str, ...]
    read: bool = False

    @property
    def judged(self) -> Float64[np.ndarray, " folds"]:
        """Inner accuracy at the chosen rate."""
        return self.inner.max(axis=1)


def setting_model(setting: AttentionSetting, source: TokenTask) -> ModelConfig:
    """The configuration of a setting, for the width of a task's tokens."""
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
        raise ValueError(f"no setting of the kind {setting.kind}")
    return ModelConfig(kind="bi", interact=interact, combine=combine, head=HeadConfig(hidden=hidden))


def sized_width(layers: int, source: TokenTask) -> int:
    """Of the hidden layer whose head has about as many parameters as token attention with a linear head."""
    spec, outputs = source.heads.spec, source.heads.task.outputs
    width, inner, inputs = spec.hidden_size, spec.intermediate_size, len(FEATURES) * spec.hidden_size
    layer = 4 * (width**2 + width) + 2 * width * inner + inner + width + 4 * width
    return max(1, round((layers * layer + inputs * outputs) / (inputs + 1 + outputs)))


def setting_flops(source: TokenTask, setting: AttentionSetting, design: NestedDesign) -> float:
    """Products of all updates of a setting (`step_flops`); evaluation, less than a tenth of it, is not counted."""
    inner = math.comb(design.folds, 2) * len(design.inner_seeds) * len(design.rates(setting))
    runs = inner + design.folds * len(design.seeds)
    update = step_flops(source, setting_model(setting, source), batch_size=design.batch_size)
    return sum(update.values()) * design.steps * runs


def run_setting(
    source: TokenTask, fold: Int[np.ndarray, " pairs"], setting: AttentionSetting, design: NestedDesign, *, folder: Path
) -> SettingResult:
    """Run a setting, or read it where it was run before.

    Args:
        source: The task; its split `train` is all there is.
        fold: Of each pair.
        setting: The model.
        design: Folds, seeds, rates, steps.
        folder: Of finished settings, by identity.
    """
    parts: list[Any] = [FORMAT, source.key, asdict(setting), asdict(design)]
    described = json.dumps(parts, sort_keys=True).encode() + fold.astype(np.int64).tobytes()
    identity = hashlib.sha256(described).hexdigest()
    found, read = cached_arrays(folder, identity, lambda: _run(source, fold, setting, design))
    notes = tuple(str(note) for note in found["notes"])
    return SettingResult(found["inner"], found["rates"], found["predicted"], int(found["parameters"]), notes, read=read)


def _run(source: TokenTask, fold: np.ndarray, setting: AttentionSetting, design: NestedDesign) -> dict[str, np.ndarray]:
    program = token_program(
        source, setting_model(setting, source), optim=OptimConfig(), steps=design.steps, dropout=design.dropout > 0
    )
    inner, inner_notes = _inner(source, fold, program, design, rates=design.rates(setting))
    rates = np.asarray(design.rates(setting))[inner.argmax(axis=1)]
    pairs = [(out, seed) for out in range(design.folds) for seed in design.seeds]
    found = _train(
        source,
        program,
        design,
        subsets=[np.flatnonzero(fold != out) for out, _ in pairs],
        seeds=[seed for _, seed in pairs],
        rates=[float(rates[out]) for out, _ in pairs],
    )
    classes = _classes(found)
    predicted = np.full((len(design.seeds), len(fold)), -1, np.int8)
    for row, (out, seed) in enumerate(pairs):
        inside = fold == out
        predicted[design.seeds.index(seed), inside] = classes[row, inside]
    return {
        "inner": inner,
        "rates": rates,
        "predicted": predicted,
        "parameters": np.asarray(parameter_count(program)),
        "notes": np.asarray([*inner_notes, *found.notes()], dtype=np.str_),
    }


def _inner(
    source: TokenTask, fold: np.ndarray, program: MemberProgram, design: NestedDesign, *, rates: Sequence[float]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Accuracy on inner folds, mean over them and over the choosing seeds, [folds, rates]."""
    left_out = list(itertools.combinations(range(design.folds), 2))
    runs = list(itertools.product(left_out, design.inner_seeds, range(len(rates))))
    found = _train(
        source,
        program,
        design,
        subsets=[np.flatnonzero(~np.isin(fold, out)) for out, _, _ in runs],
        seeds=[seed for _, seed, _ in runs],
        rates=[rates[place] for _, _, place in runs],
    )
    right = _classes(found) == source.heads.label("train")
    total = np.zeros((design.folds, len(rates)))
    for row, (out, _, place) in enumerate(runs):
        for outer, inner in (out, out[::-1]):
            lost = found.diverged[row, 0] >= 0
            total[outer, place] += -np.inf if lost else right[row, fold == inner].mean()
    return total / ((design.folds - 1) * len(design.inner_seeds)), found.notes()


def _train(
    source: TokenTask,
    program: MemberProgram,
    design: NestedDesign,
    *,
    subsets: Sequence[np.ndarray],
    seeds: Sequence[int],
    rates: Sequence[float],
) -> Trained:
    """A group for each subset of rows, with its own seed and rate."""
    base = Hypers(0.0, design.decay, 0.0, DropoutRates(0.0, 0.0, design.dropout, design.dropout))
    hypers = jax.tree.map(lambda leaf: leaf[:, None], make_hypers(base, learning_rate=rates))
    runs = make_runs(subsets, seeds=seeds, hypers=hypers, batch_size=design.batch_size, steps=design.steps)
    return train_population(program, runs, evaluate={"all": source.heads.rows["train"]}, at_once=design.at_once)


def _classes(found: Trained) -> Int8[np.ndarray, "groups pairs"]:
    """Predicted class of every row by every group, -1 for one that diverged."""
    outputs = found.outputs["all"][:, 0]
    lost = ~np.isfinite(outputs).all(axis=(1, 2))
    return np.where(lost[:, None], -1, outputs.argmax(axis=-1)).astype(np.int8)


def choose(results: Mapping[AttentionSetting, SettingResult]) -> list[AttentionSetting]:
    """The setting that the inner folds of each outer fold prefer; the first of equals."""
    settings = list(results)
    judged = np.stack([results[setting].judged for setting in settings])
    return [settings[index] for index in judged.argmax(axis=0)]


def out_of_fold(
    results: Mapping[AttentionSetting, SettingResult],
    chosen: Sequence[AttentionSetting],
    fold: Int[np.ndarray, " pairs"],
) -> Int8[np.ndarray, "seeds pairs"]:
    """Predictions where each outer fold is read by the setting chosen for it."""
    predicted = np.empty_like(results[chosen[0]].predicted)
    for number, setting in enumerate(chosen):
        predicted[:, fold == number] = results[setting].predicted[:, fold == number]
    return predicted
