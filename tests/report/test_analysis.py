"""The numbers of a report against their definitions, and the reading of folders."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pairjax.base.errors import UserError
from pairjax.base.types import TaskSpec
from pairjax.evaluation.counts import once
from pairjax.evaluation.metrics import calibration_gaps, ece, probabilities
from pairjax.evaluation.significance import holm, mcnemar, paired_permutation
from pairjax.report.analysis import (
    class_scores,
    compare,
    hardest,
    reliability,
    shared_texts,
    sharing_a_split,
    slices_of,
)
from pairjax.report.compare import comparison_sentence
from pairjax.report.folder import ClaimFolder, Predictions, RunRecord, read_curve, read_folder, read_predictions
from pairjax.report.language import Language
from tests.report.folders import CLASSES, drawn_outputs, texts, write_claim, write_pair_run, write_pretraining_run

TASK = TaskSpec("classification", CLASSES)


def run_of(path: Path) -> RunRecord:
    record = read_folder(path)
    assert isinstance(record, RunRecord)
    return record


def predictions(*, seed: int = 0, count: int = 90) -> Predictions:
    first, second = texts(count)
    label = np.random.default_rng(7).integers(0, 3, count)
    return Predictions(first, second, label, drawn_outputs(TASK, label, seed=seed, skill=2.0).astype(np.float64))


def test_bins_of_the_diagram_add_up_to_the_calibration_error() -> None:
    answers = predictions()
    assert answers.label is not None
    probability = probabilities(answers.outputs)
    bins = [point for point in reliability(probability, answers.label) if point is not None]
    assert sum(point.pairs for point in bins) == 90
    gap = sum(point.pairs * abs(point.confidence - point.accuracy.value) for point in bins) / 90
    assert gap == pytest.approx(float(ece(calibration_gaps(probability, answers.label), once(90))[0]))
    assert all(point.accuracy.low <= point.accuracy.value <= point.accuracy.high for point in bins)


def test_slices_partition_the_pairs_and_average_to_the_overall_score() -> None:
    answers = predictions()
    accuracy = float((answers.outputs.argmax(axis=1) == answers.label).mean())
    for by, groups in (("overlap", 3), ("length", 3), ("negation", 2)):
        parts = [part for part in slices_of(TASK, answers) if part.by == by]
        assert len(parts) == groups
        assert sum(part.pairs for part in parts) == 90
        assert sum(part.pairs * part.score.value for part in parts) / 90 == pytest.approx(accuracy)
        assert all(before.high < after.low for before, after in pairwise(parts))


def test_a_slice_of_few_pairs_is_left_out() -> None:
    assert slices_of(TASK, predictions(count=12)) == []


def test_the_worst_error_gives_its_true_class_the_lowest_probability() -> None:
    outputs = np.array([[0.0, 4.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 9.0], [0.0, 1.0, 0.0]])
    answers = Predictions(("a",) * 4, ("b",) * 4, np.array([0, 0, 1, 0]), outputs)
    assert hardest(TASK, answers, count=10) == [2, 0, 3]
    scores = TaskSpec("regression")
    answers = Predictions(("a",) * 3, ("b",) * 3, np.array([1.0, 2.0, 3.0]), np.array([[1.5], [0.0], [3.0]]))
    assert hardest(scores, answers, count=2) == [1, 0]


def test_classes_have_intervals_around_their_values() -> None:
    scores = class_scores(TASK, predictions())
    assert tuple(scores) == CLASSES
    for row in scores.values():
        assert all(score.low <= score.value <= score.high for score in row.values())


def test_runs_on_the_same_pairs_are_compared_with_corrected_tests(tmp_path: Path) -> None:
    names = ("good", "same", "bad")
    runs = [
        run_of(write_pair_run(tmp_path / name, seed=seed, skill=skill))
        for name, seed, skill in zip(names, (0, 1, 2), (6.0, 5.0, 0.5), strict=True)
    ]
    other = run_of(write_pair_run(tmp_path / "other", count=80))
    assert sharing_a_split([*runs, other]) == [("test", [0, 1, 2])]
    tests = compare(runs, [0, 1, 2], split="test")
    assert [(test.first, test.second, test.metric) for test in tests[:2]] == [(0, 1, "accuracy"), (0, 1, "nll")]
    assert len(tests) == 6
    assert [test.p_holm for test in tests] == list(holm([test.p for test in tests]))
    right = [run.predictions["test"].outputs.argmax(axis=1) == run.predictions["test"].label for run in runs]
    test = next(test for test in tests if (test.first, test.second, test.metric) == (0, 2, "accuracy"))
    assert test.test == "mcnemar"
    assert test.p == mcnemar(right[0], right[2]).p < 0.001
    assert test.difference.value == pytest.approx(right[0].mean() - right[2].mean())
    assert 0 < test.difference.low < test.difference.value < test.difference.high


def test_pairs_that_share_a_text_are_resampled_and_exchanged_together(tmp_path: Path) -> None:
    # Each first text is in three pairs.
    pairs = tuple(f"a {i // 3}" for i in range(90)), tuple(f"b {i}" for i in range(90))
    alone, tied = texts(90), (("a",) * 90, pairs[1])
    runs = {
        name: [
            run_of(write_pair_run(tmp_path / f"{name}{seed}", seed=seed, skill=skill, pairs=given))
            for seed, skill in ((0, 3.0), (1, 1.0))
        ]
        for name, given in (("shared", pairs), ("alone", alone), ("tied", tied))
    }
    group = shared_texts(runs["shared"][0].predictions["test"])
    np.testing.assert_array_equal(np.unique(group, return_counts=True)[1], np.full(30, 3))
    assert shared_texts(runs["alone"][0].predictions["test"]) is None
    accuracy, nll = compare(runs["shared"], [0, 1], split="test")
    plain, _ = compare(runs["alone"], [0, 1], split="test")
    assert (accuracy.test, nll.test, plain.test) == ("groups", "groups", "mcnemar")
    right = [run.predictions["test"].outputs.argmax(axis=1) == run.predictions["test"].label for run in runs["shared"]]
    assert accuracy.p == paired_permutation(right[0].astype(int), right[1].astype(int), group=group)
    assert accuracy.difference.value == plain.difference.value
    assert accuracy.difference[1:] != plain.difference[1:]
    assert accuracy.only_first == plain.only_first
    # All pairs share one text: there is nothing to exchange.
    alike = compare(runs["tied"], [0, 1], split="test")
    assert [test.metric for test in alike] == ["accuracy", "nll"]
    assert all(np.isnan([test.p, test.p_holm, test.difference.low]).all() for test in alike)
    sentence = comparison_sentence(runs["tied"], alike, split="test", pairs=90, language=Language("en"))
    assert "no difference" in sentence


def test_scores_are_compared_by_their_absolute_errors(tmp_path: Path) -> None:
    task = TaskSpec("regression")
    runs = [
        run_of(write_pair_run(tmp_path / str(s), task=task, seed=s, skill=skill)) for s, skill in ((0, 9.0), (1, 1.0))
    ]
    (test,) = compare(runs, [0, 1], split="test")
    assert (test.metric, test.test) == ("mae", "permutation")
    assert test.difference.high < 0
    assert test.p < 0.001


@pytest.mark.parametrize("task", [TASK, TaskSpec("regression")], ids=["accuracy", "absolute error"])
def test_the_better_run_is_named_whether_more_or_less_is_better(task: TaskSpec, tmp_path: Path) -> None:
    good, bad = (
        run_of(write_pair_run(tmp_path / name, task=task, seed=seed, skill=skill))
        for seed, (name, skill) in enumerate((("good", 9.0), ("bad", 0.5)))
    )
    for runs in ([good, bad], [bad, good]):
        tests = compare(runs, [0, 1], split="test")
        sentence = comparison_sentence(runs, tests, split="test", pairs=90, language=Language("en"))
        assert "good is better than bad by" in sentence


def test_many_runs_are_each_compared_with_the_first(tmp_path: Path) -> None:
    run = run_of(write_pair_run(tmp_path / "r", count=30))
    pairs = {(test.first, test.second) for test in compare([run] * 7, list(range(7)), split="test")}
    assert pairs == {(0, second) for second in range(1, 7)}


# ------------------------------------------------------------------------------------------------------------- folders


def test_logits_are_read_or_computed_from_the_probabilities_of_old_files(tmp_path: Path) -> None:
    run = run_of(write_pair_run(tmp_path / "r"))
    assert run.temperature != 1.0
    exact = run.predictions["test"]
    file = tmp_path / "old.jsonl"
    rows = [json.loads(line) for line in (tmp_path / "r/predictions.test.jsonl").read_text().splitlines()]
    file.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "logits"}) + "\n" for row in rows))
    old = read_predictions(file, CLASSES, temperature=run.temperature)
    np.testing.assert_array_equal(old.label, exact.label)
    # Six digits of a probability.
    np.testing.assert_allclose(probabilities(old.outputs), probabilities(exact.outputs), atol=5e-4)


def test_kinds_of_folders_are_recognised(tmp_path: Path) -> None:
    assert run_of(write_pair_run(tmp_path / "r")).kind == "pairs"
    assert run_of(write_pretraining_run(tmp_path / "p")).kind == "pretraining"
    claim = read_folder(write_claim(tmp_path / "claims" / "proposition_1"))
    assert isinstance(claim, ClaimFolder)
    assert claim.combiners is not None


def test_an_incomplete_last_line_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_curve(file) == ({"step": 1, "loss": 2.0},)
    assert read_curve(tmp_path / "none.jsonl") == ()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.json").unlink(), "not a run folder"),
        (lambda run: (run / "config.json").write_text("{"), "config.json: cannot be read as JSON"),
        (
            lambda run: (run / "config.json").write_text('{"model_type": "bert"}'),
            "config.json: not a run's",
        ),
        (lambda run: (run / "result.json").write_text("[]"), "result.json: not a run's"),
        (lambda run: (run / "predictions.test.jsonl").write_text('{"a": 1}\n'), "line 1: not a prediction"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(damage: object, message: str, tmp_path: Path) -> None:
    run = write_pair_run(tmp_path / "r", count=12)
    damage(run)  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        read_folder(run)


def test_a_missing_folder_and_a_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not a run folder"):
        read_folder(tmp_path / "file")
