"""Shared by the tests of sweeps: a tiny config with its data, and sweeps of it."""

from pathlib import Path
from typing import Any

from pairjax import CombineConfig, Config, DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from pairjax.cli.space import set_fields
from pairjax.sweep.sweep import Sweep, SweepDesign, prepare_sweep, without_choice
from pairjax.sweep.trials import Trial
from tests.cli.conftest import write_pairs
from tests.tiny import write_tiny_encoder


def tiny_config(folder: Path) -> Config:
    """A frozen tiny encoder on 48 pairs for training, 20 steps."""
    encoder = write_tiny_encoder(folder / "encoder")
    data = folder / "pairs"
    data.mkdir()
    write_pairs(data / "train.tsv", start=0, rows=48)
    write_pairs(data / "dev.tsv", start=48, rows=12)
    return without_choice(
        Config(
            data=DataConfig(path=str(data), max_length=64, layout="padded"),
            model=ModelConfig(encoder=str(encoder), kind="bi", combine=CombineConfig(features=("|u-v|", "u*v"))),
            optim=OptimConfig(freeze="encoder", learning_rate=3e-2),
            train=TrainConfig(batch_size=8, max_steps=20),
            run=RunConfig(compilation_cache="", progress=False),
        )
    )


def trials_of(config: Config, *points: dict[str, Any]) -> list[Trial]:
    return [Trial(point, set_fields(config, point)) for point in points]


def sweep_of(trials: list[Trial], folder: Path, **design: Any) -> Sweep:
    options: dict[str, Any] = {"method": "grid", "folds": 3}
    return prepare_sweep(trials, SweepDesign(**options | design), folder=folder, log=lambda line: None)


RATES = [{"optim.learning_rate": rate} for rate in (1e-4, 3e-3, 3e-2)]
