"""Makes a coherence task from a corpus: does the second segment follow the first in the text?

Pairs are drawn and matched as for next sentence prediction (`pairjax.data.nsp`). Documents are dealt to train, dev and
test, so no document is in two of them.
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
"""Label 0 is the true next segment, as in `pairjax.data.nsp.LABELS`."""
DEV, TEST, FEWEST = 0.15, 0.25, 2
"""Shares of a source's documents in dev and test; each split gets at least FEWEST documents of a source."""


@dataclass(frozen=True)
class CoherencePairs:
    """A coherence task, with the document of each pair.

    Attributes:
        data: The task's splits; texts are decoded from tokens.
        document: int64 [N] by split; the document of each pair's first text. Confidence intervals resample documents.
    """

    data: PairData
    document: Mapping[str, Int64[np.ndarray, " pairs"]]


def _documents(source: Source) -> list[list[str]]:
    """Returns the documents of two sentences or more."""
    runs = groupby(source.sentences(), key=lambda sentence: sentence is None)
    documents = [[sentence for sentence in run if sentence is not None] for ends, run in runs if not ends]
    return [document for document in documents if len(document) > 1]


def _sentences(documents: Sequence[Sequence[str]]) -> Iterator[str | None]:
    """Yields the sentences of documents as `Source.sentences` does."""
    for document in documents:
        yield from document
        yield None


def deal_documents(source: Source, *, seed: Sequence[int]) -> dict[str, Source]:
    """Deals a source's documents to train, dev and test; returns {} if it has fewer than three times FEWEST.

    Args:
        source: The source.
        seed: Seeds the deal.
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
    """Draws a coherence task from text.

    Args:
        sources: Held-out text. A source with too few documents is left out and named in the notes.
        tokenizer: The tokeniser; the length of segments is counted in its tokens.
        cache: Folder of token indexes.
        sizes: Most pairs in train, dev and test; there are fewer if the text has fewer sentences to start at.
        length: Most tokens of a joint row, special ones included.
        seed: Seeds the deal and the draws.

    Raises:
        UserError: No source has enough documents, or a pair cannot be drawn.
    """
    parts_of = {source.name: deal_documents(source, seed=(seed, number)) for number, source in enumerate(sources)}
    usable = [parts for parts in parts_of.values() if parts]
    if not usable:
        raise UserError(
            "coherence: too few held-out documents to deal to train, dev and test",
            got=", ".join(parts_of) or "no text",
            expected=f"a file of at least {3 * FEWEST} documents of two sentences or more",
        )
    notes = [
        f"coherence: {name} has too few documents and is left out" for name, parts in parts_of.items() if not parts
    ]
    splits, document = {}, {}
    for split, size in zip(SPLITS, sizes, strict=True):
        corpus = build_index([parts[split] for parts in usable], tokenizer, cache=cache)["train"]
        sampler = build_sampler(corpus, "nsp", budget=length - 3, short=0.0, seed=seed, what=f"coherence, {split}")
        count = min(size, sampler.anchors)
        examples = [sampler.draw(index) for index in range(count - count % 2)]
        first, second = (
            tuple(tokenizer.backend.decode(side.tolist()) for side in sides)
            for sides in ([example.first for example in examples], [example.second for example in examples])
        )
        label = np.array([example.label for example in examples], np.int32)
        splits[split] = Pairs(first, second, label, tuple(f"{split}:{example.start}" for example in examples))
        document[split] = np.array([example.document for example in examples], np.int64)
        notes.append(f"coherence, {split}: {len(examples)} pairs of {len(np.unique(document[split]))} documents")
    task = TaskSpec("classification", LABELS, positive=LABELS[0])
    provenance = {"name": "coherence", "files": {item.name: item.digest for item in sources if parts_of[item.name]}}
    return CoherencePairs(PairData(task, splits, provenance, tuple(notes)), document)
