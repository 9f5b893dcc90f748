"""Target tasks of the transfer experiment, and the training data of each run: few pairs, label noise, a skew."""

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

from pairjax.base.data_config import DataConfig
from pairjax.base.types import PairData, Pairs
from pairjax.data.coherence import coherence_pairs
from pairjax.data.corpus_sources import Source
from pairjax.data.sources import load_pairs
from pairjax.data.subsets import sample_pairs
from pairjax.data.tokenizer import load_tokenizer
from pairjax.evaluation.clusters import text_clusters
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
"""The rule-made pairs that replace each data set in a smoke run."""


@dataclass(frozen=True)
class Variant:
    """The kind of training data of a run.

    Attributes:
        noise: Fraction of the labels that are made wrong (`make_wrong`).
        skew: Whether the pairs are drawn from all training pairs, or from the half that is shortest, has most words in
            common, or is closest to one topic.
    """

    noise: float = 0.0
    skew: Skew = "none"

    @property
    def name(self) -> str:
        """The variant as tables name it."""
        parts = [f"{self.noise:.0%} noise"] if self.noise else []
        return ", ".join([*parts, *([f"skewed by {self.skew}"] if self.skew != "none" else [])]) or "clean"


CLEAN = Variant()


@dataclass(frozen=True)
class Target:
    """A target task.

    Attributes:
        name: The name of the data set.
        data: The pairs: all of train; dev and test cut to size.
        group: int64 [N]; the document of each test pair, if pairs share documents; else None.
        skew_scores: float64 [train] by skew; a skewed draw uses the half of train with the lowest scores.
    """

    name: str
    data: PairData
    group: Int64[np.ndarray, " test"] | None
    skew_scores: Mapping[Skew, Float64[np.ndarray, " train"]]

    @cached_property
    def clusters(self) -> Int64[np.ndarray, " test"]:
        """int64 [N]; the cluster of each test pair: its document, or else that of `text_clusters`."""
        return text_clusters(self.data.splits["test"]) if self.group is None else self.group

    def draw(self, variant: Variant, *, size: int, seed: int) -> tuple[Int64[np.ndarray, " size"], np.ndarray]:
        """Draws the training pairs of a run.

        Args:
            variant: The kind of training data.
            size: Number of pairs.
            seed: Seeds the draw and the noise.

        Returns:
            int64 [size], the indices of the pairs; and the labels of all of train, with noise in the drawn pairs only.
        """
        train = self.data.splits["train"]
        assert train.label is not None
        generator = np.random.default_rng((seed, 7))
        pool = np.arange(len(train))
        if variant.skew != "none":
            pool = np.sort(np.argsort(self.skew_scores[variant.skew], kind="stable")[: len(train) // 2])
        index = generator.permutation(pool)[:size].astype(np.int64)
        # Exactly this fraction of the labels is wrong, and a higher noise level includes the pairs of a lower one.
        wrong = index[: round(variant.noise * len(index))]
        return index, make_wrong(train.label, wrong, self.data.task, generator)


def _skew_scores(train: Pairs) -> dict[Skew, np.ndarray]:
    """Returns by skew: length in words, negative word overlap, and the first topic of the joint texts."""
    words = [
        (re.findall(r"\w+", first.lower()), re.findall(r"\w+", second.lower()))
        for first, second in zip(train.first, train.second, strict=True)
    ]
    length = np.array([len(first) + len(second) for first, second in words], np.float64)
    common = np.array([len(set(a) & set(b)) / max(1, len(set(a) | set(b))) for a, b in words])
    weights = TfidfVectorizer(sublinear_tf=True, stop_words=None, min_df=2).fit_transform(
        [f"{first} {second}" for first, second in zip(train.first, train.second, strict=True)]
    )
    # The first direction measures how frequent a text's words are; the second separates topics.
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
    skewed: bool,
) -> Target:
    """Loads a target task by the name of its data set.

    Args:
        name: coherence, or a data set of PAIRJAX_DATA.
        held_out: The text that coherence pairs are made from.
        like: The folder of an encoder whose tokeniser fills coherence's segments.
        cache: The folder of the token indexes for coherence.
        sizes: Most pairs of dev and of test.
        rules: Whether to use rule-made pairs instead of the data set.
        skewed: Whether to compute the scores for skewed draws.
    """
    group = None
    if name == COHERENCE:
        tokenizer = load_tokenizer(like, family=read_encoder_spec(like).family)
        coherence = coherence_pairs(
            held_out, tokenizer, cache=cache, sizes=(COHERENCE_TRAIN, *sizes), length=COHERENCE_LENGTH
        )
        data, group = coherence.data, coherence.document["test"]
    else:
        data = load_pairs(RULES[name]) if rules else real_pairs(name)
        split_sizes = zip(("dev", "test"), sizes, strict=True)
        cut = {split: sample_pairs(data.splits[split], size) for split, size in split_sizes}
        data = replace(data, splits={"train": data.splits["train"], **cut})
    return Target(name, data, group, _skew_scores(data.splits["train"]) if skewed else {})
