"""Whole runs with options of the optimiser: they stop and go on bit for bit, and leave plain models."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import pairjax
from pairjax import Config, DataConfig, EvalConfig, LossConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from pairjax.base.optim_config import AverageConfig, LoraConfig
from pairjax.base.params import flatten
from pairjax.finetune.job import build_job
from pairjax.finetune.prepare import prepare
from pairjax.run.checkpoint import Checkpointer
from pairjax.step.state import TrainState
from tests.cli.conftest import write_pairs
from tests.finetune.test_finetune import losses, start, stop_at, tensors
from tests.tiny import write_tiny_encoder

RATE = 1e-3
EMA = AverageConfig("ema", decay=0.5)
TOGETHER = "lora-ema-gradual"
OPTIONS = {
    TOGETHER: (OptimConfig(learning_rate=RATE, lora=LoraConfig(rank=2), average=EMA, gradual=0.75), 0.0),
    "ema": (OptimConfig(learning_rate=RATE, average=EMA), 0.0),
    "mean": (OptimConfig(learning_rate=RATE, average=AverageConfig("mean", start=0.25)), 0.0),
    "gradual": (OptimConfig(learning_rate=RATE, gradual=0.75), 0.0),
    "initial": (OptimConfig(learning_rate=RATE, decay_to="initial", weight_decay=0.5), 0.0),
    "lora": (OptimConfig(learning_rate=RATE, lora=LoraConfig(rank=2)), 0.0),
    "reinit-r-drop": (OptimConfig(learning_rate=RATE, reinit_layers=1, bias_correction=False), 1.0),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("menu")
    encoder = write_tiny_encoder(folder / "encoder", layers=2)
    (folder / "pairs").mkdir()
    write_pairs(folder / "pairs/train.tsv", start=0, rows=21)
    write_pairs(folder / "pairs/dev.tsv", start=40, rows=9)
    return Config(
        data=DataConfig(path=str(folder / "pairs"), max_length=64, buckets=1),
        model=ModelConfig(encoder=str(encoder)),
        train=TrainConfig(batch_size=4, max_steps=6, eval_every=3, keep="last"),
        evaluation=EvalConfig(bootstrap=100, swap=False),
        run=RunConfig(compilation_cache="", progress=False),
    )


def with_option(base: Config, name: str) -> Config:
    optim, r_drop = OPTIONS[name]
    return dataclasses.replace(base, optim=optim, loss=LossConfig(r_drop=r_drop))


def last_state(config: Config, folder: Path) -> TrainState:
    """The state of a run's newest checkpoint."""
    job = build_job(config, prepare(config))
    identity = json.loads((folder / "checkpoints/digests/6.json").read_text())["identity"]
    with Checkpointer(folder / "checkpoints", identity=identity) as checkpoints:
        actual: TrainState = checkpoints.restore(job.state).state
    return actual


@pytest.fixture(scope="module")
def together(base: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A whole run with LoRA, averaged weights and gradual unfreezing."""
    config = with_option(base, TOGETHER)
    return config, start(config, tmp_path_factory.mktemp("together") / "r").dir


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS if name != TOGETHER])
def test_a_stopped_run_with_one_option_resumes_bit_for_bit(
    base: Config, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_option(base, name)
    check_resume(config, start(config, tmp_path / "whole").dir, tmp_path / "cut", monkeypatch)


def test_a_stopped_run_with_three_options_resumes_bit_for_bit(
    together: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_resume(*together, tmp_path / "cut", monkeypatch)


def check_resume(config: Config, whole: Path, cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops a run after the fourth of six updates and goes on with it."""
    stop_at(4, monkeypatch)
    assert start(config, cut).exit_code == 143
    monkeypatch.undo()
    assert start(config, cut, resume=True).exit_code == 0
    expected, actual = tensors(whole), tensors(cut)
    assert expected.keys() == actual.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(actual[key], value, err_msg=key)
    assert losses(cut) == losses(whole)


def test_the_checkpoint_holds_what_trains_alone_and_the_model_is_plain(together: tuple[Config, Path]) -> None:
    """The model's encoder is the checkpoint's with A B added to query and value, by transformers' names."""
    config, folder = together
    state = last_state(config, folder)
    trained, averaged = flatten(state.params), flatten(state.average)
    assert {path.split("/")[0] for path in trained} == {"encoder", "head"}
    assert all(path.startswith("head/") or path.endswith(("/lora_a", "/lora_b")) for path in trained)
    assert averaged.keys() == trained.keys()
    arrays = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert len(arrays) == 2 * len(trained)
    plain = load_file(folder / "model/encoder/model.safetensors")
    first = load_file(Path(config.model.encoder) / "model.safetensors")
    assert plain.keys() == first.keys()
    for name, value in plain.items():
        adapted = name.endswith(("self.query.weight", "self.value.weight"))
        assert np.array_equal(value, first[name]) != adapted, name
    card = (folder / "model/README.md").read_text()
    assert "rank 2, alpha 16.0" in card
    assert "gradual 0.75" in card
    a, b = (averaged[f"encoder/layer_1/attention/query/lora_{side}"] for side in "ab")
    name = "encoder.layer.1.attention.self.query.weight"
    np.testing.assert_allclose(plain[name], first[name] + 8.0 * np.asarray(a @ b).T, atol=1e-6)


def test_the_averaged_weights_are_scored_and_saved(together: tuple[Config, Path]) -> None:
    """The saved model gives the probabilities that the run wrote for dev."""
    config, folder = together
    state, head = last_state(config, folder), load_file(folder / "model/head.safetensors")
    kernel = head["head/logits/kernel"]
    np.testing.assert_array_equal(kernel, state.average["head"]["logits"]["kernel"])
    assert not np.array_equal(kernel, state.params["head"]["logits"]["kernel"])
    rows = [json.loads(line) for line in (folder / "predictions.dev.jsonl").read_text().splitlines()]
    actual = pairjax.load(folder).predict([(row["sentence1"], row["sentence2"]) for row in rows])
    for answer, row in zip(actual, rows, strict=True):
        given = answer.to_json()
        assert given["label"] == row["label"]
        assert given["probabilities"] == pytest.approx(row["probabilities"], abs=1e-5)
