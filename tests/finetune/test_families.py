"""Every later family in whole runs: trained, saved, loaded, cached as features and laid out as a population."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import pairjax
from pairjax import Config, DataConfig, EvalConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from pairjax.base.feature_config import FeatureConfig
from pairjax.base.optim_config import LoraConfig
from pairjax.data.sources import load_pairs
from pairjax.inference.predictions import Prediction
from pairjax.population.end_to_end import end_to_end_task
from pairjax.population.features import cached_features
from tests.cli.conftest import write_pairs
from tests.finetune.test_finetune import start
from tests.tiny import write_tiny_encoder

NAMES = ("mpnet", "albert", "modernbert", "deberta-v2")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=NAMES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp(request.param)
    encoder = write_tiny_encoder(folder / "encoder", family=request.param)
    (folder / "pairs").mkdir()
    write_pairs(folder / "pairs/train.tsv", start=0, rows=21)
    write_pairs(folder / "pairs/dev.tsv", start=40, rows=9)
    return Config(
        data=DataConfig(path=str(folder / "pairs"), max_length=64, layout="packed"),
        model=ModelConfig(encoder=str(encoder)),
        train=TrainConfig(batch_size=4, max_steps=3, eval_every=3, keep="last"),
        evaluation=EvalConfig(bootstrap=100, swap=False),
        run=RunConfig(compilation_cache="", progress=False),
    )


def answers(folder: Path) -> list[Prediction]:
    return pairjax.load(folder).predict([("a man", "the dog"), ("some men", "no dog is a man")])


def test_a_packed_cross_encoder_with_lora_trains_and_loads(base: Config, tmp_path: Path) -> None:
    config = dataclasses.replace(base, optim=OptimConfig(lora=LoraConfig(rank=2)))
    run = start(config, tmp_path / "r")
    assert run.exit_code == 0
    first, second = answers(run.dir)
    assert np.isfinite(list(first.probabilities.values())).all()
    assert first.probabilities != second.probabilities
    assert (run.dir / "model/encoder/model.safetensors").is_file()


def test_a_bucketed_bi_encoder_with_frozen_layers_and_layer_wise_rates_trains_and_loads(
    base: Config, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, layout="bucketed", buckets=1),
        model=dataclasses.replace(base.model, kind="bi"),
        optim=OptimConfig(freeze="layers", freeze_layers=1, layer_decay=0.9),
    )
    run = start(config, tmp_path / "r")
    assert run.exit_code == 0
    assert len(answers(run.dir)) == 2


def test_features_and_populations_read_the_family(base: Config, tmp_path: Path) -> None:
    data = load_pairs(base.data)
    features = cached_features(
        data.splits.values(), tmp_path / "features", FeatureConfig(encoder=base.model.encoder, tokens=True)
    )
    assert np.isfinite(features.pooled).all()
    task = end_to_end_task(data, base.model, max_length=64, truncation="longest_first")
    assert task.batch.input_ids.shape[0] == 30
