"""Slices of pairs by their relation: negation, quantifiers, swapped roles, and the rest."""

from typing import Literal

import numpy as np
from jaxtyping import Shaped

from pairjax.base.types import Pairs
from pairjax.evaluation.words import NEGATIONS, words_of

Slice = Literal["negation", "quantifiers", "roles", "rest"]
SLICES: tuple[Slice, ...] = ("negation", "quantifiers", "roles", "rest")
# fmt: off
QUANTIFIERS = frozenset([
    "all", "every", "each", "some", "any", "most", "many", "few", "several", "both", "half",
    "everyone", "everybody", "someone", "somebody",
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
])
# fmt: on


def rule_slices(pairs: Pairs) -> Shaped[np.ndarray, " pairs"]:
    """Returns the slice of each pair by the rule that made it, as `where` names it (rule:roles/neutral).

    The rules `negation`, `quantifiers` and `roles` are slices; all other rules are the rest.
    """
    rules = [origin.removeprefix("rule:").split("/")[0] for origin in pairs.where]
    return np.array([rule if rule in SLICES else "rest" for rule in rules], dtype=np.str_)


def word_slices(pairs: Pairs) -> Shaped[np.ndarray, " pairs"]:
    """Returns the slice of each pair by its words, for English; the first that applies.

    `roles`: the same words in another order. `negation`: A or B contains a negation. `quantifiers`: the quantifiers and
    numerals of A and B differ. Otherwise the rest.
    """
    slices: list[Slice] = []
    for first, second in zip(pairs.first, pairs.second, strict=True):
        a, b = words_of(first), words_of(second)
        quantifiers = [sorted(word for word in words if word in QUANTIFIERS) for words in (a, b)]
        if a != b and sorted(a) == sorted(b):
            slices.append("roles")
        elif not NEGATIONS.isdisjoint((*a, *b)):
            slices.append("negation")
        elif quantifiers[0] != quantifiers[1]:
            slices.append("quantifiers")
        else:
            slices.append("rest")
    return np.array(slices, dtype=np.str_)
