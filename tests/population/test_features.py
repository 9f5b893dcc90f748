"""Cached features: equal to the encoder in the loop, never stale, never cut short."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from pairjax.base.config import Config, OptimConfig, TrainConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.feature_config import FeatureConfig
from pairjax.base.model_config import CombineConfig, InteractConfig, ModelConfig
from pairjax.base.params import flatten, merge, split
from pairjax.base.types import Batch, Pairs, Params
from pairjax.finetune.job import build_job
from pairjax.finetune.prepare import Prepared, prepare
from pairjax.population.features import Features, cached_features
from pairjax.step.losses import make_loss
from pairjax.step.optim import build_optimizer, decay_mask, rate_multipliers, trainable_paths
from pairjax.step.programs import hypers_of
from pairjax.step.state import init_state
from pairjax.step.step import make_train_step
from tests.cli.conftest import write_pairs
from tests.tiny import write_tiny_encoder

TEXTS = Pairs(("the man sleeps", "a dog"), ("the woman runs and runs and runs", "the man sleeps"), None)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("features") / "encoder")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_pairs(folder / "train.tsv", start=0, rows=30)
    write_pairs(folder / "dev.tsv", start=40, rows=9)
    return folder


def make(folder: Path, encoder: Path, *, pairs: Pairs = TEXTS, **options: Any) -> Features:
    given = {name: options.pop(name) for name in ("max_length", "truncation", "overwrite") if name in options}
    return cached_features([pairs], folder, FeatureConfig(encoder=str(encoder), **options), **given)


def config_of(encoder: Path, data: Path, **model: Any) -> Config:
    return Config(
        data=DataConfig(path=str(data), max_length=32, buckets=2),
        model=ModelConfig(encoder=str(encoder), kind="bi", **model),
        optim=OptimConfig(learning_rate=1e-2, freeze="encoder"),
        train=TrainConfig(batch_size=8, max_steps=12),
    )


def run_from_cache(config: Config, prepared: Prepared, features: Features, *, tokens: bool) -> Params:
    """The run of `build_job`, its batches and hypers the same, with the encoder's part read from the cache."""
    sides = features.sides(prepared.data.splits["train"])
    trainable, frozen = split(
        prepared.params, trainable_paths(config.optim, prepared.params, pooler_kept=prepared.pooler_kept)
    )
    frozen = {name: part for name, part in frozen.items() if name != "encoder"}
    optimizer = build_optimizer(
        config.optim, total_steps=12, decay=decay_mask(trainable), multiplier=rate_multipliers(config.optim, trainable)
    )

    def apply(params: Params, batch: Batch, *, key: Any = None, rates: Any = None) -> jax.Array:
        read = prepared.fns.head if tokens else lambda p, x, _, **rest: prepared.fns.head_pooled(p, x, **rest)
        return read(params, batch.cached, batch, key=key, rates=rates)

    step = make_train_step(apply, make_loss(config.loss, prepared.task, None), optimizer)
    state = init_state(trainable, optimizer, key=jax.random.key(config.train.seed))
    job = build_job(config, prepared)
    for _, batch in job.batches(0):
        cached = features.hidden(sides, batch) if tokens else features.vectors(sides, batch)
        state, _ = step(state, frozen, batch._replace(cached=cached), hypers_of(config))
    return merge(state.params, frozen)


@pytest.mark.parametrize("tokens", [False, True])
def test_training_from_the_cache_is_training_with_the_frozen_encoder_in_the_loop(
    tokens: bool, encoder: Path, data: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"combine": CombineConfig(features=("|u-v|", "u*v"))}
    if tokens:
        options["interact"] = InteractConfig(kind="cross", layers=1, heads=2)
    config = config_of(encoder, data, **options)
    prepared = prepare(config)
    job = build_job(config, prepared)
    state = job.state
    for _, batch in job.batches(0):
        state, _ = job.step(state, batch)
    assert int(state.step) == 12
    features = cached_features(
        prepared.data.splits.values(),
        tmp_path / "cache",
        FeatureConfig(encoder=str(encoder), tokens=tokens),
        max_length=32,
    )
    found = flatten(run_from_cache(config, prepared, features, tokens=tokens))
    start = flatten({name: part for name, part in prepared.params.items() if name != "encoder"})
    in_loop = flatten({name: part for name, part in job.params(state).items() if name != "encoder"})
    assert found.keys() == in_loop.keys()
    for path, leaf in in_loop.items():
        np.testing.assert_allclose(found[path], leaf, atol=2e-5, err_msg=path)
    assert np.abs(np.asarray(in_loop["head/logits/kernel"]) - np.asarray(start["head/logits/kernel"])).max() > 0.02


