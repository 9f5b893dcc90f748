"""Pairs of segments that follow one another in a text, or do not: coherence as a task, made from a corpus.

They are drawn and matched as for next sentence prediction (`pairjax.data.nsp`), from documents that are dealt to train,
dev and test, so that no document is in two of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pairjax.base.errors import UserError
from pairjax.base.types import PairData, Pairs, TaskSpec
from pairjax.data.corpus import build_index
from pairjax.data.corpus_sources import Source
from pairjax.data.nsp import build_sampler
from pairjax.data.tokenizer import PairTokenizer

SPLITS = ("train", "dev", "test")
LABELS = ("adjacent", "not adjacent")
"""0 is the true next segment, as in `pairjax.data.nsp.LABELS`."""
DEV, TEST, FEWEST = 0.15, 0.25, 2
"""Shares of a source's documents in dev and test; no split gets fewer than FEWEST of a source that is used."""


@dataclass(frozen=True)
class CoherencePairs:
    """The task, and what its pairs were drawn from.

    Attributes:
        data: Texts rebuilt from tokens.
        document: Of each pair's first text, by split; documents are what intervals resample.
    """

    data: PairData
    document: Mapping[str, Int64[np.ndarray, " pairs"]]


def _documents(source: Source) -> list[list[str]]:
    """Of two sentences or more."""
    runs = groupby(source.sentences(), key=lambda sentence: sentence is None)
    found = [[sentence for sentence in run if sentence is not None] for ends, run in runs if not ends]
    return [document for document in found if len(document) > 1]


def _sentences(documents: Sequence[Sequence[str]]) -> Iterator[str | None]:
    for document in documents:
        yield from document
        yield None


def deal_documents(source: Source, *, seed: Sequence[int]) -> dict[str, Source]:
    """A source's documents dealt to train, dev and test; nothing where it has too few.

    Args:
        source: At least three times FEWEST documents.
        seed: Of the deal.
    """
    documents = _documents(source)
    count = len(documents)
    if count < 3 * FEWEST:
        return {}
    order = np.random.default_rng(seed).permutation(count).tolist()
    dev, test = (max(FEWEST, round(share * count)) for share in (DEV, TEST))
    parts = {"dev": order[:dev], "test": order[dev : dev + test], "train": order[dev + test :]}
    return {
        split: Source(
            f"{source.name} ({split})",
            source.digest,
            partial(_sentences, [documents[number] for number in sorted(numbers)]),
            f"{source.reading}, documents {sorted(numbers)}",
        )
        for split, numbers in parts.items()
    }


def coherence_pairs(
    sources: Sequence[Source],
    tokenizer: PairTokenizer,
    *,
    cache: Path,
    sizes: Sequence[int],
    length: int,
    seed: int = 0,
) -> CoherencePairs:
    """Draw the task.

    Args:
        sources: Held-out text; a source of too few documents is left out, and named in the notes.
        tokenizer: Segments are filled by its tokens.
        cache: Folder of token indexes.
        sizes: Most pairs of train, dev and test; fewer where the text has fewer sentences that one can start at.
        length: Tokens of a joint row, special ones included.
        seed: Of the deal and of the draws.

    Raises:
        UserError: No source has documents enough, or a pair cannot be drawn.
    """
    dealt = {source.name: deal_documents(source, seed=(seed, number)) for number, source in enumerate(sources)}
    used = [parts for parts in dealt.values() if parts]
    if not used:
        raise UserError(
            "coherence: too few held-out documents to deal to train, dev and test",
            got=", ".join(dealt) or "no text",
            expected=f"a file of at least {3 * FEWEST} documents of two sentences or more",
        )
    notes = [f"coherence: {name} has too few documents and is left out" for name, parts in dealt.items() if not parts]
    splits, document = {}, {}
    for split, size in zip(SPLITS, sizes, strict=True):
        corpus = build_index([parts[split] for parts in used], tokenizer, cache=cache)["train"]
        sampler = build_sampler(corpus, "nsp", budget=length - 3, short=0.0, seed=seed, what=f"coherence, {split}")
        count = min(size, sampler.anchors)
        drawn = [sampler.draw(index) for index in range(count - count % 2)]
        first, second = (
            tuple(tokenizer.backend.decode(side.tolist()) for side in sides)
            for sides in ([one.first for one in drawn], [one.second for one in drawn])
        )
        label = np.array([one.label for one in drawn], np.int32)
        splits[split] = Pairs(first, second, label, tuple(f"{split}:{one.start}" for one in drawn))
        document[split] = np.array([one.document for one in drawn], np.int64)
        notes.append(f"coherence, {split}: {len(drawn)} pairs of {len(np.unique(document[split]))} documents")
    task = TaskSpec("classification", LABELS, positive=LABELS[0])
    source = {"name": "coherence", "files": {one.name: one.digest for one in sources if dealt[one.name]}}
    return CoherencePairs(PairData(task, splits, source, tuple(notes)), document)
