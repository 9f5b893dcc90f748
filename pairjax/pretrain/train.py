"""Pretraining from a config to a run's folder: `pairjax.pretrain` and the command `pairjax pretrain`."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console

from pairjax.base.pretrain_config import PretrainConfig
from pairjax.pretrain.job import build_pretraining_job, pretraining_metric
from pairjax.pretrain.prepare import plain_pretrain_config, prepare_pretraining
from pairjax.run.loop import Job
from pairjax.run.session import TrainResult, run_task


@dataclass(frozen=True)
class Pretraining:
    """Pretraining on text, as `run_task` runs it.

    Attributes:
        config: The config.
    """

    config: PretrainConfig

    def plain(self) -> dict[str, Any]:
        return plain_pretrain_config(self.config)

    def defaults(self) -> dict[str, Any]:
        return plain_pretrain_config(PretrainConfig())

    def check(self) -> None:
        pretraining_metric(self.config)

    def job(self) -> Job:
        return build_pretraining_job(self.config, prepare_pretraining(self.config))


def pretrain(config: PretrainConfig, *, name: str = "pretrain", console: Console | None = None) -> TrainResult:
    """Pretrains an encoder on text: reads, indexes, trains, evaluates, and writes the run's folder.

    Args:
        config: The config.
        name: The run's name if `config.run.dir` gives no folder.
        console: The terminal for tables and progress; by default standard error.

    Raises:
        UserError: Bad input, before anything is written; or a loss that is not finite.
    """
    return run_task(Pretraining(config), name=name, console=console)
