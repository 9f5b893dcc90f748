"""Trials that train a small encoder, many at once."""

from collections.abc import Sequence
from pathlib import Path

from pairjax.base.config import Config
from pairjax.base.optim_config import AverageConfig, LoraConfig
from pairjax.base.types import EncoderSpec
from pairjax.models.build import resolve
from pairjax.population.end_to_end import end_to_end_program, end_to_end_task
from pairjax.sweep.together import train_together, varied_of
from pairjax.sweep.trials import SweepData, TrialFolder, TrialRun

SMALL = 1_000_000
"""Numbers in the layers of an encoder, at most: on two CPU cores a run of such a model takes a fifth (width 32) to nine
tenths (width 128, 32 pairs) of its time alone where 16 train at once; larger ones fill the cores by themselves."""


def layer_numbers(spec: EncoderSpec) -> int:
    """Parameters of an encoder's layers, but for biases and norms."""
    return spec.num_layers * spec.hidden_size * (4 * spec.hidden_size + 2 * spec.intermediate_size)


def fits_population(config: Config, spec: EncoderSpec) -> bool:
    """Whether a config's runs may train at once: a small encoder, the padded layout, and nothing but AdamW's options.

    A member is then the ordinary run, but for rounding and, with dropout, for the masks, which go by a row's length.
    """
    optim = config.optim
    return (
        layer_numbers(spec) <= SMALL
        and config.data.layout == "padded"
        and resolve(config.model, spec).dtype == "float32"
        and optim.accumulate == 1
        and optim.reinit_layers == 0
        and optim.gradual == 0.0
        and optim.decay_to == "zero"
        and optim.lora == LoraConfig()
        and optim.average == AverageConfig()
        and not config.loss.r_drop
    )


def train_whole(
    trials: Sequence[TrialFolder], *, data: SweepData, runs: Sequence[TrialRun], metric: str, folder: Path
) -> None:
    """Train every run of every trial, all of one shape, as one population.

    Args:
        trials: They differ in traced numbers alone.
        data: Pairs and folds.
        runs: All of one length.
        metric: That scores them.
        folder: Of populations under way.
    """
    first = trials[0].trial.config
    source = end_to_end_task(data.data, first.model, max_length=first.data.max_length, truncation=first.data.truncation)
    rates = varied_of(trials)
    program = end_to_end_program(
        source,
        optim=first.optim,
        loss=first.loss,
        steps=runs[0].steps,
        dropout=any(rate > 0 for name in ("hidden", "attention", "interaction", "head") for rate in rates[name]),
    )
    train_together(
        trials,
        runs,
        program,
        data=data,
        task=source.task,
        rows=source.rows,
        metric=metric,
        folder=folder,
        by="population",
    )
