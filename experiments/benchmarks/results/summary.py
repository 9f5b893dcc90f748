"""What the rounds of a case come to: ratios, rates, shares of the floor. results.json keeps the rounds themselves."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

SIDES = ("ours", "peer")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": median(values), "low": min(values), "high": max(values)}


def matrix_rates(rates: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The machine's rate, that of the faster library, in GFLOP/s, and how much either varied of its own median.

    Args:
        rates: What each side's library reached before its turns.
    """
    return {
        "matrix_rate": max(median(values) for values in rates.values()),
        "matrix_spread": max((max(values) - min(values)) / median(values) for values in rates.values()),
    }


def summary(rounds: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Ratios, rates and shares over rounds of {side: answer}.

    `share_of_floor` is a side's arithmetic by the machine's rate, `share_of_own` by the rate of its own library.
    """

    def work_rate(answer: Mapping[str, Any]) -> float:
        return (answer["flops"] or answer["count"]) / answer["seconds"]

    made: dict[str, Any] = {"ratio": spread([work_rate(r["ours"]) / work_rate(r["peer"]) for r in rounds])}
    if all("whole" in answer for r in rounds for answer in r.values()):
        made["ratio_whole"] = spread([r["ours"]["whole"] / r["peer"]["whole"] for r in rounds])
    rates = {side: [r[side]["matrix_rate"] for r in rounds] for side in SIDES}
    made |= matrix_rates(rates)
    # Units a second at the mean unit's arithmetic over both sides: comparable although the batches differ.
    every = [answer for r in rounds for answer in r.values()]
    mean = sum(answer["flops"] for answer in every) / sum(answer["count"] for answer in every)
    for side in SIDES:
        answers = [r[side] for r in rounds]
        speeds = [a["flops"] / a["seconds"] / mean if mean else a["count"] / a["seconds"] for a in answers]
        made[side] = {
            "per_second": spread(speeds),
            "peak_mb": max(a["peak_mb"] for a in answers),
            "loss": median([a["loss"] for a in answers]) if "loss" in answers[0] else None,
            "matrix_rate": median(rates[side]),
        }
        if mean:
            done = median([a["flops"] / a["seconds"] for a in answers]) / 1e9
            made[side]["share_of_floor"] = done / made["matrix_rate"]
            made[side]["share_of_own"] = done / made[side]["matrix_rate"]
        if "bytes" in answers[0]:
            moved = median([a["bytes"] / a["seconds"] for a in answers])
            made[side]["share_of_memory"] = moved / (median([a["memory_rate"] for a in answers]) * 1e9)
        if "tokenised_per_second" in answers[0]:
            made[side]["tokenised_per_second"] = median([a["tokenised_per_second"] for a in answers])
    return made
