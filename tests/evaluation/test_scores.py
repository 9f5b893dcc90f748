"""Scores of predictions, and how a degenerate model is detected."""

import json
import time

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from pairjax.base.errors import UserError
from pairjax.base.types import TaskSpec
from pairjax.evaluation.calibration import Calibration
from pairjax.evaluation.intervals import Interval
from pairjax.evaluation.metrics import probabilities, quick_scores
from pairjax.evaluation.scores import calibrate, class_report, collapsed, score, scores_to_json
from pairjax.inference.predictions import predictions_from

BINARY = TaskSpec("classification", ("paraphrase", "other"), "paraphrase")
THREE = TaskSpec("classification", ("entailment", "neutral", "contradiction"))
SCORES = TaskSpec("regression", center=3.0, scale=2.0)


def draw(task: TaskSpec, *, seed: int = 0, pairs: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    if task.kind == "regression":
        label = rng.normal(3, 2, pairs).astype(np.float32)
        return (label + rng.normal(size=pairs)).astype(np.float32)[:, None], label
    label = rng.integers(0, task.outputs, pairs).astype(np.int32)
    logits = rng.normal(size=(pairs, task.outputs)) * 2 + 2 * np.eye(task.outputs)[label]
    return logits.astype(np.float32), label


@pytest.mark.parametrize("task", [BINARY, THREE, SCORES], ids=["two", "three", "scores"])
def test_values_equal_the_quick_scores_and_are_within_their_intervals(task: TaskSpec) -> None:
    outputs, label = draw(task)
    result = score(task, outputs, label, bootstrap=300, seed=0)
    assert {name: interval.value for name, interval in result.items()} == quick_scores(task, outputs, label)
    assert all(interval.low < interval.value < interval.high for interval in result.values())


def test_calibrated_and_threshold_metrics_are_added_to_the_plain_ones() -> None:
    outputs, label = draw(BINARY)
    result = score(BINARY, outputs, label, bootstrap=100, seed=0, temperature=2.5, threshold=0.3)
    plain = score(BINARY, outputs, label, bootstrap=100, seed=0)
    assert {name: result[name] for name in plain} == plain
    calibrated = probabilities(outputs, temperature=2.5)
    assert result["nll_calibrated"].value == pytest.approx(log_loss(label, calibrated, labels=[0, 1]))
    chosen = np.where(calibrated[:, 0] >= 0.3, 0, 1)
    assert result["accuracy_at_threshold"].value == pytest.approx(accuracy_score(label, chosen))
    assert result["f1_at_threshold"].value == pytest.approx(f1_score(label, chosen, pos_label=0))


def test_threshold_metrics_are_those_of_the_labels_that_predict_returns() -> None:
    outputs, label = draw(BINARY)
    calibration = calibrate(BINARY, outputs, label)
    temperature, threshold = calibration.temperature, calibration.threshold
    assert threshold is not None
    answers = predictions_from(outputs, BINARY, calibration=calibration)
    chosen = [BINARY.labels.index(answer.label_at_threshold or "") for answer in answers]
    result = score(BINARY, outputs, label, bootstrap=100, seed=0, temperature=temperature, threshold=threshold)
    assert result["accuracy_at_threshold"].value == pytest.approx(accuracy_score(label, chosen))


def test_a_temperature_changes_no_class_and_lowers_the_nll_of_the_pairs_it_was_fitted_on() -> None:
    outputs, label = draw(THREE)
    outputs *= np.float32(4.0)
    calibration = calibrate(THREE, outputs, label)
    temperature, threshold = calibration.temperature, calibration.threshold
    result = score(THREE, outputs, label, bootstrap=100, seed=0, temperature=temperature)
    assert temperature > 1.0
    assert threshold is None
    assert result["nll_calibrated"].value < result["nll"].value
    assert result["ece_calibrated"].value < result["ece"].value


def test_swap_metrics_by_hand() -> None:
    shares = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]], np.float32))
    swapped = np.log(np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.5, 0.5]], np.float32))
    result = score(BINARY, shares, np.array([0, 1, 0, 1]), bootstrap=100, seed=0, swapped_logits=swapped)
    assert result["swap_agreement"].value == 0.75
    assert result["swap_difference"].value == pytest.approx((0.0 + 0.2 + 0.3 + 0.0) / 4, abs=1e-6)


def test_swap_metrics_of_scores_are_difference_and_correlation() -> None:
    outputs, label = draw(SCORES)
    result = score(SCORES, outputs, label, bootstrap=100, seed=0, swapped_logits=outputs + np.float32(0.5))
    assert result["swap_difference"].value == pytest.approx(0.5, abs=1e-5)
    assert result["swap_correlation"].value == pytest.approx(1.0)


