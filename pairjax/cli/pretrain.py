"""`pairjax pretrain [experiments/pretrain_X.py] [options]`."""

from collections.abc import Sequence
from pathlib import Path

from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import PretrainConfig
from pairjax.cli.options import load_experiment, parse, split_experiment

DESCRIPTION = """Pretrain a BERT on text, or go on with one: pairjax pretrain [experiments/pretrain_X.py] [options].

Learns masked tokens, and next segments (nsp), their order (sop) or neither. Without --data.corpus rules make the
text."""


def main(args: Sequence[str]) -> int:
    path, rest = split_experiment(args)
    default, description, name = PretrainConfig(), DESCRIPTION, "pretrain"
    if path is not None:
        module = load_experiment(path)
        default, description, name = module.config, module.__doc__ or DESCRIPTION, Path(path).stem
        if not isinstance(default, PretrainConfig):
            raise UserError(
                f"{path}: its config is not of pretraining", got=type(default).__name__, fix="use pairjax train"
            )
    config = parse(PretrainConfig, rest, default=default, prog="pairjax pretrain", description=description)

    from pairjax.pretrain.train import pretrain
    from pairjax.run.distributed import initialize
    from pairjax.run.liveness import watched

    initialize()
    with watched():
        return pretrain(config, name=name).exit_code
