"""Masked tokens, and drawn segments as rows of a batch."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64

from pairjax.base.errors import UserError
from pairjax.base.types import Batch
from pairjax.data.nsp import PairSampler, Stream
from pairjax.data.pipeline import PADDING_POSITION, made_ahead
from pairjax.data.tokenizer import PairTokenizer

MASKED, REPLACED = 0.8, 0.9
"""Below the first share of [0, 1) a chosen token becomes the mask, below the second a random one, else it stays."""

INSIDE, BEGINS = "##", "Ġ"
"""WordPiece's mark of a token that goes on with a word; byte-level BPE's (a space) of one that begins one."""


@dataclass(frozen=True)
class Masking:
    """Which tokens of a row are predicted, and what stands in their place.

    Attributes:
        rate: Share of the tokens, special ones not counted.
        most: At most so many a row: M of the batch.
        mask_id: The mask token.
        words: int32 ids that may stand in for another: all but special and unused ones.
        special: bool [V]; the tokens that never are predicted, which a text may spell out or, unknown, be read as.
        continues: bool [V]; whether a token goes on with the word before it. None masks tokens, not words.
    """

    rate: float
    most: int
    mask_id: int
    words: Int32[np.ndarray, " words"]
    special: Bool[np.ndarray, " vocabulary"]
    continues: Bool[np.ndarray, " vocabulary"] | None

    def apply(
        self, tokens: Int32[np.ndarray, " tokens"], free: Int[np.ndarray, " candidates"], stream: Stream
    ) -> tuple[Int32[np.ndarray, " tokens"], Int32[np.ndarray, " chosen"]]:
        """The row with its masks, and which positions were chosen, ascending.

        Args:
            tokens: The row.
            free: Positions that may be chosen where no special token stands, ascending.
            stream: Of the example.
        """
        free = free[~self.special[tokens[free]]]
        count = min(self.most, len(free), max(1, round(self.rate * len(free))))
        order = np.argsort(stream.words(len(free)), kind="stable")
        if self.continues is None:
            chosen = np.sort(free[order[:count]])
        else:
            chosen = self._whole_words(tokens, free, order, count)
        masked = tokens.copy()
        kind = (stream.words(len(chosen)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        stand_in = self.words[(stream.words(len(chosen)) % np.uint64(len(self.words))).astype(np.int64)]
        masked[chosen] = np.where(kind < MASKED, self.mask_id, np.where(kind < REPLACED, stand_in, tokens[chosen]))
        return masked, chosen.astype(np.int32)

    def _whole_words(self, tokens: np.ndarray, free: np.ndarray, order: np.ndarray, count: int) -> np.ndarray:
        """Words in the order of their first tokens' draws, as long as they fit; a lone longer one is cut."""
        assert self.continues is not None
        goes_on = self.continues[tokens[free]] & np.concatenate([[False], np.diff(free) == 1])
        word = np.cumsum(~goes_on) - 1
        sizes = np.bincount(word)
        chosen: list[int] = []
        for first in order[~goes_on[order]]:
            size = int(sizes[word[first]])
            if len(chosen) + size <= count:
                chosen += range(first, first + size)
            if len(chosen) == count:
                break
        return free[np.sort(chosen)] if chosen else free[np.sort(order[:count])]


def build_masking(tokenizer: PairTokenizer, *, rate: float, most: int, whole_words: bool) -> Masking:
    """Masking with a tokeniser's vocabulary.

    Raises:
        UserError: The tokeniser has no mask token; or whole words are asked for, and it marks none.
    """
    if tokenizer.mask_id is None:
        raise UserError("the tokeniser has no mask token", expected="[MASK] in it", fix="use another tokeniser")
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
    special = {token for token in vocabulary if token.startswith("[") and token.endswith("]") and len(token) > 2}
    special |= {str(value) for key, value in tokenizer.settings.items() if key.endswith("_token")}
    words = np.sort(np.fromiter((i for token, i in vocabulary.items() if token not in special), np.int32))
    table = np.zeros(tokenizer.vocabulary_size, bool)
    table[[i for token, i in vocabulary.items() if token in special]] = True
    continues = _continues(tokenizer, vocabulary, special) if whole_words else None
    return Masking(rate, most, tokenizer.mask_id, words, table, continues)


def _continues(
    tokenizer: PairTokenizer, vocabulary: Mapping[str, int], special: Set[str]
) -> Bool[np.ndarray, " vocabulary"]:
    """Which tokens go on with a word: those with WordPiece's mark, or those without byte-level BPE's."""
    inside, begins = tuple(any(token.startswith(mark) for token in vocabulary) for mark in (INSIDE, BEGINS))
    kind = type(tokenizer.backend.model).__name__
    if not (inside if kind == "WordPiece" else begins and kind == "BPE"):
        raise UserError(
            "--data.whole-words needs a tokeniser that marks words",
            got=f"a {kind} vocabulary",
            expected=f"WordPiece with {INSIDE}, or byte-level BPE with {BEGINS}",
            fix="leave it out",
        )
    found = np.zeros(tokenizer.vocabulary_size, bool)
    for token, number in vocabulary.items():
        if token not in special:
            found[number] = token.startswith(INSIDE) if kind == "WordPiece" else not token.startswith(BEGINS)
    return found


