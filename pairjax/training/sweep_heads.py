"""Trials whose encoder is frozen, on cached features: all trials of one shape, folds and seeds as one population."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pairjax.base.config import Config, FeatureConfig
from pairjax.base.types import EncoderSpec
from pairjax.models.build import resolve
from pairjax.training.features import cached_features
from pairjax.training.heads import HeadTask, head_program, head_task, make_runs, scores_of
from pairjax.training.population import make_hypers, train_population
from pairjax.training.search import DEV
from pairjax.training.setup import hypers_of
from pairjax.training.trials import TRACED, Run, Scored, SweepData, TrialFolder, shape_key


def fits_features(config: Config, spec: EncoderSpec) -> bool:
    """Whether a config trains the same from cached vectors of its texts as with the frozen encoder in the loop.

    The encoder must be frozen and read each text alone, in float32, and what is pooled must be fixed too. Batches hold
    the same pairs as with the padded layout. Two things are taken over all of train and not over a fold's part of it,
    which for stratified folds is nearly the same: balanced class weights, and center and scale of scores.
    """
    model = resolve(config.model, spec)
    trained_alike = config.optim.freeze == "encoder" or (
        config.optim.freeze == "all_but_head" and model.combine.kind == "plain" and model.combiner is None
    )
    return (
        trained_alike
        and model.kind == "bi"
        and model.over == "sides"
        and model.interact.kind == "none"
        and (model.pooling != "pooler" or model.pooler == "keep")
        and model.dtype == "float32"
        and config.optim.accumulate == 1
        and config.data.truncation in ("longest_first", "head_tail")
    )


class CachedHeads:
    """Runs trials on cached features.

    Args:
        data: Pairs and folds.
        folder: Of caches and of populations under way.
        batch_size: Texts encoded at once.
        say: Where notes go.
    """

    def __init__(self, data: SweepData, *, folder: Path, batch_size: int, say: Callable[[str], None]) -> None:
        self.data, self.folder, self.batch_size, self.say = data, folder, batch_size, say
        self._sources: dict[str, HeadTask] = {}

    def source(self, config: Config, spec: EncoderSpec) -> HeadTask:
        """The task through the cache that a config needs; made once."""
        pooling = resolve(config.model, spec).pooling
        assert pooling is not None
        settings = {
            "encoder": config.model.encoder,
            "pooling": pooling,
            "max_length": config.data.max_length,
            "truncation": config.data.truncation,
        }
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        if key not in self._sources:
            features = FeatureConfig(
                encoder=config.model.encoder,
                download=config.model.download,
                pooling=pooling,
                batch_size=self.batch_size,
            )
            made = cached_features(
                self.data.data.splits.values(),
                self.folder / f"features-{key}",
                features,
                max_length=config.data.max_length,
                truncation=config.data.truncation,
            )
            for note in made.notes:
                self.say(note)
            self._sources[key] = head_task(self.data.data, made)
        return self._sources[key]

    def run(
        self,
        trials: Sequence[TrialFolder],
        spec: EncoderSpec,
        *,
        runs: Sequence[Run],
        metric: str,
    ) -> list[dict[Run, Scored]]:
        """Train every run of every trial, all of one shape, as one population.

        Args:
            trials: They differ in traced numbers alone.
            spec: Of their encoder.
            runs: All of one length.
            metric: That scores them.

        Returns:
            For each trial the scores of each run.
        """
        first = trials[0].trial.config
        steps = runs[0].steps
        source = self.source(first, spec)
        hypers = [hypers_of(trial.trial.config) for trial in trials]
        varied = {
            name: [getattr(one if hasattr(one, name) else one.rates, name) for one in hypers]
            for name in TRACED.values()
        }
        rates = (*varied["interaction"], *varied["head"])
        program = head_program(
            source,
            first.model,
            optim=first.optim,
            loss=first.loss,
            steps=steps,
            dropout=any(rate > 0 for rate in rates),
        )
        population = make_runs(
            [self.data.rows(run.held) for run in runs],
            seeds=[run.seed for run in runs],
            hypers=make_hypers(hypers[0], **varied),
            batch_size=first.train.batch_size,
            steps=steps,
        )
        rows = [[self._scored_rows(source, fold) for fold in run.held] for run in runs]
        longest = max(sum(map(len, parts)) for parts in rows)
        index = np.stack([np.resize(np.concatenate(parts), longest) for parts in rows]).astype(np.int32)
        under_way = self.folder / f"population-{_name(trials, runs, first, steps)}"
        found = train_population(program, population, evaluate={"held": index}, folder=under_way)
        labels = {fold: self._labels(source, fold) for run in runs for fold in run.held}
        kept: list[dict[Run, Scored]] = [{} for _ in trials]
        for group, run in enumerate(runs):
            start, scores = 0, []
            for fold in run.held:
                outputs = found.outputs["held"][group : group + 1, :, start : start + len(labels[fold])]
                scores.append(scores_of(source.task, outputs, labels[fold], metric)[0])
                start += len(labels[fold])
            for number, each in enumerate(kept):
                diverged = (
                    bool(found.diverged[group, number] >= 0)
                    or not np.isfinite(found.outputs["held"][group, number]).all()
                )
                each[run] = Scored(tuple(float(one[number]) for one in scores), diverged, "features")
        for trial, scored in zip(trials, kept, strict=True):
            trial.keep(scored)
        shutil.rmtree(under_way, ignore_errors=True)
        return kept

    def _scored_rows(self, source: HeadTask, fold: int) -> np.ndarray:
        return source.rows["dev"] if fold == DEV else self.data.rows_of(fold)

    def _labels(self, source: HeadTask, fold: int) -> np.ndarray:
        return source.label("dev") if fold == DEV else source.label("train")[self.data.rows_of(fold)]


def _name(trials: Sequence[TrialFolder], runs: Sequence[Run], first: Config, steps: int) -> str:
    parts = [[trial.id for trial in trials], [run.name for run in runs], shape_key(first, steps=steps)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
