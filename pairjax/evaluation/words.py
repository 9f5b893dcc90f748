"""Count the words of a pair: shared words, lengths and negations."""

import re

import numpy as np
from jaxtyping import Float

from pairjax.base.types import Pairs

NEGATIONS = frozenset(
    [
        "no",
        "not",
        "none",
        "never",
        "nobody",
        "nothing",
        "neither",
        "nor",
        "without",
        "n't",
        "não",
        "nenhum",
        "nenhuma",
        "nunca",
        "ninguém",
        "nada",
        "nem",
        "sem",
    ]
)


JACCARD, NEGATION_DISTANCE = 0, 8
"""Columns of `overlap_features`: shared over all distinct words; absolute difference of the numbers of negations."""
WORD = re.compile(r"n't|\w+(?=n't)|\w+", re.UNICODE)


def words_of(text: str) -> list[str]:
    """Returns the lower-cased words of a text; n't counts as a word."""
    return WORD.findall(text.lower().replace("’", "'"))


def length_features(pairs: Pairs) -> Float[np.ndarray, "pairs features"]:
    """Returns words of A and B, characters of A and B, and both differences (A - B); float64 [N, 6]."""
    counts = np.array(
        [(len(words_of(a)), len(words_of(b)), len(a), len(b)) for a, b in zip(pairs.first, pairs.second, strict=True)],
        dtype=np.float64,
    ).reshape(len(pairs), 4)
    return np.column_stack([counts, counts[:, 0] - counts[:, 1], counts[:, 2] - counts[:, 3]])


def overlap_features(pairs: Pairs) -> Float[np.ndarray, "pairs features"]:
    """Returns what the words of A and B have in common, float64 [N, 9].

    The columns are the Jaccard index; the share of A's distinct words that are in B, and of B's that are in A; the
    difference (A - B) and the ratio (B / A) of the numbers of words; and the numbers of negations in A and in B, their
    difference and its absolute value.
    """
    rows = []
    for text_a, text_b in zip(pairs.first, pairs.second, strict=True):
        a, b = words_of(text_a), words_of(text_b)
        first, second = set(a), set(b)
        shared = len(first & second)
        negated = sum(word in NEGATIONS for word in a), sum(word in NEGATIONS for word in b)
        rows.append(
            (
                shared / max(1, len(first | second)),
                shared / max(1, len(first)),
                shared / max(1, len(second)),
                len(a) - len(b),
                len(b) / max(1, len(a)),
                negated[0],
                negated[1],
                negated[0] - negated[1],
                abs(negated[0] - negated[1]),
            )
        )
    return np.array(rows, dtype=np.float64).reshape(len(pairs), 9)
