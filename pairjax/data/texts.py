"""Finds the distinct texts of a task, and encodes texts as rows of their own."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pairjax.base.data_config import Truncation
from pairjax.base.errors import UserError
from pairjax.base.types import PairData, Pairs
from pairjax.data.encode import EncodedPairs, encode_pairs
from pairjax.data.sides import build_text_rows
from pairjax.data.tokenizer import PairTokenizer


def add_prefixes(data: PairData, prefixes: tuple[str, str]) -> PairData:
    """Puts a prefix before each text of the two sides, for code that encodes texts without their sides.

    Args:
        data: The pairs.
        prefixes: The prefix of the first texts, and of the second texts.
    """
    if not any(prefixes):
        return data
    first, second = prefixes
    splits = {
        name: replace(
            pairs,
            first=tuple(first + text for text in pairs.first),
            second=tuple(second + text for text in pairs.second),
        )
        for name, pairs in data.splits.items()
    }
    return replace(data, splits=splits)


def distinct_texts(splits: Iterable[Pairs]) -> tuple[str, ...]:
    """Returns every text once, in the order of first appearance; of each split, side A is before side B."""
    texts: dict[str, None] = {}
    for pairs in splits:
        for text in (*pairs.first, *pairs.second):
            texts.setdefault(text)
    return tuple(texts)


def encode_texts(
    texts: Sequence[str], tokenizer: PairTokenizer, *, max_length: int, truncation: Truncation
) -> EncodedPairs:
    """Encodes texts as rows `[CLS] text [SEP]`, as a bi-encoder reads each text: side A of a pair without side B.

    Args:
        texts: One text for each row.
        tokenizer: The encoder's tokeniser.
        max_length: Most tokens of a row, special tokens included.
        truncation: `longest_first` or `head_tail`, which treat both sides alike.

    Raises:
        UserError: The strategy cuts only one side, or a text is not a Unicode string.
    """
    if truncation not in ("longest_first", "head_tail"):
        raise UserError(
            "a text that is encoded by itself has no first or second side to cut",
            got=f"--data.truncation {truncation}",
            expected="longest_first or head_tail",
        )
    pairs = encode_pairs(texts, [""] * len(texts), tokenizer, kind="bi", max_length=max_length, truncation=truncation)
    begins = pairs.offsets[:-1]
    keys = [pairs.tokens[i:j].tobytes() for i, j in zip(begins, begins + pairs.first_length, strict=True)]
    bare = count_bare(pairs, tokenizer)
    return replace(build_text_rows(keys, pairs), truncated=pairs.truncated, lost=pairs.lost, bare=bare, cut=pairs.cut)


def count_bare(pairs: EncodedPairs, tokenizer: PairTokenizer) -> int:
    """Returns the number of first texts without a token; `pairs.bare` counts every pair if all second texts are empty.

    Such a text leaves the two special tokens and its prefix only.

    Args:
        pairs: Rows of a bi-encoder.
        tokenizer: The tokeniser that made them.
    """
    prefix = tokenizer.prefixes[0]
    size = len(tokenizer.backend.encode(prefix, add_special_tokens=False).ids) if prefix else 0
    return int((pairs.first_length <= 2 + size).sum())
