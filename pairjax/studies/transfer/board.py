"""The finished runs of a transfer experiment (task x arm x variant x seed) and their effects.

Run s of every arm has the same seed, training pairs and order, so differences are paired. Run s also has the same
pretrained encoder on every task, so the bootstrap resamples seeds together for all tasks, and test pairs separately for
each task. Resample i of one effect belongs to resample i of any other, so effects can be subtracted sample by sample.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pairjax.evaluation.counts import Statistic, constant, difference_of
from pairjax.evaluation.intervals import Sampled, two_way_bootstrap
from pairjax.evaluation.metrics import points_of
from pairjax.studies.claim import RESAMPLES
from pairjax.studies.transfer.design import MLM, NSP, Arm, Condition, TransferDesign
from pairjax.studies.transfer.encoders import Origin
from pairjax.studies.transfer.targets import CLEAN, Target, Variant
from pairjax.studies.transfer.tuner import TunedRun

RUNS_SEED = 17
"""Seeds the resampling of runs, which is the same for all tasks."""
WINDOW = 3
"""Number of scores of a dev curve to average, so no single lucky score counts."""
MIN_GOAL = 2.0
"""Least distance of a goal from the score of a constant answer, in points."""


@dataclass(frozen=True)
class TransferBoard:
    """The finished runs.

    Attributes:
        design: The design.
        targets: The target tasks by name.
        runs: The runs of each condition, one per seed.
        steps: int64 [evaluations]; the number of updates done at each entry of a curve.
        segment_accuracy: By objective and seed, held-out segment accuracy with its interval over documents.
        notes: What was cut or excluded.
    """

    design: TransferDesign
    targets: Mapping[str, Target]
    runs: Mapping[Condition, Sequence[TunedRun]]
    steps: np.ndarray
    segment_accuracy: Mapping[Origin, Sequence[Mapping[str, float]]]
    notes: Sequence[str] = ()

    def gain(self, task: str, left: Arm, right: Arm = MLM, *, variant: Variant = CLEAN) -> Sampled:
        """Returns the test score of left minus right in points, paired by seed and test pair (or document)."""
        target = self.targets[task]
        label = target.data.splits["test"].label
        assert label is not None
        left_runs, right_runs = (self.runs[Condition(task, arm, variant)] for arm in (left, right))
        differences = [
            difference_of(_statistic(target, label, a.outputs), _statistic(target, label, b.outputs))
            for a, b in zip(left_runs, right_runs, strict=True)
        ]
        return two_way_bootstrap(
            differences,
            len(label),
            resamples=RESAMPLES,
            seed=list(self.targets).index(task),
            runs_seed=RUNS_SEED,
            group=target.group,
            clusters=target.clusters,
        )["value"]

    def saved(self, task: str, left: Arm, right: Arm = MLM, *, variant: Variant = CLEAN) -> Sampled:
        """Returns the updates to the goal that left saves compared to right, in percent of a run, paired by seed."""
        counts = zip(*(self.steps_to_goal(Condition(task, arm, variant)) for arm in (left, right)), strict=True)
        percent = [100.0 * (b - a) / int(self.steps[-1]) for a, b in counts]
        return two_way_bootstrap(
            [constant(value) for value in percent],
            1,
            resamples=RESAMPLES,
            seed=0,
            runs_seed=RUNS_SEED,
            over_examples=False,
        )["value"]

    def constant_score(self, task: str) -> float:
        """Returns the dev score of a constant answer: the most frequent class, or no correlation."""
        data = self.targets[task].data
        if data.task.kind == "regression":
            return 0.0
        label = data.splits["dev"].label
        assert label is not None
        return 100.0 * float(np.bincount(label).max() / len(label))

    def final_score(self, condition: Condition) -> float:
        """Returns the mean dev score over seeds and the last scores of their curves."""
        return float(np.mean([_smooth(run.curve)[-1] for run in self.runs[condition]]))

    def best_score(self, task: str) -> float:
        """Returns the highest final score of an arm on clean data."""
        return max(self.final_score(Condition(task, arm)) for arm in self.design.arms)

    def goal(self, task: str) -> float:
        """Returns the dev score to reach: half-way from a constant answer to the final score of the best arm."""
        best, constant = self.best_score(task), self.constant_score(task)
        return constant + max(MIN_GOAL, 0.5 * (best - constant))

    def steps_to_goal(self, condition: Condition) -> list[int]:
        """Returns by seed the updates until the averaged dev score reaches the goal; all updates if it never does."""
        goal = self.goal(condition.task)
        reached = [_smooth(run.curve) >= goal for run in self.runs[condition]]
        return [int(self.steps[np.argmax(mask)] if mask.any() else self.steps[-1]) for mask in reached]

    def unlearnt(self) -> list[str]:
        """Returns a line for each task on which no arm ends above a constant answer."""
        lines = []
        for task in self.targets:
            best, constant = self.best_score(task), self.constant_score(task)
            if best < constant + MIN_GOAL:
                lines.append(
                    f"{task} was not learnt: the best arm ends at {best:.1f} on dev, a constant answer at "
                    f"{constant:.1f}"
                )
        return lines

    def failed_treatment(self, origin: Origin) -> str | None:
        """Returns why the treatment failed, if it did: the encoders do not recognise held-out segments."""
        intervals = self.segment_accuracy[origin]
        low = float(np.mean([interval["low"] for interval in intervals]))
        if low > 0.5:
            return None
        values = ", ".join(f"{interval['value']:.3f}" for interval in intervals)
        return (
            f"the treatment failed: the held-out segment accuracy of {origin.upper()} by seed is {values}; the "
            f"mean lower bound of its intervals over documents, {low:.3f}, is not above 0.5"
        )

    def tables(self) -> dict[str, list[list[str]]]:
        """Returns the tables of every experiment by title."""
        return {
            "Held-out segments": self.segment_table(),
            "Test score, mean over seeds ± deviation": self.score_table(),
            "Updates to the goal, mean over seeds ± deviation": self.steps_table(),
            "Gain over MLM with 95 % intervals": self.gain_table(),
        }

    def score_table(self) -> list[list[str]]:
        """Returns test scores, mean over seeds ± deviation, one line per arm."""
        return self._by_arm(lambda condition: _spread([run.score for run in self.runs[condition]], digits=2))

    def steps_table(self) -> list[list[str]]:
        """Returns updates to the goal, mean over seeds ± deviation, one line per arm; the last line has the goals."""
        table = self._by_arm(lambda condition: _spread(self.steps_to_goal(condition), digits=0))
        return [*table, ["goal on dev", *(f"{self.goal(task):.1f}" for task in table[0][1:])]]

    def gain_table(self) -> list[list[str]]:
        """Returns gains over the reference with intervals: test score in points, and steps in percent of a run."""
        table = [["arm", "gain in", *self.targets]]
        for arm in self.design.arms:
            if arm == MLM:
                continue
            for name, read in (("score", self.gain), ("steps, %", self.saved)):
                table.append([arm.name, name, *(_interval_text(read(task, arm)) for task in self.targets)])
        return table

    def variant_table(self) -> list[list[str]]:
        """Returns the reference's test score and the gain of NSP with its pooler, by kind of training data."""
        table = [["training data", *(f"{task}: {column}" for task in self.design.varied for column in ("MLM", "gain"))]]
        for variant in [CLEAN, *self.design.variants()]:
            cells = []
            for task in self.design.varied:
                scores = [run.score for run in self.runs[Condition(task, MLM, variant)]]
                cells += [_spread(scores, digits=2), _interval_text(self.gain(task, NSP, variant=variant))]
            table.append([variant.name, *cells])
        return table

    def segment_table(self) -> list[list[str]]:
        """Returns held-out segment accuracy by objective and seed."""
        table = [["objective", "accuracy by seed (95 % interval over documents)"]]
        for origin, intervals in self.segment_accuracy.items():
            texts = [f"{i['value']:.3f} ({i['low']:.3f} to {i['high']:.3f})" for i in intervals]
            table.append([origin.upper(), ", ".join(texts)])
        return table

    def curve_table(self, task: str) -> list[list[str]]:
        """Returns dev scores on clean data by number of updates, mean over seeds, one line per arm."""
        table = [["arm", *(str(step) for step in self.steps)]]
        for arm in self.design.arms:
            curves = [run.curve for run in self.runs[Condition(task, arm)]]
            table.append([arm.name, *(f"{value:.1f}" for value in np.nan_to_num(curves).mean(axis=0))])
        return table

    def _by_arm(self, read: Callable[[Condition], str]) -> list[list[str]]:
        """Builds a table with one line per arm and one column per task."""
        table = [["arm", *self.design.tasks]]
        for arm in self.design.arms:
            table.append([arm.name, *(read(Condition(task, arm)) for task in self.design.tasks)])
        return table


