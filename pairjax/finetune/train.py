"""Fine-tuning from a config to a run's folder: `pairjax.train`, and the command of that name."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from pairjax.base.config import Config
from pairjax.base.types import PairData, Params
from pairjax.finetune.finish import finish
from pairjax.finetune.job import build_trainer
from pairjax.finetune.prepare import plain_config, prepare
from pairjax.run.distributed import all_or_none, is_main
from pairjax.run.folder import RunFolder, check_run
from pairjax.run.loop import Fit
from pairjax.run.session import TrainResult, check_alike, run_session
from pairjax.run.tracking import check_tracking
from pairjax.step.compilation import use_compilation_cache

__all__ = ["TrainResult", "train"]


def train(
    config: Config, *, name: str = "pairs", console: Console | None = None, data: PairData | None = None
) -> TrainResult:
    """Run a config: read, train, evaluate, and write the run's folder.

    Args:
        config: What to do.
        name: The run's name where `config.run.dir` gives no folder.
        console: Where tables and progress go; by default standard error, so that nothing mixes with output.
        data: Pairs in the place of those that `config.data` names, a fold of them, say. All splits but train are
            scored.

    Raises:
        UserError: Bad input, before anything is written; or a loss that is not finite.
    """
    shown = console or Console(stderr=True, quiet=not is_main())
    plain = plain_config(config)
    with all_or_none():
        if is_main():
            check_run(config.run, plain, default_name=name)
        check_tracking(config.run)
    use_compilation_cache(config.run.compilation_cache)
    with all_or_none():
        prepared = prepare(config, data=data)
        trainer = build_trainer(config, prepared)
    check_alike(plain, data=prepared.data.source, params=prepared.params)

    def end(done: Fit, params: Params, run: RunFolder, origin: Mapping[str, Any]) -> dict[str, Any]:
        return finish(config, trainer, done, params, run=run, origin=origin, console=shown)

    return run_session(
        trainer.programs,
        trainer.job,
        config=config.run,
        train=config.train,
        plain=plain,
        name=name,
        unit="pairs",
        notes=(*prepared.notes, *trainer.notes),
        console=shown,
        finish=end,
    )
