"""Slices of pairs by the relation that is asked for: negation, quantifiers, swapped roles, and the rest."""

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
    """By the rule that made a pair, as `where` names it (rule:roles/neutral): `negation`, `quantifiers`, `roles`;
    every other rule is the rest."""
    rules = [place.removeprefix("rule:").split("/")[0] for place in pairs.where]
    return np.array([rule if rule in SLICES else "rest" for rule in rules], dtype=np.str_)


def word_slices(pairs: Pairs) -> Shaped[np.ndarray, " pairs"]:
    """By the words of English pairs, the first that fits: `roles`, the same words in another order; `negation`, a
    negation in A or B; `quantifiers`, quantifiers and numerals that are not the same in A and B; else the rest."""
    found: list[Slice] = []
    for first, second in zip(pairs.first, pairs.second, strict=True):
        a, b = words_of(first), words_of(second)
        counted = [sorted(word for word in words if word in QUANTIFIERS) for words in (a, b)]
        if a != b and sorted(a) == sorted(b):
            found.append("roles")
        elif not NEGATIONS.isdisjoint((*a, *b)):
            found.append("negation")
        elif counted[0] != counted[1]:
            found.append("quantifiers")
        else:
            found.append("rest")
    return np.array(found, dtype=np.str_)
