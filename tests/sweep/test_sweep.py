"""Sweeps on a tiny encoder: populations and whole runs, going on, divergence, chance on noise."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairjax import Config, DataConfig, UserError
from pairjax.base.feature_config import FeatureConfig
from pairjax.base.optim_config import AverageConfig, LoraConfig
from pairjax.base.types import Pairs
from pairjax.cli.options import load_experiment
from pairjax.cli.space import set_fields
from pairjax.data.sources import load_pairs
from pairjax.population.features import cached_features
from pairjax.sweep.end_to_end import EndToEndTrainer
from pairjax.sweep.experiment_file import config_source
from pairjax.sweep.pooled import PooledTrainer
from pairjax.sweep.results import write_sweep
from pairjax.sweep.sweep import Sweep, SweepDesign, prepare_sweep
from pairjax.sweep.trials import FILE
from pairjax.weights import read_encoder_spec
from tests.sweep.sweeps import RATES, sweep_of, tiny_config, trials_of


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny_config(tmp_path_factory.mktemp("sweep"))


def test_a_sweep_goes_on_trial_by_trial_and_a_larger_one_trains_what_is_new(config: Config, tmp_path: Path) -> None:
    first = sweep_of(trials_of(config, *RATES[:2]), tmp_path).run()
    assert (first.trained, first.found) == (2 * 6, 0)
    again = sweep_of(trials_of(config, *RATES), tmp_path).run()
    assert (again.trained, again.found) == (6, 12)
    whole = sweep_of(trials_of(config, *RATES), tmp_path / "whole").run()
    assert [row.score.mean for row in again.rows] == pytest.approx([row.score.mean for row in whole.rows])
    assert again.nested == pytest.approx(whole.nested)
    damaged = tmp_path / "trials" / again.rows[0].id / FILE
    damaged.write_text(damaged.read_text()[:-30])
    lines: list[str] = []
    repaired = prepare_sweep(
        trials_of(config, *RATES), SweepDesign("grid", folds=3), folder=tmp_path, log=lambda line: lines.append(line)
    )
    assert "cannot be read" in lines[0]
    assert repaired.run().trained == 6
    other = set_fields(config, {"data.max_length": 32})
    assert sweep_of(trials_of(other, *RATES), tmp_path).run().found == 0


def test_a_sweep_groups_shared_texts_and_keeps_the_scores_of_other_folds_apart(config: Config, tmp_path: Path) -> None:
    def prepared(group_texts: bool, data: Path | None = None, **fields: Any) -> Sweep:
        path = config.data.path if data is None else str(data)
        own = dataclasses.replace(config, data=dataclasses.replace(config.data, path=path, group_texts=group_texts))
        return sweep_of(trials_of(own, fields), tmp_path / "sweep")

    # No text is shared, so nothing changes: neither the folds nor the trials' folders.
    assert prepared(True).trials[0].id == prepared(False).trials[0].id
    shared = tmp_path / "shared"
    shared.mkdir()
    lines = Path(str(config.data.path), "train.tsv").read_text().splitlines()
    turned = ["\t".join((second, first, label)) for first, second, label in (line.split("\t") for line in lines[1:])]
    for name in ("train", "dev"):
        (shared / f"{name}.tsv").write_text("\n".join([*lines, *turned]) + "\n")
    grouped, apart = prepared(True, shared), prepared(False, shared)
    assert grouped.trials[0].id != apart.trials[0].id
    fold = grouped.inputs.data.fold
    assert (fold[: len(turned)] == fold[len(turned) :]).all()
    assert "48 groups of pairs that share texts, the largest of 2 pairs" in grouped.notes[-1]
    assert "pairs that share texts may be in two folds" in apart.notes[-1]
    # Scores that were fitted on all folds have another identity too.
    balanced = prepared(True, shared, **{"loss.class_weights": "balanced"})
    assert balanced.trials[0].id != grouped.trials[0].id


def test_trials_know_an_encoders_folder_by_its_weights(config: Config, tmp_path: Path) -> None:
    def trial(encoder: Path) -> str:
        swept = set_fields(config, {"model.encoder": str(encoder)})
        return sweep_of(trials_of(swept, RATES[0]), tmp_path / "sweep").trials[0].path.name

    one, other = tmp_path / "one", tmp_path / "other"
    shutil.copytree(config.model.encoder, one)
    shutil.copytree(config.model.encoder, other)
    assert trial(one) == trial(other)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert trial(one) != trial(other)


@pytest.mark.parametrize("freeze", ["encoder", pytest.param("none", marks=pytest.mark.slow)])
def test_a_trial_that_diverges_is_reported_and_spoils_no_other(config: Config, tmp_path: Path, freeze: str) -> None:
    config = set_fields(config, {"optim.freeze": freeze, "train.max_steps": 3, "optim.clip_norm": 0.0})
    points = [{"optim.learning_rate": rate} for rate in ((1e-2, 1e38) if freeze == "encoder" else (1e-4, 1e38))]
    design: dict[str, Any] = {"folds": 2, "nested": False} if freeze == "encoder" else {"folds": 0}
    result = sweep_of(trials_of(config, *points), tmp_path, **design).run()
    good, bad = result.rows
    assert (good.diverged, bad.diverged) == (0, bad.runs)
    assert math.isfinite(good.score.mean)
    assert math.isnan(bad.score.mean)
    assert result.best == good.trial
    alone = sweep_of(trials_of(config, points[0]), tmp_path / "alone", **design).run()
    assert alone.rows[0].score == pytest.approx(good.score, nan_ok=True)


def test_halving_climbs_on_cached_features(config: Config, tmp_path: Path) -> None:
    points = [{"optim.learning_rate": rate} for rate in (1e-5, 1e-4, 1e-3, 3e-2)]
    result = sweep_of(trials_of(config, *points), tmp_path, method="halving", factor=2).run()
    assert [row.steps for row in result.rows] == [20, 20, 10, 10]
    assert result.rows[0].trial.values == points[3]
    assert result.nested is not None
    assert result.nested.mean > 0.7


def test_a_cache_given_to_a_sweep_is_read_or_refused_and_never_replaced(config: Config, tmp_path: Path) -> None:
    given = tmp_path / "features"
    splits = load_pairs(config.data).splits.values()
    wanted = FeatureConfig(encoder=config.model.encoder, pooling="mean", tokens=True)
    cached_features(splits, given, wanted, max_length=64)
    kept = {path.name: path.read_bytes() for path in given.iterdir()}
    design = SweepDesign("grid", folds=3)

    def sweep(swept: Config, cache: Path) -> Sweep:
        trials = trials_of(swept, *RATES)
        return prepare_sweep(trials, design, folder=tmp_path / "sweep", log=lambda line: None, features=cache)

    found = sweep(config, given).run()
    assert not list((tmp_path / "sweep" / "cache").glob("features-*"))
    own = sweep_of(trials_of(config, *RATES), tmp_path / "own").run()
    assert [row.score for row in found.rows] == [row.score for row in own.rows]
    for changed, cache, said in (
        ({}, tmp_path / "none", "not a feature cache"),
        ({"model.pooling": "cls"}, given, "made from other pooling"),
        ({"data.max_length": 32}, given, "made from other max_length"),
        ({"optim.freeze": "none"}, given, "serves no trial that trains more than a head"),
    ):
        with pytest.raises(UserError, match=said):
            sweep(set_fields(config, changed), cache)
    cached_features([Pairs(("a",), ("b",), np.zeros(1, np.int64))], tmp_path / "few", wanted, max_length=64)
    with pytest.raises(UserError, match="the cache lacks a text"):
        sweep(config, tmp_path / "few")
    assert {path.name: path.read_bytes() for path in given.iterdir()} == kept


def test_labels_that_are_noise_score_chance_though_the_best_trial_looks_better(config: Config, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "noise"
    folder.mkdir()
    for split, rows in (("train", 150), ("dev", 10)):
        labels = rng.permutation(["yes", "no"] * (rows // 2))
        words = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), (rows, 2, 6))
        lines = ["sentence1\tsentence2\tlabel"]
        lines += [f"{' '.join(one)}\t{' '.join(two)}\t{label}" for (one, two), label in zip(words, labels, strict=True)]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    noise = set_fields(config, {"train.max_steps": 30})
    noise = dataclasses.replace(noise, data=DataConfig(path=str(folder), max_length=32, layout="padded"))
    points = [
        {"optim.learning_rate": float(rate), "model.dropout.head": drop, "optim.weight_decay": decay}
        for rate in np.geomspace(1e-3, 1.0, 8)
        for drop in (0.0, 0.3, 0.6)
        for decay in (0.01, 1.0)
    ]
    nested, best = [], []
    for seed in range(4):
        result = sweep_of(trials_of(noise, *points), tmp_path / str(seed), fold_seed=seed, folds=5).run()
        assert result.nested is not None
        nested.append(result.nested.mean)
        best.append(result.rows[0].score.mean)
    # 150 pairs: one mean of 5 folds has a standard error of 0.04; the four share pairs.
    assert abs(np.mean(nested) - 0.5) < 0.06
    assert np.mean(best) - np.mean(nested) > 0.03


def test_the_best_config_is_an_experiment_file_that_reads_back_the_same(config: Config, tmp_path: Path) -> None:
    sweep = sweep_of(trials_of(config, *RATES), tmp_path)
    result = sweep.run()
    write_sweep(result, sweep.design, tmp_path, experiment=None, command='pairjax sweep "x"', provenance={})
    assert load_experiment(str(tmp_path / "best.py")).config == result.best.config
    lines = [json.loads(line) for line in (tmp_path / "table.jsonl").read_text().splitlines()]
    assert [line["rank"] for line in lines] == [1, 2, 3]
    assert lines[0]["values"] == dict(result.best.values)
    table = (tmp_path / "table.csv").read_text().splitlines()
    assert table[0].startswith("rank,trial,optim.learning_rate,accuracy,low,high")
    assert len(table) == 4
    record = json.loads((tmp_path / "result.json").read_text())
    assert len(record["expected_maximum"]) == 3
    assert record["expected_maximum"][-1] == pytest.approx(lines[0]["score"]["value"])
    for name in ("marginals.svg", "expected_maximum.svg"):
        assert "</svg>" in (tmp_path / name).read_text()
    assert "learning-rate" in (tmp_path / "marginals.svg").read_text()


def test_a_combiner_of_ones_own_is_read_from_its_experiment(tmp_path: Path) -> None:
    own = Path(__file__).resolve().parents[2] / "experiments" / "own_combiner.py"
    config = load_experiment(str(own)).config
    (tmp_path / "best.py").write_text(config_source(config, 'said "so" \\ """', experiment=own))
    again = load_experiment(str(tmp_path / "best.py")).config
    assert again.model.combiner.__name__ == "Bilinear"
    assert again.data == config.data
    with pytest.raises(UserError, match="cannot be named"):
        config_source(config, "")


