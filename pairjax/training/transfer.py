"""What pretraining brings to pairs: encoders pretrained alike but for the objective, fine-tuned alike, compared.

A board holds finished runs: task x arm x variant x seed. An arm is where the encoder comes from and whether its pooler
is kept. Run s of every arm has the same seed, training rows and order, so that differences are paired. Each
pretraining is a folder of its own and each fine-tuning a file, by a hash of all that decides it: what was done is
read, and a run that was stopped goes on.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np

from pairjax.base.metrics import Statistic, mean, spearman
from pairjax.base.stats import Sampled, two_way_bootstrap
from pairjax.training.claims import ClaimRun, data_folder
from pairjax.training.population import load_chunk, save_chunk
from pairjax.training.transfer_encoders import Encoders, Origin, PretrainDesign, Texts, write_stories
from pairjax.training.transfer_tasks import CLEAN, Target, Variant, load_target
from pairjax.training.tuning import Pooler, TuneConfig, Tuned, Tuner

FORMAT = 1
RESAMPLES = 2000
LAST = 3
"""Scores at the end of a curve whose mean is the score reached on dev."""


class Arm(NamedTuple):
    """Where an encoder comes from, and its pooler."""

    origin: Origin
    pooler: Pooler

    @property
    def name(self) -> str:
        """As in tables."""
        names = {"start": "not pretrained further", "none": "MLM", "nsp": "MLM + NSP", "sop": "MLM + SOP"}
        return f"{names[self.origin]}, pooler {'kept' if self.pooler == 'keep' else 'fresh'}"


MLM = Arm("none", "fresh")
"""The reference. Masked tokens alone do not train a pooler, so that keeping it would be keeping a random one."""
NSP, NSP_FRESH = Arm("nsp", "keep"), Arm("nsp", "fresh")
SOP, SOP_FRESH = Arm("sop", "keep"), Arm("sop", "fresh")
START = Arm("start", "fresh")
"""The floor."""


class Work(NamedTuple):
    """Runs of all seeds."""

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
        rows: Training pairs of a run.
        dev: Most pairs of dev.
        test: Most pairs of test.
    """

    pretrain: PretrainDesign = field(default_factory=PretrainDesign)
    tune: TuneConfig = field(default_factory=TuneConfig)
    tasks: tuple[str, ...] = ("sick", "mrpc", "assin2", "coherence")
    rows: int = 800
    dev: int = 250
    test: int = 1000


class Speed(NamedTuple):
    """Of an encoder of so many layers (MiniLM's width) on two idle cores, embeddings frozen.

    Attributes:
        pretrain: Row slots a second, in training.
        tune: Pairs a second, in training.
        score: Pairs a second, in evaluation.
    """

    pretrain: float
    tune: float
    score: float


SPEEDS: Mapping[int, Speed] = {2: Speed(5000, 300, 1000), 3: Speed(4000, 220, 750), 6: Speed(2500, 120, 400)}
STARTING, COMPILING = 15.0, 20.0
"""Seconds of a pretraining besides its steps, and of a task besides its runs."""


def minutes_of(design: TransferDesign, work: Callable[[TransferDesign], Sequence[Work]], *, seeds: int) -> float:
    """What a design takes from nothing on two idle cores, about."""
    wanted, speed, made = work(design), SPEEDS[design.pretrain.layers], design.pretrain
    origins = {one.arm.origin for one in wanted} - {"start"}
    runs = len(origins) * seeds
    slots = made.batch_size * made.length * (made.adapt_steps + made.steps * runs)
    seconds = slots / speed.pretrain + STARTING * (1 + runs)
    tune = design.tune
    scored = design.dev * math.ceil(tune.steps / tune.eval_every) + design.test
    each = tune.steps * tune.batch_size / speed.tune + scored / speed.score
    seconds += each * len(wanted) * seeds + COMPILING * len({one.task for one in wanted})
    return seconds / 60.0


