"""Slices of pairs by their relation."""

from pairjax.base.types import Pairs
from pairjax.studies.attention.relations import rule_slices, word_slices


def test_slices_by_words_and_by_rules() -> None:
    pairs = Pairs(
        first=("A dog bites a man.", "A man isn't here", "Two dogs run", "Some dogs run", "A dog runs", "No dog runs"),
        second=("a man bites a dog", "A man is here", "Three dogs run", "Some dogs rest", "A dog rests", "all dogs no"),
        label=None,
        where=tuple(
            f"rule:{rule}/neutral" for rule in ("roles", "negation", "numbers", "quantifiers", "x", "factives")
        ),
    )
    assert word_slices(pairs).tolist() == ["roles", "negation", "quantifiers", "rest", "rest", "negation"]
    assert rule_slices(pairs).tolist() == ["roles", "negation", "rest", "quantifiers", "rest", "rest"]
