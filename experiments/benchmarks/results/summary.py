"""Summarises the rounds of a case as ratios, rates and utilisation. results.json also keeps the rounds themselves."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

PAIRJAX, TORCH = SIDES = ("ours", "peer")
"""The keys of the two sides in results.json."""


def median_and_range(values: Sequence[float]) -> dict[str, float]:
    """Returns the median, the minimum and the maximum."""
    return {"median": median(values), "low": min(values), "high": max(values)}


def summarise_matrix_rates(rates: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Returns the machine's matrix rate and how much it varied.

    Args:
        rates: For each side, the matrix rates of its library in GFLOP/s, measured before its turns.

    Returns:
        The median rate of the faster library, and the larger spread of the two relative to its own median.
    """
    return {
        "matrix_rate": max(median(values) for values in rates.values()),
        "matrix_spread": max((max(values) - min(values)) / median(values) for values in rates.values()),
    }


def summarise_rounds(rounds: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Returns the ratios, rates and utilisation of the rounds.

    `share_of_floor` is a side's arithmetic a second divided by the machine's matrix rate, `share_of_own` that divided
    by the rate of its own library, `share_of_memory` the bytes that it must move a second divided by the copy rate.

    Args:
        rounds: For each round, the answer of each side.
    """

    def work_rate(answer: Mapping[str, Any]) -> float:
        """Returns operations a second, or units a second if operations are not counted."""
        return (answer["flops"] or answer["count"]) / answer["seconds"]

    result: dict[str, Any] = {"ratio": median_and_range([work_rate(r[PAIRJAX]) / work_rate(r[TORCH]) for r in rounds])}
    if all("whole" in answer for r in rounds for answer in r.values()):
        result["ratio_whole"] = median_and_range([r[PAIRJAX]["whole"] / r[TORCH]["whole"] for r in rounds])
    rates = {side: [r[side]["matrix_rate"] for r in rounds] for side in SIDES}
    result |= summarise_matrix_rates(rates)
    # Units a second at the mean unit's arithmetic over both sides are comparable although the batches differ.
    all_answers = [answer for r in rounds for answer in r.values()]
    mean = sum(answer["flops"] for answer in all_answers) / sum(answer["count"] for answer in all_answers)
    for side in SIDES:
        answers = [r[side] for r in rounds]
        speeds = [a["flops"] / a["seconds"] / mean if mean else a["count"] / a["seconds"] for a in answers]
        result[side] = {
            "per_second": median_and_range(speeds),
            "peak_mb": max(a["peak_mb"] for a in answers),
            "loss": median([a["loss"] for a in answers]) if "loss" in answers[0] else None,
            "matrix_rate": median(rates[side]),
        }
        if mean:
            gflops = median([a["flops"] / a["seconds"] for a in answers]) / 1e9
            result[side]["share_of_floor"] = gflops / result["matrix_rate"]
            result[side]["share_of_own"] = gflops / result[side]["matrix_rate"]
        if "bytes" in answers[0]:
            bytes_per_second = median([a["bytes"] / a["seconds"] for a in answers])
            result[side]["share_of_memory"] = bytes_per_second / (median([a["memory_rate"] for a in answers]) * 1e9)
        if "tokenised_per_second" in answers[0]:
            result[side]["tokenised_per_second"] = median([a["tokenised_per_second"] for a in answers])
    return result
