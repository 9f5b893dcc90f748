"""Compute metrics of predictions for many resamples of the pairs at once.

Every metric takes `counts` [resamples, pairs]: how often each pair occurs in each resample. The score of the pairs
themselves uses `once(pairs)`, a single resample in which every count is 1; an interval uses drawn counts
(`pairjax.evaluation.intervals`). Nothing is sorted or ranked again for a resample, and the results are exact.

Divisions by zero: precision, recall and F1 of a class are 0, MCC is 0 (as in scikit-learn), and a correlation with a
constant is NaN (as in SciPy).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64, Num

from pairjax.base.errors import DivergedError, UserError
from pairjax.base.types import TaskSpec
from pairjax.evaluation.counts import Counts, Statistic, group_sums, mean, once
from pairjax.evaluation.multi_label import make_multi_label_statistic
from pairjax.evaluation.rank_metrics import average_precision, positive_scores, ranking_means

ECE_BINS = 15
"""Number of bins of the calibration error."""
LOWER_IS_BETTER = ("nll", "brier", "ece", "mse", "mae")


# ------------------------------------------------------------------------------------------------------------- classes


class Tally(NamedTuple):
    """Diagonal, row sums and column sums of the confusion matrix of each resample.

    Attributes:
        hits: float64 [resamples, classes]; pairs of each class that are predicted correctly.
        labelled: float64 [resamples, classes]; pairs labelled with each class.
        predicted: float64 [resamples, classes]; pairs predicted as each class.
    """

    hits: Float64[np.ndarray, "resamples classes"]
    labelled: Float64[np.ndarray, "resamples classes"]
    predicted: Float64[np.ndarray, "resamples classes"]


def tally(
    label: Int[np.ndarray, " pairs"], predicted: Int[np.ndarray, " pairs"], counts: Counts, *, classes: int
) -> Tally:
    """Counts hits, labels and predictions of each class in each resample.

    Args:
        label: int [N]; true classes.
        predicted: int [N]; predicted classes.
        counts: float64 [resamples, N].
        classes: Number of classes.
    """
    right = label == predicted
    return Tally(
        hits=group_sums(counts[:, right], label[right], classes),
        labelled=group_sums(counts, label, classes),
        predicted=group_sums(counts, predicted, classes),
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns part / whole, or 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole > 0)


def accuracy(tallied: Tally) -> Float64[np.ndarray, " resamples"]:
    """Returns the share of pairs whose class is predicted correctly."""
    return tallied.hits.sum(axis=1) / tallied.labelled.sum(axis=1)


def precision(tallied: Tally) -> Float64[np.ndarray, "resamples classes"]:
    """Returns for each class the share of correct pairs among those predicted as the class."""
    return _share(tallied.hits, tallied.predicted)


def recall(tallied: Tally) -> Float64[np.ndarray, "resamples classes"]:
    """Returns for each class the share of correct pairs among those labelled with the class."""
    return _share(tallied.hits, tallied.labelled)


def f1(tallied: Tally) -> Float64[np.ndarray, "resamples classes"]:
    """Returns for each class the harmonic mean of precision and recall, 2 hits / (predicted + labelled)."""
    return _share(2.0 * tallied.hits, tallied.predicted + tallied.labelled)


def macro_f1(
    tallied: Tally, *, occurring: Bool[np.ndarray, " classes"] | None = None
) -> Float64[np.ndarray, " resamples"]:
    """Returns the mean of F1 over all classes of the task; a class that does not occur counts as 0.

    Args:
        tallied: The counts of each resample.
        occurring: bool [classes]; classes that occur among the labels or predictions of the data. A resample that
            lacks such a class leaves it out, since a 0 would come from the draw and not from the model.
    """
    scores = f1(tallied)
    if occurring is None:
        return scores.mean(axis=1)
    lacking = occurring & (tallied.labelled + tallied.predicted == 0)
    return scores.sum(axis=1) / (~lacking).sum(axis=1)


def mcc(tallied: Tally) -> Float64[np.ndarray, " resamples"]:
    """Returns Matthews' correlation for any number of classes (Gorodkin 2004); 0 if either side is constant."""
    total = tallied.labelled.sum(axis=1)
    labelled, predicted = tallied.labelled, tallied.predicted
    covariance = tallied.hits.sum(axis=1) * total - (labelled * predicted).sum(axis=1)
    spread = (total**2 - (labelled**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
    return _share(covariance, np.sqrt(np.maximum(spread, 0.0)))


def confusion_matrix(
    label: Int[np.ndarray, " pairs"], predicted: Int[np.ndarray, " pairs"], *, classes: int
) -> Int64[np.ndarray, "classes classes"]:
    """Returns the number of pairs by true class (rows) and predicted class (columns)."""
    cells = label.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


# ------------------------------------------------------------------------------------------------------- probabilities


def probabilities(
    logits: Float[np.ndarray, "pairs classes"], *, temperature: float = 1.0
) -> Float64[np.ndarray, "pairs classes"]:
    """Returns softmax(logits / temperature) in float64."""
    from scipy.special import softmax

    return softmax(logits.astype(np.float64) / temperature, axis=-1)


def nll_each(
    logits: Float[np.ndarray, "pairs classes"], label: Int[np.ndarray, " pairs"], *, temperature: float = 1.0
) -> Float64[np.ndarray, " pairs"]:
    """Returns the negative log-likelihood of each pair's class, in nats."""
    from scipy.special import log_softmax

    log_probability = log_softmax(logits.astype(np.float64) / temperature, axis=-1)
    return -np.take_along_axis(log_probability, label[:, None].astype(np.int64), axis=-1)[:, 0]


def brier_each(
    probability: Float64[np.ndarray, "pairs classes"], label: Int[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " pairs"]:
    """Returns the squared distance between the probabilities of each pair and its class.

    With two classes it is (p_positive - y)^2, in [0, 1]; with more, the sum over classes (Brier 1950), in [0, 2]. This
    is scikit-learn's `brier_score_loss` with `scale_by_half="auto"`.
    """
    classes = probability.shape[1]
    squared = np.square(probability - np.eye(classes)[label]).sum(axis=1)
    return squared / 2.0 if classes == 2 else squared


def calibration_gaps(
    probability: Float64[np.ndarray, "pairs classes"], label: Int[np.ndarray, " pairs"]
) -> Float64[np.ndarray, "pairs bins"]:
    """Returns confidence minus correctness of each pair in the column of its bin, and 0 elsewhere; `ece` reads it."""
    confidence = probability.max(axis=1)
    correct = probability.argmax(axis=1) == label
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gaps = np.zeros((len(label), ECE_BINS))
    gaps[np.arange(len(label)), bins] = confidence - correct
    return gaps


def ece(gaps: Float64[np.ndarray, "pairs bins"], counts: Counts) -> Float64[np.ndarray, " resamples"]:
    """Returns the expected calibration error: the mean over pairs of |mean confidence - accuracy| of their bin.

    Confidence is the probability of the predicted class. The 15 bins have equal width and are closed on the right (Guo
    et al. 2017).

    Args:
        gaps: float64 [N, bins]; from `calibration_gaps`.
        counts: float64 [resamples, N].
    """
    return np.abs(counts @ gaps).sum(axis=1) / counts.sum(axis=1)


# -------------------------------------------------------------------------------------------------------------- scores


def pearson(
    x: Num[np.ndarray, " pairs"], y: Num[np.ndarray, " pairs"], counts: Counts
) -> Float64[np.ndarray, " resamples"]:
    """Returns Pearson's correlation in each resample; NaN where either side is constant."""
    if len(x) == 0 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.full(counts.shape[0], np.nan)
    # Centring and scaling over all pairs first keeps the cancellation in the sums of a resample small.
    a, b = ((z - z.mean()) / z.std() for z in (x.astype(np.float64), y.astype(np.float64)))
    n = counts.sum(axis=1)
    first, second, aa, bb, ab = (counts @ np.stack([a, b, a * a, b * b, a * b], axis=1)).T
    a_spread, b_spread = aa / n - (first / n) ** 2, bb / n - (second / n) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (ab / n - first * second / n**2) / np.sqrt(a_spread * b_spread)
    # These differences have lost half of their digits or more: they are computed again, centred on the resample.
    for row in np.flatnonzero((a_spread < 1e-8 * aa / n) | (b_spread < 1e-8 * bb / n)):
        correlation[row] = _centred_correlation(x, y, counts[row])
    return np.clip(correlation, -1.0, 1.0)


def _centred_correlation(x: np.ndarray, y: np.ndarray, count: np.ndarray) -> float:
    """Returns Pearson's correlation of one resample, from its own means; NaN if either side is constant in it."""
    drawn = count > 0
    x, y, count = x[drawn].astype(np.float64), y[drawn].astype(np.float64), count[drawn]
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    # The extremes bound the scale; scaling keeps the squares of tiny values from underflowing.
    a, b = ((z - np.average(z, weights=count)) / np.ptp(z) for z in (x, y))
    return float((count * a * b).sum() / np.sqrt((count * a * a).sum() * (count * b * b).sum()))


def _centred_ranks(x: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the rank of each pair in each resample minus the mean rank, [resamples, N]; ties get their mean rank."""
    values, group = np.unique(x, return_inverse=True)
    members = group_sums(counts, group, len(values))
    before = np.cumsum(members, axis=1) - members
    ranks = before + (members + 1.0) / 2.0 - (counts.sum(axis=1, keepdims=True) + 1.0) / 2.0
    return ranks[:, group]


def spearman(
    x: Num[np.ndarray, " pairs"], y: Num[np.ndarray, " pairs"], counts: Counts
) -> Float64[np.ndarray, " resamples"]:
    """Returns Spearman's rank correlation, with the ranks of each resample; NaN where either side is constant."""
    a, b = _centred_ranks(x, counts), _centred_ranks(y, counts)
    weighted = counts * a
    spread = np.einsum("rp,rp->r", weighted, a) * np.einsum("rp,rp,rp->r", counts, b, b)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.einsum("rp,rp->r", weighted, b) / np.sqrt(spread)
    return np.where(spread > 0, np.clip(correlation, -1.0, 1.0), np.nan)


# ---------------------------------------------------------------------------------------------------------------- task


def points_of(task: TaskSpec, predicted: Num[np.ndarray, " pairs"], label: Num[np.ndarray, " pairs"]) -> Statistic:
    """Builds a statistic whose metric `value` is accuracy (classes) or Spearman's correlation (scores), in percent."""
    if task.kind == "classification":
        right = (predicted == label).astype(np.float64)
        return lambda counts: {"value": 100.0 * mean(right, counts)}
    return lambda counts: {"value": 100.0 * spearman(predicted, label, counts)}


def check_outputs(task: TaskSpec, outputs: np.ndarray, label: np.ndarray) -> None:
    """Checks that outputs can be scored.

    Args:
        task: The task.
        outputs: float [N, outputs]; outputs of the model.
        label: [N]; class indices or scores.

    Raises:
        UserError: There are no pairs, or outputs are NaN or infinite.
        ValueError: Shapes or class indices do not fit the task.
    """
    several = task.kind == "multi-label"
    if outputs.shape != (len(label), task.outputs) or label.shape[1:] != ((task.outputs,) if several else ()):
        raise ValueError(f"outputs of shape {outputs.shape} for {len(label)} labels and {task.outputs} outputs")
    if len(label) == 0:
        raise UserError("no pairs to score", got="an empty split")
    odd = int((~np.isfinite(outputs).all(axis=1)).sum())
    if odd:
        raise DivergedError(
            "the model's outputs are not finite",
            got=f"NaN or infinity for {odd:,} of {len(label):,} pairs",
            fix="lower --optim.learning-rate or use --model.dtype float32",
        )
    if task.kind == "classification" and not 0 <= int(label.min()) <= int(label.max()) < task.outputs:
        raise ValueError(f"class indices from {label.min()} to {label.max()} for {task.outputs} classes")


def make_class_statistic(
    task: TaskSpec, label: Int[np.ndarray, " pairs"], predicted: Int[np.ndarray, " pairs"], *, suffix: str = ""
) -> Statistic:
    """Builds accuracy, macro F1, MCC and, for two classes, precision, recall and F1 of the positive class.

    If all labels are equal, all of them but accuracy are NaN: a constant prediction would have an F1 of 1.

    A resample may lack a class that the data have. Macro F1 then leaves the class out. Precision, recall and F1 of the
    positive class are NaN in a resample in which their denominator is 0 by the draw, and MCC if the labels are equal.

    Args:
        task: The task.
        label: int [N]; true classes.
        predicted: int [N]; predicted classes.
        suffix: Appended to the names of the metrics.
    """
    positive = task.positive_index
    varied = len(np.unique(label)) > 1
    whole = tally(label, predicted, once(len(label)), classes=task.outputs)
    occurring = (whole.labelled + whole.predicted)[0] > 0

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        tallied = tally(label, predicted, counts, classes=task.outputs)
        scores = {"accuracy": accuracy(tallied)}
        if positive is not None:
            for name, metric, of, total in (
                ("precision", precision, tallied.predicted, whole.predicted),
                ("recall", recall, tallied.labelled, whole.labelled),
                ("f1", f1, tallied.predicted + tallied.labelled, whole.predicted + whole.labelled),
            ):
                lacking = (of[:, positive] == 0) & (total[0, positive] > 0)
                scores[name] = np.where(lacking, np.nan, metric(tallied)[:, positive])
        equal = (tallied.labelled > 0).sum(axis=1) < 2
        scores["macro_f1"] = macro_f1(tallied, occurring=occurring)
        scores["mcc"] = np.where(equal, np.nan, mcc(tallied))
        return {
            f"{name}{suffix}": value if varied or name == "accuracy" else np.full_like(value, np.nan)
            for name, value in scores.items()
        }

    return statistic


def make_probability_statistic(
    logits: Float[np.ndarray, "pairs classes"],
    label: Int[np.ndarray, " pairs"],
    *,
    temperature: float = 1.0,
    suffix: str = "",
) -> Statistic:
    """Builds NLL, Brier score and expected calibration error.

    Args:
        logits: float [N, classes]; logits.
        label: int [N]; true classes.
        temperature: Divides the logits.
        suffix: Appended to the names of the metrics.
    """
    probability = probabilities(logits, temperature=temperature)
    losses = nll_each(logits, label, temperature=temperature)
    squares, gaps = brier_each(probability, label), calibration_gaps(probability, label)

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        scores = {"nll": mean(losses, counts), "brier": mean(squares, counts), "ece": ece(gaps, counts)}
        return {f"{name}{suffix}": value for name, value in scores.items()}

    return statistic


def make_statistic(
    task: TaskSpec, outputs: Float[np.ndarray, "pairs outputs"], label: Num[np.ndarray, "pairs *labels"]
) -> Statistic:
    """Builds all metrics of a task's outputs as a function of counts.

    Args:
        task: The task.
        outputs: float [N, outputs]; logits, or scores in the labels' units.
        label: [N]; class indices or scores.

    Raises:
        UserError: There are no pairs, or outputs are NaN or infinite.
    """
    check_outputs(task, outputs, label)
    if task.kind == "multi-label":
        return make_multi_label_statistic(outputs, label)
    if task.kind == "classification":
        classes = make_class_statistic(task, label, outputs.argmax(axis=1))
        shares = make_probability_statistic(outputs, label)
        if task.head != "cosine":
            return lambda counts: classes(counts) | shares(counts)
        # The cosine that separates the classes is not learnt, so a metric that needs none comes first.
        cosines, positive = positive_scores(task, outputs), label == task.positive_index
        return lambda counts: (
            {"average_precision": average_precision(cosines, positive, counts)} | classes(counts) | shares(counts)
        )
    score, error = outputs[:, 0].astype(np.float64), outputs[:, 0].astype(np.float64) - label
    return lambda counts: {
        "pearson": pearson(score, label, counts),
        "spearman": spearman(score, label, counts),
        "mse": mean(error**2, counts),
        "mae": mean(np.abs(error), counts),
    }


def quick_scores(
    task: TaskSpec,
    outputs: Float[np.ndarray, "pairs outputs"],
    label: Num[np.ndarray, "pairs *labels"],
    *,
    group: Int[np.ndarray, " pairs"] | None = None,
) -> dict[str, float]:
    """Computes the task's metrics without intervals, for evaluation during training; NaN if undefined.

    Args:
        task: The task.
        outputs: float [N, outputs]; logits, or scores in the labels' units.
        label: [N]; class indices or scores.
        group: int [N]; the group of each pair, for ranking metrics, or None.

    Raises:
        UserError: There are no pairs, or outputs are NaN or infinite.
    """
    ranked = {} if group is None else ranking_means(task, outputs, label, group)
    return ranked | {
        name: float(value[0]) for name, value in make_statistic(task, outputs, label)(once(len(label))).items()
    }