def choose_design(
    levels: Sequence[TransferDesign],
    work: Callable[[TransferDesign], Sequence[Work]],
    *,
    seeds: int,
    minutes: float,
) -> tuple[TransferDesign, list[str]]:
    """The largest design that the budget holds, else the smallest; and what was cut, a line each.

    It follows from the arguments alone, so that the same command finds what it did before.

    Args:
        levels: From the largest; model, rows and tasks fall, seeds never.
        work: The runs that a design asks for.
        seeds: Runs of each.
        minutes: The budget.
    """
    costs = [minutes_of(level, work, seeds=seeds) for level in levels]
    place = next((index for index, cost in enumerate(costs) if cost <= minutes), len(levels) - 1)
    chosen, cost, full = levels[place], costs[place], levels[0]
    notes = [f"design {place + 1} of {len(levels)}, about {cost:.0f} minutes on two idle cores"]
    if cost > minutes:
        notes.append(f"the smallest design is larger than a budget of {minutes:g} minutes; the same command goes on")
    before, after = _sizes(full), _sizes(chosen)
    cut = [f"{name} {before[name]} to {after[name]}" for name in before if before[name] != after[name]]
    if cut:
        notes.append(f"cut for {minutes:g} minutes (full: {costs[0]:.0f}): {'; '.join(cut)}; seeds not cut")
    return chosen, notes


def _sizes(design: TransferDesign) -> dict[str, str]:
    made, tune = design.pretrain, design.tune
    return {
        "layers": f"{made.layers}",
        "pretraining steps": f"{made.steps}",
        "training rows": f"{design.rows}",
        "fine-tuning steps": f"{tune.steps}",
        "test pairs": f"{design.test}",
        "tasks": ", ".join(design.tasks),
    }


QUICK = TransferDesign(
    PretrainDesign(layers=1, adapt_steps=4, steps=4, batch_size=4, length=32, examples=20),
    TuneConfig(steps=6, batch_size=4, eval_every=3, max_length=48),
    tasks=("sick", "coherence"),
    rows=16,
    dev=20,
    test=20,
)


