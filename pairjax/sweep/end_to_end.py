"""Trains trials of a small model end to end, many at once."""

from collections.abc import Sequence

from pairjax.base.config import Config
from pairjax.base.types import EncoderSpec
from pairjax.models.build import resolve
from pairjax.population.end_to_end import end_to_end_program, end_to_end_task
from pairjax.population.members import TrainPart, supported
from pairjax.sweep.together import PopulationTrainer, TrialProgram, traced_values
from pairjax.sweep.trials import TrialFolder

SMALL = 1_000_000
"""Parameters in the layers of an encoder, at most. On two CPU cores, 16 runs of such a model trained at once each take
between a fifth (width 32) and nine tenths (width 128, 32 pairs) of the time that one takes alone. A larger model fills
the cores by itself."""


def layer_parameters(spec: EncoderSpec) -> int:
    """Returns the number of parameters in an encoder's layers, without biases and norms."""
    return spec.num_layers * spec.hidden_size * (4 * spec.hidden_size + 2 * spec.intermediate_size)


class EndToEndTrainer(PopulationTrainer):
    """Trains small models from token ids to logits, as populations."""

    name = "population"

    @staticmethod
    def fits(config: Config, spec: EncoderSpec) -> bool:
        """Returns whether a config has a small encoder, the padded layout and only the options of AdamW.

        A member then equals the ordinary run up to rounding and, with dropout, up to the masks, which depend on the
        length of a row.
        """
        optim = config.optim
        return (
            layer_parameters(spec) <= SMALL
            and config.data.layout == "padded"
            and config.model.init is None
            and resolve(config.model, spec).dtype == "float32"
            and optim.accumulate == 1
            and supported(optim, config.loss)
        )

    def program(self, trials: Sequence[TrialFolder], *, steps: int, parts: Sequence[TrainPart]) -> TrialProgram:
        config, traced = trials[0].trial.config, traced_values(trials)
        source = end_to_end_task(
            self.inputs.data.data,
            config.model,
            max_length=config.data.max_length,
            truncation=config.data.truncation,
            prefixes=config.data.prefixes,
        )
        dropout = any(rate > 0 for name in ("hidden", "attention", "interaction", "head") for rate in traced[name])
        program = end_to_end_program(
            source, optim=config.optim, loss=config.loss, steps=steps, dropout=dropout, parts=parts
        )
        return TrialProgram(program, source.task, source.rows)
