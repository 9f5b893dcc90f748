"""Effects of the Propositions and Corollaries on known results: signs, units and averages."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import f1_score

from pairjax.base.model_config import Feature
from pairjax.base.types import EncoderSpec, PairData, Pairs, TaskSpec
from pairjax.cli.options import load_experiment
from pairjax.population.pooled import HeadTask
from pairjax.studies.claim import ClaimRun
from pairjax.studies.combiners.board import COMBINATION, CONCATENATION, DIFFERENCE, PRODUCT, CombinerBoard
from pairjax.studies.combiners.cells import Cell, CellResult
from pairjax.studies.small_data.arms import RunMeasures

CLAIMS = Path(__file__).resolve().parents[2] / "experiments" / "claims"
PAIRS = 20
"""Number of test pairs; one pair is 5 points."""
SEEDS = (0, 1)
LABELS = {
    "sick": ("entailment", "neutral", "contradiction"),
    "mrpc": ("not_paraphrase", "paraphrase"),
    "stsb": (),
    "contradiction": ("other", "contradiction"),
    "assin2": ("none", "entailment"),
    "coherence": ("incoherent", "coherent"),
}
Features = tuple[Feature, ...]
PARTS = (CONCATENATION, DIFFERENCE, PRODUCT, COMBINATION)


def module(name: str) -> ModuleType:
    return load_experiment(str(CLAIMS / f"{name}.py"), defines="claim")


def effects(found: ModuleType) -> dict[str, float]:
    run = ClaimRun(found.claim, Path(), len(SEEDS), False, time.monotonic() + 1e9, [].append)
    outcome = found.claim.run(run)
    return {hypothesis.name.split()[0]: hypothesis.effect.value for hypothesis in outcome.hypotheses}


def task_of(name: str) -> TaskSpec:
    labels = LABELS[name]
    return TaskSpec("classification", labels) if labels else TaskSpec("regression")


def pairs_of(name: str) -> Pairs:
    label = np.arange(PAIRS) % len(LABELS[name]) if LABELS[name] else np.arange(PAIRS)
    texts = [tuple(f"{side}{i}" for i in range(PAIRS)) for side in "ab"]
    return Pairs(*texts, label.astype(np.int32 if LABELS[name] else np.float32), ("",) * PAIRS)


def source_of(name: str) -> HeadTask:
    test = pairs_of(name)
    rows = np.arange(PAIRS, dtype=np.int32)
    assert test.label is not None
    spec = EncoderSpec("bert", 9, 4, 4, 1, 1, 8, 8, 2, 0, 0, 1e-12, "gelu", has_pooler=False)
    splits, numbers = {"train": test, "test": test}, {"train": rows, "test": rows}
    return HeadTask(
        task_of(name),
        spec,
        np.zeros((1, 4), np.float32),
        splits,
        numbers,
        np.zeros((PAIRS, 2), np.int32),
        test.label,
        "mean",
        name,
    )


def with_right(label: np.ndarray, right: int, classes: int) -> np.ndarray:
    """Returns predictions of which the first `right` are correct and the others are the next class."""
    return np.where(np.arange(len(label)) < right, label, (label + 1) % classes)


def board(
    right: Callable[[str, Features, bool, float], int], judged: Callable[[str, Features, bool], float]
) -> CombinerBoard:
    """Builds cells with a given number of correct test pairs; for scores, 20 is the correct order and 0 the reverse."""
    sources = {name: source_of(name) for name in LABELS}
    cells = {}
    for name, source in sources.items():
        label = source.label("test")
        for features in PARTS:
            for hidden in (False, True):
                for noise in (0.0, 0.2):
                    count = right(name, features, hidden, noise)
                    if LABELS[name]:
                        predicted = with_right(label, count, len(LABELS[name])).astype(np.int8)
                    else:
                        predicted = label if count == PAIRS else -label
                    score = np.full(len(SEEDS), count / PAIRS)
                    tuned = np.full((1, 1), judged(name, features, hidden))
                    cells[name, Cell(features, hidden, noise)] = CellResult(
                        1e-2, 0.0, tuned, score, score, np.stack([predicted] * len(SEEDS)), 0, ()
                    )
    return CombinerBoard(sources, cells)


def points(name: str, right: int) -> float:
    """Returns accuracy in points, or Spearman's correlation for the correct or the reversed order."""
    return 100.0 * right / PAIRS if LABELS[name] else (100.0 if right == PAIRS else -100.0)


