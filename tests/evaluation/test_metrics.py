"""Metrics against scikit-learn and SciPy, on all pairs and on resamples."""

import warnings

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from pairjax.base.errors import UserError
from pairjax.base.types import TaskSpec, default_positive
from pairjax.evaluation import metrics
from pairjax.evaluation.intervals import bootstrap_intervals

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
        index = expand(counts[row])
        for name, expected in class_oracle(label[index], predicted[index], classes).items():
            np.testing.assert_allclose(getattr(metrics, name)(tallied)[row], expected, atol=1e-12, err_msg=name)


def test_a_class_that_a_resample_lacks_does_not_lower_macro_f1() -> None:
    """3 of 200 pairs are of class 2 and always right; 5 % of all resamples lack them."""
    label = np.repeat([0, 1, 2], [100, 97, 3]).astype(np.int32)
    predicted = np.where(np.arange(200) % 20 == 0, 1 - label, label).astype(np.int32)
    predicted[label == 2] = 2
    statistic = metrics.make_class_statistic(classes_task(3), label, predicted)
    interval = bootstrap_intervals(statistic, 200, resamples=2000, seed=0)["macro_f1"]
    assert interval.value == pytest.approx(oracle.f1_score(label, predicted, average="macro"))
    assert interval.low > 0.93  # It was 0.63.
    # scikit-learn's own macro F1 averages over the classes that occur, so it agrees on a resample without the class.
    counts = (label != 2).astype(float)[None]
    expected = oracle.f1_score(label[label != 2], predicted[label != 2], average="macro")
    assert statistic(counts)["macro_f1"][0] == pytest.approx(expected)


def test_scores_of_a_rare_positive_class_leave_out_resamples_without_it() -> None:
    label = (np.arange(100) < 3).astype(np.int32)
    statistic = metrics.make_class_statistic(classes_task(2), label, label)
    without = statistic((label == 0).astype(float)[None])
    assert all(np.isnan(without[name][0]) for name in ("precision", "recall", "f1", "mcc"))
    intervals = bootstrap_intervals(statistic, 100, resamples=1000, seed=0)
    for name in ("precision", "recall", "f1", "macro_f1", "mcc"):
        assert intervals[name] == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("offset", [0.0, 0.1, 1e6])
def test_pearson_of_a_resample_in_which_a_side_is_constant_is_undefined(offset: float) -> None:
    rng = np.random.default_rng(0)
    x, y = np.full(40, 0.3 + offset), rng.normal(size=40)
    x[0] = 1.7 + offset
    counts = rng.multinomial(40, np.full(40, 1 / 40), size=400).astype(float)
    for first, second in ((x, y), (y, x)):
        scores = metrics.pearson(first, second, counts)
        np.testing.assert_array_equal(np.isnan(scores), counts[:, 0] == 0)
        np.testing.assert_array_equal(np.isnan(metrics.spearman(first, second, counts)), counts[:, 0] == 0)


def test_pearson_is_right_in_a_resample_without_an_outlier() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=30), rng.normal(size=30)
    x[0] = 1e9
    counts = np.ones((1, 30))
    counts[0, 0] = 0
    assert metrics.pearson(x, y, counts)[0] == pytest.approx(scipy_stats.pearsonr(x[1:], y[1:])[0], abs=1e-7)


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
    for row, result in zip(counts, metrics.ece(gaps, counts), strict=True):
        index = expand(row)
        assert result == pytest.approx(ece_oracle(probability[index], label[index]), abs=1e-12)


def test_the_lowest_bins_of_the_ece_are_distinct() -> None:
    # Confidence 0.06 and right, 0.10 and wrong: bins (0, 1/15] and (1/15, 2/15].
    flat = np.full((2, 20), 0.04)
    flat[:, 0] = 0.06, 0.10
    result = metrics.ece(metrics.calibration_gaps(flat, np.array([0, 1])), metrics.once(2))[0]
    assert result == pytest.approx((0.94 + 0.10) / 2)


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
    index = rng.integers(0, 80, (6, 80))
    counts = np.concatenate([metrics.once(80), [np.bincount(row, minlength=80) for row in index]])
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
    result, predicted = metrics.quick_scores(BINARY, logits, label), logits.argmax(axis=1)
    assert list(result) == ["accuracy", "precision", "recall", "f1", "macro_f1", "mcc", "nll", "brier", "ece"]
    assert result["f1"] == pytest.approx(oracle.f1_score(label, predicted))
    assert result["precision"] == pytest.approx(oracle.precision_score(label, predicted))
    assert result["recall"] == pytest.approx(oracle.recall_score(label, predicted))


def test_f1_is_of_the_class_that_the_task_calls_positive() -> None:
    logits, label = draw(2, seed=8)
    first = metrics.quick_scores(TaskSpec("classification", ("no", "yes"), "no"), logits, label)
    assert first["f1"] == pytest.approx(oracle.f1_score(label, logits.argmax(axis=1), pos_label=0))


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (("adjacent", "not adjacent"), "adjacent"),
        (("match", "no match"), "match"),
        (("entailment", "not_entailment"), "entailment"),
        (("Related", "unrelated"), "Related"),
        (("non-duplicate", "duplicate"), "duplicate"),
        (("coherent", "incoherent"), "coherent"),
        (("agree", "disagree"), "agree"),
        (("no", "yes"), "yes"),
        (("0", "1"), "1"),
        (("different", "same"), "same"),
    ],
)
def test_the_class_that_the_other_negates_is_positive(labels: tuple[str, str], positive: str) -> None:
    assert default_positive(labels) == positive


def test_more_than_two_classes_have_no_positive_class() -> None:
    logits, label = draw(3, seed=9)
    assert list(metrics.quick_scores(classes_task(3), logits, label)) == [
        "accuracy", "macro_f1", "mcc", "nll", "brier", "ece",
    ]  # fmt: skip


def test_quick_scores_of_a_regression_equal_scikit_learn() -> None:
    rng = np.random.default_rng(10)
    label = rng.normal(3, 1, 50).astype(np.float32)
    outputs = (label + rng.normal(size=50)).astype(np.float32)[:, None]
    result = metrics.quick_scores(SCORES, outputs, label)
    assert list(result) == ["pearson", "spearman", "mse", "mae"]
    assert result["mse"] == pytest.approx(oracle.mean_squared_error(label, outputs[:, 0]), rel=1e-6)
    assert result["mae"] == pytest.approx(oracle.mean_absolute_error(label, outputs[:, 0]), rel=1e-6)


def test_f1_is_undefined_if_all_labels_are_equal() -> None:
    always = np.tile(np.array([[0.0, 9.0]], np.float32), (20, 1))
    result = metrics.quick_scores(BINARY, always, np.ones(20, np.int32))
    assert result["accuracy"] == 1.0
    assert all(np.isnan(result[name]) for name in ("precision", "recall", "f1", "macro_f1", "mcc"))


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
