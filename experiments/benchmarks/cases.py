"""The table of cases: what runs on each side, how much of it, and the target ratio."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.benchmarks.shared.constants import HEADS, PRETRAINING


@dataclass(frozen=True)
class Comparison:
    """A case that compares pairjax with a torch tool.

    Attributes:
        title: The title in tables; a name in braces is a part of the data, see `case_title`.
        torch_title: The torch tool, in tables.
        pairjax_worker: Name of pairjax's worker in `pairjax_side/main.py`.
        torch_worker: Name of the torch worker in `torch_side/main.py`.
        goal: The target ratio; None if none was set.
        settings: Settings of both workers.
        quick: Settings that `--quick` changes.
        torch_settings: Settings of the torch worker only.
        compares: What must agree: "losses" of the first steps, "outputs", or nothing.
        unit: The unit that is counted.
        part: Part of the workload that it needs besides the pairs: PRETRAINING, HEADS, or none.
    """

    title: str
    torch_title: str
    pairjax_worker: str
    torch_worker: str
    goal: float | None
    settings: dict[str, Any]
    quick: dict[str, Any] = field(default_factory=dict)
    torch_settings: dict[str, Any] = field(default_factory=dict)
    compares: str = "losses"
    unit: str = "pairs"
    part: str = ""


def _cross(set_name: str, **more: Any) -> dict[str, Any]:
    """Returns the settings of a cross-encoder on a set, 32 pairs a batch."""
    return {"set": set_name, "kind": "cross", "batch_size": 32, **more}


BUSY = 0.15
"""Spread of the matrix rate over the rounds, relative to its median, above which a machine counts as busy."""
TOLERANCE = {"losses": 2e-5, "outputs": 1e-5}
"""Largest accepted difference between the sides: ten times the effect of rounding in float32 (RESULTS.md)."""
TRAIN_STEPS = 44
HEAD_STEPS = 417
"""Three epochs of SICK's 4,439 pairs, 32 a batch."""
CASES: dict[str, Comparison] = {
    "step": Comparison(
        title="cross-encoder, bare training step, {mrpc}",
        torch_title="torch loop, dynamic padding",
        pairjax_worker="step",
        torch_worker="step",
        goal=1.15,
        settings=_cross("mrpc", steps=36),
        quick={"steps": 6},
    ),
    "train": Comparison(
        title="cross-encoder training, {mrpc}",
        torch_title="HF Trainer, dynamic padding",
        pairjax_worker="train",
        torch_worker="train",
        goal=1.5,
        settings=_cross("mrpc", steps=TRAIN_STEPS),
        quick={"steps": 12},
    ),
    "train_128": Comparison(
        title="cross-encoder training, {mrpc}",
        torch_title="HF Trainer, padded to 128 (run_glue's default)",
        pairjax_worker="train",
        torch_worker="train",
        goal=2.5,
        settings=_cross("mrpc", steps=TRAIN_STEPS),
        quick={"steps": 12},
        torch_settings={"pad": True},
    ),
    "bi_train": Comparison(
        title="bi-encoder training, {sick}",
        torch_title="sentence-transformers, SoftmaxLoss",
        pairjax_worker="train",
        torch_worker="bi_train",
        goal=1.5,
        # The torch trainer clips the encoder's gradient without the classifier's, so the comparison does not clip.
        settings={"set": "sick", "kind": "bi", "batch_size": 32, "steps": 60, "checked_clip": 0.0},
        quick={"steps": 12},
    ),
    "predict": Comparison(
        title="cross-encoder prediction, {sick} test",
        torch_title="CrossEncoder.predict",
        pairjax_worker="predict",
        torch_worker="predict",
        goal=1.5,
        settings={"set": "sick", "kind": "cross", "batch_size": 64, "most": 4927},
        quick={"most": 512},
        compares="outputs",
    ),
    "bi_predict": Comparison(
        title="bi-encoder prediction, {sick} test, repeated texts encoded once",
        torch_title="SentenceTransformer.encode of both sides",
        pairjax_worker="predict",
        torch_worker="bi_predict",
        goal=2.0,
        settings={"set": "sick", "kind": "bi", "batch_size": 64, "most": 4927},
        quick={"most": 512},
        compares="outputs",
    ),
    "pipeline": Comparison(
        title="input pipeline alone, {mrpc}",
        torch_title="DataLoader, DataCollatorWithPadding",
        pairjax_worker="pipeline",
        torch_worker="pipeline",
        goal=None,
        settings=_cross("mrpc", epochs=4),
        quick={"epochs": 1},
        compares="",
    ),
    "pretrain": Comparison(
        title="pretraining on {pretraining}, 32 rows of 128",
        torch_title="BertForPreTraining as transformers ships it",
        pairjax_worker="pretrain",
        torch_worker="pretrain",
        goal=2.0,
        settings={"steps": 8},
        quick={"steps": 2},
        unit="tokens",
        part=PRETRAINING,
    ),
    "pretrain_gathered": Comparison(
        title="pretraining on {pretraining}, 32 rows of 128",
        torch_title="torch loop that gathers the masked positions",
        pairjax_worker="pretrain",
        torch_worker="pretrain_gathered",
        goal=1.1,
        settings={"steps": 8},
        quick={"steps": 2},
        unit="tokens",
        part=PRETRAINING,
    ),
    "evaluation": Comparison(
        title="evaluation during training, {sick} test as dev",
        torch_title="torch loop, dynamic padding",
        pairjax_worker="evaluation",
        torch_worker="evaluation",
        goal=None,
        settings={"set": "sick", "kind": "cross", "batch_size": 128, "most": 4927},
        quick={"most": 512},
        compares="outputs",
    ),
    "loading": Comparison(
        title="loading an encoder and its tokeniser",
        torch_title="AutoTokenizer and AutoModel",
        pairjax_worker="loading",
        torch_worker="loading",
        goal=None,
        settings={},
        compares="outputs",
        unit="folders",
    ),
    "populations": Comparison(
        title="160 heads on cached vectors, {sick}, 417 steps",
        torch_title="torch loop, one after another",
        pairjax_worker="populations",
        torch_worker="populations",
        goal=30.0,
        settings={"steps": HEAD_STEPS},
        unit="heads",
        part=HEADS,
    ),
    "populations_batched": Comparison(
        title="160 heads on cached vectors, {sick}, 417 steps",
        torch_title="torch loop, all heads by bmm",
        pairjax_worker="populations",
        torch_worker="populations_batched",
        goal=1.0,
        settings={"steps": HEAD_STEPS},
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
"""Cases that measure pairjax alone, without a torch tool; each is a module that runs in its own process."""
NAMES = (*CASES, FIRST_STEP, *ALONE)
SOURCE_TITLES = {"mrpc": "MRPC", "sick": "SICK", "corpus-en": "English text"}


def source_title(source: str) -> str:
    """Returns the name in tables of a source of data: a set's name, or the rules that made it."""
    return SOURCE_TITLES.get(source, f"rule-made {source.removeprefix('rules: ')}")


def case_title(name: str, data: Mapping[str, str]) -> str:
    """Returns a case's title with the data that it ran on.

    Args:
        name: Name of the case.
        data: The source of each part of the data.
    """
    return CASES[name].title.format_map({part: source_title(source) for part, source in data.items()})