def test_only_what_a_cache_serves_trains_from_it(config: Config) -> None:
    spec = read_encoder_spec(Path(config.model.encoder))
    assert PooledTrainer.fits(config, spec)
    for field, value in {
        "optim.freeze": "none",
        "model.interact.kind": "cross",
        "model.pooling": "pooler",
        "model.dtype": "bfloat16",
        "optim.accumulate": 2,
        "data.truncation": "only_first",
    }.items():
        assert not PooledTrainer.fits(set_fields(config, {field: value}), spec), field
    gate = set_fields(config, {"model.combine.kind": "gate"})
    assert PooledTrainer.fits(gate, spec)
    assert not PooledTrainer.fits(set_fields(gate, {"optim.freeze": "all_but_head"}), spec)


@pytest.mark.parametrize("freeze", ["encoder", "all_but_head", "none"])
@pytest.mark.parametrize(
    "point",
    [
        {"optim.average": AverageConfig(kind="ema")},
        {"optim.average": AverageConfig(kind="mean")},
        {"loss.r_drop": 1.0},
        {"optim.gradual": 0.5},
        {"optim.decay_to": "initial"},
        {"optim.reinit_layers": 1},
        {"optim.lora": LoraConfig(rank=2)},
    ],
    ids=lambda point: " ".join(map(str, point.items())),
)
def test_options_that_populations_lack_train_alone(config: Config, freeze: str, point: dict[str, Any]) -> None:
    optim = {name.removeprefix("optim."): value for name, value in point.items() if name.startswith("optim.")}
    loss = {name.removeprefix("loss."): value for name, value in point.items() if name.startswith("loss.")}
    try:
        own = dataclasses.replace(
            config,
            optim=dataclasses.replace(config.optim, freeze=freeze, **optim),
            loss=dataclasses.replace(config.loss, **loss),
        )
    except UserError:
        return  # `train` does not take it either.
    spec = read_encoder_spec(Path(config.model.encoder))
    assert not PooledTrainer.fits(own, spec)
    assert not EndToEndTrainer.fits(own, spec)


def test_only_small_models_in_padded_rows_train_with_others(config: Config) -> None:
    spec = read_encoder_spec(Path(config.model.encoder))
    config = set_fields(config, {"optim.freeze": "none"})
    assert EndToEndTrainer.fits(config, spec)
    assert not EndToEndTrainer.fits(config, dataclasses.replace(spec, num_layers=6, hidden_size=384))
    for field, value in {
        "data.layout": "bucketed",
        "model.dtype": "bfloat16",
        "optim.accumulate": 2,
        "optim.gradual": 0.5,
        "optim.decay_to": "initial",
        "optim.lora.rank": 2,
        "loss.r_drop": 1.0,
    }.items():
        assert not EndToEndTrainer.fits(set_fields(config, {field: value}), spec), field


def test_designs_that_cannot_be_are_refused() -> None:
    for design, said in (
        ({"folds": 1}, "--folds is too small"),
        ({"folds": 2}, "needs three folds"),
        ({"seeds": ()}, "--seeds"),
        ({"seeds": (1, 1)}, "--seeds"),
        ({"factor": 1}, "--factor"),
    ):
        with pytest.raises(UserError, match=said):
            SweepDesign("grid", **design)  # type: ignore[arg-type]
