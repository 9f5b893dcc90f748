"""Draws segment pairs for next sentence prediction: each example is a function of (seed, index).

A keyed permutation gives the sentence at which example i starts. Any `anchors` examples in a row, from a multiple of
`anchors` on, thus start at every sentence once, and nothing is planned, stored or shuffled. From there sentences are
taken until a target length is reached, and split into A and B (Devlin et al. 2019). Of examples 2j and 2j + 1, one has
label 0 and one has label 1, so the labels are balanced wherever an epoch ends on an even number.

A second segment from another document is made by the same rule as a true one: sentences are taken from about the same
relative position of a document of the same source until the same target length is reached. Of a few such candidates,
the one nearest in length, then in position, is chosen. Neither the second segment alone nor the lengths then reveal the
label. Swapped segments (sop) are not matched: the second may be the opening of a document, which a true second segment
never is, and that may reveal the label.
"""

import bisect
import math
from dataclasses import dataclass
from itertools import accumulate, groupby, islice, pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt64

from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import Objective
from pairjax.data.corpus import Corpus

CANDIDATES = 8
"""Number of segments of other documents from which the best match is chosen."""
TRIES = 4096
"""Most random sentences drawn to find the candidates."""
WORD = (1 << 64) - 1
"""Mask of a 64-bit word."""

LABELS: dict[Objective, tuple[str, ...]] = {
    "nsp": ("is next", "is of another document"),
    "sop": ("in order", "swapped"),
    "none": (),
}
"""Meaning of labels 0 and 1; as in Hugging Face's models, 0 is the true next segment."""


def mix_bits(value: int) -> int:
    """Scatters 64-bit words by a bijection, the finaliser of SplitMix64 (Steele et al. 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
    return value ^ (value >> 31)


def permute_index(index: int, size: int, *, key: int) -> int:
    """Applies a keyed permutation of range(size): four Feistel rounds, repeated until the result is in the range.

    Args:
        index: The number to permute, in [0, size).
        size: Size of the range.
        key: 64-bit word that chooses the permutation.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            left, right = right, left ^ (mix_bits(key ^ mix_bits(right << 3 | turn)) & mask)
        index = left << half | right
        if index < size:
            return index


class Stream:
    """The random numbers of one example: Philox's raw words, which NumPy keeps stable over versions."""

    def __init__(self, seed: int, index: int) -> None:
        self._philox = np.random.Philox(key=np.array([seed & WORD, index & WORD], np.uint64))

    def uniform(self) -> float:
        """Draws a float in [0, 1)."""
        return (int(self._philox.random_raw()) >> 11) * 2.0**-53

    def below(self, limit: int) -> int:
        """Draws an integer in [0, limit)."""
        return int(self.uniform() * limit)

    def words(self, count: int) -> UInt64[np.ndarray, " count"]:
        """Draws raw 64-bit words, uint64 [count]."""
        return np.asarray(self._philox.random_raw(count), np.uint64).reshape(count)


class Segments(NamedTuple):
    """One example.

    Attributes:
        first: int32 [a]; token ids of A, without special tokens.
        second: int32 [b]; token ids of B, empty if there is only one segment.
        label: 0 or 1, see LABELS; 0 if there is only one segment.
        document: Number of the document that A (for sop: both segments) is from.
        other: Number of the document that B is from.
        start: Number in the corpus of the sentence at which the example starts.
        second_start: Number of the first sentence of B's text; -1 if there is only one segment.
        first_begins: bool [a]; whether a token of A is the first one of its sentence.
        second_begins: bool [b]; the same for B.
    """

    first: Int32[np.ndarray, " a"]
    second: Int32[np.ndarray, " b"]
    label: int
    document: int
    other: int
    start: int
    second_start: int
    first_begins: Bool[np.ndarray, " a"]
    second_begins: Bool[np.ndarray, " b"]


class _Run(NamedTuple):
    """Sentences `start` to `stop - 1` of a document, and the number of their tokens."""

    start: int
    stop: int
    tokens: int