@dataclass(frozen=True)
class RowMaker:
    """From example numbers to a batch.

    Attributes:
        sampler: Draws the segments.
        masking: And their masks.
        tokenizer: Of the model, for the special tokens.
        length: Slots of a row.
    """

    sampler: PairSampler
    masking: Masking
    tokenizer: PairTokenizer
    length: int

    def batch(self, index: np.ndarray) -> Batch:
        """The examples as rows, `[CLS] A [SEP] B [SEP]`; -1 gives an empty row.

        Args:
            index: int64 [R].

        Returns:
            NumPy arrays as `Batch` describes them, K = 1, M = `masking.most`; `masked_positions` is 0 where unused.
        """
        shape, rows = (len(index), self.length), len(index)
        input_ids = np.full(shape, self.tokenizer.pad_id, np.int32)
        position_ids = np.full(shape, PADDING_POSITION, np.int32)
        pair_ids, side_ids = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        label = np.zeros((rows, 1), np.int32)
        positions, targets = (np.zeros((rows, self.masking.most), np.int32) for _ in range(2))
        weights = np.zeros((rows, self.masking.most), np.float32)
        for row in np.flatnonzero(index >= 0):
            stream = Stream(self.sampler.seed, int(index[row]))
            drawn = self.sampler.draw_from(int(index[row]), stream)
            tokens, sides, free = self._join(drawn.first, drawn.second)
            masked, chosen = self.masking.apply(tokens, free, stream)
            end = len(tokens)
            input_ids[row, :end], side_ids[row, :end], pair_ids[row, :end] = masked, sides, 1
            position_ids[row, :end] = np.arange(end)
            label[row] = drawn.label
            positions[row, : len(chosen)], targets[row, : len(chosen)] = chosen, tokens[chosen]
            weights[row, : len(chosen)] = 1.0
        return Batch(
            input_ids=input_ids,
            token_type_ids=side_ids.copy(),
            position_ids=position_ids,
            pair_ids=pair_ids,
            side_ids=side_ids,
            label=label,
            weight=(index >= 0).astype(np.float32)[:, None],
            example_id=np.where(index < 0, -1, index % 2**31).astype(np.int32)[:, None],
            masked_positions=positions,
            masked_targets=targets,
            masked_weights=weights,
        )

    def _join(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The row's tokens, their sides, and the positions of the segments."""
        cls, sep = self.tokenizer.cls_id, self.tokenizer.sep_id
        a, b = len(first), len(second)
        if not b:
            tokens = np.concatenate([[cls], first, [sep]]).astype(np.int32)
            return tokens, np.zeros(a + 2, np.int32), np.arange(1, a + 1)
        tokens = np.concatenate([[cls], first, [sep], second, [sep]]).astype(np.int32)
        sides = (np.arange(a + b + 3) >= a + 2).astype(np.int32)
        return tokens, sides, np.concatenate([np.arange(1, a + 1), np.arange(a + 2, a + b + 2)])


def train_rows(
    maker: RowMaker,
    *,
    batch_size: int,
    start_step: int,
    stop_step: int,
    process_index: int = 0,
    process_count: int = 1,
    multiple: int = 1,
    prefetch: int = 2,
) -> Iterator[tuple[int, Batch]]:
    """The batches of steps `start_step` to `stop_step - 1`; step t reads examples t * batch_size and on.

    Args:
        maker: Of the rows.
        batch_size: Examples a step, over all processes.
        start_step: First step, counted from 0 over the whole run.
        stop_step: One past the last.
        process_index: Which slice of each batch's rows to make.
        process_count: How many slices there are.
        multiple: Rows of a batch are rounded up to a multiple of this (the rest is empty).
        prefetch: Batches made ahead in a thread; 0 makes each when asked.

    Yields:
        The step and its batch (this process's rows).
    """
    rows = -(-batch_size // multiple) * multiple
    place = _own_places(rows, process_index, process_count)

    def batch(step: int) -> tuple[int, Batch]:
        return step, maker.batch(np.where(place < batch_size, step * batch_size + place, -1))

    return made_ahead(batch, start_step, stop_step, prefetch=prefetch)


def ordered_rows(
    maker: RowMaker,
    examples: int,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    multiple: int = 1,
) -> Iterator[Batch]:
    """Examples 0 to `examples - 1` in order, in batches of one shape; the last is filled up with empty rows.

    Args:
        maker: Of the rows.
        examples: How many.
        batch_size: Examples a batch, over all processes.
        process_index: Which slice of each batch's rows to make.
        process_count: How many slices there are.
        multiple: Rows of a batch are rounded up to a multiple of this.
    """
    rows = -(-batch_size // multiple) * multiple
    own = _own_places(rows, process_index, process_count)
    for start in range(0, examples, rows):
        place = start + own
        yield maker.batch(np.where(place < examples, place, -1))


def _own_places(rows: int, process_index: int, process_count: int) -> Int64[np.ndarray, " own"]:
    """The places of a batch that one of several processes makes."""
    if rows % process_count:
        raise ValueError(f"{rows} rows do not divide over {process_count} processes; give multiple=")
    share = rows // process_count
    return np.arange(process_index * share, (process_index + 1) * share, dtype=np.int64)
