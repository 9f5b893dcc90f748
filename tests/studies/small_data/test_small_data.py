"""Training on few pairs: subsets, arms, the measures of a run, and probes of its encoder."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from pairjax.base.data_config import DataConfig
from pairjax.base.feature_config import FeatureConfig
from pairjax.base.types import PairData, Pairs
from pairjax.data.sources import load_pairs
from pairjax.population.features import cached_features
from pairjax.population.pooled import head_task
from pairjax.run.distributed import StopSignal
from pairjax.studies import kept_runs
from pairjax.studies.claim import BudgetSpentError
from pairjax.studies.kept_runs import unit_identity
from pairjax.studies.small_data import arms
from pairjax.studies.small_data.arms import (
    ArmSetting,
    RunMeasures,
    accuracy_of,
    cut_test,
    difference,
    gap_of,
    loss_of,
    run_frozen,
    run_tuned,
    subset,
    tuned_config,
    write_pairs,
)
from pairjax.studies.small_data.probes import (
    cached_probes,
    make_probe_measure,
    probe_difference,
    probe_encoder,
    probe_score,
    subsample,
)
from tests.tiny import write_tiny_encoder


@pytest.fixture(scope="module")
def data() -> PairData:
    return load_pairs(DataConfig(rules="entailment", sizes=(60, 24, 30)))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_encoder(tmp_path_factory.mktemp("small") / "encoder", layers=1))


@pytest.fixture(autouse=True)
def wide_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny tokeniser splits words into letters, so pairs are long."""
    monkeypatch.setattr(arms, "LADDER", (256,))


def test_subsets_are_drawn_by_seed_with_each_classs_share(data: PairData) -> None:
    label = data.splits["train"].label
    assert label is not None
    one, same, other = subset(data, 15, seed=0), subset(data, 15, seed=0), subset(data, 15, seed=1)
    np.testing.assert_array_equal(one, same)
    assert set(one) != set(other)
    assert len(set(one)) == 15
    np.testing.assert_allclose(np.bincount(label[one], minlength=3), np.bincount(label, minlength=3) / 4, atol=1)
    np.testing.assert_array_equal(subset(data, 99, seed=0), np.arange(60))


def test_a_written_subset_is_read_back_unchanged(data: PairData, tmp_path: Path) -> None:
    rows = subset(data, 15, seed=0)
    place = write_pairs(data, rows, tmp_path)
    read = load_pairs(DataConfig(path=str(place)))
    train = data.splits["train"]
    assert train.label is not None
    assert read.splits["train"].first == tuple(train.first[i] for i in rows)
    named = [read.task.labels[i] for i in read.splits["train"].label]
    assert named == [data.task.labels[train.label[i]] for i in rows]
    assert write_pairs(data, subset(data, 15, seed=1), tmp_path) != place
    assert write_pairs(data, rows, tmp_path) == place


def test_arms_differ_only_in_the_encoders_learning_rate(tmp_path: Path) -> None:
    made = {
        arm: tuned_config(ArmSetting(arm, 50, 60), encoder="e", data=tmp_path, seed=3)
        for arm in ("low", "full", "gradual")
    }
    for arm, config in made.items():
        optim = config.optim
        assert optim.learning_rate * optim.head_multiplier == pytest.approx(3e-3)
        assert (optim.gradual > 0) == (arm == "gradual")
        assert dataclasses.replace(config, optim=made["full"].optim) == made["full"]
    assert made["low"].optim.learning_rate == pytest.approx(made["full"].optim.learning_rate / 10)