def _smooth(curve: np.ndarray) -> np.ndarray:
    """Returns means of the last WINDOW scores; an undefined score (constant answers, or a run that diverged) is 0."""
    total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(curve))])
    ends = np.arange(1, len(total))
    begins = np.maximum(0, ends - WINDOW)
    return (total[ends] - total[begins]) / (ends - begins)


def _spread(values: Sequence[float] | Sequence[int], *, digits: int) -> str:
    deviation = float(np.nanstd(values, ddof=1)) if len(values) > 1 else math.nan
    return f"{np.nanmean(values):.{digits}f} ± {deviation:.{digits}f}"


def _interval_text(effect: Sampled) -> str:
    interval = effect.interval()
    return f"{interval.value:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


def _statistic(target: Target, label: np.ndarray, outputs: np.ndarray) -> Statistic:
    """Returns a run's test score in points as a statistic over test pairs."""
    if target.data.task.kind == "classification":
        predicted = outputs.argmax(axis=1)
    else:
        predicted = np.nan_to_num(outputs[:, 0].astype(np.float64))
    if not np.isfinite(outputs).all():
        return constant(math.nan)  # the effect of a run that diverged is undefined, and so undecided
    points = points_of(target.data.task, predicted, label)
    return lambda counts: {"value": np.nan_to_num(points(counts)["value"])}
