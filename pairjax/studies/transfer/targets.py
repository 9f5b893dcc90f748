"""Target tasks of the transfer experiment, and what of their training data a run gets: few rows, noise, a skew."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from pairjax.base.config import DataConfig
from pairjax.base.types import PairData, Pairs
from pairjax.data.coherence import coherence_pairs
from pairjax.data.corpus_sources import Source
from pairjax.data.folds import text_clusters
from pairjax.data.sources import load_pairs
from pairjax.data.subsets import sample_pairs
from pairjax.data.tokenizer import load_tokenizer
from pairjax.studies.sets import make_wrong, real_pairs
from pairjax.weights import read_encoder_spec

Skew = Literal["none", "length", "overlap", "topic"]
COHERENCE = "coherence"
COHERENCE_TRAIN = 2000
COHERENCE_LENGTH = 48
RULES: Mapping[str, DataConfig] = {
    "sick": DataConfig(rules="entailment", sizes=(400, 100, 200)),
    "mrpc": DataConfig(rules="paraphrase", sizes=(400, 100, 200)),
    "assin2": DataConfig(rules="entailment", language="pt", sizes=(400, 100, 200)),
    "stsb": DataConfig(rules="similarity", sizes=(400, 100, 200)),
}
"""What stands for each set where none is given: a smoke run's."""


@dataclass(frozen=True)
class Variant:
    """What a run's training data are like.

    Attributes:
        noise: Share of the labels made wrong: another class by lot, or scores dealt out anew.
        skew: The rows are drawn from all, or from the half that is shortest, has most words in common, or leans most
            to one topic.
    """

    noise: float = 0.0
    skew: Skew = "none"

    @property
    def name(self) -> str:
        """As in tables."""
        parts = [f"{self.noise:.0%} noise"] if self.noise else []
        return ", ".join([*parts, *([f"skewed by {self.skew}"] if self.skew != "none" else [])]) or "clean"


CLEAN = Variant()


@dataclass(frozen=True)
class Target:
    """A task.

    Attributes:
        name: Of the set.
        data: train whole; dev and test cut to size.
        group: Of each pair of test, where pairs share a document; None where they do not.
        lean: By skew, a number for each pair of train; the lowest half is drawn from.
    """

    name: str
    data: PairData
    group: Int64[np.ndarray, " test"] | None
    lean: Mapping[Skew, Float64[np.ndarray, " train"]]

    @cached_property
    def clusters(self) -> Int64[np.ndarray, " test"]:
        """Of each pair of test: its document, or where it has none, that of `text_clusters`."""
        return text_clusters(self.data.splits["test"]) if self.group is None else self.group

    def draw(self, variant: Variant, *, rows: int, seed: int) -> tuple[Int64[np.ndarray, " rows"], np.ndarray]:
        """A run's training rows, by its seed, and the labels of all of train; noise falls on drawn rows alone."""
        train = self.data.splits["train"]
        assert train.label is not None
        generator = np.random.default_rng((seed, 7))
        pool = np.arange(len(train))
        if variant.skew != "none":
            pool = np.sort(np.argsort(self.lean[variant.skew], kind="stable")[: len(train) // 2])
        drawn = generator.permutation(pool)[:rows].astype(np.int64)
        # As many rows of each noise level are changed as the level says, and a higher level changes those of a lower.
        wrong = drawn[: round(variant.noise * len(drawn))]
        return drawn, make_wrong(train.label, wrong, self.data.task, generator)


def _leanings(train: Pairs) -> dict[Skew, np.ndarray]:
    """Length in words, share of words in common (turned), and the first topic of the joint texts (turned)."""
    words = [
        (re.findall(r"\w+", one.lower()), re.findall(r"\w+", two.lower()))
        for one, two in zip(train.first, train.second, strict=True)
    ]
    length = np.array([len(one) + len(two) for one, two in words], np.float64)
    common = np.array([len(set(one) & set(two)) / max(1, len(set(one) | set(two))) for one, two in words])
    weights = TfidfVectorizer(sublinear_tf=True, stop_words=None, min_df=2).fit_transform(
        [f"{one} {two}" for one, two in zip(train.first, train.second, strict=True)]
    )
    # The first direction is how common a text's words are; the second tells topics apart.
    topic = TruncatedSVD(2, random_state=0).fit_transform(weights)[:, 1]
    return {"length": length, "overlap": -common, "topic": topic}


def load_target(
    name: str,
    *,
    held_out: Sequence[Source],
    like: Path,
    cache: Path,
    sizes: tuple[int, int],
    rules: bool,
    lean: bool,
) -> Target:
    """A task by the name of its set.

    Args:
        name: coherence, or a set of PAIRJAX_DATA.
        held_out: Text that coherence is made of.
        like: Folder of an encoder whose tokeniser fills coherence's segments.
        cache: Of its token indexes.
        sizes: Most pairs of dev and of test.
        rules: Whether rule-made pairs stand for the set.
        lean: Whether skewed draws are wanted.
    """
    group = None
    if name == COHERENCE:
        tokenizer = load_tokenizer(like, family=read_encoder_spec(like).family)
        made = coherence_pairs(
            held_out, tokenizer, cache=cache, sizes=(COHERENCE_TRAIN, *sizes), length=COHERENCE_LENGTH
        )
        data, group = made.data, made.document["test"]
    else:
        data = load_pairs(RULES[name]) if rules else real_pairs(name)
        split_sizes = zip(("dev", "test"), sizes, strict=True)
        cut = {split: sample_pairs(data.splits[split], size) for split, size in split_sizes}
        data = replace(data, splits={"train": data.splits["train"], **cut})
    return Target(name, data, group, _leanings(data.splits["train"]) if lean else {})
