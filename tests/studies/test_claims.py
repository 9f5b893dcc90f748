"""Claims: verdicts by a fixed rule, tuned cells that are kept, and files that state in advance what is tested."""

import dataclasses
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pairjax.base.data_config import DataConfig
from pairjax.base.feature_config import FeatureConfig
from pairjax.cli.main import main
from pairjax.cli.options import load_experiment
from pairjax.data.sources import load_pairs
from pairjax.evaluation.intervals import Sampled
from pairjax.population.features import cached_features
from pairjax.population.pooled import HeadTask, head_task
from pairjax.studies.claim import Claim
from pairjax.studies.combiners import cells
from pairjax.studies.combiners.cells import (
    Cell,
    CellDesign,
    class_f1,
    hidden_width,
    main_metric,
    noisy_target,
    run_cell,
)
from pairjax.studies.registration import committed
from tests.tiny import write_tiny_encoder

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "experiments" / "claims").glob("*.py"))
DESIGN = CellDesign(rates=(1e-2, 3e-2, 0.1), decays=(0.01,), tuning_seeds=(9,), seeds=(0, 1), steps=60)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> HeadTask:
    folder = tmp_path_factory.mktemp("claims")
    encoder = write_tiny_encoder(folder / "encoder")
    data = load_pairs(DataConfig(rules="paraphrase", sizes=(80, 40, 50)))
    return head_task(data, cached_features(data.splits.values(), folder / "f", FeatureConfig(encoder=str(encoder))))


