"""Combiners under convex heads: the metric, the optimum, and a relation from subsets to regrets and records."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.cli.options import load_experiment
from pairjax.data.sources import load_pairs
from pairjax.evaluation.counts import once
from pairjax.evaluation.ranking import auc
from pairjax.studies.claim import Claim, ClaimRun, Outcome
from pairjax.studies.combiners import convex
from pairjax.studies.combiners.board import COMBINERS
from pairjax.studies.records import Records
from tests.tiny import vocabulary_of, write_tiny_encoder

ROOT = Path(__file__).resolve().parents[2]


def test_the_area_under_the_curve_is_scikit_learns_with_ties_and_weights() -> None:
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 50)
    score = generator.integers(0, 8, 50) + label
    counts = generator.integers(0, 3, (4, 50)).astype(float)
    expected = [100 * roc_auc_score(label, score, sample_weight=row) for row in counts]
    np.testing.assert_allclose(auc(label, score)(counts)["value"], expected)
    assert np.isnan(auc(np.ones(50, int), score)(counts)["value"]).all()


def test_levels_of_scores_keep_the_area() -> None:
    generator = np.random.default_rng(1)
    label = generator.integers(0, 2, 1000)
    score = label + generator.normal(size=1000)
    levels = convex.score_levels(score)
    assert levels.dtype == np.uint8
    values = [float(auc(label, each)(once(1000))["value"][0]) for each in (score, levels)]
    assert values[0] == pytest.approx(values[1], abs=0.1)
    np.testing.assert_array_equal(convex.score_levels(np.zeros(3)), np.zeros(3))


def test_a_head_is_at_the_optimum_of_the_penalty_that_dev_chooses() -> None:
    generator = np.random.default_rng(2)
    weight = generator.normal(size=8)
    inputs = {name: generator.normal(size=(80, 8)) * 3 + 1 for name in ("train", "dev", "test")}
    label = {n: (x @ weight + 4 * generator.normal(size=80) > weight.sum()).astype(int) for n, x in inputs.items()}
    fitted = convex.fit_head(inputs, label)
    scaler = StandardScaler().fit(inputs["train"])
    scaled = {name: scaler.transform(values) for name, values in inputs.items()}
    losses = {}
    for penalty in convex.PENALTIES:
        model = LogisticRegression(C=penalty, tol=1e-10, max_iter=10000).fit(scaled["train"], label["train"])
        probability = model.predict_proba(scaled["dev"])[np.arange(80), label["dev"]]
        losses[penalty] = -np.log(probability).mean(), model.decision_function(scaled["test"])
    best = min(losses, key=lambda penalty: losses[penalty][0])
    assert fitted.penalty == best
    np.testing.assert_allclose(fitted.score, losses[best][1], atol=1e-3)
    best_area, area = (auc(label["test"], s)(once(80))["value"][0] for s in (losses[best][1], fitted.score))
    assert area == pytest.approx(best_area, abs=0.3)


def test_a_relation_is_fitted_once_and_its_regrets_come_from_records_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convex, "TRAIN_PAIRS", 60)
    monkeypatch.setattr(convex, "PENALTIES", (1e-3, 1e-1))
    data = load_pairs(DataConfig(rules="entailment", sizes=(120, 40, 80)))
    index = data.task.labels.index("contradiction")
    data = convex.binary(data, lambda label: label == index, test_pairs=50)
    words = vocabulary_of(data)
    places = {
        name: str(write_tiny_encoder(tmp_path / name, seed=seed, vocabulary=words)) for seed, name in enumerate("ab")
    }
    claim = Claim("toy", "s", 2, lambda run: Outcome([]))

    def relation(root: str, *, only_read: bool) -> convex.Replicates:
        records = Records(tmp_path / "records", "design", only_read=only_read)
        run = ClaimRun(claim, tmp_path / root, 2, False, 1e18, print, records=records)
        read = (lambda: pytest.fail("was read again")) if only_read else lambda: data
        result = convex.run_relation(run, "rules: contradiction", read, places, ("mean",), subsets=2)
        if not only_read:
            records.write(seeds=2, registration={"commit": "x"}, verdict={})
        return result

    result = relation("first", only_read=False)
    assert result.scores.shape == (2, 1, 2, len(COMBINERS), 50)
    assert result.baselines.shape == (2, 2, 50)
    assert set(result.label) == {0, 1}
    monkeypatch.setattr(convex, "fit_head", lambda *_: pytest.fail("was fitted again"))
    np.testing.assert_array_equal(relation("first", only_read=False).scores, result.scores)
    again = relation("elsewhere", only_read=True)
    np.testing.assert_array_equal(again.scores, result.scores)
    assert not (tmp_path / "elsewhere").exists()

    relations = {"one": result, "other": again}
    table = convex.score_table(relations)
    assert [row[0] for row in table[-3:]] == ["majority", *convex.BASELINES]
    assert len(table) == 1 + len(COMBINERS) + 3
    regrets = convex.worst_regrets(relations)
    # The same relation twice: one combiner is the best of both and has no regret.
    assert min(regret.value for regret in regrets.values()) == 0
    means = {
        convex.name_of(features): np.mean([float(s(once(50))["value"][0]) for s in result.statistics(features)])
        for features in COMBINERS
    }
    for name, regret in regrets.items():
        assert regret.value == pytest.approx(max(means.values()) - means[name])
    assert len(result.with_pooling(0).statistics(COMBINERS[0])) == 2
    effect = convex.gain(result, COMBINERS[2], COMBINERS[0], seed=0)
    assert effect.value == pytest.approx(means["[|u-v|]"] - means["[u; v]"])


def test_a_missing_encoder_is_one_line_with_the_command_that_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load_experiment(str(ROOT / "experiments" / "combiners" / "convex.py"), defines="claim")
    run = ClaimRun(module.claim, tmp_path, 5, False, 1e18, print)
    monkeypatch.setenv("PAIRJAX_ENCODERS", str(tmp_path))
    with pytest.raises(UserError, match=r"multilingual-e5-small is missing.*hf download intfloat"):
        module.encoders(run)
    for name in module.FOLDERS:
        (tmp_path / name).mkdir()
    assert len(module.encoders(run)) == 3
    run.quick = True
    assert list(module.encoders(run)) == ["minilm"]
