"""A run that takes seconds, for tests that damage it."""

import dataclasses
import io
from pathlib import Path

from rich.console import Console

from pairjax import Config, DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from pairjax.finetune.train import train
from tests.cli.conftest import write_pairs
from tests.tiny import write_tiny_encoder


def tiny_config(folder: Path) -> Config:
    """Writes an encoder and pairs to `folder`, and returns the config of 8 steps with a checkpoint every 2 steps."""
    encoder = write_tiny_encoder(folder / "encoder", layers=1, hidden=8)
    (folder / "pairs").mkdir()
    write_pairs(folder / "pairs" / "train.tsv", start=0, rows=21)
    write_pairs(folder / "pairs" / "dev.tsv", start=40, rows=9)
    return Config(
        data=DataConfig(path=str(folder / "pairs"), max_length=48, buckets=1),
        model=ModelConfig(encoder=str(encoder)),
        train=TrainConfig(batch_size=4, max_steps=8, eval_every=2, keep="last"),
        evaluation=EvalConfig(bootstrap=100, swap=False, fit=False),
        run=RunConfig(compilation_cache="", progress=False, keep_checkpoints=3),
    )


def start(config: Config, folder: Path, **run: object) -> str:
    """Runs a config in a folder and returns its console output."""
    told = io.StringIO()
    chosen = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=str(folder), **run))
    train(chosen, console=Console(file=told, width=4000))
    return told.getvalue()


def options(config: Config) -> list[str]:
    """Returns the same run, without its folder, as options of `pairjax train`."""
    given = {
        "data.path": config.data.path,
        "data.max-length": config.data.max_length,
        "data.buckets": config.data.buckets,
        "model.encoder": config.model.encoder,
        "train.batch-size": config.train.batch_size,
        "train.max-steps": config.train.max_steps,
        "train.eval-every": config.train.eval_every,
        "train.keep": config.train.keep,
        "evaluation.bootstrap": config.evaluation.bootstrap,
        "run.compilation-cache": config.run.compilation_cache,
        "run.keep-checkpoints": config.run.keep_checkpoints,
    }
    flags = ["--evaluation.no-swap", "--evaluation.no-fit", "--run.no-progress"]
    return [f"--{name}={value}" for name, value in given.items()] + flags


def outcome(run: Path) -> dict[str, bytes]:
    """Returns the files that two runs of one config must share byte for byte."""
    names = ("model/encoder/model.safetensors", "model/head.safetensors", "metrics.jsonl", "predictions.dev.jsonl")
    return {name: (run / name).read_bytes() for name in names}
