"""Trains trials with a frozen encoder, on cached features."""

from collections.abc import Sequence
from pathlib import Path

from pairjax.base.config import Config
from pairjax.base.errors import UserError
from pairjax.base.feature_config import FeatureConfig
from pairjax.base.model_config import ProjectConfig
from pairjax.base.types import EncoderSpec
from pairjax.data.texts import add_prefixes
from pairjax.models.build import resolve
from pairjax.population.features import cached_features, read_features
from pairjax.population.members import TrainPart, supported
from pairjax.population.pooled import HeadTask, head_program, head_task
from pairjax.storage.hashes import hash_json
from pairjax.sweep.together import PopulationTrainer, TrialProgram, traced_values
from pairjax.sweep.trials import SweepInputs, TrialFolder


class PooledTrainer(PopulationTrainer):
    """Trains heads on pooled vectors, as populations.

    Args:
        inputs: What all trials share.
        batch_size: Texts encoded at once.
        features: An existing cache that all trials read; None makes the sweep's own caches.
    """

    name = "features"
    detail = " on cached features"

    def __init__(self, inputs: SweepInputs, *, batch_size: int, features: Path | None) -> None:
        super().__init__(inputs)
        self.batch_size, self.features = batch_size, features
        self._tasks: dict[str, HeadTask] = {}

    @staticmethod
    def fits(config: Config, spec: EncoderSpec) -> bool:
        """Returns whether training on cached vectors equals training with the frozen encoder in the loop.

        The encoder must be frozen and read each text alone, in float32, and everything up to the pooled vectors must be
        fixed too. Batches hold the same pairs as with the padded layout.
        """
        model = resolve(config.model, spec)
        only_head_trains = config.optim.freeze == "encoder" or (
            config.optim.freeze == "all_but_head" and model.combine.kind == "plain" and model.combiner is None
        )
        return (
            only_head_trains
            and model.kind == "bi"
            and model.over == "sides"
            and model.interact.kind == "none"
            and model.project == ProjectConfig()
            and model.init is None
            and (model.pooling != "pooler" or model.pooler == "keep")
            and model.dtype == "float32"
            and config.optim.accumulate == 1
            and supported(config.optim, config.loss)
            and config.data.truncation in ("longest_first", "head_tail")
        )

    def check(self, config: Config, spec: EncoderSpec) -> None:
        """Checks that the existing cache serves a trial.

        Raises:
            UserError: The trial trains more than a head on pooled vectors, or the cache was made from something else.
        """
        if not supported(config.optim, config.loss):
            raise UserError(
                f"--features serves no trial with --loss.kind, --loss.r-drop or --optim.average ({self.features})",
                fix="leave --features out",
            )
        if not self.fits(config, spec):
            raise UserError(
                f"--features serves no trial that trains more than a head on pooled vectors ({self.features})",
                got=f"a {config.model.kind} encoder, --optim.freeze {config.optim.freeze}",
                expected="--model.kind bi, --optim.freeze encoder",
                fix="leave --features out",
            )
        self.task(config, spec)

    def task(self, config: Config, spec: EncoderSpec) -> HeadTask:
        """Returns the task on the cache that a config needs; each cache is opened or made once."""
        pooling = resolve(config.model, spec).pooling
        assert pooling is not None
        settings = {
            "encoder": config.model.encoder,
            "pooling": pooling,
            "max_length": config.data.max_length,
            "truncation": config.data.truncation,
        }
        prefixes = config.data.prefixes
        settings |= {"prefixes": prefixes} if any(prefixes) else {}
        key = hash_json(settings)[:16]
        if key not in self._tasks:
            wanted = FeatureConfig(
                encoder=config.model.encoder,
                download=config.model.download,
                pooling=pooling,
                batch_size=self.batch_size,
            )
            data = add_prefixes(self.inputs.data.data, prefixes)
            max_length, truncation = config.data.max_length, config.data.truncation
            if self.features is not None:
                features = read_features(self.features, wanted, max_length=max_length, truncation=truncation)
            else:
                folder = self.inputs.folder / "cache" / f"features-{key}"
                features = cached_features(
                    data.splits.values(), folder, wanted, max_length=max_length, truncation=truncation
                )
            for note in features.notes:
                self.inputs.log(note)
            self._tasks[key] = head_task(data, features)
        return self._tasks[key]

    def program(self, trials: Sequence[TrialFolder], *, steps: int, parts: Sequence[TrainPart]) -> TrialProgram:
        config, traced = trials[0].trial.config, traced_values(trials)
        source = self.task(config, self.inputs.specs[config.model.encoder])
        dropout = any(rate > 0 for rate in (*traced["interaction"], *traced["head"]))
        program = head_program(
            source, config.model, optim=config.optim, loss=config.loss, steps=steps, dropout=dropout, parts=parts
        )
        return TrialProgram(program, source.task, source.rows)
