"""Metrics against scikit-learn and SciPy, on all pairs and on resamples."""

import warnings

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from pairjax.base.errors import UserError
from pairjax.base.types import TaskSpec
from pairjax.evaluation import metrics

BINARY = TaskSpec("classification", ("no", "yes"), "yes")
SCORES = TaskSpec("regression")


def classes_task(classes: int) -> TaskSpec:
    return TaskSpec("classification", tuple(f"class {i}" for i in range(classes)), "class 1" if classes == 2 else None)


def draw(classes: int, *, seed: int, pairs: int = 97) -> tuple[np.ndarray, np.ndarray]:
    """Logits that know something of the labels."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, pairs).astype(np.int32)
    logits = rng.normal(size=(pairs, classes)) * 2 + 1.5 * np.eye(classes)[label]
    return logits.astype(np.float32), label


def expand(counts: np.ndarray) -> np.ndarray:
    """The indices that a row of counts stands for."""
    return np.repeat(np.arange(len(counts)), counts.astype(int))


def class_oracle(label: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, object]:
    settings = {"labels": range(classes), "average": None, "zero_division": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "accuracy": oracle.accuracy_score(label, predicted),
            "precision": oracle.precision_score(label, predicted, **settings),
            "recall": oracle.recall_score(label, predicted, **settings),
            "f1": oracle.f1_score(label, predicted, **settings),
            "macro_f1": oracle.f1_score(label, predicted, **(settings | {"average": "macro"})),
            "mcc": oracle.matthews_corrcoef(label, predicted),
        }


LABELLED = {
    "random": lambda rng, classes: (rng.integers(0, classes, 60), rng.integers(0, classes, 60)),
    "class absent from labels": lambda rng, classes: (rng.integers(0, classes - 1, 60), rng.integers(0, classes, 60)),
    "class absent from both": lambda rng, classes: (rng.integers(1, classes, 60), rng.integers(1, classes, 60)),
    "constant prediction": lambda rng, classes: (rng.integers(0, classes, 60), np.zeros(60, int)),
    "constant label": lambda rng, classes: (np.ones(60, int), rng.integers(0, classes, 60)),
    "all wrong": lambda rng, classes: ((label := rng.integers(0, classes, 60)), (label + 1) % classes),
    "all right": lambda rng, classes: ((label := rng.integers(0, classes, 60)), label),
    "one pair": lambda rng, classes: (np.array([1]), np.array([0])),
}


@pytest.mark.parametrize("classes", [2, 3, 11])
@pytest.mark.parametrize("case", LABELLED)
def test_class_metrics_equal_scikit_learn(case: str, classes: int) -> None:
    rng = np.random.default_rng(classes)
    label, predicted = (values.astype(np.int32) for values in LABELLED[case](rng, classes))
    tallied = metrics.tally(label, predicted, metrics.once(len(label)), classes=classes)
    for name, expected in class_oracle(label, predicted, classes).items():
        np.testing.assert_allclose(getattr(metrics, name)(tallied)[0], expected, atol=1e-12, err_msg=name)
    expected = oracle.confusion_matrix(label, predicted, labels=range(classes))
    np.testing.assert_array_equal(metrics.confusion_matrix(label, predicted, classes=classes), expected)


@pytest.mark.parametrize("classes", [2, 4])
def test_class_metrics_of_a_resample_are_those_of_its_pairs(classes: int) -> None:
    logits, label = draw(classes, seed=1)
    predicted, rng = logits.argmax(axis=1), np.random.default_rng(2)
    counts = rng.multinomial(len(label), np.full(len(label), 1 / len(label)), size=5).astype(float)
    tallied = metrics.tally(label, predicted, counts, classes=classes)
    for row in range(5):
        drawn = expand(counts[row])
        for name, expected in class_oracle(label[drawn], predicted[drawn], classes).items():
            np.testing.assert_allclose(getattr(metrics, name)(tallied)[row], expected, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("temperature", [1.0, 0.4, 3.0])
def test_nll_and_brier_equal_scikit_learn(classes: int, temperature: float) -> None:
    logits, label = draw(classes, seed=3)
    probability = metrics.probabilities(logits, temperature=temperature)
    once = metrics.once(len(label))
    nll = metrics.mean(metrics.nll_each(logits, label, temperature=temperature), once)[0]
    assert nll == pytest.approx(oracle.log_loss(label, probability, labels=range(classes)), rel=1e-9)
    brier = metrics.mean(metrics.brier_each(probability, label), once)[0]
    given = probability[:, 1] if classes == 2 else probability
    assert brier == pytest.approx(oracle.brier_score_loss(label, given, labels=range(classes)), rel=1e-9)


def test_nll_is_finite_if_the_probability_underflows() -> None:
    logits = np.array([[2000.0, 0.0]], np.float32)
    assert metrics.nll_each(logits, np.array([1]))[0] == pytest.approx(2000.0)


def ece_oracle(probability: np.ndarray, label: np.ndarray) -> float:
    """From scikit-learn's reliability curve of the predicted class."""
    confidence, correct = probability.max(axis=1), probability.argmax(axis=1) == label
    true, claimed = calibration_curve(correct, confidence, n_bins=15, strategy="uniform")
    bins = np.linspace(0.0, 1.0, 16)
    sizes = np.bincount(np.searchsorted(bins[1:-1], confidence), minlength=15)
    return float(np.sum(sizes[sizes > 0] * np.abs(true - claimed)) / len(label))


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_ece_equals_scikit_learns_reliability_curve(classes: int) -> None:
    logits, label = draw(classes, seed=4, pairs=400)
    probability = metrics.probabilities(logits)
    gaps = metrics.calibration_gaps(probability, label)
    assert metrics.ece(gaps, metrics.once(400))[0] == pytest.approx(ece_oracle(probability, label), abs=1e-12)
    counts = np.random.default_rng(5).multinomial(400, np.full(400, 1 / 400), size=3).astype(float)
    for row, found in zip(counts, metrics.ece(gaps, counts), strict=True):
        drawn = expand(row)
        assert found == pytest.approx(ece_oracle(probability[drawn], label[drawn]), abs=1e-12)


