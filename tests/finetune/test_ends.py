"""The end of a run: the model is written first, an undefined metric decides nothing, a damaged best is passed over."""

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import pairjax
from pairjax import Config, UserError
from pairjax.finetune import finish, job
from pairjax.finetune.train import train
from pairjax.run.checkpoint import Checkpointer
from tests.finetune.test_finetune import config, start

__all__ = ["config"]


def fails(*args: Any, **options: Any) -> Any:
    raise ValueError("empty vocabulary")


def changed(config: Config, section: str, **fields: Any) -> Config:
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **fields)})


def test_parts_that_fail_at_the_end_are_warnings(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairjax.evaluation.baselines.lexical_baselines", fails)
    monkeypatch.setattr(finish, "slice_splits", fails)
    monkeypatch.setattr(finish, "model_card", fails)
    result = start(changed(config, "evaluation", baselines=True, slices=True), tmp_path / "r").result
    assert result is not None
    said = [line for line in result["warnings"] if "empty vocabulary" in line]
    assert [line.split(" failed")[0] for line in said] == ["the baselines", "the scores of slices", "the model card"]
    assert pairjax.load(tmp_path / "r").predict([("a man", "a dog")])


def test_an_evaluation_that_fails_leaves_the_model(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*args: Any, **options: Any) -> Any:
        raise UserError("this text is too long")

    monkeypatch.setattr(finish, "score_run", wrong)
    with pytest.raises(UserError, match=r"the model is in .*/model, but it cannot be scored: this text is too long"):
        start(config, tmp_path / "r")
    assert pairjax.load(tmp_path / "r").predict([("a man", "a dog")])
    assert not (tmp_path / "r" / "result.json").exists()
    monkeypatch.undo()
    assert start(config, tmp_path / "r", resume=True).exit_code == 0


def test_pairs_that_only_the_evaluation_reads_are_checked_before_training(config: Config, tmp_path: Path) -> None:
    long = "word " * 90
    one_side = changed(config, "data", truncation="only_second")
    with pytest.raises(UserError, match=r"--evaluation.examples: .*alone fills the row"):
        start(changed(one_side, "evaluation", examples=((long, "a"),)), tmp_path / "r")
    assert config.data.path is not None
    for split in ("train", "dev"):
        text = Path(config.data.path, f"{split}.tsv").read_text()
        (tmp_path / f"{split}.tsv").write_text(text + f"a man\t{long}\tsame\n")
    swapped = changed(changed(one_side, "data", path=str(tmp_path)), "evaluation", swap=True)
    with pytest.raises(UserError, match=r"dev with its texts swapped: .*add --evaluation.no-swap"):
        start(swapped, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_an_undefined_metric_neither_stops_nor_selects(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = job.quick_scores
    monkeypatch.setattr(job, "quick_scores", lambda *args, **options: scores(*args, **options) | {"accuracy": math.nan})
    screen = io.StringIO()
    undefined = changed(changed(config, "train", patience=1), "run", dir=str(tmp_path / "r"))
    result = train(undefined, console=Console(file=screen, width=200)).result
    assert result is not None
    assert (result["train"]["ended"], result["train"]["steps"]) == ("done", 8)
    assert "step 2: dev accuracy is undefined (nan)" in screen.getvalue()
    assert any("undefined at every evaluation" in line for line in result["warnings"])


def test_a_best_checkpoint_that_is_damaged_is_passed_over(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first value is read by the check of the metric's name. Step 2 is the best and stays; 6 and 8 are the newest.
    values = iter((9.0, 1.0, 4.0, 3.0, 2.0))
    scores = job.quick_scores
    monkeypatch.setattr(
        job, "quick_scores", lambda *args, **options: scores(*args, **options) | {"nll": next(values, 1.0)}
    )
    by_score = Checkpointer.by_score

    def damage(self: Checkpointer) -> list[int]:
        for file in (tmp_path / "r" / "checkpoints" / "2").rglob("*"):
            if file.is_file() and file.stat().st_size:
                file.write_bytes(b"\0" * file.stat().st_size)
        return by_score(self)

    monkeypatch.setattr(Checkpointer, "by_score", damage)
    screen = io.StringIO()
    best = changed(changed(config, "train", metric="nll"), "run", dir=str(tmp_path / "r"))
    result = train(best, console=Console(file=screen, width=400)).result
    assert result is not None
    assert result["train"]["best_step"] == 8
    assert "checkpoints/2/" in screen.getvalue()
    assert "the model is that of step 8 instead" in screen.getvalue()
    assert json.loads((tmp_path / "r" / "result.json").read_text())["train"]["best_step"] == 8
