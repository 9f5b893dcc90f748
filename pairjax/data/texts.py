"""Texts alone: the distinct ones of a task, and their token rows without a partner."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pairjax.base.config import Truncation
from pairjax.base.errors import UserError
from pairjax.base.types import Pairs
from pairjax.data.encode import EncodedPairs, encode_pairs
from pairjax.data.sides import alone
from pairjax.data.tokenizer import PairTokenizer


def distinct_texts(splits: Iterable[Pairs]) -> tuple[str, ...]:
    """Every text once, in the order of its first appearance, A before B."""
    seen: dict[str, None] = {}
    for pairs in splits:
        for text in (*pairs.first, *pairs.second):
            seen.setdefault(text)
    return tuple(seen)


def encode_texts(
    texts: Sequence[str], tokenizer: PairTokenizer, *, max_length: int, truncation: Truncation
) -> EncodedPairs:
    """Rows `[CLS] text [SEP]`: side A of pairs that have no B, as a bi-encoder reads each of its texts.

    Args:
        texts: As many rows.
        tokenizer: Of the encoder.
        max_length: Longest row, special tokens included.
        truncation: One that cuts a text whichever side it stands on.

    Raises:
        UserError: A strategy that cuts one side alone, or a text that is no string.
    """
    if truncation not in ("longest_first", "head_tail"):
        raise UserError(
            "texts encoded alone do not know their side",
            got=f"--data.truncation {truncation}",
            expected="longest_first or head_tail",
        )
    both = encode_pairs(texts, [""] * len(texts), tokenizer, kind="bi", max_length=max_length, truncation=truncation)
    begins = both.offsets[:-1]
    keys = [both.tokens[i:j].tobytes() for i, j in zip(begins, begins + both.first_length, strict=True)]
    # Every B is bare here; a text is where its row holds the two special tokens alone.
    bare = int((both.first_length == 2).sum())
    return replace(alone(keys, both), truncated=both.truncated, lost=both.lost, bare=bare)
