"""Temperature and threshold against exhaustive search, and data that give nothing to fit."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from pairjax.evaluation.calibration import fit_temperature, fit_threshold, temperature_warning
from pairjax.evaluation.metrics import nll_each


def draw(*, seed: int, pairs: int = 300, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(logits): a model that is calibrated as it is."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(pairs, classes)) * 2
    label = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits.astype(np.float32), label.astype(np.int32)


@pytest.mark.parametrize("true", [0.2, 1.0, 5.0, 20.0])
def test_calibrated_logits_times_t_get_the_temperature_t(true: float) -> None:
    logits, label = draw(seed=0, pairs=20000)
    assert fit_temperature(logits * np.float32(true), label) == pytest.approx(true, rel=0.03)


@pytest.mark.parametrize("seed", range(4))
def test_no_temperature_of_a_fine_grid_has_a_lower_nll(seed: int) -> None:
    logits, label = draw(seed=seed)
    logits *= np.float32(3.0)
    best = nll_each(logits, label, temperature=fit_temperature(logits, label)).mean()
    for temperature in np.geomspace(0.02, 90, 400):
        assert best <= nll_each(logits, label, temperature=float(temperature)).mean() + 1e-9


def test_the_temperature_is_1_if_dev_gives_nothing_to_fit() -> None:
    label = np.array([0, 1, 1, 0], np.int32)
    assert fit_temperature(np.eye(2, dtype=np.float32)[label] * 3, label) == 1.0
    assert fit_temperature(np.zeros((4, 2), np.float32), label) == 1.0
    assert fit_temperature(np.tile(np.float32([[2.0, 0.0]]), (4, 1)), np.zeros(4, np.int32)) == 1.0


def test_the_temperature_of_a_model_that_is_worse_than_chance_is_bounded() -> None:
    label = np.array([0, 1, 1, 0], np.int32)
    temperature = fit_temperature(np.eye(2, dtype=np.float32)[1 - label] * 3, label)
    assert temperature == pytest.approx(100.0, rel=1e-3)
    assert "at its upper bound, 100" in (temperature_warning(temperature) or "")


def test_a_temperature_at_its_lower_bound_is_reported_and_one_between_is_not() -> None:
    label = np.array([0, 1, 1, 0, 1], np.int32)
    logits = np.eye(2, dtype=np.float32)[label] * 1e-4
    logits[-1] = [2e-8, 1e-8]  # Wrong by a hair, so the likelihood rises down to the bound.
    assert "at its lower bound, 0.01" in (temperature_warning(fit_temperature(logits, label)) or "")
    assert [temperature_warning(value) for value in (0.02, 1.0, 90.0)] == [None] * 3


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("digits", [1, 6])
def test_no_other_threshold_that_divides_dev_has_a_higher_f1(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(60) < 0.3
    probability = np.round(np.clip(rng.normal(0.35 + 0.2 * positive, 0.15), 0, 1), digits)
    threshold = fit_threshold(probability, positive)
    best = f1_score(positive, probability >= threshold)
    for candidate in np.unique(probability)[1:]:
        assert best >= f1_score(positive, probability >= candidate) - 1e-12
    assert 0 < (probability >= threshold).sum() < 60


def test_of_equal_thresholds_the_nearest_to_a_half_is_taken() -> None:
    # Between 0.2 and 0.9 nothing changes: 0.5 stands for them all.
    assert fit_threshold(np.array([0.1, 0.2, 0.9, 0.95]), np.array([False, False, True, True])) == 0.5
    # Thresholds in (0.1, 0.2] and (0.7, 0.8] give F1 = 2/3 alike, all others less.
    probability, positive = np.array([0.1, 0.2, 0.6, 0.7, 0.8]), np.array([False, True, False, False, True])
    assert fit_threshold(probability, positive) == pytest.approx(0.75)


def test_a_constant_predictor_is_never_fitted() -> None:
    # Most of dev is positive and the scores say nothing: "always positive" would have F1 0.89.
    rng = np.random.default_rng(0)
    probability, positive = rng.random(500), rng.random(500) < 0.8
    chosen = probability >= fit_threshold(probability, positive)
    assert 0 < chosen.sum() < 500
    assert f1_score(positive, chosen) < 1.0


@pytest.mark.parametrize(
    ("probability", "positive"),
    [([0.1, 0.9], [True, True]), ([0.1, 0.9], [False, False]), ([0.4, 0.4], [True, False]), ([], [])],
)
def test_there_is_no_threshold_if_dev_gives_nothing_to_fit(probability: list[float], positive: list[bool]) -> None:
    assert fit_threshold(np.array(probability, np.float64), np.array(positive, bool)) is None


def test_adjacent_floats_are_still_divided() -> None:
    below = 0.7
    above = np.nextafter(below, 1.0)
    threshold = fit_threshold(np.array([below, above]), np.array([False, True]))
    assert below < threshold <= above
