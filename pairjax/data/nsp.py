"""Segment pairs for next sentence prediction: any example of an endless stream, as a function of (seed, index).

Example i starts at the sentence that a keyed permutation gives for i, so that len(anchors) examples in a row start at
every sentence once, with nothing planned, stored or shuffled. From there sentences are taken until a target length is
reached, and split into A and B (Devlin et al. 2019). Of each two examples 2j, 2j + 1 one has label 0 and one label 1:
the share is exact wherever an epoch ends.

A second segment of another document is made by the rule that makes a true one: from a sentence at about the same
place of a document of the same source, sentences are taken until the same target is reached. Of a few such
candidates the one nearest in length, then in place, is chosen. The second segment alone, and the lengths, then tell
nothing of the label. Swapped segments (sop) are not matched: the second may be a document's opening, as none in order
is, and may by that alone betray the label.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, islice, pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt64

from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import Objective
from pairjax.data.corpus import Corpus

CANDIDATES = 8
TRIES = 4096
WORD = (1 << 64) - 1

LABELS: dict[Objective, tuple[str, ...]] = {
    "nsp": ("is next", "is of another document"),
    "sop": ("in order", "swapped"),
    "none": (),
}
"""What the labels 0 and 1 mean; Hugging Face's convention, in which 0 is the true next."""


def mix(value: int) -> int:
    """A bijection of 64-bit words that scatters them (the finaliser of SplitMix64, Steele et al. 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
    return value ^ (value >> 31)


def permuted(index: int, size: int, *, key: int) -> int:
    """Where a keyed permutation of range(size) takes `index`: four Feistel rounds, walked on until inside."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            left, right = right, left ^ (mix(key ^ mix(right << 3 | turn)) & mask)
        index = left << half | right
        if index < size:
            return index


class Stream:
    """Random numbers of one example: Philox's raw words, which NumPy keeps stable over versions."""

    def __init__(self, seed: int, index: int) -> None:
        self._philox = np.random.Philox(key=np.array([seed & WORD, index & WORD], np.uint64))

    def uniform(self) -> float:
        """In [0, 1)."""
        return (int(self._philox.random_raw()) >> 11) * 2.0**-53

    def below(self, limit: int) -> int:
        """In range(limit)."""
        return int(self.uniform() * limit)

    def words(self, count: int) -> UInt64[np.ndarray, " count"]:
        """Raw 64-bit words."""
        return np.asarray(self._philox.random_raw(count), np.uint64).reshape(count)


class Segments(NamedTuple):
    """One example.

    Attributes:
        first: int32 token ids of A, no special ones.
        second: Of B; empty where there is one segment only.
        label: 0 or 1, see LABELS; 0 where there is one segment.
        document: Whose sentences A (for sop: both) are.
        other: Whose sentences B are.
        start: First sentence of what was drawn, in the corpus.
        second_start: First sentence of B's text; for one segment, -1.
    """

    first: Int32[np.ndarray, " a"]
    second: Int32[np.ndarray, " b"]
    label: int
    document: int
    other: int
    start: int
    second_start: int


class _Run(NamedTuple):
    """Sentences `start` to `stop - 1` of a document."""

    start: int
    stop: int
    tokens: int