def counts(name: str, features: Features, hidden: bool, noise: float) -> int:
    """Returns a known number of correct pairs, different for each cell."""
    if not LABELS[name]:
        return PAIRS if features != CONCATENATION or hidden else 0
    place = list(LABELS).index(name)
    return (7 * place + 5 * PARTS.index(features) + 3 * hidden + round(20 * noise)) % PAIRS


def chosen(name: str, hidden: bool) -> Features:
    """Returns the choice on dev: the product for long names, the reverse with a hidden layer."""
    return PRODUCT if (len(name) > 4) != hidden else DIFFERENCE


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, float]]:
    def read(name: str) -> dict[str, float]:
        found = module(name)
        made = board(counts, lambda task, features, hidden: 1.0 * (features == chosen(task, hidden)))
        monkeypatch.setattr(found, "run_board", lambda claim, cells: made)
        return effects(found)

    return read


def test_the_effects_of_proposition_1_are_those_of_its_docstring(known: Callable[[str], dict[str, float]]) -> None:
    def gain(tasks: tuple[str, ...], hidden: bool) -> float:
        return float(
            np.mean(
                [
                    points(t, counts(t, chosen(t, hidden), hidden, 0.0))
                    - points(t, counts(t, CONCATENATION, hidden, 0.0))
                    for t in tasks
                ]
            )
        )

    def f1(task: str, features: Features) -> float:
        label = pairs_of(task).label
        assert label is not None
        predicted = with_right(label, counts(task, features, False, 0.0), len(LABELS[task]))
        index = LABELS[task].index({"sick": "contradiction", "mrpc": "paraphrase"}[task])
        return 100.0 * float(f1_score(label == index, predicted == index))

    near, far = ("mrpc", "stsb", "contradiction"), ("sick", "assin2", "coherence")
    expected = {
        "H1": gain(near, False),
        "H2": gain(near, True),
        "H3": gain(near, False) - gain(far, False),
        "H4": f1("sick", DIFFERENCE) - f1("sick", PRODUCT),
        "H5": f1("mrpc", PRODUCT) - f1("mrpc", DIFFERENCE),
    }
    assert len({round(value, 6) for value in expected.values()}) == len(expected)
    assert known("proposition_1") == pytest.approx(expected)


def test_the_effects_of_proposition_1_1_are_those_of_its_docstring(known: Callable[[str], dict[str, float]]) -> None:
    def effect(hidden: bool, noise: float) -> float:
        scores = np.array([[points(t, counts(t, arm, hidden, noise)) for arm in PARTS] for t in LABELS])
        worst = dict(zip(PARTS, (scores.max(axis=1, keepdims=True) - scores).max(axis=0), strict=True))
        return min(worst[part] for part in (CONCATENATION, DIFFERENCE, PRODUCT)) - worst[COMBINATION]

    expected = {"R1": effect(False, 0.0), "R2": effect(True, 0.0), "R3": effect(False, 0.2), "R4": effect(True, 0.2)}
    assert len(set(expected.values())) > 2
    assert known("proposition_1_1") == pytest.approx(expected)


def measured(
    *, train: float, right: int, loss: float, dev: float = 0.0, more: Mapping[str, int] | None = None
) -> RunMeasures:
    """Returns the measures of a run with `right` correct test pairs, and `more` correct pairs of each probed task."""
    label = np.arange(PAIRS) % 2
    return RunMeasures(
        train_loss=0.0,
        train_accuracy=train,
        dev_loss=dev,
        loss=np.full(PAIRS, loss),
        hits=(np.arange(PAIRS) < right).astype(float),
        clusters=np.arange(PAIRS),
        extra={name: with_right(label, count, 2) for name, count in (more or {}).items()},
    )


