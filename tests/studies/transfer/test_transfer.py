"""Transfer with rules and tiny models: encoders that differ only in the objective, all fine-tuned alike."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from pairjax import UserError
from pairjax.base.types import PairData, Pairs, TaskSpec
from pairjax.cli.main import main
from pairjax.run.distributed import StopSignal
from pairjax.studies.claim import BudgetSpentError, Claim, ClaimRun, Outcome
from pairjax.studies.transfer import encoders
from pairjax.studies.transfer.board import TransferBoard
from pairjax.studies.transfer.design import (
    MLM,
    NSP,
    SIX,
    START,
    Condition,
    TransferDesign,
    choose_design,
    minutes_of,
    smoke_design,
)
from pairjax.studies.transfer.encoders import Encoders, PretrainDesign, Texts, spaced_layers, write_stories
from pairjax.studies.transfer.run import run_transfer
from pairjax.studies.transfer.targets import Target, Variant
from pairjax.studies.transfer.tuner import TunedRun, Tuner
from pairjax.weights import load_encoder, read_encoder_spec
from tests.tiny import write_tiny_encoder

NOISY = Variant(noise=0.4)
DESIGN = TransferDesign(
    tasks=("sick", "coherence"), arms=(START, MLM, NSP), varied=("sick",), noises=(0.2, 0.4), skews=("length",)
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer")
    write_tiny_encoder(folder / "encoder")
    return folder


def claim_run(root: Path, *, deadline: float = 1e9, lines: list[str] | None = None) -> ClaimRun:
    claim = Claim("toy", "s", 2, lambda run: Outcome([]), encoder=str(root / "encoder"), pooling="pooler")
    log: Callable[[str], None] = [].append if lines is None else lines.append
    return ClaimRun(claim, root / "claims", 2, True, time.monotonic() + deadline, log)


@pytest.fixture(scope="module")
def board(root: Path) -> TransferBoard:
    return run_transfer(claim_run(root), (DESIGN,))


def test_every_arm_is_run_by_every_seed_on_every_task(board: TransferBoard, root: Path) -> None:
    clean = {Condition(task, arm) for task in ("sick", "coherence") for arm in (START, MLM, NSP)}
    worse = {Condition("sick", arm, variant) for arm in (MLM, NSP) for variant in (NOISY, Variant(skew="length"))}
    assert set(board.runs) == clean | worse
    assert all(len(runs) == 2 for runs in board.runs.values())
    for runs in board.runs.values():
        assert all(len(run.curve) == len(board.steps) == 2 for run in runs)
    names = sorted(path.name.split("-")[0] for path in (root / "claims/transfer/encoders").iterdir())
    assert names == ["indexes", "layers", "none", "none", "nsp", "nsp", "start"]
    assert set(board.segment_accuracy) == {"nsp"}
    assert [row[0] for row in board.steps_table()] == ["arm", START.name, MLM.name, NSP.name, "goal on dev"]
    for table in (board.score_table(), board.gain_table(), board.variant_table(), board.curve_table("sick")):
        assert len({len(row) for row in table}) == 1


def test_the_pooler_of_the_objective_is_kept_and_the_embeddings_are_the_start_s(
    board: TransferBoard, root: Path
) -> None:
    folder = root / "claims/transfer/encoders"

    def read(origin: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = next(folder.glob(f"{origin}-*")) / "model" / "encoder"
        loaded = load_encoder(place, read_encoder_spec(place))
        assert loaded.pooler is not None
        params = loaded.params
        return params["embeddings"]["word"]["embedding"], params["layer_0"]["mlp_in"]["kernel"], loaded.pooler["kernel"]

    start, none, nsp = read("start"), read("none-0"), read("nsp-0")
    np.testing.assert_array_equal(start[0], nsp[0])
    np.testing.assert_array_equal(start[0], none[0])
    assert not np.array_equal(start[1], nsp[1])
    assert not np.array_equal(none[1], nsp[1])
    np.testing.assert_array_equal(start[2], none[2])
    assert not np.array_equal(start[2], nsp[2])


def test_a_second_run_reads_everything(board: TransferBoard, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tuner, "run", lambda *_, **__: pytest.fail("tuned again"))
    monkeypatch.setattr(encoders, "pretrain", lambda *_, **__: pytest.fail("pretrained again"))
    again = run_transfer(claim_run(root, deadline=-1.0), (DESIGN,))
    for key, runs in board.runs.items():
        for one, other in zip(runs, again.runs[key], strict=True):
            np.testing.assert_array_equal(one.outputs, other.outputs)
            np.testing.assert_array_equal(one.curve, other.curve)


def test_a_spent_budget_keeps_finished_work_and_the_next_run_continues(
    board: TransferBoard, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = root / "claims" / "transfer" / "runs"
    files = sorted(runs.glob("*.npz"))
    before = {path: path.stat().st_mtime_ns for path in files[1:]}
    files[0].unlink()
    with pytest.raises(BudgetSpentError):
        run_transfer(claim_run(root, deadline=-1.0), (DESIGN,))
    assert not files[0].exists()
    run_transfer(claim_run(root), (DESIGN,))
    assert files[0].exists()
    assert {path: path.stat().st_mtime_ns for path in files[1:]} == before


def test_an_interrupted_pretraining_continues_and_ends_with_the_same_weights(
    board: TransferBoard, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "encoder").symlink_to(root / "encoder")
    alone = (dataclasses.replace(DESIGN, tasks=("sick",), arms=(START,), varied=()),)
    monkeypatch.setattr(StopSignal, "requested", lambda self, done: done == 2)
    with pytest.raises(SystemExit) as stopped:
        run_transfer(claim_run(other), alone)
    assert stopped.value.code == 143
    monkeypatch.undo()
    run_transfer(claim_run(other), alone)
    (one,), (two,) = ((base / "claims/transfer/encoders").glob("start-*") for base in (root, other))
    assert one.name == two.name
    first, second = (load_encoder(x / "model/encoder", read_encoder_spec(x / "model/encoder")) for x in (one, two))
    np.testing.assert_array_equal(
        first.params["layer_0"]["mlp_in"]["kernel"], second.params["layer_0"]["mlp_in"]["kernel"]
    )


def test_another_design_is_another_encoder(root: Path, board: TransferBoard) -> None:
    small = smoke_design(DESIGN).pretrain
    texts = write_stories(root / "claims/transfer/stories", documents=60)
    paths = {
        Encoders(design, texts, source=str(root / "encoder"), folder=root).path("nsp", seed)
        for design in (small, dataclasses.replace(small, steps=5), PretrainDesign(layers=1))
        for seed in (0, 1)
    }
    assert len(paths) == 6


def test_an_encoder_has_the_name_that_version_0_1_0_gave_it() -> None:
    encoders = object.__new__(Encoders)
    encoders.design, encoders.folder = SIX, Path("folder")
    encoders.texts = Texts("a", "b")
    encoders._base, encoders._weights = {"format": 2}, "w" * 20
    assert encoders.path("start", 0).name == "start-a9fc15d505b1"
    assert encoders.path("nsp", 3).name == "nsp-3-6c2c8d8ef8eb"


def test_noise_and_skew_affect_only_the_drawn_pairs(board: TransferBoard) -> None:
    target = board.targets["sick"]
    train = target.data.splits["train"]
    rows, label = target.draw(NOISY, size=50, seed=3)
    clean, same = target.draw(Variant(), size=50, seed=3)
    np.testing.assert_array_equal(rows, clean)
    np.testing.assert_array_equal(same, train.label)
    assert set(np.flatnonzero(label != train.label)) == set(rows[:20])
    scores = {"length": np.arange(len(train), dtype=float)}
    skewed, _ = dataclasses.replace(target, skew_scores=scores).draw(Variant(skew="length"), size=50, seed=3)
    assert skewed.max() < len(train) // 2
    assert len(set(skewed)) == 50


def runs(*curves: Sequence[float], right: Sequence[int] = (0,)) -> list[TunedRun]:
    """Builds one run per curve; run i classifies the first `right[i]` of the 20 test pairs correctly."""
    made = []
    for curve, good in zip(curves, [*right, *[0] * len(curves)], strict=False):
        answer = np.where(np.arange(20) < good, LABEL, (LABEL + 1) % 3)
        made.append(TunedRun(np.array(curve, float), np.eye(3, dtype=np.float32)[answer], 5.0 * good))
    return made


LABEL = np.array([0] * 8 + [1] * 6 + [2] * 6, np.int32)


def board_of(found: dict[Condition, list[TunedRun]], design: TransferDesign) -> TransferBoard:
    pairs = Pairs(("a",) * 20, ("b",) * 20, LABEL)
    data = PairData(TaskSpec("classification", ("x", "y", "z")), dict.fromkeys(("train", "dev", "test"), pairs), {})
    targets = {task: Target(task, data, None, {}) for task in design.tasks}
    return TransferBoard(design, targets, found, np.arange(10, 70, 10), {})


def test_steps_to_the_goal_are_counted_to_the_first_average_that_reaches_it() -> None:
    design = TransferDesign(tasks=("sick",), arms=(MLM, NSP))
    slow, quickly = [40, 50, 60, 70, 70, 70], [64, 70, 70, 70, 70, 70]
    never, lucky = [40, 40, 40, 40, 40, 40], [40, 40, 90, 40, 40, np.nan]
    board = board_of({Condition("sick", MLM): runs(slow, slow), Condition("sick", NSP): runs(quickly, quickly)}, design)
    assert board.goal("sick") == 40 + 15
    assert board.steps_to_goal(Condition("sick", MLM)) == [40, 40]
    assert board.steps_to_goal(Condition("sick", NSP)) == [10, 10]
    assert board.saved("sick", NSP).value == pytest.approx(100 * 30 / 60)
    assert board.saved("sick", NSP).interval().low == pytest.approx(50)
    assert board.unlearnt() == []
    board = board_of({Condition("sick", MLM): runs(never, lucky), Condition("sick", NSP): runs(never, never)}, design)
    assert board.goal("sick") == 42
    assert board.steps_to_goal(Condition("sick", MLM)) == [60, 30]
    assert board.unlearnt() == ["sick was not learnt: the best arm ends at 40.0 on dev, a constant answer at 40.0"]


def test_a_gain_is_paired_over_pairs_and_seeds_and_seeds_are_drawn_alike_for_all_tasks() -> None:
    design = TransferDesign(tasks=("sick", "mrpc"), arms=(MLM, NSP))
    curve = [40] * 6
    reference, treated = runs(curve, curve, right=(8, 8)), runs(curve, curve, right=(8, 20))
    found = {Condition(task, arm): made for task in design.tasks for arm, made in ((MLM, reference), (NSP, treated))}
    board = board_of(found, design)
    gain = board.gain("sick", NSP)
    assert gain.value == pytest.approx((0 + 60) / 2)
    assert board.gain("sick", MLM).samples.tolist() == [0.0] * 2000
    # The first seed gains nothing on any pairs. A resample that contains only this seed has gain 0 on every task.
    other = board.gain("mrpc", NSP)
    np.testing.assert_array_equal(gain.samples == 0.0, other.samples == 0.0)
    assert 0.2 < np.mean(gain.samples == 0.0) < 0.3
    assert not np.array_equal(gain.samples, other.samples)
    assert (gain - gain).interval().high == 0.0


def test_a_run_that_diverged_leaves_the_gain_undefined() -> None:
    design = TransferDesign(tasks=("sick",), arms=(MLM, NSP))
    lost = runs([40] * 6, right=(20,))
    lost[0].outputs[:] = np.nan
    board = board_of({Condition("sick", MLM): runs([40] * 6, right=(20,)), Condition("sick", NSP): lost}, design)
    assert np.isnan(board.gain("sick", NSP).value)


def test_an_objective_that_taught_nothing_is_reported() -> None:
    found = {"value": 0.52, "low": 0.49, "high": 0.55}
    accuracy = {"nsp": [found, found], "sop": [found | {"low": 0.51}] * 2}
    board = TransferBoard(DESIGN, {}, {}, np.arange(1), accuracy)
    assert "the treatment failed" in str(board.failed_treatment("nsp"))
    assert board.failed_treatment("sop") is None


def test_model_rows_and_tasks_are_cut_first_and_seeds_last() -> None:
    full = TransferDesign(PretrainDesign(layers=6, steps=4000), rows=2000)
    small = TransferDesign(PretrainDesign(layers=2, steps=100), tasks=("sick",), arms=(MLM, NSP), rows=200)
    assert minutes_of(full, seeds=5) > 10 * minutes_of(small, seeds=5)
    assert minutes_of(small, seeds=10) > 1.5 * minutes_of(small, seeds=5)
    enough = minutes_of(small, seeds=5)
    choice = choose_design((full, small), seeds=5, minutes=enough)
    assert (choice.design, choice.seeds) == (small, 5)
    assert "layers: 6 to 2" in choice.notes[1]
    assert "rows: 2000 to 200" in choice.notes[1]
    assert "assin2 to sick" in choice.notes[1]
    assert choice.notes[1].endswith("seeds not cut")
    assert choose_design((full, small), seeds=5, minutes=1e6).design == full
    fewer = choose_design((full, small), seeds=5, minutes=0.7 * enough)
    assert fewer.seeds < 5
    assert f"seeds from 5 to {fewer.seeds}" in fewer.notes[1]
    least = choose_design((full, small), seeds=5, minutes=0.01)
    assert least.seeds == 2
    assert "run the same command again to continue" in least.notes[2]


def test_layers_are_spaced_evenly_and_end_with_the_last(tmp_path: Path) -> None:
    source = write_tiny_encoder(tmp_path / "encoder", layers=6)
    whole = load_encoder(source, read_encoder_spec(source)).params
    for count, wanted in ((3, (1, 3, 5)), (4, (0, 2, 3, 5)), (6, range(6))):
        folder = spaced_layers(source, count, tmp_path / f"{count}")
        part = load_encoder(folder, read_encoder_spec(folder))
        assert part.pooler is None
        assert sorted(part.params) == ["embeddings", *(f"layer_{index}" for index in range(count))]
        for index, other in enumerate(wanted):
            one, two = part.params[f"layer_{index}"], whole[f"layer_{other}"]
            np.testing.assert_array_equal(one["mlp_in"]["kernel"], two["mlp_in"]["kernel"])
    with pytest.raises(UserError, match="does not have 7 layers"):
        spaced_layers(source, 7, tmp_path / "seven")


CLAIM = '''"""A claim of the test."""

import numpy as np

from pairjax.evaluation.intervals import Sampled
from pairjax.studies.claim import Claim, Hypothesis, Outcome


def run(claim):
    effect = Sampled(3.0, *[np.linspace(2.0, 4.0, 99)] * 2)
    return Outcome([Hypothesis("H", effect, 1.0, True, "q")], undecided_because="the treatment failed")


claim = Claim(id="toy", statement="s", seeds=2, run=run, round=1)
'''


def test_a_failed_treatment_leaves_the_claim_undecided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.py").write_text(CLAIM)
    for module in ("registration", "verdict"):
        monkeypatch.setattr(f"pairjax.studies.{module}.committed", lambda file: ("a" * 40, None))
    assert main(["claim", str(tmp_path / "toy.py"), "--dir", str(tmp_path / "c"), "--compilation-cache", ""]) == 0
    row = json.loads((tmp_path / "c" / "toy" / "verdict.json").read_text())
    assert row["verdict"] == "undecided"
    assert row["hypotheses"][0]["verdict"] is None
    assert row["notes"] == ["the treatment failed"]
