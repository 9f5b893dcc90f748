"""Fine-tuning from a config to a run's folder: `pairjax.train` and the command `pairjax train`."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console

from pairjax.base.config import Config
from pairjax.base.types import PairData
from pairjax.data.python_data import read_python_data
from pairjax.finetune.job import build_job
from pairjax.finetune.prepare import plain_config, prepare
from pairjax.run.loop import Job
from pairjax.run.session import TrainResult, run_task

__all__ = ["TrainResult", "train"]


@dataclass(frozen=True)
class FineTuning:
    """Fine-tuning on pairs, as `run_task` runs it.

    Attributes:
        config: The config.
        data: Pairs that replace those of `config.data`, if given.
    """

    config: Config
    data: PairData | None = None

    def plain(self) -> dict[str, Any]:
        return plain_config(self.config)

    def defaults(self) -> dict[str, Any]:
        return plain_config(Config())

    def check(self) -> None:
        """Checks nothing: which metrics there are depends on the labels."""

    def job(self) -> Job:
        return build_job(self.config, prepare(self.config, data=self.data))


def train(config: Config, *, name: str = "pairs", console: Console | None = None, data: object = None) -> TrainResult:
    """Fine-tunes a model on pairs: reads, trains, evaluates, and writes the run's folder.

    Args:
        config: The config.
        name: The run's name if `config.run.dir` gives no folder.
        console: The terminal for tables and progress; by default standard error, so standard output stays clean.
        data: Pairs that replace those of `config.data`: a `PairData`, or what `read_python_data` reads: a
            `datasets.DatasetDict`, or data frames or lists of dicts by split. All splits but train are scored.

    Raises:
        UserError: Bad input, before anything is written; or a loss that is not finite.
    """
    pairs = None if data is None else read_python_data(data, config.data)
    return run_task(FineTuning(config, pairs), name=name, console=console)
