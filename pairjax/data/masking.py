"""Makes pretraining batches: draws segments, masks tokens, and lays them out as rows."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int32

from pairjax.base.errors import UserError
from pairjax.base.types import Batch
from pairjax.data.nsp import PairSampler, Stream
from pairjax.data.pipeline import PADDING_POSITION, own_rows, prefetch_batches
from pairjax.data.tokenizer import PairTokenizer

MASKED, REPLACED = 0.8, 0.9
"""A chosen token becomes the mask if a uniform draw is below the first number, a random token if it is below the
second, and stays as it is otherwise (Devlin et al. 2019)."""

INSIDE, BEGINS = "##", "Ġ"
"""Prefix of a WordPiece token that continues a word; prefix (a space) of a byte-level BPE token that begins one."""


@dataclass(frozen=True)
class Masking:
    """Chooses the tokens of a row that are predicted, and replaces them.

    Attributes:
        rate: Share of tokens to predict, special ones not counted.
        most: Most predicted tokens in a row: M of the batch.
        mask_id: Id of the mask token.
        words: int32 [W]; ids that may replace a token: all but special and unused ones.
        special: bool [V]; tokens that are never predicted. A text may spell one out, or be read as the unknown token.
        continues: bool [V]; whether a token continues the word before it. None masks single tokens, not whole words.
    """

    rate: float
    most: int
    mask_id: int
    words: Int32[np.ndarray, " words"]
    special: Bool[np.ndarray, " vocabulary"]
    continues: Bool[np.ndarray, " vocabulary"] | None

    def apply(
        self,
        tokens: Int32[np.ndarray, " tokens"],
        free: Int[np.ndarray, " candidates"],
        stream: Stream,
        *,
        begins: Bool[np.ndarray, " tokens"] | None = None,
    ) -> tuple[Int32[np.ndarray, " tokens"], Int32[np.ndarray, " chosen"]]:
        """Returns the masked row and the chosen positions, ascending.

        Args:
            tokens: int32 [L]; the row.
            free: Positions that may be chosen unless they have a special token, ascending.
            stream: Random numbers of the example.
            begins: Whether a token is the first one of its sentence, so it continues no word, whatever its mark says:
                byte-level BPE puts no space before a text's first word. None if no sentence begins in the row.
        """
        free = free[~self.special[tokens[free]]]
        count = min(self.most, len(free), max(1, round(self.rate * len(free))))
        order = np.argsort(stream.words(len(free)), kind="stable")
        if self.continues is None:
            chosen = np.sort(free[order[:count]])
        else:
            continues = self.continues[tokens[free]]
            if begins is not None:
                continues &= ~begins[free]
            chosen = self._whole_words(continues, free, order, count)
        masked = tokens.copy()
        kind = (stream.words(len(chosen)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        stand_in = self.words[(stream.words(len(chosen)) % np.uint64(len(self.words))).astype(np.int64)]
        masked[chosen] = np.where(kind < MASKED, self.mask_id, np.where(kind < REPLACED, stand_in, tokens[chosen]))
        return masked, chosen.astype(np.int32)

    @staticmethod
    def _whole_words(continues: np.ndarray, free: np.ndarray, order: np.ndarray, count: int) -> np.ndarray:
        """Chooses words in the order of their first tokens' draws while they fit; if none fits, chooses tokens."""
        inside = continues & np.concatenate([[False], np.diff(free) == 1])
        word = np.cumsum(~inside) - 1
        sizes = np.bincount(word)
        chosen: list[int] = []
        for first in order[~inside[order]]:
            size = int(sizes[word[first]])
            if len(chosen) + size <= count:
                chosen += range(first, first + size)
            if len(chosen) == count:
                break
        return free[np.sort(chosen)] if chosen else free[np.sort(order[:count])]


