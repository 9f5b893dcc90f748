"""Integrated gradients: contributions sum to the change of the logit, belong to the right characters, and mean it."""

import json
from pathlib import Path

import numpy as np
import pytest

import pairjax
from pairjax.base.model_config import InteractConfig, ModelConfig
from pairjax.base.types import TaskSpec
from pairjax.cli.main import main
from pairjax.inference.attributions import TOLERANCE, Explanation
from pairjax.inference.classifier import PairClassifier
from tests.inference.tiny_model import BI_ENCODER, write_tiny_model

PAIRS = [("the man is not a dog", "no woman"), ("um homem", "all the dogs, and xyz")]
SCORES = TaskSpec("regression", center=2.5, scale=1.5)
CROSS = ModelConfig(kind="cross")
JOINT = ModelConfig(kind="bi", pooling="mean", interact=InteractConfig(kind="cross", heads=2))


def load_tiny(folder: Path, config: ModelConfig, task: TaskSpec | None = None) -> PairClassifier:
    small = {"layers": 1, "hidden": 16, "sharpness": 20.0, "max_length": 24}
    return pairjax.load(write_tiny_model(folder, config=config, task=task, **small))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cross(tmp_path_factory: pytest.TempPathFactory) -> PairClassifier:
    return load_tiny(tmp_path_factory.mktemp("cross"), CROSS)


def check_completeness(explanation: Explanation, expected: float) -> None:
    assert explanation.logit == pytest.approx(expected, abs=1e-4)
    change = explanation.logit - explanation.baseline
    assert max(abs(token.contribution) for token in explanation.tokens) > 0.003
    total = sum(token.contribution for token in explanation.tokens)
    assert abs(total - change) <= TOLERANCE * max(abs(change), 0.1) + 1e-5


@pytest.mark.parametrize(
    "config",
    [CROSS, BI_ENCODER, pytest.param(JOINT, marks=pytest.mark.slow)],
    ids=["cross", "bi", "bi with interaction"],
)
def test_contributions_sum_to_the_change_of_the_logit(config: ModelConfig, tmp_path: Path) -> None:
    model = load_tiny(tmp_path, config)
    logits = model.outputs(*zip(*PAIRS, strict=True))
    for label in (0, 1):
        for explanation, row in zip(model.explain(PAIRS, label=model.task.labels[label]), logits, strict=True):
            check_completeness(explanation, float(row[label]))


def test_scores_are_explained_in_their_own_units(tmp_path: Path) -> None:
    model = load_tiny(tmp_path, CROSS, SCORES)
    [explanation] = model.explain(PAIRS[:1])
    [prediction] = model.predict(PAIRS[:1])
    assert explanation.label is None
    assert prediction.score is not None
    check_completeness(explanation, prediction.score)


def test_tokens_are_those_of_the_texts(cross: PairClassifier) -> None:
    [explanation] = cross.explain(PAIRS[:1])
    texts = [[token.text for token in explanation.tokens if token.side == side] for side in (0, 1)]
    assert texts == [["the", "man", "is", "not", "a", "dog"], ["no", "woman"]]
    for token in explanation.tokens:
        assert PAIRS[0][token.side][token.start : token.end] == token.text
    [prediction] = cross.predict(PAIRS[:1])
    assert explanation.label == prediction.label


def test_tokens_that_were_cut_are_missing(cross: PairClassifier) -> None:
    [explanation] = cross.explain([("the man " * 20, "a dog " * 20)])
    assert len(explanation.tokens) == 24 - 3
    assert explanation.tokens[0].start == 0


def test_the_baseline_is_the_pad_token_in_place_of_every_token(cross: PairClassifier) -> None:
    """A token that already is the baseline contributes nothing."""
    [explanation] = cross.explain([("the [PAD] man", "a dog")])
    shares = {token.text: token.contribution for token in explanation.tokens}
    assert shares["[PAD]"] == pytest.approx(0.0, abs=1e-6)
    assert np.abs([share for text, share in shares.items() if text != "[PAD]"]).min() > 1e-5


def test_a_class_that_does_not_exist(cross: PairClassifier) -> None:
    with pytest.raises(pairjax.UserError, match="no such class; got x; expected one of no, yes"):
        cross.explain(PAIRS, label="x")


def test_the_command_writes_the_same(cross: PairClassifier, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("sentence1\tsentence2\n" + "".join(f"{a}\t{b}\n" for a, b in PAIRS))
    output = tmp_path / "out.jsonl"
    folder = str(cross.artifact.folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pairjax.step.compilation.use_compilation_cache", lambda folder: None)
        assert main(["explain", folder, str(pairs), "--output", str(output), "--label", "yes"]) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    for line, explanation in zip(lines, cross.explain(PAIRS, label="yes"), strict=True):
        assert line["label"] == "yes"
        assert [token["text"] for token in line["tokens"]] == [token.text for token in explanation.tokens]
        shares = [token["contribution"] for token in line["tokens"]]
        assert shares == pytest.approx([token.contribution for token in explanation.tokens], abs=1e-5)