def fair_lengths(first: int, second: int, budget: int) -> tuple[int, int]:
    """What two segments keep of a budget: the longer loses first, as BERT truncates."""
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
        objective: Which segments.
        budget: Tokens of an example, special ones not counted.
        short: Chance of a random shorter target.
        seed: Of everything.
        groups: First document of each set of documents that B is drawn within, and the end of the last: the sources.
            One with fewer than two documents to draw from is joined with those beside it that lack them too, and
            where these together do as well, with a neighbour.
    """

    corpus: Corpus
    objective: Objective
    budget: int
    short: float
    seed: int
    groups: tuple[int, ...]

    @property
    def anchors(self) -> int:
        """Sentences that an example can start at: all but each document's last, or all where there is one segment."""
        facts = self.corpus.facts
        return facts.sentences if self.objective == "none" else facts.sentences - facts.documents

    def __len__(self) -> int:
        """Examples of an epoch: as many as hold all tokens once; even, so that the labels are equal in number."""
        examples = -(-self.corpus.facts.tokens // self.budget)
        return max(2, examples + examples % 2)

    def notes(self) -> tuple[str, ...]:
        """A line on sources whose second segments may be of another source."""
        names = [name for name, count in zip(self.corpus.names, self.corpus.facts.files, strict=True) if count]
        spans = zip(names, pairwise(_source_bounds(self.corpus)), strict=True)
        joined = [name for name, span in spans if not set(span) <= set(self.groups)]
        if self.objective != "nsp" or not joined:
            return ()
        shown = ", ".join(joined[:3]) + (", ..." if len(joined) > 3 else "")
        return (
            f"second segments of {len(joined)} sources may be of a source beside them, as some have fewer than two "
            f"documents to draw from: {shown}",
        )

    def document_of(self, index: int) -> int:
        """The document that example `index` starts in."""
        return self._document(self._anchor(index))

    def draw(self, index: int) -> Segments:
        """Example `index`."""
        return self.draw_from(index, Stream(self.seed, index))

    def draw_from(self, index: int, stream: Stream) -> Segments:
        """Example `index`; the stream's next words are free for its mask."""
        anchor = self._anchor(index)
        document = self._document(anchor)
        target = self.budget
        if stream.uniform() < self.short:
            target = 2 + stream.below(self.budget - 1)
        end = int(self.corpus.documents[document + 1])
        if self.objective == "none":
            run = self._fill(anchor, end, target, least=1)
            first = self._cut(run, min(run.tokens, self.budget), stream)
            return Segments(first, np.zeros(0, np.int32), 0, document, document, anchor, -1)
        # Anchors leave out one sentence of each document before this one.
        start = anchor + document
        chunk = self._fill(start, end, target, least=2)
        middle = start + 1 + stream.below(chunk.stop - start - 1)
        one, true = self._run(start, middle), self._run(middle, chunk.stop)
        label = self.label(index)
        other, two = document, true
        if self.objective == "nsp" and label:
            other, two = self._elsewhere(document, one, true, target, stream)
        kept = fair_lengths(one.tokens, two.tokens, self.budget)
        first, second = self._cut(one, kept[0], stream), self._cut(two, kept[1], stream)
        if self.objective == "sop" and label:
            first, second = second, first
        return Segments(first, second, label, document, other, start, two.start)

    def label(self, index: int) -> int:
        """0 or 1; of 2j and 2j + 1 one each."""
        return (mix(self.seed ^ mix(index >> 1 | 1 << 62)) ^ index) & 1

    def _anchor(self, index: int) -> int:
        passes, place = divmod(index, self.anchors)
        return permuted(place, self.anchors, key=mix(self.seed ^ mix(passes)))

    def _document(self, anchor: int) -> int:
        documents, drop = self.corpus.documents, int(self.objective != "none")
        return bisect.bisect_right(range(len(documents)), anchor, key=lambda d: int(documents[d]) - drop * d) - 1

    def _run(self, start: int, stop: int) -> _Run:
        sentences = self.corpus.sentences
        return _Run(start, stop, int(sentences[stop] - sentences[start]))

    def _fill(self, start: int, end: int, target: int, *, least: int) -> _Run:
        """Sentences from `start` until there are `target` tokens and `least` sentences, or the document ends."""
        ends = self.corpus.sentences[start + least : end + 1]
        stop = start + least + int(np.searchsorted(ends, self.corpus.sentences[start] + target))
        return self._run(start, min(stop, end))

    def _cut(self, run: _Run, kept: int, stream: Stream) -> Int32[np.ndarray, " kept"]:
        """The run's tokens, cut to `kept` at its front or its end, whichever a coin says."""
        begin = int(self.corpus.sentences[run.start])
        if stream.uniform() < 0.5:
            begin += run.tokens - kept
        return self.corpus.tokens[begin : begin + kept].astype(np.int32)

    def _elsewhere(self, document: int, one: _Run, true: _Run, target: int, stream: Stream) -> tuple[int, _Run]:
        """A segment of another document, matched to the true one; and its document."""
        documents = self.corpus.documents
        place = bisect.bisect_right(self.groups, document) - 1
        low, high = self.groups[place], self.groups[place + 1]
        first, last = int(documents[low]) - low, int(documents[high]) - high
        before, after = true.start - int(documents[document]), int(documents[document + 1]) - true.start
        wanted = fair_lengths(one.tokens, true.tokens, self.budget)[1]

        def matched(found: int) -> tuple[tuple[bool, float, float], int, _Run]:
            """A document's segment, and how far it is from what is wanted: in words, in length, in place."""
            begin, end = int(documents[found]), int(documents[found + 1])
            # At the same share of the way, and never a document's first sentence: no true next segment is one.
            at = min(end - 1, max(begin + 1, begin + round(before / (before + after) * (end - begin))))
            run = self._fill(at, end, target - one.tokens, least=1)
            length = fair_lengths(one.tokens, run.tokens, self.budget)[1]
            far = abs(math.log((at - begin) / before)) + abs(math.log((end - at) / after))
            return (self._same(run, true), float(abs(length - wanted)), far), found, run

        own = range(int(documents[document]) - document, int(documents[document + 1]) - document - 1)
        anchors = (first + stream.below(last - first) for _ in range(TRIES))
        drawn = (matched(self._document(anchor)) for anchor in anchors if anchor not in own)
        candidates = list(islice((each for each in drawn if not each[0][0]), CANDIDATES))
        if not candidates:
            # This document holds nearly all of the group, or the others go on as it does.
            start = stream.below(high - low)
            others = (low + (start + step) % (high - low) for step in range(high - low))
            differing = (matched(other) for other in others if _differ(self.corpus, document, other))
            candidates = list(islice(differing, CANDIDATES))
        return min(candidates, key=lambda candidate: candidate[0])[1:]

    def _same(self, run: _Run, true: _Run) -> bool:
        """Whether two runs begin with the same sentence, as copies of a document would."""
        one, two = self._run(run.start, run.start + 1), self._run(true.start, true.start + 1)
        if one.tokens != two.tokens:
            return False
        tokens, sentences = self.corpus.tokens, self.corpus.sentences
        begin, other = int(sentences[one.start]), int(sentences[two.start])
        return bool(np.array_equal(tokens[begin : begin + one.tokens], tokens[other : other + two.tokens]))


def _usable(corpus: Corpus, document: int) -> bool:
    """Whether it has a sentence that is next to another."""
    return bool(corpus.documents[document + 1] - corpus.documents[document] > 1)


def _differ(corpus: Corpus, document: int, other: int) -> bool:
    """Whether the other can give a segment of another document: it is no copy of this one."""
    if other == document or not _usable(corpus, other):
        return False
    spans = (corpus.sentences[corpus.documents[one : one + 2]] for one in (document, other))
    one, two = (corpus.tokens[begin:end] for begin, end in spans)
    return not np.array_equal(one, two)


def _suffices(corpus: Corpus, low: int, high: int) -> bool:
    """Whether every document of the range that has a next segment finds another one in it."""
    first = next((document for document in range(low, high) if _usable(corpus, document)), None)
    return first is not None and any(_differ(corpus, first, other) for other in range(first + 1, high))


def _source_bounds(corpus: Corpus) -> list[int]:
    """First document of each source that has any, and the end of the last."""
    return list(accumulate((count for count in corpus.facts.files if count), initial=0))


def _groups(corpus: Corpus) -> tuple[int, ...]:
    """As `PairSampler.groups`."""
    spans: list[tuple[int, int]] = []
    for suffice, run in groupby(pairwise(_source_bounds(corpus)), key=lambda span: _suffices(corpus, *span)):
        found = list(run)
        spans += found if suffice else [(found[0][0], found[-1][1])]
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
    """A sampler, the corpus checked.

    Args:
        corpus: One split.
        objective: Which segments.
        budget: Tokens of an example, special ones not counted.
        short: Chance of a random shorter target.
        seed: Of everything drawn.
        what: The option or split, for messages.

    Raises:
        UserError: No text; documents of one sentence only; or, for nsp, a single document to draw from.
    """
    facts = corpus.facts
    if facts.sentences == 0:
        raise UserError(f"{what}: the corpus is empty", expected="text, one sentence a line")
    if objective != "none" and facts.sentences == facts.documents:
        raise UserError(
            f"{what}: every document is of one sentence only, so no segment has a next one",
            got=f"{facts.documents:,} documents",
            fix="put the sentences of a document on lines of their own with a blank line after the last, or use "
            "--data.format prose or --data.objective none",
        )
    groups = _groups(corpus) if objective == "nsp" else (0, facts.documents)
    # With several groups each suffices.
    if objective == "nsp" and not _suffices(corpus, *groups[:2]):
        raise UserError(
            f"{what}: there is a single document to draw from, so no second segment can be of another",
            got=f"{facts.documents} document{'s' if facts.documents > 1 else ''}, one of two sentences or more "
            "that is no copy",
            fix="put a blank line between documents, add files, or use --data.objective sop or none",
        )
    return PairSampler(corpus, objective, budget, short, seed, groups)


def class_balance(sampler: PairSampler, examples: Sequence[int]) -> tuple[int, int]:
    """How many of the examples have label 0 and label 1."""
    ones = sum(sampler.label(index) for index in examples)
    return len(examples) - ones, ones