@dataclass(frozen=True)
class Board:
    """Finished runs.

    Attributes:
        targets: By task.
        runs: One a seed.
        steps: Of a curve's entries.
        order_accuracy: By objective and seed, held-out accuracy on segments with its interval over documents.
        notes: What was cut or left out.
    """

    targets: Mapping[str, Target]
    runs: Mapping[Work, Sequence[Tuned]]
    steps: np.ndarray
    order_accuracy: Mapping[Origin, Sequence[Mapping[str, float]]]
    notes: Sequence[str] = ()

    def statistics(self, work: Work) -> list[Statistic]:
        """Accuracy or Spearman's correlation on test, in points, one a seed."""
        target = self.targets[work.task]
        label = target.data.splits["test"].label
        assert label is not None
        return [_statistic(target, label, run.outputs) for run in self.runs[work]]

    def difference(self, one: Work, other: Work, *, seed: int = 0) -> Sampled:
        """One's score on test less another's of the same task: over pairs (or documents) and seeds, both paired."""
        pairs = zip(self.statistics(one), self.statistics(other), strict=True)
        target = self.targets[one.task]
        return two_way_bootstrap(
            [_less(a, b) for a, b in pairs],
            len(target.data.splits["test"]),
            resamples=RESAMPLES,
            seed=seed,
            group=target.group,
        )["value"]

    def goal(self, task: str) -> float:
        """The dev score to reach: half-way from answering without reading to what the reference ends at."""
        base, ends = self._base(task), [run.curve[-LAST:].mean() for run in self.runs[Work(task, MLM)]]
        return base + 0.5 * max(0.0, float(np.nanmean(ends)) - base)

    def steps_to_goal(self, work: Work) -> list[int]:
        """By seed, updates until dev reaches the goal; all of them where it never does."""
        goal = self.goal(work.task)
        return [
            int(self.steps[np.argmax(run.curve >= goal)]) if (run.curve >= goal).any() else int(self.steps[-1])
            for run in self.runs[work]
        ]

    def steps_saved(self, one: Work, other: Work, *, seed: int = 0) -> Sampled:
        """Updates that the first needs fewer, in percent of a run; over seeds, paired."""
        pairs = zip(self.steps_to_goal(one), self.steps_to_goal(other), strict=True)
        saved = [100.0 * (theirs - ours) / int(self.steps[-1]) for ours, theirs in pairs]
        return two_way_bootstrap(
            [_constant(value) for value in saved], 1, resamples=RESAMPLES, seed=seed, over_examples=False
        )["value"]

    def unlearnt(self) -> list[str]:
        """A line for each task on which the reference ends no better than an answer without reading."""
        return [
            f"{task}: {MLM.name} ends at {ends:.1f} on dev, and answering without reading at {base:.1f}"
            for task in self.targets
            if Work(task, MLM) in self.runs
            for base in [self._base(task)]
            for ends in [float(np.nanmean([run.curve[-LAST:].mean() for run in self.runs[Work(task, MLM)]]))]
            if ends < base + 1.0
        ]

    def untaken(self, origin: Origin) -> str | None:
        """Why the objective cannot have taught anything, if so: its encoders do not tell held-out segments."""
        lows = [found["low"] for found in self.order_accuracy[origin]]
        if float(np.mean(lows)) > 0.5:
            return None
        values = ", ".join(f"{found['value']:.3f}" for found in self.order_accuracy[origin])
        return (
            f"the treatment did not take: held-out accuracy of {origin.upper()} by seed {values}, the mean lower bound "
            f"of its intervals {float(np.mean(lows)):.3f} is not above 0.5"
        )

    def table(self, variant: Variant = CLEAN) -> list[list[str]]:
        """Test score and updates to the goal, mean over seeds and deviation, one row an arm."""
        tasks = [task for task in self.targets if any(one.task == task for one in self.runs)]
        arms = list(dict.fromkeys(one.arm for one in self.runs if one.variant == variant))
        lines = [["arm", *(f"{task}: score" for task in tasks), *(f"{task}: steps" for task in tasks)]]
        for arm in arms:
            works = [Work(task, arm, variant) for task in tasks]
            scores = [[run.score for run in self.runs.get(one, ())] for one in works]
            steps = [self.steps_to_goal(one) if one in self.runs else [] for one in works]
            lines.append([arm.name, *(_spread(found, 2) for found in scores), *(_spread(found, 0) for found in steps)])
        goals = [f"dev {self.goal(task):.1f}" for task in tasks]
        return [*lines, ["goal", *("" for _ in tasks), *goals]]

    def order_table(self) -> list[list[str]]:
        """Held-out accuracy on segments by objective and seed."""
        lines = [["objective", "accuracy by seed (95 % interval over documents)"]]
        for origin, found in self.order_accuracy.items():
            shown = ", ".join(f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})" for one in found)
            lines.append([origin.upper(), shown])
        return lines

    def _base(self, task: str) -> float:
        data = self.targets[task].data
        if data.task.kind == "regression":
            return 0.0
        label = data.splits["dev"].label
        assert label is not None
        return 100.0 * float(np.bincount(label).max() / len(label))


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    deviation = float(np.nanstd(values, ddof=1)) if len(values) > 1 else math.nan
    return f"{np.nanmean(values):.{digits}f} ± {deviation:.{digits}f}"


def _statistic(target: Target, label: np.ndarray, outputs: np.ndarray) -> Statistic:
    if target.data.task.kind == "classification":
        # A run that diverged is right nowhere.
        right = np.isfinite(outputs).all(axis=1) & (outputs.argmax(axis=1) == label)
        return lambda counts: {"value": 100.0 * mean(right, counts)}
    score = np.nan_to_num(outputs[:, 0].astype(np.float64))
    return lambda counts: {"value": 100.0 * np.nan_to_num(spearman(score, label, counts))}


def _less(one: Statistic, other: Statistic) -> Statistic:
    return lambda counts: {"value": one(counts)["value"] - other(counts)["value"]}


def _constant(value: float) -> Statistic:
    return lambda counts: {"value": np.full(len(counts), value)}


def corpus_of(run: ClaimRun) -> Texts:
    """The English corpus of PAIRJAX_DATA; of a quick run, stories made by rules."""
    if run.quick:
        return write_stories(run.root / "transfer" / "stories", documents=60)
    folder = data_folder() / "corpus-en"
    return Texts(str(folder / "*.train.txt"), str(folder / "*.heldout.txt"))