def test_a_cell_is_tuned_only_on_dev_and_read_the_second_time(
    source: HeadTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(("|u-v|", "u*v"), hidden=False)
    result = run_cell(source, cell, DESIGN, folder=tmp_path)
    assert result.tuning.shape == (3, 1)
    assert result.rate == DESIGN.rates[int(result.tuning[:, 0].argmax())]
    label = source.label("test")
    np.testing.assert_allclose(result.test, [(row == label).mean() for row in result.predicted])
    assert main_metric(source, result.predicted[1])(np.ones((1, 50)))["value"][0] == pytest.approx(100 * result.test[1])
    flipped = dict(source.splits)
    flipped["test"] = dataclasses.replace(source.splits["test"], label=1 - label)
    relabelled = run_cell(dataclasses.replace(source, splits=flipped), cell, DESIGN, folder=tmp_path / "other")
    assert (relabelled.rate, relabelled.decay) == (result.rate, result.decay)
    np.testing.assert_array_equal(relabelled.predicted, result.predicted)
    monkeypatch.setattr(cells, "_run", lambda *_: pytest.fail("was run again"))
    again = run_cell(source, cell, DESIGN, folder=tmp_path)
    np.testing.assert_array_equal(again.predicted, result.predicted)


def test_hidden_heads_have_about_the_same_size_for_all_combiners(source: HeadTask) -> None:
    design = dataclasses.replace(DESIGN, hidden_parameters=3000)
    for features in (("u-v",), ("u", "v"), ("u", "v", "u-v", "u*v")):
        width = hidden_width(source, Cell(features, hidden=True), design)
        size = 32 * len(features) * width + width + 2 * width + 2
        assert size == pytest.approx(3000, rel=0.05)
    assert hidden_width(source, Cell(("u",), hidden=False), design) == 0


def test_noise_makes_the_requested_fraction_of_train_wrong(source: HeadTask) -> None:
    target = noisy_target(source, 0.25)
    changed = np.flatnonzero(target != source.target)
    assert len(changed) == 20
    assert set(changed) <= set(source.rows["train"])


def test_a_run_that_diverged_leaves_its_metric_undefined(source: HeadTask) -> None:
    from sklearn.metrics import f1_score

    label = source.label("test")
    predicted = np.random.default_rng(0).integers(0, 2, len(label)).astype(np.int8)
    name = source.task.labels[1]
    score = class_f1(name)(source, predicted)(np.ones((1, len(label))))["value"][0]
    assert score == pytest.approx(100 * f1_score(label == 1, predicted == 1))
    diverged = np.full(len(label), -1, np.int8)
    for measure in (class_f1(name), main_metric):
        assert np.isnan(measure(source, diverged)(np.ones((1, len(label))))["value"][0])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_claim_states_in_advance_what_it_tests(path: Path) -> None:
    module = load_experiment(str(path), defines="claim")
    assert isinstance(module.claim, Claim)
    assert module.claim.id == path.stem
    text = module.__doc__ or ""
    for part in ("Command: ", "Claim: ", "Data", "Runs", "Hypotheses", "Test: ", "Supported: ", "Smallest effect"):
        assert part.lower() in text.lower(), part


def git(folder: Path, *words: str) -> None:
    subprocess.run(("git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words), check=True)


def test_a_file_that_is_not_committed_gives_no_commit(tmp_path: Path) -> None:
    file = tmp_path / "claim.py"
    file.write_text('"""Said."""\nclaim = 1\n')
    git(tmp_path, "init", "-q")
    assert committed(file) == (None, "claim.py is not committed")
    git(tmp_path, "add", "claim.py")
    git(tmp_path, "commit", "-qm", "a claim")
    commit, reason = committed(file)
    assert reason is None
    assert len(str(commit)) == 40
    file.write_text('"""Said."""\nclaim = 2\n')
    assert committed(file) == (None, "claim.py differs from its commit")
    git(tmp_path, "commit", "-qam", "code moves on")
    assert committed(file) == (commit, None)
    file.write_text('"""Said otherwise."""\nclaim = 2\n')
    git(tmp_path, "commit", "-qam", "another text")
    assert committed(file)[0] not in (None, commit)


CLAIM = '''"""A claim of the test."""

from pairjax.evaluation.intervals import Sampled
from pairjax.studies.claim import Claim, Hypothesis, Outcome
from pairjax.studies.rules import Part
import numpy as np

SMALLEST = 1.0


def run(claim):
    claim.check_time()
    effect = Sampled(3.0, *[np.linspace(2.0, 4.0, 99)] * 2)
    hypothesis = Hypothesis("H", effect, SMALLEST, True, "q", unit="nats")
    return Outcome([hypothesis], {"A [u; v] table": [["a"], ["[u; v]"]]}, ["[b] cut"])


part = Part("H", SMALLEST, 3.0, 0.5, 0.1, "a pilot", unit="nats")
claim = Claim(id="toy", statement="s", seeds=3, looks=(6,), parts=(part,), run=run)
'''


def test_no_verdict_from_a_quick_run_too_few_seeds_or_a_file_without_commit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "toy.py"
    file.write_text(CLAIM)
    base = ["claim", str(file), "--dir", str(tmp_path / "claims"), "--compilation-cache", ""]

    def row(folder: str = "claims") -> dict:
        return json.loads((tmp_path / folder / "toy" / "verdict.json").read_text())

    assert main([*base[:2], "--dir", str(tmp_path / "early"), *base[4:]]) == 0
    assert "this run will give no verdict: toy.py is not committed" in capsys.readouterr().err
    assert "not committed" in row("early")["no_verdict_because"]
    for words in (("init", "-q"), ("add", "toy.py"), ("commit", "-qm", "a claim")):
        git(tmp_path, *words)
    capsys.readouterr()
    assert main([*base, "--seeds", "2"]) == 2
    message = capsys.readouterr().err
    assert "no verdict on toy is planned for this number of seeds" in message
    assert "expected 3 or 6" in message
    assert main([*base, "--quick"]) == 0
    assert "quick" in row("claims/quick")["no_verdict_because"]
    capsys.readouterr()
    assert main(base) == 0
    output = capsys.readouterr()
    assert "toy: supported (3 seeds" in output.out
    assert "H: with 3 runs, power " in output.err
    assert "[u; v]" in output.err
    assert row()["verdict"] == "supported"
    assert row()["hypotheses"][0]["effect"]["low"] == pytest.approx(2.05, abs=0.02)
    # Two looks are planned, so each has half of the error.
    assert row()["hypotheses"][0]["level"] == pytest.approx(0.975)
    assert row()["hypotheses"][0]["cautious"]["low"] == pytest.approx(2.025, abs=0.01)
    assert row()["hypotheses"][0]["p_is_bound"]
    assert "| < 0.02 |" in (tmp_path / "claims" / "toy" / "table.md").read_text()
    assert "+3.00 0.01 nat (" in (tmp_path / "claims" / "verdicts.md").read_text()
    # The effects were seen before the text was committed.
    assert main([*base[:2], "--dir", str(tmp_path / "early"), *base[4:]]) == 0
    assert "began before the claim was committed" in row("early")["no_verdict_because"]
    assert row("early")["hypotheses"][0]["verdict"] is None
    assert "toy | supported" in (tmp_path / "claims" / "verdicts.md").read_text()
    assert main([*base, "--encoder", "runs/mini"]) == 0
    assert row("claims/mini")["encoder"] == "runs/mini"
    assert row()["encoder"].startswith("package:")
    assert "runs/mini" not in (tmp_path / "claims" / "verdicts.md").read_text()
    before = (tmp_path / "claims" / "toy" / "verdict.json").read_bytes()
    changes = (
        ("docstring", "of the test", "of another test"),
        ("constant SMALLEST", "SMALLEST = 1.0", "SMALLEST = 0.5"),
        ("seeds", "looks=(6,)", "looks=(6, 9)"),
        ("parts", "3.0, 0.5, 0.1", "4.0, 0.5, 0.1"),
    )
    for what, old, new in changes:
        file.write_text(CLAIM.replace(old, new))
        git(tmp_path, "commit", "-qam", "x")
        capsys.readouterr()
        assert main(base) == 2
        assert f"the {what} of the claim was changed after its first full run" in capsys.readouterr().err
    assert (tmp_path / "claims" / "toy" / "verdict.json").read_bytes() == before


def test_a_spent_budget_stops_without_a_verdict_and_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "toy.py"
    file.write_text(CLAIM)
    args = ["claim", str(file), "--dir", str(tmp_path / "claims"), "--compilation-cache", ""]
    assert main([*args, "--budget", "1e-9"]) == 0
    assert "run the same command to continue" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "claims").rglob("*.*")] == ["registered.json"]
    assert main([*args, "--budget", "-1"]) == 2
    file.write_text("x = 1\n")
    assert main(args) == 2
    assert "defines no claim" in capsys.readouterr().err
    monkeypatch.delenv("PAIRJAX_DATA", raising=False)
    real = str(ROOT / "experiments" / "claims" / "proposition_1.py")
    assert main(["claim", real, "--dir", str(tmp_path / "claims"), "--compilation-cache", ""]) == 2
    assert "PAIRJAX_DATA" in capsys.readouterr().err


def test_a_design_that_cannot_decide_is_not_run_and_a_late_registration_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "toy.py"
    file.write_text(CLAIM.replace("3.0, 0.5, 0.1", "3.0, 2.5, 0.1"))
    args = ["claim", str(file), "--dir", str(tmp_path / "claims"), "--compilation-cache", ""]
    assert main(args) == 2
    message = capsys.readouterr().err
    assert "toy: the design is too small for a verdict on H" in message
    assert "got power 0.23 with 6 seeds; expected at least 0.8; plan 18 seeds" in " ".join(message.split())
    assert not (tmp_path / "claims").exists()
    file.write_text(CLAIM)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "toy.py")
    git(tmp_path, "commit", "-qm", "a claim")
    folder = tmp_path / "claims" / "toy"
    folder.mkdir(parents=True)
    (folder / "verdict.json").write_text("{}")
    assert main(args) == 0
    assert "toy: supported (registered after a result) (3 seeds" in capsys.readouterr().out
    assert json.loads((folder / "verdict.json").read_text())["registered_after_result"]
    assert (folder / "table.md").read_text().startswith("# toy: supported (registered after a result)\n")


