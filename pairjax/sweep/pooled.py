"""Trials whose encoder is frozen, on cached features."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pairjax.base.config import Config, FeatureConfig
from pairjax.base.types import EncoderSpec
from pairjax.models.build import resolve
from pairjax.population.features import cached_features, read_features
from pairjax.population.pooled import HeadTask, head_program, head_task
from pairjax.storage.hashes import hash_json
from pairjax.sweep.together import train_together, varied_of
from pairjax.sweep.trials import SweepData, TrialFolder, TrialRun


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
    """Members trials on cached features.

    Args:
        data: Pairs and folds.
        folder: Of caches and of populations under way.
        batch_size: Texts encoded at once.
        say: Where notes go.
        given: A cache that is there already, read instead of caches made in `folder`.
    """

    def __init__(
        self, data: SweepData, *, folder: Path, batch_size: int, say: Callable[[str], None], given: Path | None
    ) -> None:
        self.data, self.folder, self.batch_size, self.say, self.given = data, folder, batch_size, say, given
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
        key = hash_json(settings)[:16]
        if key not in self._sources:
            features = FeatureConfig(
                encoder=config.model.encoder,
                download=config.model.download,
                pooling=pooling,
                batch_size=self.batch_size,
            )
            read, cut = config.data.max_length, config.data.truncation
            if self.given is not None:
                made = read_features(self.given, features, max_length=read, truncation=cut)
            else:
                splits, place = self.data.data.splits.values(), self.folder / f"features-{key}"
                made = cached_features(splits, place, features, max_length=read, truncation=cut)
            for note in made.notes:
                self.say(note)
            self._sources[key] = head_task(self.data.data, made)
        return self._sources[key]

    def run(self, trials: Sequence[TrialFolder], spec: EncoderSpec, *, runs: Sequence[TrialRun], metric: str) -> None:
        """Train every run of every trial, all of one shape, as one population.

        Args:
            trials: They differ in traced numbers alone.
            spec: Of their encoder.
            runs: All of one length.
            metric: That scores them.
        """
        first, varied = trials[0].trial.config, varied_of(trials)
        source = self.source(first, spec)
        program = head_program(
            source,
            first.model,
            optim=first.optim,
            loss=first.loss,
            steps=runs[0].steps,
            dropout=any(rate > 0 for rate in (*varied["interaction"], *varied["head"])),
        )
        train_together(
            trials,
            runs,
            program,
            data=self.data,
            task=source.task,
            rows=source.rows,
            metric=metric,
            folder=self.folder,
            by="features",
        )