def build_masking(tokenizer: PairTokenizer, *, rate: float, most: int, whole_words: bool) -> Masking:
    """Builds the masking for a tokeniser's vocabulary.

    Args:
        tokenizer: The model's tokeniser.
        rate: Share of tokens to predict.
        most: Most predicted tokens in a row.
        whole_words: Whether to mask whole words.

    Raises:
        UserError: The tokeniser has no mask token, or whole words are asked for and it does not mark words.
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
    """Returns which tokens continue a word: those with WordPiece's prefix, or those without byte-level BPE's."""
    inside, begins = tuple(any(token.startswith(mark) for token in vocabulary) for mark in (INSIDE, BEGINS))
    kind = type(tokenizer.backend.model).__name__
    if not (inside if kind == "WordPiece" else begins and kind == "BPE"):
        raise UserError(
            "--data.whole-words needs a tokeniser that marks words",
            got=f"a {kind} vocabulary",
            expected=f"WordPiece with {INSIDE}, or byte-level BPE with {BEGINS}",
            fix="drop the option",
        )
    continues = np.zeros(tokenizer.vocabulary_size, bool)
    for token, number in vocabulary.items():
        if token not in special:
            continues[number] = token.startswith(INSIDE) if kind == "WordPiece" else not token.startswith(BEGINS)
    return continues


@dataclass(frozen=True)
class RowMaker:
    """Makes a batch from example numbers.

    Attributes:
        sampler: Draws the segments.
        masking: Masks their tokens.
        tokenizer: The model's tokeniser, for the special tokens.
        length: Slots of a row.
    """

    sampler: PairSampler
    masking: Masking
    tokenizer: PairTokenizer
    length: int

    def batch(self, index: np.ndarray) -> Batch:
        """Makes a batch of rows `[CLS] A [SEP] B [SEP]`.

        Args:
            index: int64 [R]; the example's number in each row, -1 for an empty row.

        Returns:
            NumPy arrays as `Batch` describes them, with K = 1 and M = `masking.most`. Unused `masked_positions` are 0.
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
            segments = self.sampler.draw_from(int(index[row]), stream)
            tokens, sides, free = self._join(segments.first, segments.second)
            begins = np.zeros(len(tokens), bool)
            begins[free] = np.concatenate([segments.first_begins, segments.second_begins])
            masked, chosen = self.masking.apply(tokens, free, stream, begins=begins)
            end = len(tokens)
            input_ids[row, :end], side_ids[row, :end], pair_ids[row, :end] = masked, sides, 1
            position_ids[row, :end] = np.arange(end)
            label[row] = segments.label
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
        """Returns the row's tokens, their sides, and the positions of the segments' tokens."""
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
    """Yields the batches of steps `start_step` to `stop_step - 1`; step t starts at example t * batch_size.

    Args:
        maker: Makes the rows.
        batch_size: Number of examples in a step, over all processes.
        start_step: First step, counted from 0 over the whole run.
        stop_step: One past the last step.
        process_index: Which slice of each batch's rows to make.
        process_count: Number of slices.
        multiple: The number of rows in a batch is rounded up to a multiple of this, with empty rows.
        prefetch: Number of batches made ahead in a thread; 0 makes each on demand.

    Yields:
        The step and this process's rows of its batch.
    """
    rows = -(-batch_size // multiple) * multiple
    own = np.arange(rows, dtype=np.int64)[own_rows(rows, process_index, process_count)]

    def batch(step: int) -> tuple[int, Batch]:
        return step, maker.batch(np.where(own < batch_size, step * batch_size + own, -1))

    return prefetch_batches(batch, start_step, stop_step, prefetch=prefetch)


def ordered_rows(
    maker: RowMaker,
    examples: int,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    multiple: int = 1,
) -> Iterator[Batch]:
    """Yields examples 0 to `examples - 1` in batches of one shape; the last batch is filled up with empty rows.

    Args:
        maker: Makes the rows.
        examples: Number of examples.
        batch_size: Number of examples in a batch, over all processes.
        process_index: Which slice of each batch's rows to make.
        process_count: Number of slices.
        multiple: The number of rows in a batch is rounded up to a multiple of this.
    """
    rows = -(-batch_size // multiple) * multiple
    own = np.arange(rows, dtype=np.int64)[own_rows(rows, process_index, process_count)]
    for start in range(0, examples, rows):
        index = start + own
        yield maker.batch(np.where(index < examples, index, -1))