def test_the_p_value_of_a_toy_effect() -> None:
    assert Sampled(3.0, *[np.linspace(2.0, 4.0, 99)] * 2).p_value() == pytest.approx(0.02)


@pytest.mark.realdata
@pytest.mark.slow
def test_a_cell_agrees_with_scikit_learns_logistic_regression(realdata: Path, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    data = load_pairs(DataConfig(path=str(realdata / "sick")))
    source = head_task(data, cached_features(data.splits.values(), tmp_path / "f", FeatureConfig()))
    result = run_cell(source, Cell(("|u-v|", "u*v"), hidden=False), CellDesign(seeds=(0, 1, 2)), folder=tmp_path)

    def inputs(split: str) -> np.ndarray:
        u, v = (source.vectors[source.sides[source.rows[split], side]] for side in (0, 1))
        return np.concatenate([np.abs(u - v), u * v], axis=1)

    scores = {}
    for strength in (0.01, 0.03, 0.1, 0.3, 1.0):
        model = LogisticRegression(C=strength, max_iter=3000).fit(inputs("train"), source.label("train"))
        scores[model.score(inputs("dev"), source.label("dev"))] = model.score(inputs("test"), source.label("test"))
    assert 100 * result.test.mean() == pytest.approx(100 * scores[max(scores)], abs=1.0)