def fair_lengths(first: int, second: int, budget: int) -> tuple[int, int]:
    """Returns the lengths to which two segments are cut: the longer is cut first, as in BERT.

    Args:
        first: Tokens of A.
        second: Tokens of B.
        budget: Most tokens of both.
    """
    if first + second <= budget:
        return first, second
    half = budget // 2
    if first <= half:
        return first, budget - first
    if second <= budget - half:
        return budget - second, second
    return half, budget - half


@dataclass(frozen=True)
class PairSampler:
    """Draws examples from a corpus.

    Attributes:
        corpus: One split.
        objective: The kind of segments.
        budget: Most tokens of an example, special ones not counted.
        short: Probability of a random shorter target length.
        seed: Seeds all draws.
        groups: First document of each group of documents within which B is drawn, and the end of the last group. A
            group is a source. A source with fewer than two documents to draw from is joined with adjacent sources of
            that kind, and with another neighbour if these are still too few together.
    """

    corpus: Corpus
    objective: Objective
    budget: int
    short: float
    seed: int
    groups: tuple[int, ...]

    @property
    def anchors(self) -> int:
        """Number of sentences that an example can start at: all (one segment), or all but each document's last."""
        facts = self.corpus.facts
        return facts.sentences if self.objective == "none" else facts.sentences - facts.documents

    def __len__(self) -> int:
        """Returns the number of examples in an epoch: enough for all tokens once, and even to balance the labels."""
        examples = -(-self.corpus.facts.tokens // self.budget)
        return max(2, examples + examples % 2)

    def notes(self) -> tuple[str, ...]:
        """Returns a note on sources whose second segments may come from another source."""
        names = [name for name, count in zip(self.corpus.names, self.corpus.facts.files, strict=True) if count]
        spans = zip(names, pairwise(_source_bounds(self.corpus)), strict=True)
        joined = [name for name, span in spans if not set(span) <= set(self.groups)]
        if self.objective != "nsp" or not joined:
            return ()
        examples = ", ".join(joined[:3]) + (", ..." if len(joined) > 3 else "")
        return (
            f"second segments of {len(joined)} sources may come from an adjacent source, because some of them have "
            f"fewer than two documents to draw from: {examples}",
        )

    def document_of(self, index: int) -> int:
        """Returns the number of the document that example `index` starts in."""
        return self._document(self._anchor(index))

    def draw(self, index: int) -> Segments:
        """Draws example `index`."""
        return self.draw_from(index, Stream(self.seed, index))

    def draw_from(self, index: int, stream: Stream) -> Segments:
        """Draws example `index` from its stream; the stream's next words may be used for its mask."""
        # The order of the draws is part of the data: a resumed run must draw the same.
        # 1. The first sentence and the target length.
        anchor = self._anchor(index)
        document = self._document(anchor)
        target = self.budget
        if stream.uniform() < self.short:
            target = 2 + stream.below(self.budget - 1)
        end = int(self.corpus.documents[document + 1])
        if self.objective == "none":
            run = self._fill(anchor, end, target, least=1)
            first, begins = self._cut(run, min(run.tokens, self.budget), stream)
            nothing = np.zeros(0, np.int32)
            return Segments(first, nothing, 0, document, document, anchor, -1, begins, nothing.astype(bool))
        # 2. A and the true B. Anchors leave out one sentence of each document before this one.
        start = anchor + document
        chunk = self._fill(start, end, target, least=2)
        middle = start + 1 + stream.below(chunk.stop - start - 1)
        left, true = self._run(start, middle), self._run(middle, chunk.stop)
        # 3. A B of another document for label 1 of nsp; then both are cut to the budget.
        label = self.label(index)
        other, right = document, true
        if self.objective == "nsp" and label:
            other, right = self._draw_other(document, left, true, target, stream)
        lengths = fair_lengths(left.tokens, right.tokens, self.budget)
        a, b = self._cut(left, lengths[0], stream), self._cut(right, lengths[1], stream)
        if self.objective == "sop" and label:
            a, b = b, a
        return Segments(a[0], b[0], label, document, other, start, right.start, a[1], b[1])

    def label(self, index: int) -> int:
        """Returns the label of example `index`; 2j and 2j + 1 have different labels."""
        return (mix_bits(self.seed ^ mix_bits(index >> 1 | 1 << 62)) ^ index) & 1

    def _anchor(self, index: int) -> int:
        """Returns the anchor of example `index`: which of the possible first sentences it has."""
        passes, position = divmod(index, self.anchors)
        return permute_index(position, self.anchors, key=mix_bits(self.seed ^ mix_bits(passes)))

    def _document(self, anchor: int) -> int:
        """Returns the document of an anchor."""
        documents, drop = self.corpus.documents, int(self.objective != "none")
        return bisect.bisect_right(range(len(documents)), anchor, key=lambda d: int(documents[d]) - drop * d) - 1

    def _run(self, start: int, stop: int) -> _Run:
        """Returns the run of sentences `start` to `stop - 1`."""
        sentences = self.corpus.sentences
        return _Run(start, stop, int(sentences[stop] - sentences[start]))

    def _fill(self, start: int, end: int, target: int, *, least: int) -> _Run:
        """Takes sentences from `start` until there are `target` tokens and `least` sentences or the document ends."""
        ends = self.corpus.sentences[start + least : end + 1]
        stop = start + least + int(np.searchsorted(ends, self.corpus.sentences[start] + target))
        return self._run(start, min(stop, end))

    def _cut(
        self, run: _Run, length: int, stream: Stream
    ) -> tuple[Int32[np.ndarray, " length"], Bool[np.ndarray, " length"]]:
        """Cuts a run to `length` tokens, at the front or at the end at random.

        Returns:
            The tokens, and whether each is the first one of its sentence.
        """
        begin = int(self.corpus.sentences[run.start])
        if stream.uniform() < 0.5:
            begin += run.tokens - length
        starts = self.corpus.sentences[run.start : run.stop].astype(np.int64) - begin
        begins = np.zeros(length, bool)
        begins[starts[(starts >= 0) & (starts < length)]] = True
        return self.corpus.tokens[begin : begin + length].astype(np.int32), begins

    def _draw_other(self, document: int, left: _Run, true: _Run, target: int, stream: Stream) -> tuple[int, _Run]:
        """Draws a segment of another document that matches the true one; returns its document and the segment."""
        documents = self.corpus.documents
        group = bisect.bisect_right(self.groups, document) - 1
        low, high = self.groups[group], self.groups[group + 1]
        first, last = int(documents[low]) - low, int(documents[high]) - high
        before, after = true.start - int(documents[document]), int(documents[document + 1]) - true.start
        true_length = fair_lengths(left.tokens, true.tokens, self.budget)[1]

        def match(candidate: int) -> tuple[tuple[bool, float, float], int, _Run]:
            """Returns a document's segment and its distance from the true one: same start, length, position."""
            begin, end = int(documents[candidate]), int(documents[candidate + 1])
            # At the same relative position, but never the first sentence, which no true next segment starts with.
            at = min(end - 1, max(begin + 1, begin + round(before / (before + after) * (end - begin))))
            run = self._fill(at, end, target - left.tokens, least=1)
            length = fair_lengths(left.tokens, run.tokens, self.budget)[1]
            distance = abs(math.log((at - begin) / before)) + abs(math.log((end - at) / after))
            return (self._same_start(run, true), float(abs(length - true_length)), distance), candidate, run

        own = range(int(documents[document]) - document, int(documents[document + 1]) - document - 1)
        anchors = (first + stream.below(last - first) for _ in range(TRIES))
        matches = (match(self._document(anchor)) for anchor in anchors if anchor not in own)
        candidates = list(islice((candidate for candidate in matches if not candidate[0][0]), CANDIDATES))
        if not candidates:
            # This document is nearly all of the group, or the segments of the others start like the true one.
            start = stream.below(high - low)
            others = (low + (start + step) % (high - low) for step in range(high - low))
            matches = (match(other) for other in others if _differ(self.corpus, document, other))
            candidates = list(islice(matches, CANDIDATES))
        return min(candidates, key=lambda candidate: candidate[0])[1:]

    def _same_start(self, left: _Run, right: _Run) -> bool:
        """Returns whether two runs begin with the same sentence, as those of copied documents do."""
        left, right = self._run(left.start, left.start + 1), self._run(right.start, right.start + 1)
        if left.tokens != right.tokens:
            return False
        tokens, sentences = self.corpus.tokens, self.corpus.sentences
        begin, other = int(sentences[left.start]), int(sentences[right.start])
        return bool(np.array_equal(tokens[begin : begin + left.tokens], tokens[other : other + left.tokens]))


def _usable(corpus: Corpus, document: int) -> bool:
    """Returns whether a document has two sentences or more."""
    return bool(corpus.documents[document + 1] - corpus.documents[document] > 1)


def _differ(corpus: Corpus, document: int, other: int) -> bool:
    """Returns whether `other` can give the second segment for `document`: it is usable and not a copy."""
    if other == document or not _usable(corpus, other):
        return False
    spans = (corpus.sentences[corpus.documents[number : number + 2]] for number in (document, other))
    left, right = (corpus.tokens[begin:end] for begin, end in spans)
    return not np.array_equal(left, right)


def _suffices(corpus: Corpus, low: int, high: int) -> bool:
    """Returns whether each usable document of the range can draw a second segment from another one of the range."""
    first = next((document for document in range(low, high) if _usable(corpus, document)), None)
    return first is not None and any(_differ(corpus, first, other) for other in range(first + 1, high))


def _source_bounds(corpus: Corpus) -> list[int]:
    """Returns the first document of each source that has any, and the end of the last source."""
    return list(accumulate((count for count in corpus.facts.files if count), initial=0))


def _groups(corpus: Corpus) -> tuple[int, ...]:
    """Returns the bounds of the groups, see `PairSampler.groups`."""
    spans: list[tuple[int, int]] = []
    for suffice, run in groupby(pairwise(_source_bounds(corpus)), key=lambda span: _suffices(corpus, *span)):
        sources = list(run)
        spans += sources if suffice else [(sources[0][0], sources[-1][1])]
    joined: list[tuple[int, int]] = []
    for low, high in spans:
        if joined and not (_suffices(corpus, low, high) and _suffices(corpus, *joined[-1])):
            joined[-1] = joined[-1][0], high
        else:
            joined.append((low, high))
    return (0, *(high for _, high in joined))


def build_sampler(
    corpus: Corpus, objective: Objective, *, budget: int, short: float, seed: int, what: str
) -> PairSampler:
    """Builds a sampler and checks that the corpus suffices for it.

    Args:
        corpus: One split.
        objective: The kind of segments.
        budget: Most tokens of an example, special ones not counted.
        short: Probability of a random shorter target length.
        seed: Seeds all draws.
        what: The option or split, for messages.

    Raises:
        UserError: There is no text; every document has only one sentence; or, for nsp, there is only one document to
            draw from.
    """
    facts = corpus.facts
    if facts.sentences == 0:
        raise UserError(f"{what}: the corpus is empty", expected="text, one sentence a line")
    if objective != "none" and facts.sentences == facts.documents:
        raise UserError(
            f"{what}: every document has one sentence only, so no segment has a next one",
            got=f"{facts.documents:,} documents",
            fix="put each sentence of a document on its own line with a blank line after the last, or use "
            "--data.format prose or --data.objective none",
        )
    groups = _groups(corpus) if objective == "nsp" else (0, facts.documents)
    # If there are several groups, each of them suffices.
    if objective == "nsp" and not _suffices(corpus, *groups[:2]):
        raise UserError(
            f"{what}: there is a single document to draw from, so no second segment can be from another one",
            got=f"{facts.documents} document{'s' if facts.documents > 1 else ''}, one of two sentences or more "
            "that is not a copy",
            fix="put a blank line between documents, add files, or use --data.objective sop or none",
        )
    return PairSampler(corpus, objective, budget, short, seed, groups)
