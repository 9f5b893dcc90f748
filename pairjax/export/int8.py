"""Compare a model with int8 weights with the same in float32: how often the answers agree, and both scores."""

from typing import Any

import numpy as np
from jaxtyping import Float

from pairjax.base.terminal import format_score
from pairjax.base.types import Pairs, TaskSpec
from pairjax.evaluation.scores import score, scores_to_json
from pairjax.evaluation.tables import NAMES
from pairjax.inference.classifier import PairClassifier

PAIRS = 2000
"""Most pairs that are compared."""
RESAMPLES = 1000
SHOWN = {"classification": ("accuracy", "macro_f1"), "regression": ("spearman", "pearson")}
"""Scores that are stored and printed."""


def sample_pairs(pairs: Pairs) -> Pairs:
    """Returns at most `PAIRS` pairs, evenly spaced: files may be sorted."""
    if len(pairs) <= PAIRS:
        return pairs
    chosen = np.linspace(0, len(pairs) - 1, PAIRS).astype(np.int64)
    label = None if pairs.label is None else pairs.label[chosen]
    return Pairs(tuple(pairs.first[i] for i in chosen), tuple(pairs.second[i] for i in chosen), label)


def compare_int8(exact: PairClassifier, int8: PairClassifier, pairs: Pairs) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Compares two models on pairs.

    Args:
        exact: The model in float32.
        int8: The model with int8 weights.
        pairs: The pairs; if they have labels, both models are scored.

    Returns:
        The comparison as plain data, and lines for the user.
    """
    pairs = sample_pairs(pairs)
    encoded = exact.encode(pairs.first, pairs.second, where=pairs.where)
    outputs = {"float32": exact.encoded_outputs(encoded), "int8": int8.encoded_outputs(encoded)}
    entry: dict[str, Any] = {"pairs": len(pairs), **agreement(exact.task, outputs["float32"], outputs["int8"])}
    lines = [_agreement_line(entry)]
    if pairs.label is None:
        return entry, (*lines, "int8 was not scored: no labelled pairs were given (--data.path DIR)")
    for kind, values in outputs.items():
        scores = scores_to_json(score(exact.task, values, pairs.label, bootstrap=RESAMPLES, seed=0))
        entry[kind] = {name: scores[name] for name in SHOWN[exact.task.kind]}
    for name in SHOWN[exact.task.kind]:
        before, after = (format_score(entry[kind][name]) for kind in outputs)
        lines.append(f"{NAMES.get(name, name)} on {len(pairs)} pairs: {before} in float32, {after} in int8")
    return entry, tuple(lines)


def agreement(
    task: TaskSpec, exact: Float[np.ndarray, "pairs outputs"], int8: Float[np.ndarray, "pairs outputs"]
) -> dict[str, float]:
    """Returns the share of pairs with the same class, or of a regression the mean absolute difference."""
    if task.kind == "regression":
        return {"mean_difference": float(np.abs(exact - int8).mean())}
    return {"agreement": float((exact.argmax(axis=-1) == int8.argmax(axis=-1)).mean())}


def _agreement_line(entry: dict[str, Any]) -> str:
    """Returns the line on the agreement."""
    if "agreement" in entry:
        return f"int8 gives the class of float32 for {entry['agreement']:.2%} of {entry['pairs']} pairs"
    return f"int8 differs from float32 by {entry['mean_difference']:.3g} on average over {entry['pairs']} pairs"