def test_a_units_identity_depends_on_content_and_not_on_the_path(tmp_path: Path) -> None:
    setting = ArmSetting("full", 50, 60)
    one = tuned_config(setting, encoder="e", data=tmp_path / "a" / "x", seed=0)
    moved = tuned_config(setting, encoder="e", data=tmp_path / "b" / "x", seed=0)
    assert unit_identity(one, "w") == unit_identity(moved, "w")
    for other in (
        tuned_config(setting, encoder="e", data=tmp_path / "a" / "y", seed=0),
        tuned_config(setting, encoder="e", data=tmp_path / "a" / "x", seed=1),
        tuned_config(dataclasses.replace(setting, decay=1.0), encoder="e", data=tmp_path / "a" / "x", seed=0),
    ):
        assert unit_identity(one, "w") != unit_identity(other, "w")
    assert unit_identity(one, "w") != unit_identity(one, "other")


def test_a_units_identity_contains_the_weights_of_its_encoder_folder(tmp_path: Path) -> None:
    def identity(folder: Path) -> str:
        return unit_identity(tuned_config(ArmSetting("full", 50, 60), encoder=str(folder), data=Path("x"), seed=0), "w")

    for name in ("one", "moved", "rerun"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"other" if name == "rerun" else b"same")
    assert identity(tmp_path / "one") == identity(tmp_path / "moved")
    assert identity(tmp_path / "one") != identity(tmp_path / "rerun")
    before = identity(tmp_path / "one")
    (tmp_path / "one" / "model.safetensors").write_bytes(b"trained again")
    assert identity(tmp_path / "one") != before


