"""Abstention, thresholds of classes and prediction sets: against definitions computed the slow way."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from pairjax.base.config import EvalConfig
from pairjax.base.errors import UserError
from pairjax.base.types import TaskSpec
from pairjax.evaluation.calibration import Calibration
from pairjax.evaluation.confidence import (
    classes_at_thresholds,
    fit_abstention,
    fit_class_thresholds,
    fit_conformal,
    label_sets,
    risk_coverage,
)
from pairjax.evaluation.metrics import probabilities
from pairjax.evaluation.scores import abstention_warning, calibrate, score
from pairjax.inference.predictions import predictions_from

THREE = TaskSpec("classification", ("a", "b", "c"))


def draw(pairs: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model that is right for about two pairs of three, and labels."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, pairs)
    logits = rng.normal(size=(pairs, 3)) + 1.5 * np.eye(3)[label]
    return logits.astype(np.float32), label


def test_a_risk_coverage_curve_by_hand() -> None:
    probability = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.4, 0.6]])
    coverage, risk, confidence = risk_coverage(probability, np.array([0, 1, 1, 1]))
    # The two pairs of confidence 0.8 are answered together; one of them is wrong.
    np.testing.assert_allclose(coverage, [0.25, 0.75, 1.0])
    np.testing.assert_allclose(risk, [0.0, 1 / 3, 1 / 4])
    np.testing.assert_allclose(confidence, [0.9, 0.8, 0.6])


def test_abstention_answers_as_many_pairs_as_the_accuracy_allows() -> None:
    logits, label = draw(400)
    probability = probabilities(logits)
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == label
    fitted = fit_abstention(probability, label, accuracy=0.9)
    possible = [least for least in confidence if right[confidence >= least].mean() >= 0.9]
    assert fitted == min(possible)
    assert 0.1 < (confidence >= fitted).mean() < 0.9
    assert fit_abstention(probability, 1 + probability.argmax(axis=1), accuracy=0.9) is None


def test_sets_hold_the_true_class_as_often_as_asked_on_new_pairs() -> None:
    (dev, dev_label), (test, label) = draw(1000), draw(20000, seed=1)
    for coverage in (0.8, 0.95):
        least = fit_conformal(probabilities(dev), dev_label, coverage=coverage)
        sets = label_sets(probabilities(test), least)
        assert sets[np.arange(len(label)), label].mean() == pytest.approx(coverage, abs=0.03)
        assert 1.0 < sets.sum(axis=1).mean() < 3.0


def test_a_conformal_threshold_by_hand_and_with_too_few_pairs() -> None:
    own = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.2])
    probability = np.stack([own, 1 - own], axis=1)
    label = np.zeros(9, np.int64)
    # ceil(10 * 0.8) = 8: the eighth largest probability of a true class.
    assert fit_conformal(probability, label, coverage=0.8) == 0.3
    assert fit_conformal(probability, label, coverage=0.9) == 0.2
    assert fit_conformal(probability, label, coverage=0.95) == 0.0
    assert label_sets(probability, 0.0).all()


def test_thresholds_of_classes_maximise_the_f1_of_each_class() -> None:
    logits, label = draw(300)
    probability = probabilities(logits)
    thresholds = fit_class_thresholds(probability, label)
    for index, threshold in enumerate(thresholds):
        scores = [f1_score(label == index, probability[:, index] >= cut) for cut in np.unique(probability[:, index])]
        assert f1_score(label == index, probability[:, index] >= threshold) == pytest.approx(max(scores))
    uneven = classes_at_thresholds(np.array([[0.5, 0.3, 0.2]]), (0.9, 0.3, 0.3))
    assert uneven.tolist() == [1]


def test_scores_and_predictions_use_what_calibrate_fitted() -> None:
    logits, label = draw(300)
    config = EvalConfig(abstain_at=0.9, conformal=0.9, class_thresholds=True)
    fitted = calibrate(THREE, logits, label, config=config)
    assert fitted.abstain_below is not None
    assert fitted.set_least is not None
    assert len(fitted.thresholds) == 3
    assert calibrate(THREE, logits, label) == Calibration(fitted.temperature)
    assert Calibration.from_json(fitted.to_json()) == fitted
    assert set(Calibration(2.0).to_json()) == {"temperature", "threshold"}
    result = score(THREE, logits, label, bootstrap=100, seed=0, temperature=fitted.temperature, calibration=fitted)
    answers = predictions_from(logits, THREE, calibration=fitted)
    answered = np.array([not answer.abstain for answer in answers])
    chosen = np.array([THREE.labels.index(str(answer.label)) for answer in answers])
    assert result["answered"].value == pytest.approx(answered.mean())
    assert result["accuracy_answered"].value == pytest.approx((chosen == label)[answered].mean())
    assert result["accuracy_answered"].value >= 0.9
    holds = [THREE.labels[true] in (answer.label_set or ()) for true, answer in zip(label, answers, strict=True)]
    assert result["set_coverage"].value == pytest.approx(np.mean(holds))
    at_thresholds = [THREE.labels.index(str(answer.label_at_threshold)) for answer in answers]
    assert result["accuracy_at_threshold"].value == pytest.approx(accuracy_score(label, at_thresholds))
    row = answers[0].to_json()
    assert row["abstain"] in (True, False)
    assert row["label"] in row["label_set"]


def test_an_accuracy_that_dev_does_not_reach_is_a_warning_and_no_abstention() -> None:
    logits, label = draw(50)
    fitted = calibrate(THREE, logits, (logits.argmax(axis=1) + 1) % 3, config=EvalConfig(abstain_at=0.9))
    assert fitted.abstain_below is None
    assert "no part of dev" in (abstention_warning(fitted) or "")
    assert predictions_from(logits, THREE, calibration=fitted)[0].abstain is None
    assert label is not None


def test_a_resample_without_an_answered_pair_has_no_accuracy() -> None:
    logits, label = draw(30)
    fitted = Calibration(abstain_at=0.9, abstain_below=float(probabilities(logits).max()))
    result = score(THREE, logits, label, bootstrap=200, seed=0, calibration=fitted)
    assert result["answered"].value == pytest.approx(1 / 30)
    assert not math.isnan(result["accuracy_answered"].value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"abstain_at": 1.0}, "--evaluation.abstain-at is out of range"),
        ({"conformal": 0.0}, "--evaluation.conformal is out of range"),
        ({"conformal": 0.9, "fit": False}, "--evaluation.conformal is fitted on dev"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        EvalConfig(**options)
