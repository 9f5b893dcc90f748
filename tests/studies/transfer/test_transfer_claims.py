"""Small runs of the claims and experiments on transfer, with rule-made pairs and a tiny encoder."""

import dataclasses
import re
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pairjax.cli.options import load_experiment
from pairjax.studies.claim import ClaimRun, Outcome
from pairjax.studies.transfer.design import SOP, TransferDesign, choose_design, minutes_of
from pairjax.studies.verdict import verdict_row
from tests.tiny import write_tiny_encoder

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
FILES = ("claims/lemma_1", "claims/lemma_1_1", "transfer/objectives")
BUDGET, SEEDS = 40.0, 5


def module(name: str) -> ModuleType:
    return load_experiment(str(EXPERIMENTS / f"{name}.py"), defines="claim")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("claims")
    write_tiny_encoder(folder / "encoder")
    return folder


def run_small(root: Path, found: ModuleType) -> tuple[Outcome, ClaimRun]:
    claim = dataclasses.replace(found.claim, encoder=str(root / "encoder"))
    run = ClaimRun(claim, root / "claims", 2, True, time.monotonic() + 1e9, [].append)
    return claim.run(run), run


@pytest.mark.parametrize("name", FILES)
def test_a_small_run_gives_every_effect_that_the_file_names(name: str, root: Path) -> None:
    found = module(name)
    outcome, _ = run_small(root, found)
    assert all(np.isfinite(hypothesis.effect.value) for hypothesis in outcome.hypotheses)
    for rows in outcome.tables.values():
        assert len({len(row) for row in rows}) == 1
    if name.startswith("claims"):
        said = re.findall(r"^  ([A-Z]\d)", found.__doc__ or "", re.MULTILINE)
        assert [hypothesis.name.split()[0] for hypothesis in outcome.hypotheses] == said
        primary = re.findall(r"^  ([A-Z]\d) \(primary", found.__doc__ or "", re.MULTILINE)
        assert [hypothesis.name.split()[0] for hypothesis in outcome.hypotheses if hypothesis.primary] == primary
        assert outcome.undecided_because is not None
        assert "the treatment failed" in outcome.undecided_because


@pytest.mark.slow
def test_the_leading_combiners_are_tuned_next_to_the_reference(root: Path) -> None:
    outcome, run = run_small(root, module("afterwards/tuned_combiners"))
    (rows,) = outcome.tables.values()
    (effect,) = outcome.hypotheses
    assert [row[0] for row in rows] == ["combiner, encoder tuned", effect.name, "[u; v]"]
    assert not effect.primary
    assert np.isfinite(effect.effect.value)
    assert len(list((run.root / "units").iterdir())) == 2 * run.seeds


@pytest.mark.parametrize("name", FILES)
def test_a_design_with_all_seeds_fits_the_default_budget(name: str) -> None:
    levels: tuple[TransferDesign, ...] = module(name).LEVELS
    costs = [minutes_of(level, seeds=SEEDS) for level in levels]
    assert costs == sorted(costs, reverse=True)
    choice = choose_design(levels, seeds=SEEDS, minutes=BUDGET)
    assert choice.seeds == SEEDS
    assert minutes_of(choice.design, seeds=SEEDS) <= BUDGET
    assert SOP in levels[0].arms or name.endswith("1_1")


def test_both_claims_use_the_same_encoders_at_the_default_budget() -> None:
    one, other = (choose_design(module(name).LEVELS, seeds=SEEDS, minutes=BUDGET).design for name in FILES[:2])
    assert one.pretrain == other.pretrain


def test_the_experiment_decides_nothing_however_many_seeds_it_has(tmp_path: Path) -> None:
    found = module("transfer/objectives")
    run = ClaimRun(found.claim, tmp_path, 20, False, time.monotonic(), [].append)
    row = verdict_row(run, Outcome([]), file=EXPERIMENTS / "transfer" / "objectives.py", minutes=1.0)
    assert row["verdict"] is None
    assert "decides nothing" in row["no_verdict_because"]