def test_a_unit_is_run_once_measured_and_its_weights_are_deleted(
    data: PairData, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run stopped by a signal continues; a measured run is read; its losses are those of its model."""
    setting = ArmSetting("full", 12, 4, batch_size=4)
    probes = {"paraphrase": subsample(load_pairs(DataConfig(rules="paraphrase", sizes=(20, 12, 16))))}
    seen: list[np.ndarray] = []

    def extra(folder: Path) -> dict[str, np.ndarray]:
        import pairjax

        test = data.splits["test"]
        seen.append(pairjax.load(folder).outputs(test.first, test.second))
        return make_probe_measure(probes)(folder)

    def run() -> RunMeasures:
        return run_tuned(setting, data, encoder=encoder, seed=0, folder=tmp_path, extra=extra, what="probe")

    monkeypatch.setattr(StopSignal, "requested", lambda self, done: done == 2)
    with pytest.raises(BudgetSpentError):
        run()
    monkeypatch.undo()
    monkeypatch.setattr(arms, "LADDER", (256,))
    found = run()
    [folder] = (tmp_path / "units").iterdir()
    assert {path.name for path in folder.iterdir()} >= {"config.json", "metrics.jsonl", "result.json", "measured.npz"}
    assert not (folder / "model").exists()
    assert not (folder / "checkpoints").exists()
    label = data.splits["test"].label
    assert label is not None
    np.testing.assert_allclose(found.loss, -log_softmax(seen[0], axis=1)[np.arange(30), label], rtol=1e-5)
    np.testing.assert_array_equal(found.hits, seen[0].argmax(axis=1) == label)
    assert found.extra["paraphrase"].shape == (16,)
    monkeypatch.setattr(kept_runs, "train", lambda *_, **__: pytest.fail("was run again"))
    np.testing.assert_array_equal(run().loss, found.loss)


def test_the_frozen_arm_is_each_setting_with_each_seed(data: PairData, encoder: str, tmp_path: Path) -> None:
    source = head_task(data, cached_features(data.splits.values(), tmp_path, FeatureConfig(encoder=encoder)))
    settings = [ArmSetting("frozen", 12, 6, p, decay, 4) for p, decay in ((0.0, 0.0), (0.3, 0.0), (0.0, 10.0))]
    found = run_frozen(settings, source, data, seeds=(0, 1))
    assert found.keys() == {(setting, seed) for setting in settings for seed in (0, 1)}
    losses = {key: run.test_loss for key, run in found.items()}
    assert len(set(losses.values())) == 6
    assert all(len(run.loss) == 30 and 0.0 < run.train_loss < 5.0 for run in found.values())
    # A member trained alone equals the member among others, up to rounding in vmap.
    alone = run_frozen(settings[1:2], source, data, seeds=(1,))[settings[1], 1]
    np.testing.assert_allclose(alone.loss, found[settings[1], 1].loss, atol=1e-4)


def test_settings_of_one_program_must_agree_in_size_and_steps(data: PairData, encoder: str, tmp_path: Path) -> None:
    source = head_task(data, cached_features(data.splits.values(), tmp_path, FeatureConfig(encoder=encoder)))
    settings = [ArmSetting("frozen", 12, 6), ArmSetting("frozen", 12, 7)]
    with pytest.raises(ValueError, match="differ in"):
        run_frozen(settings, source, data, seeds=(0,))


def measures(train_accuracy: float, hits: list[float], loss: list[float]) -> RunMeasures:
    clusters = np.arange(len(loss))
    return RunMeasures(0.1, train_accuracy, 0.5, np.asarray(loss, float), np.asarray(hits, float), clusters, {})


def test_measures_are_means_over_the_resampled_pairs() -> None:
    run, counts = measures(1.0, [1, 0, 1, 1], [0.1, 2.0, 0.3, 0.4]), np.array([[1.0, 1, 1, 1], [0, 4, 0, 0]])
    np.testing.assert_allclose(loss_of(run)(counts)["value"], [70.0, 200.0])
    np.testing.assert_allclose(accuracy_of(run)(counts)["value"], [75.0, 0.0])
    np.testing.assert_allclose(gap_of(run)(counts)["value"], [25.0, 100.0])


def test_a_difference_is_paired_by_seed_and_the_mean_over_sizes() -> None:
    worse, better = measures(1.0, [0, 0, 1, 1], [1.0] * 4), measures(0.5, [1, 1, 1, 1], [0.5] * 4)
    found = difference([[(worse, better), (better, better)], [(worse, better), (worse, better)]], loss_of)
    assert found.value == pytest.approx((25.0 + 50.0) / 2)
    assert difference([[(better, better)]] * 3, loss_of).error == 0.0


def test_samples_are_fixed_and_small_splits_are_kept(data: PairData) -> None:
    assert cut_test(data, 30) is data
    one, same = cut_test(data, 10), cut_test(data, 10)
    assert one.splits["test"].first == same.splits["test"].first
    assert len(one.splits["test"]) == 10
    assert one.splits["train"] is data.splits["train"]


def test_probes_find_labels_that_depend_on_the_vectors(encoder: str, tmp_path: Path) -> None:
    """Probes do not find random labels; kept probes are read."""
    data = load_pairs(DataConfig(rules="paraphrase", sizes=(80, 40, 60)))
    rng = np.random.default_rng(0)
    lot = {
        split: dataclasses.replace(pairs, label=rng.integers(0, 2, len(pairs)).astype(np.int32))
        for split, pairs in data.splits.items()
    }
    same = {}
    for split, pairs in data.splits.items():
        twice = np.arange(len(pairs)) % 2
        second = [
            one if repeated else other for one, other, repeated in zip(pairs.first, pairs.second, twice, strict=True)
        ]
        same[split] = Pairs(pairs.first, tuple(second), twice.astype(np.int32))
    data = dataclasses.replace(data, splits=same)
    tasks = {"real": data, "lot": dataclasses.replace(data, splits=lot)}
    found = cached_probes(encoder, tasks, folder=tmp_path)
    assert probe_score(data, found["real"]) > 90.0
    assert probe_score(tasks["lot"], found["lot"]) < 70.0
    again = cached_probes(encoder, tasks, folder=tmp_path)
    np.testing.assert_array_equal(again["real"], found["real"])
    np.testing.assert_array_equal(probe_encoder(encoder, tasks)["real"], found["real"])
    assert probe_difference(data, [found["real"]], [found["real"]]).value == 0.0
    label = data.splits["test"].label
    assert label is not None
    assert probe_difference(data, [label], [1 - label]).value == 100.0