def test_each_distinct_text_is_encoded_once_and_a_second_look_reads(encoder: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    config = FeatureConfig(encoder=str(encoder))
    made = cached_features([TEXTS], tmp_path / "c", config, progress=seen.append)
    assert sum(seen) == 3
    assert list(made.index) == ["the man sleeps", "a dog", "the woman runs and runs and runs"]
    assert made.sides(TEXTS).tolist() == [[0, 2], [1, 0]]
    again = cached_features([TEXTS], tmp_path / "c", config, progress=seen.append)
    assert sum(seen) == 3
    assert again.notes == ()
    assert again.key == made.key
    np.testing.assert_array_equal(again.pooled, made.pooled)
    assert isinstance(again.pooled, np.memmap)


@pytest.mark.parametrize(("dtype", "error"), [("float16", 2e-3), ("bfloat16", 1.6e-2)])
def test_half_precision_is_the_rounding_of_single(dtype: str, error: float, encoder: Path, tmp_path: Path) -> None:
    full = make(tmp_path / "full", encoder, tokens=True)
    half = make(tmp_path / "half", encoder, tokens=True, dtype=dtype)
    assert half.tokens is not None
    assert str(half.pooled.dtype) == str(half.tokens.dtype) == dtype
    for one, other in ((full.pooled, half.pooled), (full.tokens, half.tokens)):
        np.testing.assert_array_equal(np.asarray(one).astype(other.dtype), np.asarray(other))
        assert np.abs(np.asarray(one) - np.asarray(other).astype(np.float32)).max() < error


def test_pooled_is_the_pool_of_the_tokens(encoder: Path, tmp_path: Path) -> None:
    for pooling, pool in (("mean", lambda t: t.mean(0)), ("max", lambda t: t.max(0)), ("cls", lambda t: t[0])):
        found = make(tmp_path / pooling, encoder, pooling=pooling, tokens=True)
        assert found.tokens is not None
        assert found.offsets is not None
        for row in range(3):
            part = np.asarray(found.tokens[found.offsets[row] : found.offsets[row + 1]])
            np.testing.assert_allclose(found.pooled[row], pool(part), atol=1e-6)


def test_what_changed_is_named_and_the_cache_made_again(encoder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    make(folder, encoder)
    assert "made from other pooling" in make(folder, encoder, pooling="cls").notes[0]
    assert "made from other max_length" in make(folder, encoder, pooling="cls", max_length=16).notes[0]
    more = Pairs(("another text",), ("a dog",), None)
    assert "made from other texts" in make(folder, encoder, pairs=more, pooling="cls", max_length=16).notes[0]
    with pytest.raises(UserError, match="lacks a text"):
        make(folder, encoder, pairs=more, pooling="cls", max_length=16).sides(TEXTS)


def test_other_weights_or_tokeniser_under_the_same_name_are_noticed(tmp_path: Path) -> None:
    encoder = write_tiny_encoder(tmp_path / "encoder", seed=0)
    first = make(tmp_path / "cache", encoder)
    before = np.array(first.pooled)
    write_tiny_encoder(encoder, seed=1)
    other = make(tmp_path / "cache", encoder)
    assert "made from other weights" in other.notes[0]
    assert np.abs(other.pooled - before).max() > 0.01
    write_tiny_encoder(encoder, seed=1, vocabulary=("the", "homem"))
    assert "tokenizer" in make(tmp_path / "cache", encoder).notes[0]


@pytest.mark.parametrize("damage", ["cut", "flip", "meta", "missing"])
def test_a_damaged_cache_is_made_again_and_said(damage: str, encoder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    good = np.array(make(folder, encoder).pooled)
    file = folder / ("meta.json" if damage == "meta" else "pooled.npy")
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        if damage == "flip":
            content[-3] ^= 16
        file.write_bytes(bytes(content if damage == "flip" else content[:-20]))
    again = make(folder, encoder)
    assert "made again" in again.notes[0]
    np.testing.assert_array_equal(again.pooled, good)
    assert make(folder, encoder).notes == ()


def test_an_interrupted_build_leaves_nothing_that_looks_finished(encoder: Path, tmp_path: Path) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_features([TEXTS], tmp_path / "c", FeatureConfig(encoder=str(encoder)), progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_another_encoders_cache_and_a_foreign_folder_are_refused(encoder: Path, tmp_path: Path) -> None:
    other = write_tiny_encoder(tmp_path / "other", seed=3)
    make(tmp_path / "cache", encoder)
    with pytest.raises(UserError, match="another encoder"):
        make(tmp_path / "cache", other)
    assert "overwritten" in make(tmp_path / "cache", other, overwrite=True).notes[0]
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not a feature cache"):
        make(foreign, encoder)
    assert (foreign / "thesis.tex").exists()
    with pytest.raises(UserError, match="not a feature cache"):
        make(foreign, encoder, overwrite=True)
    assert (foreign / "thesis.tex").exists()


def test_pooled_alone_gives_no_tokens_and_a_one_sided_cut_is_refused(encoder: Path, tmp_path: Path) -> None:
    features = make(tmp_path / "cache", encoder)
    zeros = np.zeros((1, 4), np.int32)
    batch = Batch(zeros, zeros, zeros, zeros, zeros, zeros, zeros, zeros)
    with pytest.raises(UserError, match="tokens"):
        features.hidden(features.sides(TEXTS), batch)
    with pytest.raises(UserError, match="longest_first"):
        make(tmp_path / "other", encoder, truncation="only_first")


def test_the_command_says_what_it_did(
    encoder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pairjax.cli.main import main

    args = ["features", "--data.path", str(data), "--features.encoder", str(encoder), "--output", str(tmp_path / "f")]
    args += ["--data.max-length", "32", "--compilation-cache", ""]
    assert main(args) == 0
    # B repeats A, or negates it: 30 + 9 texts, and the negated half of them.
    assert "59 distinct texts of 39 pairs" in capsys.readouterr().out
    assert main(args) == 0
    assert "read from the cache" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "f" / "meta.json").read_text())["files"]) == {"pooled.npy", "texts.jsonl"}
    other = write_tiny_encoder(tmp_path / "other", seed=3)
    assert main([*args, "--features.encoder", str(other)]) == 2
    assert "another encoder" in capsys.readouterr().err