def run_transfer(
    run: ClaimRun,
    levels: Sequence[TransferDesign],
    work: Callable[[TransferDesign], Sequence[Work]],
    *,
    lean: bool = False,
) -> Board:
    """Make what is missing, and read the rest.

    Args:
        run: Its budget chooses the design; its seeds are the runs of each arm.
        levels: Designs, from the largest.
        work: The runs that a design asks for.
        lean: Whether some are skewed.

    Raises:
        BudgetSpentError: The time is up; what is done is kept.
        UserError: There is no data.
    """
    chosen, notes = choose_design(levels, work, seeds=run.seeds, minutes=run.budget)
    design = QUICK if run.quick else chosen
    for note in notes if not run.quick else ():
        run.say(note)
    root = run.root / "transfer"
    encoders = Encoders(design.pretrain, corpus_of(run), source=run.claim.encoder, folder=root / "encoders")
    wanted, seeds = list(work(design)), range(run.seeds)
    origins: list[Origin] = sorted({one.arm.origin for one in wanted} - {"start"})
    for seed, origin in [(0, "start"), *((seed, origin) for seed in seeds for origin in origins)]:
        if not encoders.made(origin, seed):
            run.check_time()
            run.say(f"pretraining {origin}, seed {seed}: {encoders.path(origin, seed)}")
        encoders.make(origin, seed)
    like = encoders.path("start", 0) / "model" / "encoder"
    targets, runs = {}, {}
    for name in dict.fromkeys(one.task for one in wanted):
        targets[name] = load_target(
            name,
            held_out=encoders.held_out,
            like=like,
            cache=root / "encoders" / "indexes",
            sizes=(design.dev, design.test),
            rules=run.quick,
            lean=lean,
        )
        tuner = Tuner(targets[name].data, like, design.tune)
        todo = [one for one in wanted if one.task == name]
        runs |= _tune_all(run, design, encoders, tuner, targets[name], todo)
    facts = {
        origin: [encoders.result(origin, seed)["metrics"]["dev"]["order_accuracy"] for seed in seeds]
        for origin in origins
        if origin != "none"
    }
    more = [note for target in targets.values() for note in target.data.notes if note.startswith("coherence")]
    return Board(targets, runs, tuner.steps, facts, [*notes, *more])


def _tune_all(
    run: ClaimRun, design: TransferDesign, encoders: Encoders, tuner: Tuner, target: Target, todo: Sequence[Work]
) -> dict[Work, list[Tuned]]:
    """All runs of a task."""
    found: dict[Work, list[Tuned]] = {one: [] for one in todo}
    content = _digest(target)
    for seed in range(run.seeds):
        for origin in dict.fromkeys(one.arm.origin for one in todo):
            folder, encoder = encoders.path(origin, seed), None
            for one in (one for one in todo if one.arm.origin == origin):
                described = [FORMAT, folder.name, content, one.arm.pooler, asdict(one.variant), design.rows, seed]
                identity = hashlib.sha256(json.dumps([described, asdict(design.tune)]).encode()).hexdigest()
                path = run.root / "transfer" / "runs" / f"{identity[:20]}.npz"
                kept = load_chunk(path, identity)
                if kept is None:
                    run.check_time()
                    encoder = encoder or tuner.read(folder / "model" / "encoder")
                    rows, label = target.draw(one.variant, rows=design.rows, seed=seed)
                    made = tuner.run(encoder, pooler=one.arm.pooler, seed=seed, rows=rows, label=label)
                    kept = {"curve": made.curve, "outputs": made.outputs, "score": np.asarray(made.score)}
                    save_chunk(path, identity, kept)
                    run.cells_run += 1
                    run.say(
                        f"{run.cells_run:4d} {target.name:10s} {one.variant.name:20s} {one.arm.name:36s} "
                        f"seed {seed}: {made.score:6.2f}"
                    )
                found[one].append(Tuned(kept["curve"], kept["outputs"], float(kept["score"])))
    return found


def _digest(target: Target) -> str:
    """SHA-256 of a task's texts and labels."""
    running = hashlib.sha256()
    for split, pairs in sorted(target.data.splits.items()):
        running.update(json.dumps([split, pairs.first, pairs.second]).encode())
        running.update(np.ascontiguousarray(pairs.label).tobytes())
    return running.hexdigest()
