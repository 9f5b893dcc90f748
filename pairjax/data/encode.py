"""Encodes texts as token rows: tokenises, truncates and counts what is cut, and stores the rows compactly.

Each pair's row, special tokens included, is stored in one flat array; `first_length` is the length of its first side.
A batch needs nothing else, for every family and for both kinds of model:

- cross, BERT-like: `[CLS] A [SEP] | B [SEP]`; RoBERTa-like: `<s> A </s> | </s> B </s>`
- bi: `[CLS] A [SEP] | [CLS] B [SEP]`
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64

from pairjax.base.data_config import Truncation
from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.base.types import Pairs
from pairjax.data.tokenizer import PairTokenizer
from pairjax.data.truncate import truncated_lengths

TEXTS_AT_ONCE = 2048
"""Texts tokenised in one call."""
PAIRS_AT_ONCE = 65536
"""Pairs copied in one indexing operation; bounds its memory."""


@dataclass(frozen=True)
class EncodedPairs:
    """The token rows of N pairs in one flat array.

    Attributes:
        tokens: int32 [T]; the ids of all rows, special tokens included.
        offsets: int64 [N + 1]; row i is `tokens[offsets[i]:offsets[i + 1]]`.
        first_length: int32 [N]; slots of side A, so B starts at `offsets[i] + first_length[i]`.
        kind: `cross` if the two sides are one sequence, `bi` if each is its own sequence.
        segments: Whether B's tokens of a joint row have segment id 1.
        pad_id: Token id of empty slots.
        max_length: Most tokens of a row (cross) or of a side (bi).
        truncation: The strategy by which longer pairs were cut.
        truncated: Number of pairs that lost tokens.
        lost: Number of tokens lost over all pairs.
        bare: Number of pairs with a text from which the tokeniser makes no token (empty, or control characters only).
        cut: bool [N]; whether each pair lost tokens; None if that is not known.
        third_length: int32 [N]; slots of the third text at the end of a triplet's row; None for pairs.
    """

    tokens: Int32[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " pairs_and_one"]
    first_length: Int32[np.ndarray, " pairs"]
    kind: Literal["cross", "bi"]
    segments: bool
    pad_id: int
    max_length: int
    truncation: Truncation
    truncated: int = 0
    lost: int = 0
    bare: int = 0
    cut: Bool[np.ndarray, " pairs"] | None = None
    third_length: Int32[np.ndarray, " pairs"] | None = None

    def __len__(self) -> int:
        return len(self.first_length)

    @property
    def lengths(self) -> Int32[np.ndarray, " pairs"]:
        """Row slots that each pair needs: those of the joint sequence, or of both sides of a bi-encoder."""
        return np.diff(self.offsets).astype(np.int32)

    def notes(self, noun: Literal["pairs", "texts"] = "pairs") -> tuple[str, ...]:
        """Returns notes on the number of rows that were cut, and of texts without tokens.

        Args:
            noun: What a row is: `pairs`, or `texts` for rows of `encode_texts`.
        """
        return self.losses.notes(noun)

    @property
    def losses(self) -> "Losses":
        """The counts that `notes` describes; those of several parts of a stream can be added."""
        joint = self.kind == "cross"
        return Losses(len(self), self.truncated, self.lost, self.bare, joint, self.max_length, self.truncation)


class Losses(NamedTuple):
    """How many of some rows were cut or have no token.

    Attributes:
        rows: Number of rows.
        truncated: Number of rows that lost tokens.
        lost: Number of tokens lost over all rows.
        bare: Number of rows with a text from which the tokeniser makes no token.
        joint: Whether a row is a joint sequence of two texts, so that the row is too long and not a text of it.
        max_length: Most tokens of a sequence.
        truncation: The strategy by which longer rows were cut.
    """

    rows: int
    truncated: int
    lost: int
    bare: int
    joint: bool
    max_length: int
    truncation: Truncation

    def plus(self, other: "Losses") -> "Losses":
        """Returns the counts over both parts of a stream."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in ("rows", "truncated", "lost", "bare")}
        return self._replace(**sums)

    def notes(self, noun: Literal["pairs", "texts"] = "pairs") -> tuple[str, ...]:
        """Returns a note for each of the two counts that is not 0; see `EncodedPairs.notes`."""
        lines = []
        if self.truncated:
            subject = f"{noun} are" if self.joint or noun == "texts" else f"{noun} have a text"
            lines.append(
                f"{self.truncated} of {self.rows} {subject} longer than {self.max_length} tokens and were cut "
                f"({self.truncation}), {self.lost} tokens lost"
            )
        if self.bare:
            subject = f"{noun} are" if noun == "texts" else f"{noun} have a text"
            lines.append(f"{self.bare} of {self.rows} {subject} without a single token")
        return tuple(lines)


