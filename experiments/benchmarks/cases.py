"""The cases: what is run on each side, how much of it, and the ratio that is aimed at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        title: For people; what stands in braces is a part of the data, see `title_of`.
        peer_title: Who is compared with.
        ours: Our worker, in `pairjax_side`.
        peer: The peer's, in `torch_side`.
        goal: Ratio aimed at; None where none was set.
        settings: Given to both workers.
        quick: What `--quick` changes in them.
        peer_settings: Given to the peer alone.
        compares: `losses` over the first steps, `outputs`, or nothing.
        unit: What is counted.
        part: Of the workload, besides the pairs: PRETRAINING, HEADS, or none.
    """

    title: str
    peer_title: str
    ours: str
    peer: str
    goal: float | None
    settings: dict[str, Any]
    quick: dict[str, Any] = field(default_factory=dict)
    peer_settings: dict[str, Any] = field(default_factory=dict)
    compares: str = "losses"
    unit: str = "pairs"
    part: str = ""


def _cross(set_name: str, **more: Any) -> dict[str, Any]:
    return {"set": set_name, "kind": "cross", "batch_size": 32, **more}


PRETRAINING, HEADS = "pretraining", "heads"
"""Parts of the workload besides the pairs."""
BUSY = 0.15
"""Spread of the matrix rate over the rounds, relative to its median, above which a machine counts as busy."""
TOLERANCE = {"losses": 2e-5, "outputs": 1e-5}
"""How far apart two sides may be that compute the same: ten times what rounding comes to in float32 (RESULTS.md)."""
TRAIN = {"steps": 44}
HEAD_STEPS = 417
"""Three epochs of SICK's 4,439 pairs by 32."""
CASES: dict[str, Case] = {
    "step": Case(
        "cross-encoder, the bare step on {mrpc}",
        "torch loop, dynamic padding",
        "step",
        "step",
        1.15,
        _cross("mrpc", steps=36),
        {"steps": 6},
    ),
    "train": Case(
        "cross-encoder training, {mrpc}",
        "HF Trainer, dynamic padding",
        "train",
        "train",
        1.5,
        _cross("mrpc", **TRAIN),
        {"steps": 12},
    ),
    "train_128": Case(
        "cross-encoder training, {mrpc}",
        "HF Trainer, padded to 128 (run_glue's default)",
        "train",
        "train",
        2.5,
        _cross("mrpc", **TRAIN),
        {"steps": 12},
        {"pad": True},
    ),
    "bi_train": Case(
        "bi-encoder training, {sick}",
        "sentence-transformers, SoftmaxLoss",
        "train",
        "bi_train",
        1.5,
        # The peer's trainer clips the encoder's gradient without the classifier's: compared unclipped.
        {"set": "sick", "kind": "bi", "batch_size": 32, "steps": 60, "checked_clip": 0.0},
        {"steps": 12},
    ),
    "predict": Case(
        "cross-encoder prediction, {sick} test",
        "CrossEncoder.predict",
        "predict",
        "predict",
        1.5,
        {"set": "sick", "kind": "cross", "batch_size": 64, "most": 4927},
        {"most": 512},
        compares="outputs",
    ),
    "bi_predict": Case(
        "bi-encoder prediction, {sick} test, a repeated text read once",
        "SentenceTransformer.encode of both sides",
        "predict",
        "bi_predict",
        2.0,
        {"set": "sick", "kind": "bi", "batch_size": 64, "most": 4927},
        {"most": 512},
        compares="outputs",
    ),
    "pipeline": Case(
        "batches alone, {mrpc}",
        "DataLoader, DataCollatorWithPadding",
        "pipeline",
        "pipeline",
        None,
        _cross("mrpc", epochs=4),
        {"epochs": 1},
        compares="",
    ),
    "pretrain": Case(
        "pretraining on {pretraining}, 32 rows of 128",
        "BertForPreTraining as transformers ships it",
        "pretrain",
        "pretrain",
        2.0,
        {"steps": 8},
        {"steps": 2},
        unit="tokens",
        part=PRETRAINING,
    ),
    "pretrain_gathered": Case(
        "pretraining on {pretraining}, 32 rows of 128",
        "torch loop that gathers the masked positions",
        "pretrain",
        "pretrain_gathered",
        1.1,
        {"steps": 8},
        {"steps": 2},
        unit="tokens",
        part=PRETRAINING,
    ),
    "evaluation": Case(
        "evaluation during training, {sick} test as dev",
        "torch loop, dynamic padding",
        "evaluation",
        "evaluation",
        None,
        {"set": "sick", "kind": "cross", "batch_size": 128, "most": 4927},
        {"most": 512},
        compares="outputs",
    ),
    "loading": Case(
        "an encoder's folder to tokeniser and parameters",
        "AutoTokenizer and AutoModel",
        "loading",
        "loading",
        None,
        {},
        compares="outputs",
        unit="folders",
    ),
    "populations": Case(
        "160 heads on cached vectors, {sick}, 417 steps",
        "torch loop, one after another",
        "populations",
        "populations",
        30.0,
        {"steps": HEAD_STEPS},
        unit="heads",
        part=HEADS,
    ),
    "populations_batched": Case(
        "160 heads on cached vectors, {sick}, 417 steps",
        "torch loop, all heads by bmm",
        "populations",
        "populations_batched",
        1.0,
        {"steps": HEAD_STEPS},
        unit="heads",
        part=HEADS,
    ),
}
FIRST_STEP, LAYOUTS, PROFILE, MICRO, COST = "first_step", "layouts", "profile", "micro", "cost"
ALONE = {
    LAYOUTS: "experiments.benchmarks.alone.layouts",
    PROFILE: "experiments.benchmarks.alone.operations",
    MICRO: "experiments.benchmarks.alone.stages",
    COST: "experiments.benchmarks.alone.cost",
}
"""Cases without a peer, each a module: pairjax alone, in a process of its own."""
NAMES = (*CASES, FIRST_STEP, *ALONE)
SHOWN = {"mrpc": "MRPC", "sick": "SICK", "corpus-en": "English text"}


def shown(source: str) -> str:
    """Where a part of the data is from, for people: the set's name, or the rules that made it."""
    return SHOWN.get(source, f"rule-made {source.removeprefix('rules: ')}")


def title_of(name: str, data: Mapping[str, str]) -> str:
    """A case's title, with the data that it really ran on.

    Args:
        name: Of the case.
        data: The source of each part.
    """
    return CASES[name].title.format_map({part: shown(source) for part, source in data.items()})