def test_the_lowest_bins_of_the_ece_are_distinct() -> None:
    # Confidence 0.06 and right, 0.10 and wrong: bins (0, 1/15] and (1/15, 2/15].
    flat = np.full((2, 20), 0.04)
    flat[:, 0] = 0.06, 0.10
    found = metrics.ece(metrics.calibration_gaps(flat, np.array([0, 1])), metrics.once(2))[0]
    assert found == pytest.approx((0.94 + 0.10) / 2)


def test_ece_is_0_if_confident_and_correct_and_1_if_confident_and_wrong() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    for label, expected in (([0, 1], 0.0), ([1, 0], 1.0)):
        assert metrics.ece(metrics.calibration_gaps(sure, np.array(label)), metrics.once(2))[0] == expected


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_correlations_equal_scipy_on_pairs_and_on_resamples(ties: bool, offset: float) -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=80)
    y = 0.5 * x + rng.normal(size=80)
    x, y = (np.round(x, 1), np.round(y, 0)) if ties else (x, y)
    x = x + offset
    drawn = rng.integers(0, 80, (6, 80))
    counts = np.concatenate([metrics.once(80), [np.bincount(row, minlength=80) for row in drawn]])
    rank, line = metrics.spearman(x, y, counts), metrics.pearson(x, y, counts)
    for row, count in enumerate(counts):
        chosen = expand(count)
        assert rank[row] == pytest.approx(scipy_stats.spearmanr(x[chosen], y[chosen]).statistic, abs=1e-9)
        assert line[row] == pytest.approx(scipy_stats.pearsonr(x[chosen], y[chosen]).statistic, abs=1e-9)