def _tokenise(
    texts: Sequence[str], tokenizer: PairTokenizer
) -> tuple[Int32[np.ndarray, " tokens"], Int64[np.ndarray, " texts_and_one"]]:
    """Returns the ids of all texts, without special tokens, in one flat array, and where each text starts."""
    parts = [np.zeros(0, np.int32)]
    counts = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        chunk = list(texts[start : start + TEXTS_AT_ONCE])
        try:
            encoded = tokenizer.backend.encode_batch_fast(chunk, add_special_tokens=False)
        except (TypeError, UnicodeError):
            invalid = next((text for text in chunk if not _is_text(text)), chunk[0])
            raise UserError("a text cannot be tokenised", got=repr(invalid)[:80], expected="a Unicode string") from None
        ids = [item.ids for item in encoded]
        counts += [len(item) for item in ids]
        parts.append(np.fromiter(chain.from_iterable(ids), np.int32))
    return np.concatenate(parts), np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _is_text(value: object) -> bool:
    """Returns whether a value is a string that UTF-8 can encode (no lone surrogates)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeError:
        return False
    return True


def _copy(
    target: Int32[np.ndarray, " slots"],
    to: Int64[np.ndarray, " runs"],
    tokens: Int32[np.ndarray, " tokens"],
    start: Int64[np.ndarray, " runs"],
    count: Int64[np.ndarray, " runs"],
) -> None:
    """Sets `target[to[i]:to[i] + count[i]] = tokens[start[i]:start[i] + count[i]]` for every run i."""
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    target[np.repeat(to, count) + within] = tokens[np.repeat(start, count) + within]


def _copy_texts(
    rows: Int32[np.ndarray, " slots"],
    to: Int64[np.ndarray, " pairs"],
    tokens: Int32[np.ndarray, " tokens"],
    *,
    start: Int64[np.ndarray, " pairs"],
    size: Int64[np.ndarray, " pairs"],
    length: Int64[np.ndarray, " pairs"],
    both_ends: bool,
) -> None:
    """Copies the kept tokens of one side: the head of each text, or (`both_ends`) the head and tail of a cut one."""
    for begin in range(0, len(to), PAIRS_AT_ONCE):
        part = slice(begin, begin + PAIRS_AT_ONCE)
        tail = np.where(length[part] < size[part], length[part] // 2, 0) if both_ends else np.zeros_like(length[part])
        head = length[part] - tail
        _copy(rows, to[part], tokens, start[part], head)
        if both_ends:
            _copy(rows, to[part] + head, tokens, start[part] + size[part] - tail, tail)


def _special_rows(
    offsets: Int64[np.ndarray, " pairs_and_one"],
    first_length: Int64[np.ndarray, " pairs"],
    tokenizer: PairTokenizer,
    opening: Sequence[int],
) -> Int32[np.ndarray, " slots"]:
    """Makes rows that have their special tokens; the other slots are not set."""
    rows, begin = np.empty(int(offsets[-1]), np.int32), offsets[:-1]
    rows[begin] = tokenizer.cls_id
    rows[begin + first_length - 1] = rows[offsets[1:] - 1] = tokenizer.sep_id
    for position, token in enumerate(opening):
        rows[begin + first_length + position] = token
    return rows


def _prefix_sizes(tokenizer: PairTokenizer, *, kind: Literal["cross", "bi"], budget: int) -> tuple[int, int]:
    """Returns the number of tokens of each side's prefix.

    Raises:
        UserError: The prefixes leave no room for a token of each text.
    """
    first, second = (
        len(tokenizer.backend.encode(prefix, add_special_tokens=False).ids) if prefix else 0
        for prefix in tokenizer.prefixes
    )
    longest, room = (first + second, budget - 2) if kind == "cross" else (max(first, second), budget - 1)
    if longest > room:
        raise UserError(
            "--data.prefix-first and --data.prefix-second leave no room for the texts",
            got=f"{longest} tokens",
            expected=f"at most {room}",
            fix="shorten them, or enlarge --data.max-length",
        )
    return first, second


def encode_pairs(
    first: Sequence[str],
    second: Sequence[str],
    tokenizer: PairTokenizer,
    *,
    kind: Literal["cross", "bi"],
    max_length: int,
    truncation: Truncation = "longest_first",
    where: Sequence[str] = (),
) -> EncodedPairs:
    """Encodes pairs as token rows; each distinct text is tokenised once.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "cat", "dog", "sleeps"]
        >>> backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
        >>> backend.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> tokenizer = PairTokenizer(backend, family="bert", cls_id=1, sep_id=2, pad_id=0)
        >>> encoded = encode_pairs(["a cat sleeps"], ["a dog"], tokenizer, kind="cross", max_length=16)
        >>> encoded.tokens.tolist(), encoded.first_length.tolist()
        ([1, 4, 5, 7, 2, 4, 6, 2], [5])

    Args:
        first: Texts of side A.
        second: Texts of side B, as many.
        tokenizer: The encoder's tokeniser.
        kind: `cross` makes one sequence of a pair, `bi` one of each text.
        max_length: Most tokens of a sequence, special tokens included: of the pair (cross) or of each text (bi).
        truncation: `longest_first` drops tokens at the end of the longer side, as transformers does. `only_first` and
            `only_second` drop them from that side. `head_tail` gives each side as many tokens as `longest_first` does,
            and keeps the first and the last half of a side that is too long.
        where: Each pair's place in its source, for messages.

    Raises:
        UserError: The strategy cannot cut a pair to the limit, or a text is not a Unicode string.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} first texts and {len(second)} second texts")
    # 1. The ids of every distinct text, and how many of them each side keeps.
    opening = tokenizer.opening(kind)
    budget = max_length - (2 if kind == "bi" else 3 + len(opening))
    if budget < 2:
        raise UserError("--data.max-length leaves no room for tokens", got=max_length, expected=max_length + 2 - budget)
    prefix_sizes = _prefix_sizes(tokenizer, kind=kind, budget=budget)
    first, second = (
        [prefix + text for text in side] if prefix else side
        for prefix, side in zip(tokenizer.prefixes, (first, second), strict=True)
    )
    index: dict[str, int] = {}
    ids = [np.fromiter((index.setdefault(text, len(index)) for text in side), np.int64) for side in (first, second)]
    tokens, starts = _tokenise(list(index), tokenizer)
    sizes = [starts[side + 1] - starts[side] for side in ids]
    lengths = truncated_lengths(sizes[0], sizes[1], kind=kind, budget=budget, truncation=truncation, where=where)
    # 2. The rows, first with special tokens only, then with both sides.
    first_length = lengths[0] + 2
    offsets = np.concatenate([[0], np.cumsum(first_length + len(opening) + lengths[1] + 1)]).astype(np.int64)
    rows = _special_rows(offsets, first_length, tokenizer, opening)
    for side, to in enumerate((offsets[:-1] + 1, offsets[:-1] + first_length + len(opening))):
        start, both_ends = starts[ids[side]], truncation == "head_tail"
        _copy_texts(rows, to, tokens, start=start, size=sizes[side], length=lengths[side], both_ends=both_ends)
    lost = sizes[0] + sizes[1] - lengths[0] - lengths[1]
    return EncodedPairs(
        tokens=rows,
        offsets=offsets,
        first_length=first_length.astype(np.int32),
        kind=kind,
        segments=tokenizer.segments and kind == "cross",
        pad_id=tokenizer.pad_id,
        max_length=max_length,
        truncation=truncation,
        truncated=int((lost > 0).sum()),
        lost=int(lost.sum()),
        bare=int(((sizes[0] <= prefix_sizes[0]) | (sizes[1] <= prefix_sizes[1])).sum()),
        cut=lost > 0,
    )


