"""The search over interactions: its grid, its pools, and the effects of Lemmas 2 and 2.1 on known predictions."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pairjax.base.types import EncoderSpec, Pairs, TaskSpec
from pairjax.cli.options import load_experiment
from pairjax.population.pooled import HeadTask
from pairjax.population.tokens import TokenTask
from pairjax.studies.attention.board import KINDS, Pool, Search, grid, sample_pool
from pairjax.studies.attention.nested_cv import AttentionSetting, NestedDesign, SettingResult
from pairjax.studies.attention.relations import SLICES

CLAIMS = Path(__file__).resolve().parents[3] / "experiments" / "claims"
OF_SLICE = 20
DESIGN = NestedDesign(seeds=(0, 1))


def test_the_grid_varies_layers_and_heads_one_at_a_time() -> None:
    settings = [setting for kind in KINDS for setting in grid(kind)]
    assert len(settings) == len(set(settings)) == 1 + 3 + 1 + 4 * 6
    assert {(t.layers, t.heads) for t in grid("joint")} == {(1, 4), (2, 4), (3, 4), (1, 1), (1, 2), (1, 8)}


def test_a_pool_takes_a_number_of_pairs_per_slice_and_fills_up_with_the_rest() -> None:
    slices = np.repeat(np.array(["roles", "negation", "rest"]), [3, 50, 200])
    rows = sample_pool(slices, of_slice=20, pool=100)
    assert {name: int((slices[rows] == name).sum()) for name in ("roles", "negation", "rest")} == {
        "roles": 3,
        "negation": 20,
        "rest": 77,
    }
    assert (np.diff(rows) > 0).all()


def pool() -> Pool:
    """Builds a pool with 20 pairs of each slice, slice after slice; texts and tokens are not used."""
    size = OF_SLICE * len(SLICES)
    spec = EncoderSpec("bert", 9, 4, 4, 1, 1, 8, 8, 2, 0, 0, 1e-12, "gelu", has_pooler=False)
    label = np.arange(size, dtype=np.int32) % 3
    empty = np.zeros((size, 1), np.int32)
    heads = HeadTask(
        task=TaskSpec("classification", ("a", "b", "c")),
        spec=spec,
        vectors=np.zeros((1, 4), np.float32),
        splits={"train": Pairs(("x",) * size, ("y",) * size, label, ("",) * size)},
        rows={"train": np.arange(size, dtype=np.int32)},
        sides=np.zeros((size, 2), np.int32),
        target=label,
        pooling="mean",
        key="k",
    )
    tokens = TokenTask(heads, np.zeros((1, 4), np.float32), empty, empty, empty, "k")
    return Pool(tokens, np.repeat(np.array(SLICES), OF_SLICE), np.arange(size) % DESIGN.folds, ())


def search(
    right: Mapping[AttentionSetting, tuple[int, int, int, int]], judged: Mapping[AttentionSetting, float]
) -> Search:
    """Builds the results of all settings of the grid on rule-made pairs.

    Args:
        right: The number of correct pairs of each slice by setting, for every seed; 10 by default.
        judged: The inner accuracy by setting, in every fold; 0.5 by default.
    """
    rules = pool()
    label = rules.source.heads.label("train")
    results = {}
    for setting in (setting for kind in KINDS for setting in grid(kind)):
        counts = np.repeat(right.get(setting, (10, 10, 10, 10)), OF_SLICE)
        found = np.where(np.tile(np.arange(OF_SLICE), len(SLICES)) < counts, label, (label + 1) % 3).astype(np.int8)
        inner = np.full((DESIGN.folds, 2), judged.get(setting, 0.5))
        results[setting] = SettingResult(inner, np.full(DESIGN.folds, 1.5e-3), np.stack([found, found]), 100, ())
    return Search({"rules": rules}, {"rules": results}, DESIGN)


RIGHT = {
    AttentionSetting("none"): (8, 8, 8, 8),
    AttentionSetting("cross", 2, 4): (18, 16, 14, 11),
    AttentionSetting("sized", 2): (12, 12, 12, 10),
    AttentionSetting("sized", 3): (13, 13, 13, 13),
    AttentionSetting("vectors", 1, 1): (15, 15, 15, 15),
}
"""By slice: negation, quantifiers, roles, rest."""
JUDGED = {
    AttentionSetting("cross", 2, 4): 0.95,
    AttentionSetting("vectors", 1, 1): 0.9,
    AttentionSetting("sized", 3): 0.9,
}


def effects(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    monkeypatch.setattr(module, "run_search", lambda claim: search(RIGHT, JUDGED))
    outcome = module.claim.run(None)
    assert outcome.hypotheses[0].primary
    return {hypothesis.name.split()[0]: hypothesis.effect.value for hypothesis in outcome.hypotheses}


def test_the_effects_of_lemma_2_are_those_of_its_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    found = effects(load_experiment(str(CLAIMS / "lemma_2.py"), defines="claim"), monkeypatch)
    # A pair is 5 points. Chosen: cross 2x4; of equal size: sized as 2; best pooled settings: vectors 1x1, sized as 3.
    expected = {"A1": (6 + 4 + 2) / 3, "A2": (10 + 8 + 6) / 3, "A3": 4 - 1, "A4": 6, "A5": 4, "A6": 2, "A7": 15 - 13}
    assert found == pytest.approx({name: 5 * pairs for name, pairs in expected.items()})


def test_the_effects_of_lemma_2_1_are_those_of_its_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    found = effects(load_experiment(str(CLAIMS / "lemma_2_1.py"), defines="claim"), monkeypatch)
    cross = (18 + 16 + 14 + 11) / 4
    expected = {
        "S1": cross - (10 + 10 + cross + 15 + 10) / 5,
        "S2": (cross - (cross + 50) / 6) / 3,
        "S3": (cross - (cross + 20) / 3) / 3,
        "S4": 0.0,
        "S5": cross - 10,
    }
    assert found == pytest.approx({name: 5 * pairs for name, pairs in expected.items()})


def test_slices_have_equal_weight_and_the_best_of_a_column_is_bold() -> None:
    found = search(RIGHT, JUDGED)
    predicted = found.results["rules"][AttentionSetting("cross", 2, 4)].predicted
    none = found.results["rules"][AttentionSetting("none")].predicted
    effect = found.difference("rules", predicted, none, ("negation", "rest"))
    assert effect.value == pytest.approx(5 * (10 + 3) / 2)
    assert effect.error > 0
    table = found.table("rules")
    assert table[0] == ["setting", "parameters", "inner", *SLICES, "all"]
    (line,) = (line for line in table if line[0] == "cross 2x4")
    assert line[2:] == [
        "95.00",
        "**90.00** ± 0.00",
        "**80.00** ± 0.00",
        "70.00 ± 0.00",
        "55.00 ± 0.00",
        "73.75 ± 0.00",
    ]
