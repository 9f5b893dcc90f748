"""Check exported files: 64 pairs through the files in their own runtime, beside pairjax's outputs."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.data.synthetic import rule_pairs
from pairjax.export.formats import Format, Request, missing_modules

PAIRS = 64
TOLERANCE = 1e-4
"""Largest difference of two outputs in float32."""


@cache
def check_pairs() -> tuple[tuple[str, str], ...]:
    """Returns 64 rule-made pairs, in English and Portuguese; texts have one to four sentences."""
    pairs: list[tuple[str, str]] = []
    for language in ("en", "pt"):
        data = rule_pairs(DataConfig(rules="entailment", language=language, sizes=(PAIRS // 2, 1, 0)))
        first, second = data.splits["train"].first, data.splits["train"].second
        for number in range(PAIRS // 2):
            a, b = 1 + number % 4, 1 + number // 4 % 4
            pairs.append((" ".join((first * 2)[number : number + a]), " ".join((second * 2)[number : number + b])))
    return tuple(pairs)


def check_export(target: Format, request: Request, folder: Path, pairs: Sequence[tuple[str, str]]) -> float | None:
    """Returns the largest difference between the exported files' outputs and pairjax's.

    Args:
        target: The format.
        request: The export.
        folder: The folder that was written.
        pairs: The pairs.

    Returns:
        The difference, or None if the format's own runtime is not installed.

    Raises:
        UserError: The difference is too large, so the files are wrong.
    """
    if missing_modules(target.runtime):
        return None
    difference = target.difference(request, folder, pairs)
    if not difference < TOLERANCE:  # NaN too
        raise UserError(
            f"the files in the format {target.name} do not give this model's outputs",
            got=f"a difference of {difference:.3g} on {len(pairs)} pairs",
            expected=f"less than {TOLERANCE:g}",
            fix="nothing was written; please report this with the model's pairjax.json",
        )
    return difference