def test_a_correlation_with_a_constant_is_undefined() -> None:
    x, constant = np.arange(5.0), np.full(5, 0.1, np.float32)
    counts = np.concatenate([metrics.once(5), [[5.0, 0, 0, 0, 0]]])
    assert np.isnan(metrics.pearson(x, constant, counts)).all()
    assert np.isnan(metrics.spearman(x, constant, counts)).all()
    # The second resample holds one pair five times: constant in itself.
    for metric in (metrics.pearson, metrics.spearman):
        np.testing.assert_allclose(metric(x, 2 * x, counts), [1.0, np.nan])


def test_quick_scores_of_two_classes_are_those_of_scikit_learn() -> None:
    logits, label = draw(2, seed=7)
    found, predicted = metrics.quick_scores(BINARY, logits, label), logits.argmax(axis=1)
    assert list(found) == ["accuracy", "precision", "recall", "f1", "macro_f1", "mcc", "nll", "brier", "ece"]
    assert found["f1"] == pytest.approx(oracle.f1_score(label, predicted))
    assert found["precision"] == pytest.approx(oracle.precision_score(label, predicted))
    assert found["recall"] == pytest.approx(oracle.recall_score(label, predicted))


def test_f1_is_of_the_class_that_the_task_calls_positive() -> None:
    logits, label = draw(2, seed=8)
    first = metrics.quick_scores(TaskSpec("classification", ("no", "yes"), "no"), logits, label)
    assert first["f1"] == pytest.approx(oracle.f1_score(label, logits.argmax(axis=1), pos_label=0))


def test_more_than_two_classes_have_no_positive_class() -> None:
    logits, label = draw(3, seed=9)
    assert list(metrics.quick_scores(classes_task(3), logits, label)) == [
        "accuracy", "macro_f1", "mcc", "nll", "brier", "ece",
    ]  # fmt: skip


def test_quick_scores_of_a_regression_equal_scikit_learn() -> None:
    rng = np.random.default_rng(10)
    label = rng.normal(3, 1, 50).astype(np.float32)
    outputs = (label + rng.normal(size=50)).astype(np.float32)[:, None]
    found = metrics.quick_scores(SCORES, outputs, label)
    assert list(found) == ["pearson", "spearman", "mse", "mae"]
    assert found["mse"] == pytest.approx(oracle.mean_squared_error(label, outputs[:, 0]), rel=1e-6)
    assert found["mae"] == pytest.approx(oracle.mean_absolute_error(label, outputs[:, 0]), rel=1e-6)


def test_f1_is_undefined_if_all_labels_are_equal() -> None:
    always = np.tile(np.array([[0.0, 9.0]], np.float32), (20, 1))
    found = metrics.quick_scores(BINARY, always, np.ones(20, np.int32))
    assert found["accuracy"] == 1.0
    assert all(np.isnan(found[name]) for name in ("precision", "recall", "f1", "macro_f1", "mcc"))


def test_metrics_do_not_depend_on_the_order_of_the_pairs() -> None:
    logits, label = draw(3, seed=11)
    order = np.random.default_rng(0).permutation(len(label))
    one = metrics.quick_scores(classes_task(3), logits, label)
    other = metrics.quick_scores(classes_task(3), logits[order], label[order])
    assert one == pytest.approx(other, abs=1e-12)


def test_outputs_that_are_not_finite_are_counted_in_the_error() -> None:
    logits, label = draw(2, seed=12)
    logits[3, 0], logits[5, 1] = np.nan, np.inf
    with pytest.raises(UserError, match=r"not finite.*2 of 97 pairs"):
        metrics.quick_scores(BINARY, logits, label)


def test_an_empty_split_and_a_wrong_shape_are_errors() -> None:
    with pytest.raises(UserError, match="no pairs to score"):
        metrics.quick_scores(BINARY, np.zeros((0, 2), np.float32), np.zeros(0, np.int32))
    with pytest.raises(ValueError, match="outputs of shape"):
        metrics.quick_scores(BINARY, np.zeros((4, 3), np.float32), np.zeros(4, np.int32))
    with pytest.raises(ValueError, match="class indices"):
        metrics.quick_scores(BINARY, np.zeros((2, 2), np.float32), np.array([0, 2]))
