"""Finished runs of a transfer experiment: task x arm x variant x seed, and what is read from them.

Run s of every arm has the same seed, training rows and order, so that differences are paired. Run s is also the same
pretrained encoder on every task: seeds are drawn again together for all tasks, test pairs for each task by itself.
Resample i of any two effects goes together, so that effects may be taken from one another sample by sample.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pairjax.evaluation.intervals import Sampled, two_way_bootstrap
from pairjax.evaluation.metrics import Statistic, constant, difference_of, points_of
from pairjax.studies.claim import RESAMPLES
from pairjax.studies.transfer.design import MLM, NSP, Arm, TransferDesign, Work
from pairjax.studies.transfer.encoders import Origin
from pairjax.studies.transfer.targets import CLEAN, Target, Variant
from pairjax.studies.transfer.tuner import Tuned

RUNS_SEED = 17
"""Of the draws of seeds, alike for all tasks."""
WINDOW = 3
"""Scores of a dev curve that are averaged, so that no single lucky one counts."""
LEAST = 2.0
"""Points above an answer without reading that a goal lies at least."""


@dataclass(frozen=True)
class TransferBoard:
    """Finished runs.

    Attributes:
        design: What was run.
        targets: By task.
        runs: One a seed.
        steps: Updates done at each entry of a curve.
        segment_accuracy: By objective and seed, held-out accuracy on segments with its interval over documents.
        notes: What was cut or left out.
    """

    design: TransferDesign
    targets: Mapping[str, Target]
    runs: Mapping[Work, Sequence[Tuned]]
    steps: np.ndarray
    segment_accuracy: Mapping[Origin, Sequence[Mapping[str, float]]]
    notes: Sequence[str] = ()

    def gain(self, task: str, one: Arm, other: Arm = MLM, *, variant: Variant = CLEAN) -> Sampled:
        """Points of the test score of one arm over another, over seeds and test pairs (or documents), both paired."""
        target = self.targets[task]
        label = target.data.splits["test"].label
        assert label is not None
        ours, theirs = (self.runs[Work(task, arm, variant)] for arm in (one, other))
        differences = [
            difference_of(_statistic(target, label, a.outputs), _statistic(target, label, b.outputs))
            for a, b in zip(ours, theirs, strict=True)
        ]
        place = list(self.targets).index(task)
        return two_way_bootstrap(
            differences,
            len(label),
            resamples=RESAMPLES,
            seed=place,
            runs_seed=RUNS_SEED,
            group=target.group,
            clusters=target.clusters,
        )["value"]

    def saved(self, task: str, one: Arm, other: Arm = MLM, *, variant: Variant = CLEAN) -> Sampled:
        """Updates that one arm needs fewer to reach the goal, in percent of a run; over seeds, paired."""
        counts = zip(*(self.steps_to_goal(Work(task, arm, variant)) for arm in (one, other)), strict=True)
        percent = [100.0 * (theirs - ours) / int(self.steps[-1]) for ours, theirs in counts]
        return two_way_bootstrap(
            [constant(value) for value in percent],
            1,
            resamples=RESAMPLES,
            seed=0,
            runs_seed=RUNS_SEED,
            over_examples=False,
        )["value"]

    def base(self, task: str) -> float:
        """Dev score of an answer without reading: the most frequent class, or no correlation."""
        data = self.targets[task].data
        if data.task.kind == "regression":
            return 0.0
        label = data.splits["dev"].label
        assert label is not None
        return 100.0 * float(np.bincount(label).max() / len(label))

    def end(self, work: Work) -> float:
        """Mean dev score over seeds and the last scores of their curves."""
        return float(np.mean([_smooth(run.curve)[-1] for run in self.runs[work]]))

    def goal(self, task: str) -> float:
        """The dev score to reach: half-way from an answer without reading to what the best arm ends at."""
        best = max(self.end(work) for work in self.runs if (work.task, work.variant) == (task, CLEAN))
        base = self.base(task)
        return base + max(LEAST, 0.5 * (best - base))

    def steps_to_goal(self, work: Work) -> list[int]:
        """By seed, updates until dev (averaged) reaches the goal; all of them where it never does."""
        goal = self.goal(work.task)
        reached = [_smooth(run.curve) >= goal for run in self.runs[work]]
        return [int(self.steps[np.argmax(found)] if found.any() else self.steps[-1]) for found in reached]

    def unlearnt(self) -> list[str]:
        """A line for each task on which no arm ends above an answer without reading."""
        lines = []
        for task in self.targets:
            best = max(self.end(work) for work in self.runs if (work.task, work.variant) == (task, CLEAN))
            if best < self.base(task) + LEAST:
                lines.append(
                    f"{task} was not learnt: the best arm ends at {best:.1f} on dev, an answer without reading at "
                    f"{self.base(task):.1f}"
                )
        return lines

    def untaken(self, origin: Origin) -> str | None:
        """Why the objective cannot have taught anything, if so: its encoders do not tell held-out segments."""
        found = self.segment_accuracy[origin]
        low = float(np.mean([one["low"] for one in found]))
        if low > 0.5:
            return None
        values = ", ".join(f"{one['value']:.3f}" for one in found)
        return (
            f"the treatment did not take: held-out accuracy of {origin.upper()} by seed {values}; the mean lower bound "
            f"of its intervals over documents, {low:.3f}, is not above 0.5"
        )

    def tables(self) -> dict[str, list[list[str]]]:
        """What every experiment shows, by title."""
        return {
            "Held-out segments": self.segment_table(),
            "Test score, mean over seeds ± deviation": self.score_table(),
            "Updates to the goal, mean over seeds ± deviation": self.steps_table(),
            "Gain over MLM with 95 % intervals": self.gain_table(),
        }

    def score_table(self) -> list[list[str]]:
        """Test scores, mean over seeds ± deviation, one row an arm."""
        return self._by_arm(lambda work: _spread([run.score for run in self.runs[work]], digits=2))

    def steps_table(self) -> list[list[str]]:
        """Updates to the goal, likewise; the last row has the goals."""
        table = self._by_arm(lambda work: _spread(self.steps_to_goal(work), digits=0))
        return [*table, ["goal on dev", *(f"{self.goal(task):.1f}" for task in table[0][1:])]]

    def gain_table(self) -> list[list[str]]:
        """Gains over the reference with their intervals: test score in points, and steps in percent of a run."""
        table = [["arm", "gain in", *self.targets]]
        for arm in self.design.arms:
            if arm == MLM:
                continue
            for name, read in (("score", self.gain), ("steps, %", self.saved)):
                table.append([arm.name, name, *(_shown(read(task, arm)) for task in self.targets)])
        return table

    def variant_table(self) -> list[list[str]]:
        """Test score of the reference and gain of NSP with its pooler, by what the training data are like."""
        table = [["training data", *(f"{task}: {what}" for task in self.design.varied for what in ("MLM", "gain"))]]
        for variant in [CLEAN, *self.design.variants()]:
            cells = []
            for task in self.design.varied:
                scores = [run.score for run in self.runs[Work(task, MLM, variant)]]
                cells += [_spread(scores, digits=2), _shown(self.gain(task, NSP, variant=variant))]
            table.append([variant.name, *cells])
        return table

    def segment_table(self) -> list[list[str]]:
        """Held-out accuracy on segments by objective and seed."""
        table = [["objective", "accuracy by seed (95 % interval over documents)"]]
        for origin, found in self.segment_accuracy.items():
            shown = ", ".join(f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})" for one in found)
            table.append([origin.upper(), shown])
        return table

    def curve_table(self, task: str) -> list[list[str]]:
        """Dev scores on clean data by updates done, mean over seeds, one row an arm."""
        table = [["arm", *(str(step) for step in self.steps)]]
        for arm in self.design.arms:
            curves = [run.curve for run in self.runs[Work(task, arm)]]
            table.append([arm.name, *(f"{value:.1f}" for value in np.nan_to_num(curves).mean(axis=0))])
        return table

    def _by_arm(self, read: Callable[[Work], str]) -> list[list[str]]:
        table = [["arm", *self.design.tasks]]
        for arm in self.design.arms:
            table.append([arm.name, *(read(Work(task, arm)) for task in self.design.tasks)])
        return table


def _smooth(curve: np.ndarray) -> np.ndarray:
    """Means of the last WINDOW scores so far; an undefined one (a run that answers all alike, or diverged) is 0."""
    total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(curve))])
    ends = np.arange(1, len(total))
    begins = np.maximum(0, ends - WINDOW)
    return (total[ends] - total[begins]) / (ends - begins)


def _spread(values: Sequence[float] | Sequence[int], *, digits: int) -> str:
    deviation = float(np.nanstd(values, ddof=1)) if len(values) > 1 else math.nan
    return f"{np.nanmean(values):.{digits}f} ± {deviation:.{digits}f}"


def _shown(effect: Sampled) -> str:
    found = effect.interval()
    return f"{found.value:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _statistic(target: Target, label: np.ndarray, outputs: np.ndarray) -> Statistic:
    if target.data.task.kind == "classification":
        predicted = outputs.argmax(axis=1)
    else:
        predicted = np.nan_to_num(outputs[:, 0].astype(np.float64))
    if not np.isfinite(outputs).all():
        return constant(math.nan)  # a run that diverged leaves the effect undefined, and so undecided
    found = points_of(target.data.task, predicted, label)
    return lambda counts: {"value": np.nan_to_num(found(counts)["value"])}
