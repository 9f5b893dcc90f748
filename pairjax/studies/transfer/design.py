"""The size of a transfer experiment: its runs, their cost, and the largest design that fits a budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pairjax.studies.transfer.encoders import Origin, PretrainDesign
from pairjax.studies.transfer.targets import CLEAN, Skew, Variant
from pairjax.studies.transfer.tuner import Pooler, TuneConfig

FEWEST_SEEDS = 2
THREE = PretrainDesign(layers=3, steps=340)
SIX = PretrainDesign(layers=6, steps=600, learning_rate=2e-4, head_multiplier=5.0)
"""The pretraining for a small budget and for a large one. All experiments use these two, so they share encoders."""


class Arm(NamedTuple):
    """An encoder's origin, and whether its pooler is kept.

    Attributes:
        origin: The start, or the pretraining objective besides masked tokens.
        pooler: Whether fine-tuning keeps the encoder's pooler or draws a fresh one.
    """

    origin: Origin
    pooler: Pooler

    @property
    def name(self) -> str:
        """The arm as tables name it."""
        names = {"start": "start", "none": "MLM", "nsp": "MLM + NSP", "sop": "MLM + SOP"}
        return f"{names[self.origin]}, pooler {'kept' if self.pooler == 'keep' else 'fresh'}"


MLM = Arm("none", "fresh")
"""The reference. Masked tokens alone do not train a pooler, so a kept pooler would be random."""
NSP, NSP_FRESH = Arm("nsp", "keep"), Arm("nsp", "fresh")
SOP, SOP_FRESH = Arm("sop", "keep"), Arm("sop", "fresh")
START = Arm("start", "fresh")
"""The lower bound: an encoder without further pretraining."""


class Condition(NamedTuple):
    """A task, an arm and a kind of training data; each condition has one run per seed."""

    task: str
    arm: Arm
    variant: Variant = CLEAN


@dataclass(frozen=True)
class TransferDesign:
    """How large the experiment is.

    Attributes:
        pretrain: The pretraining of the encoders.
        tune: The fine-tuning on pairs.
        tasks: The names of the tasks' data sets.
        arms: The arms, which run on clean data of every task.
        rows: Number of training pairs of a run.
        dev: Most pairs of dev.
        test: Most pairs of test.
        varied: Tasks with additional runs on worse training data, for the reference and NSP with its pooler.
        noises: Fractions of wrong labels in these runs.
        skews: Skews of the training pairs in these runs.
    """

    pretrain: PretrainDesign = field(default_factory=PretrainDesign)
    tune: TuneConfig = field(default_factory=TuneConfig)
    tasks: tuple[str, ...] = ("coherence", "sick", "mrpc", "assin2")
    arms: tuple[Arm, ...] = (MLM, NSP, NSP_FRESH, SOP, SOP_FRESH)
    rows: int = 800
    dev: int = 250
    test: int = 2000
    varied: tuple[str, ...] = ()
    noises: tuple[float, ...] = ()
    skews: tuple[Skew, ...] = ()

    def variants(self) -> list[Variant]:
        """Returns the kinds of worse training data."""
        return [*(Variant(noise=noise) for noise in self.noises), *(Variant(skew=skew) for skew in self.skews)]

    def conditions(self) -> list[Condition]:
        """Returns all conditions."""
        clean = [Condition(task, arm) for task in self.tasks for arm in self.arms]
        worse = [Condition(task, arm, v) for task in self.varied for v in self.variants() for arm in (MLM, NSP)]
        return clean + worse

    def origins(self) -> list[Origin]:
        """Returns the origins that need a pretraining of their own."""
        return sorted({arm.origin for arm in self.arms} - {"start"})

    def sizes(self) -> dict[str, str]:
        """Returns by name what a budget may cut, in the order of the notes."""
        pretrain, tune = self.pretrain, self.tune
        return {
            "layers": f"{pretrain.layers}",
            "pretraining steps": f"{pretrain.steps}",
            "training rows": f"{self.rows}",
            "fine-tuning steps": f"{tune.steps}",
            "test pairs": f"{self.test}",
            "tasks": ", ".join(self.tasks),
            "tasks with worse data": ", ".join(self.varied),
            "label noise": ", ".join(f"{noise:.0%}" for noise in self.noises),
            "skewed by": ", ".join(self.skews),
            "arms": "; ".join(arm.name for arm in self.arms),
        }


class TimeModel(NamedTuple):
    """Seconds per unit on two idle cores, for width 384 and frozen embeddings.

    Attributes:
        fixed: Seconds of a unit that do not depend on the number of layers.
        layer: Seconds of a unit per layer.
    """

    fixed: float
    layer: float

    def __call__(self, layers: int) -> float:
        """Returns the seconds of a unit."""
        return self.fixed + self.layer * layers


PRETRAIN = TimeModel(0.06e-3, 0.045e-3)
"""A token slot in pretraining."""
TUNE = TimeModel(0.5e-3, 1.7e-3)
"""A pair in fine-tuning."""
SCORE = TimeModel(0.2e-3, 0.8e-3)
"""A pair in evaluation."""
STARTING, COMPILING = 10.0, 10.0
"""Seconds that a pretraining takes in addition to its steps, and a task in addition to its runs."""


def minutes_of(design: TransferDesign, *, seeds: int) -> float:
    """Returns the approximate minutes of a design from scratch on two idle cores."""
    conditions, pretrain, tune = design.conditions(), design.pretrain, design.tune
    runs = len(design.origins()) * seeds
    slots = pretrain.batch_size * pretrain.length * (pretrain.adapt_steps + pretrain.steps * runs)
    seconds = slots * PRETRAIN(pretrain.layers) + STARTING * (1 + runs)
    scored = design.dev * math.ceil(tune.steps / tune.eval_every) + design.test
    run = tune.steps * tune.batch_size * TUNE(pretrain.layers) + scored * SCORE(pretrain.layers)
    seconds += run * len(conditions) * seeds + COMPILING * len({condition.task for condition in conditions})
    return seconds / 60.0


@dataclass(frozen=True)
class Choice:
    """The design for a budget.

    Attributes:
        design: The largest design that fits, or the smallest if none fits.
        seeds: The requested number of seeds, or fewer if not even the smallest design fits.
        notes: What was cut, one line each.
    """

    design: TransferDesign
    seeds: int
    notes: tuple[str, ...]


def choose_design(levels: Sequence[TransferDesign], *, seeds: int, minutes: float) -> Choice:
    """Chooses the largest design that fits a budget. Seeds are cut last.

    The choice depends only on the arguments, so the same command finds its earlier results.

    Args:
        levels: The designs, largest first.
        seeds: Runs of each condition.
        minutes: The budget.
    """
    costs = [minutes_of(level, seeds=seeds) for level in levels]
    level = next((index for index, cost in enumerate(costs) if cost <= minutes), len(levels) - 1)
    design, fitting = levels[level], seeds
    while fitting > FEWEST_SEEDS and minutes_of(design, seeds=fitting) > minutes:
        fitting -= 1
    cost = minutes_of(design, seeds=fitting)
    notes = [f"design {level + 1} of {len(levels)}, {fitting} seeds, about {cost:.0f} minutes on two idle cores"]
    before, after = levels[0].sizes(), design.sizes()
    cut = [f"{name}: {before[name]} to {after[name] or 'none'}" for name in before if before[name] != after[name]]
    if cut:
        last = "seeds not cut" if fitting == seeds else f"and, last, seeds from {seeds} to {fitting}"
        notes.append(f"cut for {minutes:g} minutes (full: {costs[0]:.0f}): {'; '.join(cut)}; {last}")
    if cost > minutes:
        notes.append(
            f"even the smallest design needs more than {minutes:g} minutes; run the same command again to continue"
        )
    return Choice(design, fitting, tuple(notes))


def smoke_design(design: TransferDesign) -> TransferDesign:
    """Returns the design of a smoke run: the same arms and kinds of data, as small as possible."""
    tasks = tuple(task for task in design.tasks if task in ("coherence", "sick", "stsb"))
    return TransferDesign(
        pretrain=PretrainDesign(layers=1, adapt_steps=4, steps=4, batch_size=4, length=32, examples=20),
        tune=TuneConfig(steps=6, batch_size=4, eval_every=3, max_length=48),
        tasks=tasks,
        arms=design.arms,
        rows=16,
        dev=20,
        test=20,
        varied=tasks[:1] if design.varied else (),
        noises=design.noises[-1:],
        skews=design.skews,
    )
