"""How large a transfer experiment is: which runs it asks for, what they cost, and what a budget holds."""

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
"""How encoders are pretrained where the budget is small, and where it is large: the same in all experiments, which so
share them."""


class Arm(NamedTuple):
    """Where an encoder comes from, and its pooler."""

    origin: Origin
    pooler: Pooler

    @property
    def name(self) -> str:
        """As in tables."""
        names = {"start": "start", "none": "MLM", "nsp": "MLM + NSP", "sop": "MLM + SOP"}
        return f"{names[self.origin]}, pooler {'kept' if self.pooler == 'keep' else 'fresh'}"


MLM = Arm("none", "fresh")
"""The reference. Masked tokens alone do not train a pooler, so that to keep it would be to keep a random one."""
NSP, NSP_FRESH = Arm("nsp", "keep"), Arm("nsp", "fresh")
SOP, SOP_FRESH = Arm("sop", "keep"), Arm("sop", "fresh")
START = Arm("start", "fresh")
"""The floor: not pretrained further."""


class Work(NamedTuple):
    """The runs of all seeds of one arm on one task."""

    task: str
    arm: Arm
    variant: Variant = CLEAN


@dataclass(frozen=True)
class TransferDesign:
    """How large the experiment is.

    Attributes:
        pretrain: Of the encoders.
        tune: Of the runs on pairs.
        tasks: By the names of their sets.
        arms: Run on clean data of every task.
        rows: Training pairs of a run.
        dev: Most pairs of dev.
        test: Most pairs of test.
        varied: Tasks whose training data are also made worse, for the reference and NSP with its pooler.
        noises: Shares of wrong labels there.
        skews: Ways to draw rows that do not represent the task.
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
        """The ways in which training data are made worse."""
        return [*(Variant(noise=noise) for noise in self.noises), *(Variant(skew=skew) for skew in self.skews)]

    def work(self) -> list[Work]:
        """Every run, seeds aside."""
        clean = [Work(task, arm) for task in self.tasks for arm in self.arms]
        worse = [Work(task, arm, v) for task in self.varied for v in self.variants() for arm in (MLM, NSP)]
        return clean + worse

    def origins(self) -> list[Origin]:
        """The objectives that encoders are pretrained with."""
        return sorted({arm.origin for arm in self.arms} - {"start"})

    def sizes(self) -> dict[str, str]:
        """What a budget may cut, in the order in which it is told."""
        made, tune = self.pretrain, self.tune
        return {
            "layers": f"{made.layers}",
            "pretraining steps": f"{made.steps}",
            "training rows": f"{self.rows}",
            "fine-tuning steps": f"{tune.steps}",
            "test pairs": f"{self.test}",
            "tasks": ", ".join(self.tasks),
            "tasks with worse data": ", ".join(self.varied),
            "label noise": ", ".join(f"{noise:.0%}" for noise in self.noises),
            "skewed by": ", ".join(self.skews),
            "arms": "; ".join(arm.name for arm in self.arms),
        }


class Cost(NamedTuple):
    """Seconds on two idle cores, embeddings frozen: a part that hangs on no layer, and one of each layer (width 384).

    Attributes:
        fixed: Of a unit.
        layer: Of a unit and a layer.
    """

    fixed: float
    layer: float

    def __call__(self, layers: int) -> float:
        return self.fixed + self.layer * layers


PRETRAIN = Cost(0.06e-3, 0.045e-3)
"""A row slot, in training."""
TUNE = Cost(0.5e-3, 1.7e-3)
"""A pair, in training."""
SCORE = Cost(0.2e-3, 0.8e-3)
"""A pair, in evaluation."""
STARTING, COMPILING = 10.0, 10.0
"""Seconds of a pretraining besides its steps, and of a task besides its runs."""


def minutes_of(design: TransferDesign, *, seeds: int) -> float:
    """What a design takes from nothing on two idle cores, about."""
    wanted, made, tune = design.work(), design.pretrain, design.tune
    runs = len(design.origins()) * seeds
    slots = made.batch_size * made.length * (made.adapt_steps + made.steps * runs)
    seconds = slots * PRETRAIN(made.layers) + STARTING * (1 + runs)
    scored = design.dev * math.ceil(tune.steps / tune.eval_every) + design.test
    each = tune.steps * tune.batch_size * TUNE(made.layers) + scored * SCORE(made.layers)
    seconds += each * len(wanted) * seeds + COMPILING * len({one.task for one in wanted})
    return seconds / 60.0


@dataclass(frozen=True)
class Choice:
    """What a budget holds.

    Attributes:
        design: The largest that fits, else the smallest.
        seeds: As asked for, or fewer where not even the smallest design fits.
        notes: What was cut, a line each.
    """

    design: TransferDesign
    seeds: int
    notes: tuple[str, ...]


def choose_design(levels: Sequence[TransferDesign], *, seeds: int, minutes: float) -> Choice:
    """Model, rows and tasks are cut to fit, in the order of the levels; seeds last.

    It follows from the arguments alone, so that the same command finds what it did before.

    Args:
        levels: From the largest.
        seeds: Runs of each arm.
        minutes: The budget.
    """
    costs = [minutes_of(level, seeds=seeds) for level in levels]
    place = next((index for index, cost in enumerate(costs) if cost <= minutes), len(levels) - 1)
    design, kept = levels[place], seeds
    while kept > FEWEST_SEEDS and minutes_of(design, seeds=kept) > minutes:
        kept -= 1
    cost = minutes_of(design, seeds=kept)
    notes = [f"design {place + 1} of {len(levels)}, {kept} seeds, about {cost:.0f} minutes on two idle cores"]
    before, after = levels[0].sizes(), design.sizes()
    cut = [f"{name}: {before[name]} to {after[name] or 'none'}" for name in before if before[name] != after[name]]
    if cut:
        last = "seeds not cut" if kept == seeds else f"and, last, seeds from {seeds} to {kept}"
        notes.append(f"cut for {minutes:g} minutes (full: {costs[0]:.0f}): {'; '.join(cut)}; {last}")
    if cost > minutes:
        notes.append(f"the smallest design is larger than a budget of {minutes:g} minutes; the same command goes on")
    return Choice(design, kept, tuple(notes))


def quick(design: TransferDesign) -> TransferDesign:
    """A smoke run's: the same arms and kinds of data, as small as they can be."""
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