def test_the_effects_of_corollary_1_1_are_those_of_its_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    found = module("corollary_1_1")
    label = (np.arange(PAIRS) % 2).astype(np.int32)
    texts = [tuple(f"{side}{i}" for i in range(PAIRS)) for side in "ab"]
    data = PairData(TaskSpec("classification", ("no", "yes")), {"test": Pairs(*texts, label, ("",) * PAIRS)}, {}, ())
    probes = {"mrpc": data, "stsb": data}
    arms = ("frozen", "low", "full", "gradual")
    sizes = (50, 100, 250, 1000, 4500)

    def train(arm: str, size: int) -> float:
        return 0.5 + 0.1 * arms.index(arm) + 0.02 * sizes.index(size)

    def right(arm: str, size: int) -> int:
        return (5 * arms.index(arm) + 3 * sizes.index(size)) % PAIRS

    def loss(arm: str, size: int) -> float:
        return 0.2 + 0.3 * arms.index(arm) ** 2 / (1 + sizes.index(size))

    probed = {"low": {"mrpc": 16, "stsb": 12}, "full": {"mrpc": 9, "stsb": 14}}
    table = {}
    for arm in arms:
        for size in sizes:
            for seed in SEEDS:
                more = probed.get(arm) if size == 250 else None
                table[arm, size, seed] = measured(
                    train=train(arm, size), right=right(arm, size), loss=loss(arm, size), more=more
                )
    before = {"mrpc": with_right(label, 18, 2), "stsb": with_right(label, 11, 2)}
    monkeypatch.setattr(found, "read_data", lambda quick: (data, probes))
    monkeypatch.setattr(found, "cached_probes", lambda encoder, tasks, folder: before)
    monkeypatch.setattr(found, "run_all", lambda claim, data, probes: table)

    def mean(one: str, other: str, value: Callable[[str, int], float], over: tuple[int, ...] = sizes[:3]) -> float:
        return float(np.mean([value(one, size) - value(other, size) for size in over]))

    def gap(arm: str, size: int) -> float:
        return 100 * train(arm, size) - 5 * right(arm, size)

    def hundredths(arm: str, size: int) -> float:
        return 100 * loss(arm, size)

    expected = {
        "H1": mean("full", "frozen", gap),
        "H2": mean("full", "frozen", hundredths),
        "H3": mean("full", "low", hundredths),
        "H4": mean("full", "low", gap),
        "H5": mean("frozen", "full", lambda arm, size: 5 * right(arm, size)),
        "H6": mean("full", "frozen", hundredths) - mean("full", "frozen", hundredths, (1000,)),
        "H7": mean("full", "gradual", hundredths),
        "H8": 5 * ((18 - 9) + (11 - 14)) / 2,
        "H9": 5 * ((16 - 9) + (12 - 14)) / 2,
    }
    assert len({round(value, 6) for value in expected.values()}) == len(expected)
    assert effects(found) == pytest.approx(expected)


def test_the_effects_of_corollary_1_2_are_those_of_its_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    found = module("corollary_1_2")
    dropouts, decays = found.DROPOUTS, found.DECAYS
    sizes = tuple(found.STEPS)

    def cell(dropout: float, decay: float, size: int) -> tuple[float, int, float]:
        """Returns train accuracy, the number of correct test pairs, and test loss."""
        p, d, s = dropouts.index(dropout), decays.index(decay), sizes.index(size)
        return 0.9 - 0.07 * p - 0.03 * d * p, (4 + 5 * p + 3 * d + 7 * s + p * d) % PAIRS, 0.8 - 0.1 * p + 0.05 * d * d

    table = {}
    for size in sizes:
        for setting in found.settings("full", size, quick=False):
            train, right, loss = cell(setting.dropout, setting.decay, size)
            # Of the values above 0, dropout 0.1 and decay 10 are best on dev, but not on test.
            dev = (
                1.0 + (setting.dropout == 0.3) + (setting.decay == 0.01) - 9.0 * (setting.dropout * setting.decay == 0)
            )
            for seed in SEEDS:
                table[setting, seed] = measured(train=train, right=right, loss=loss, dev=dev)
    monkeypatch.setattr(found, "data_folder", lambda: Path())
    monkeypatch.setattr(found, "real_pairs", lambda name: None)
    monkeypatch.setattr(found, "cut_test", lambda data, rows: None)
    monkeypatch.setattr(found, "run_all", lambda claim, data: table)

    def mean(pairs: list[tuple[tuple[float, float], tuple[float, float]]], read: Callable[..., float]) -> float:
        return float(np.mean([read(*cell(*one, s)) - read(*cell(*other, s)) for one, other in pairs for s in sizes]))

    def hundredths(train: float, right: int, loss: float) -> float:
        return 100 * loss

    def gap(train: float, right: int, loss: float) -> float:
        return 100 * train - 5 * right

    none, both = (0.0, 0.0), (0.1, 10.0)
    dropped = [((0.0, decay), (0.1, decay)) for decay in decays]
    decayed = [((dropout, 0.0), (dropout, 10.0)) for dropout in dropouts]
    expected = {
        "H1": mean(dropped, hundredths),
        "H2": mean(decayed, hundredths),
        "H3": mean(dropped, gap),
        "H4": mean(decayed, gap),
        "H5": mean([(none, both)], hundredths),
        "H6": mean([(none, (0.1, 0.01))], hundredths),
        "H7": mean([(both, none)], lambda train, right, loss: 5 * right),
    }
    assert len({round(value, 6) for value in expected.values()}) == len(expected)
    assert effects(found) == pytest.approx(expected)