def encode_split(
    pairs: Pairs, tokenizer: PairTokenizer, *, model: ModelConfig, max_length: int, truncation: Truncation
) -> EncodedPairs:
    """Encodes a split for a model; see `encode_pairs`.

    Args:
        pairs: The split.
        tokenizer: The encoder's tokeniser.
        model: The model's config; only `kind` is read.
        max_length: Most tokens of a sequence, special tokens included.
        truncation: The strategy for longer pairs.
    """
    return encode_pairs(
        pairs.first,
        pairs.second,
        tokenizer,
        kind=model.kind,
        max_length=max_length,
        truncation=truncation,
        where=pairs.where,
    )


def append_texts(encoded: EncodedPairs, texts: EncodedPairs) -> EncodedPairs:
    """Returns rows of triplets: the pairs of a bi-encoder, each followed by a third text in a sequence of its own.

    Args:
        encoded: The pairs.
        texts: As many pairs, of whose rows the first sides are the third texts.
    """
    count, pair = texts.first_length.astype(np.int64), encoded.lengths.astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(pair + count)]).astype(np.int64)
    rows = np.empty(int(offsets[-1]), np.int32)
    _copy(rows, offsets[:-1], encoded.tokens, encoded.offsets[:-1], pair)
    _copy(rows, offsets[:-1] + pair, texts.tokens, texts.offsets[:-1], count)
    return replace(encoded, tokens=rows, offsets=offsets, third_length=texts.first_length)
