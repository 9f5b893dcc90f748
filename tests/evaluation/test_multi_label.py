"""Several labels for a pair: scikit-learn is the oracle of the metrics, a full search that of the thresholds."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support

from pairjax.base.types import TaskSpec
from pairjax.evaluation.calibration import Calibration
from pairjax.evaluation.metrics import quick_scores
from pairjax.evaluation.multi_label import fit_label_thresholds, sigmoid
from pairjax.evaluation.scores import calibrate, class_report, collapsed, score
from pairjax.inference.predictions import predictions_from

TASK = TaskSpec("multi-label", ("a", "b", "c"))


def draw(pairs: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label = (rng.random((pairs, 3)) < [0.5, 0.2, 0.4]).astype(np.float32)
    return (rng.normal(size=(pairs, 3)) + 2.0 * label - 1.5).astype(np.float32), label


def test_metrics_equal_scikit_learns() -> None:
    outputs, label = draw()
    scores, predicted = quick_scores(TASK, outputs, label), outputs >= 0
    assert scores["micro_f1"] == pytest.approx(f1_score(label, predicted, average="micro"))
    assert scores["macro_f1"] == pytest.approx(f1_score(label, predicted, average="macro"))
    assert scores["exact_match"] == pytest.approx((label == predicted).all(axis=1).mean())
    each = [log_loss(label[:, index], sigmoid(outputs)[:, index]) for index in range(3)]
    assert scores["nll"] == pytest.approx(np.mean(each), rel=1e-5)
    report = class_report(TASK, outputs, label)
    wanted = precision_recall_fscore_support(label, predicted)
    for index, name in enumerate(TASK.labels):
        row = report["per_class"][name]
        assert [row[key] for key in ("precision", "recall", "f1", "support")] == pytest.approx(
            [w[index] for w in wanted]
        )


def test_thresholds_maximise_the_f1_of_each_label_and_predictions_use_them() -> None:
    outputs, label = draw()
    fitted = calibrate(TASK, outputs, label)
    probability = sigmoid(outputs)
    for index, threshold in enumerate(fitted.thresholds):
        cuts = np.unique(probability[:, index])[1:]
        best = max(f1_score(label[:, index], probability[:, index] >= cut) for cut in cuts)
        assert f1_score(label[:, index], probability[:, index] >= threshold) == pytest.approx(best)
    assert fit_label_thresholds(probability, np.ones_like(label)) == (0.5, 0.5, 0.5)
    answers = predictions_from(outputs, TASK, calibration=fitted)
    chosen = np.array([[name in (answer.labels or ()) for name in TASK.labels] for answer in answers])
    result = score(TASK, outputs, label, bootstrap=200, seed=0, calibration=fitted, swapped_logits=outputs)
    assert result["micro_f1_at_threshold"].value == pytest.approx(f1_score(label, chosen, average="micro"))
    assert result["swap_agreement"].value == 1.0
    interval = result["macro_f1"]
    assert interval.low < interval.value < interval.high
    row = answers[0].to_json()
    assert set(row) == {"labels", "probabilities"}
    assert Calibration.from_json(fitted.to_json()) == fitted


def test_the_same_labels_for_all_pairs_are_a_collapse() -> None:
    assert "predicts a for all 4 pairs" in (collapsed(TASK, np.tile(np.float32([1, -1, -1]), (4, 1))) or "")
    assert collapsed(TASK, draw()[0]) is None
