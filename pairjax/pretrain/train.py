"""Pretraining from a config to a run's folder: `pairjax.pretrain`, and the command of that name."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from pairjax.base.pretrain_config import PretrainConfig
from pairjax.base.types import Params
from pairjax.pretrain.finish import finish_pretraining
from pairjax.pretrain.job import build_pretraining, choose_metric
from pairjax.pretrain.prepare import (
    plain_pretrain_config,
    prepare_pretraining,
)
from pairjax.run.distributed import all_or_none, is_main
from pairjax.run.folder import RunFolder, check_run
from pairjax.run.loop import Fit
from pairjax.run.session import TrainResult, check_alike, run_session
from pairjax.run.tracking import check_tracking
from pairjax.step.compilation import use_compilation_cache


def pretrain(config: PretrainConfig, *, name: str = "pretrain", console: Console | None = None) -> TrainResult:
    """Run a config: read, index, train, evaluate, and write the run's folder.

    Args:
        config: What to do.
        name: The run's name where `config.run.dir` gives no folder.
        console: Where tables and progress go; by default standard error.

    Raises:
        UserError: Bad input, before anything is written; or a loss that is not finite.
    """
    shown = console or Console(stderr=True, quiet=not is_main())
    plain = plain_pretrain_config(config)
    with all_or_none():
        if is_main():
            check_run(config.run, plain, default_name=name)
        check_tracking(config.run)
        choose_metric(config)
    use_compilation_cache(config.run.compilation_cache)
    with all_or_none():
        prepared = prepare_pretraining(config)
        programs, job, end = build_pretraining(config, prepared)
    check_alike(plain, data=prepared.digests(), params=prepared.params)

    def finish(done: Fit, params: Params, run: RunFolder, origin: Mapping[str, Any]) -> dict[str, Any]:
        return finish_pretraining(config, end, done, params, run=run, origin=origin, console=shown)

    return run_session(
        programs,
        job,
        config=config.run,
        train=config.train,
        plain=plain,
        name=name,
        unit="tokens",
        notes=(*prepared.notes, *end.notes),
        console=shown,
        finish=finish,
    )
