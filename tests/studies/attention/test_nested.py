"""Nested cross-validation: a fold's labels do not influence its own predictions; models of equal size."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from pairjax.base.config import OptimConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.feature_config import FeatureConfig
from pairjax.base.model_config import CombineConfig, InteractConfig, ModelConfig
from pairjax.base.types import DropoutRates, Hypers
from pairjax.data.folds import stratified_folds
from pairjax.data.sources import load_pairs
from pairjax.population.engine import make_hypers, train_population
from pairjax.population.features import cached_features
from pairjax.population.members import make_runs
from pairjax.population.projection import fit_projection
from pairjax.population.tokens import TokenTask, parameter_count, token_program, token_task
from pairjax.studies.attention import nested_cv
from pairjax.studies.attention.flops import step_flops
from pairjax.studies.attention.nested_cv import (
    AttentionSetting,
    NestedDesign,
    SettingResult,
    chosen_settings,
    out_of_fold,
    run_setting,
    setting_model,
)
from tests.tiny import vocabulary_of, write_tiny_encoder

DESIGN = NestedDesign(folds=3, seeds=(0, 1), token_rates=(3e-3, 1e-2), pooled_rates=(3e-3, 3e-2), steps=30, at_once=8)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TokenTask:
    folder = tmp_path_factory.mktemp("nested")
    data = load_pairs(DataConfig(rules="entailment", sizes=(90, 1, 0)))
    encoder = write_tiny_encoder(folder / "encoder", vocabulary=vocabulary_of(data))
    data = dataclasses.replace(data, splits={"train": data.splits["train"]})
    features = cached_features(data.splits.values(), folder / "f", FeatureConfig(encoder=str(encoder), tokens=True))
    assert features.tokens is not None
    return token_task(data, features, projection=fit_projection(features.tokens, 16))


@pytest.fixture(scope="module")
def fold(source: TokenTask) -> np.ndarray:
    return stratified_folds(source.heads.task, source.heads.splits["train"], folds=3, seed=0)


def relabelled(source: TokenTask, rows: np.ndarray) -> TokenTask:
    """Returns the task with other labels on some pairs."""
    pairs = source.heads.splits["train"]
    assert pairs.label is not None
    label = pairs.label.copy()
    label[rows] = (label[rows] + 1) % 3
    heads = dataclasses.replace(
        source.heads, splits={"train": dataclasses.replace(pairs, label=label)}, target=label, key="other"
    )
    return dataclasses.replace(source, heads=heads, key="other")


@pytest.mark.parametrize(
    "setting", [AttentionSetting("none"), AttentionSetting("cross", 1, 2)], ids=lambda setting: setting.name
)
def test_a_folds_labels_do_not_influence_its_own_predictions(
    source: TokenTask, fold: np.ndarray, setting: AttentionSetting, tmp_path: Path
) -> None:
    found = run_setting(source, fold, setting, DESIGN, folder=tmp_path)
    other = run_setting(relabelled(source, fold == 0), fold, setting, DESIGN, folder=tmp_path)
    np.testing.assert_array_equal(found.inner[0], other.inner[0])
    np.testing.assert_array_equal(found.predicted[:, fold == 0], other.predicted[:, fold == 0])
    assert found.rates[0] == other.rates[0]
    assert (found.inner[1:] != other.inner[1:]).any()
    assert (found.predicted[:, fold != 0] != other.predicted[:, fold != 0]).any()


def test_inner_scores_equal_separate_fits_and_a_setting_is_read_the_second_time(
    source: TokenTask, fold: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = AttentionSetting("none")
    found = run_setting(source, fold, setting, DESIGN, folder=tmp_path)
    program = token_program(source, setting_model(setting, source), optim=OptimConfig(), steps=30, dropout=False)
    label = source.heads.label("train")
    for outer, (place, rate) in itertools.product(range(3), enumerate(DESIGN.pooled_rates)):
        scores = []
        for inner in {0, 1, 2} - {outer}:
            hypers = make_hypers(Hypers(0.0, 0.01, 0.0, DropoutRates(0.0, 0.0, 0.0, 0.0)), learning_rate=[rate])
            rows = np.flatnonzero((fold != outer) & (fold != inner))
            runs = make_runs([rows], seeds=(1000,), hypers=hypers, batch_size=32, steps=30)
            inside = np.flatnonzero(fold == inner).astype(np.int32)
            outputs = train_population(program, runs, evaluate={"i": inside}).outputs["i"][0, 0]
            scores.append((outputs.argmax(axis=1) == label[inside]).mean())
        assert found.inner[outer, place] == pytest.approx(np.mean(scores))
    np.testing.assert_array_equal(found.rates, np.asarray(DESIGN.pooled_rates)[found.inner.argmax(axis=1)])
    monkeypatch.setattr(nested_cv, "_run", lambda *_: pytest.fail("was run again"))
    again = run_setting(source, fold, setting, DESIGN, folder=tmp_path)
    np.testing.assert_array_equal(again.predicted, found.predicted)
    assert (found.reused, again.reused) == (False, True)
    assert again.parameters == found.parameters == 4 * 16 * 3 + 3


def test_sized_heads_have_as_many_parameters_as_attention_over_tokens(source: TokenTask) -> None:
    def size(setting: AttentionSetting) -> int:
        program = token_program(source, setting_model(setting, source), optim=OptimConfig(), steps=1, dropout=False)
        return parameter_count(program)

    for layers in (1, 2, 3):
        assert size(AttentionSetting("sized", layers)) == pytest.approx(
            size(AttentionSetting("joint", layers, 4)), rel=0.02
        )
    assert size(AttentionSetting("cross", 2, 1)) == size(AttentionSetting("self", 2, 8))


def test_choosing_and_scoring_need_three_folds() -> None:
    with pytest.raises(UserError, match="too few folds"):
        NestedDesign(folds=2)


def test_each_fold_is_predicted_by_the_setting_that_its_inner_folds_chose() -> None:
    fold = np.array([0, 0, 1, 2, 2, 1])

    def result(inner: list[float], value: int) -> SettingResult:
        return SettingResult(np.array([inner]).T, np.ones(3), np.full((2, 6), value, np.int8), 1, ())

    results = {
        AttentionSetting("self", 1, 1): result([0.5, 0.9, 0.4], 0),
        AttentionSetting("cross", 1, 1): result([0.6, 0.2, 0.4], 1),
        AttentionSetting("gate"): result([-np.inf, 0.3, 0.3], 2),
    }
    chosen = chosen_settings(results)
    assert [setting.kind for setting in chosen] == ["cross", "self", "self"]
    np.testing.assert_array_equal(out_of_fold(results, chosen, fold), [[1, 1, 0, 0, 0, 0]] * 2)


def test_flops_are_those_of_the_matrix_products(source: TokenTask) -> None:
    width, inner, length = source.heads.spec.hidden_size, source.heads.spec.intermediate_size, source.place.shape[1]
    combine = CombineConfig(features=("|u-v|", "u*v"))
    flops = step_flops(
        source, ModelConfig(kind="bi", interact=InteractConfig("cross", 2, 2), combine=combine), batch_size=16
    )
    layer = 4 * width**2 + 2 * width * inner + 2 * length * width
    assert flops["interact"] == 6 * 16 * 2 * length * layer
    assert flops["combine"] == 0
    assert flops["head"] == 6 * 16 * 2 * width * source.heads.task.outputs
