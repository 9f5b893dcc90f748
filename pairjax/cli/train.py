"""`pairjax train [experiments/X.py | RUN/config.json] [options]`: fine-tunes an encoder on pairs."""

import dataclasses
from collections.abc import Sequence

from pairjax.base.config import Config
from pairjax.cli.options import default_config, parse, split_experiment, without_source

DESCRIPTION = """Fine-tune an encoder on pairs: pairjax train [experiments/X.py | RUN/config.json] [options].

Without a file, the defaults are those below. With a file, its config gives the defaults: that of an experiment, or the
config.json of a run. Options override both."""


def main(args: Sequence[str]) -> int:
    """Trains a model and returns the exit code."""
    path, rest = split_experiment(args)
    default, text, name = default_config(Config, path, command="pairjax train", name="pairs")
    default = dataclasses.replace(default, data=without_source(default.data, rest))
    config = parse(Config, rest, default=default, prog="pairjax train", description=text or DESCRIPTION)

    from pairjax.finetune.train import train
    from pairjax.run.distributed import initialize
    from pairjax.run.liveness import watched

    initialize()
    with watched():
        return train(config, name=name).exit_code
