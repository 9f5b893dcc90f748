"""`pairjax train [experiments/X.py] [options]`: fine-tunes an encoder on pairs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from pairjax.base.config import Config
from pairjax.cli.options import load_experiment, parse, split_experiment, without_source

DESCRIPTION = """Fine-tune an encoder on pairs: pairjax train [experiments/X.py] [options].

Without a file, the defaults are those below. With a file, its config gives the defaults. Options override both."""


def main(args: Sequence[str]) -> int:
    """Trains a model and returns the exit code."""
    path, rest = split_experiment(args)
    default, description, name = Config(), DESCRIPTION, "pairs"
    if path is not None:
        module = load_experiment(path)
        default, description, name = module.config, module.__doc__ or DESCRIPTION, Path(path).stem
    default = dataclasses.replace(default, data=without_source(default.data, rest))
    config = parse(Config, rest, default=default, prog="pairjax train", description=description)

    from pairjax.finetune.train import train
    from pairjax.run.distributed import initialize
    from pairjax.run.liveness import watched

    initialize()
    with watched():
        return train(config, name=name).exit_code