def test_the_order_of_the_pairs_does_not_change_a_value() -> None:
    outputs, label = draw(THREE)
    order = np.random.default_rng(1).permutation(len(label))
    one = score(THREE, outputs, label, bootstrap=100, seed=0, temperature=2.0)
    other = score(THREE, outputs[order], label[order], bootstrap=100, seed=0, temperature=2.0)
    for name in one:
        assert one[name].value == pytest.approx(other[name].value, abs=1e-12)


def test_json_has_null_and_no_nan_for_undefined_metrics() -> None:
    constant = np.full((30, 1), 2.0, np.float32)
    plain = scores_to_json(score(SCORES, constant, draw(SCORES, pairs=30)[1], bootstrap=100, seed=0))
    assert plain["spearman"] == {"value": None, "low": None, "high": None}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert set(plain["mse"]) == {"value", "low", "high"}


def test_a_constant_predictor_on_a_split_of_one_class_has_no_f1_and_no_threshold() -> None:
    always, label = np.tile(np.array([[5.0, 0.0]], np.float32), (40, 1)), np.zeros(40, np.int32)
    assert calibrate(BINARY, always, label) == Calibration()
    result = scores_to_json(score(BINARY, always, label, bootstrap=100, seed=0))
    assert result["accuracy"]["value"] == 1.0
    assert result["f1"]["value"] is result["macro_f1"]["value"] is result["mcc"]["value"] is None


def test_a_constant_predictor_on_a_mixed_split_has_mcc_0() -> None:
    always, label = np.tile(np.array([[5.0, 0.0]], np.float32), (40, 1)), np.arange(40, dtype=np.int32) % 2
    result = score(BINARY, always, label, bootstrap=100, seed=0)
    assert result["mcc"] == Interval(0.0, 0.0, 0.0)
    assert result["f1"].value == pytest.approx(2 / 3)
    warning = collapsed(BINARY, always)
    assert warning is not None
    assert warning.startswith("WARNING: the model predicts 'paraphrase' for all 40 pairs of dev")
    assert "\n" not in warning


def test_a_model_with_different_predictions_has_not_collapsed() -> None:
    for task in (BINARY, THREE, SCORES):
        assert collapsed(task, draw(task)[0]) is None
    assert collapsed(BINARY, np.zeros((1, 2), np.float32)) is None


def test_one_score_for_all_pairs_is_a_collapse() -> None:
    warning = collapsed(SCORES, np.full((9, 1), 3.25, np.float32), split="test")
    assert warning is not None
    assert "the score 3.25 for all 9 pairs of test" in warning
    assert "class-weights" not in warning


def test_regression_is_neither_calibrated_nor_reported_by_class() -> None:
    outputs, label = draw(SCORES)
    assert calibrate(SCORES, outputs, label) == Calibration()
    assert class_report(SCORES, outputs, label) == {}


def test_the_class_report_by_hand() -> None:
    predicted, label = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0], np.int32)
    report = class_report(THREE, np.eye(3, dtype=np.float32)[predicted], label)
    assert report["labels"] == ["entailment", "neutral", "contradiction"]
    assert report["confusion"] == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert report["per_class"]["entailment"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert report["per_class"]["neutral"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3}
    )
    assert report["per_class"]["contradiction"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    json.dumps(report, allow_nan=False)


def test_outputs_that_are_not_finite_are_refused_everywhere() -> None:
    outputs, label = draw(BINARY)
    outputs[0, 0] = np.nan
    for call in (
        lambda: score(BINARY, outputs, label, bootstrap=100, seed=0),
        lambda: calibrate(BINARY, outputs, label),
        lambda: class_report(BINARY, outputs, label),
        lambda: score(BINARY, draw(BINARY)[0], label, bootstrap=100, seed=0, swapped_logits=outputs),
    ):
        with pytest.raises(UserError, match="not finite"):
            call()


@pytest.mark.parametrize("task", [BINARY, THREE, SCORES], ids=["two", "three", "scores"])
def test_a_thousand_resamples_of_5000_pairs_take_seconds(task: TaskSpec) -> None:
    outputs, label = draw(task, pairs=5000)
    began = time.perf_counter()
    score(task, outputs, label, bootstrap=1000, seed=0, temperature=2.0, threshold=0.4, swapped_logits=outputs)
    assert time.perf_counter() - began < 10.0
