"""A run resumes on the same content of its input and on no other, wherever the input is."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pairjax import Config, UserError
from pairjax.cli.main import main
from tests.finetune.test_finetune import config, start, stop_at, tensors
from tests.tiny import write_tiny_encoder

__all__ = ["config"]


@pytest.fixture
def stopped(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The config of a run in `r` that stopped at step 3, on a copy of the input that a test may change."""
    assert config.data.path is not None
    shutil.copytree(config.data.path, tmp_path / "pairs")
    shutil.copytree(config.model.encoder, tmp_path / "encoder")
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, path=str(tmp_path / "pairs")),
        model=dataclasses.replace(config.model, encoder=str(tmp_path / "encoder")),
    )
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        assert start(config, tmp_path / "r").exit_code == 143
    return config


def test_changed_labels_and_rows_are_refused_by_the_name_of_the_split(stopped: Config, tmp_path: Path) -> None:
    file = tmp_path / "pairs" / "train.tsv"
    text = file.read_text()
    before = sorted((tmp_path / "r").rglob("*"))
    turned = text.replace("\tsame", "\tx").replace("\tother", "\tsame").replace("\tx", "\tother")
    for changed in (turned, "".join(text.splitlines(keepends=True)[:-4])):
        file.write_text(changed)
        with pytest.raises(UserError, match=r"resumed on other input; got another content of train; expected"):
            start(stopped, tmp_path / "r", resume=True)
    assert sorted((tmp_path / "r").rglob("*")) == before
    file.write_text(text)
    assert start(stopped, tmp_path / "r", resume=True).exit_code == 0


def test_an_exchanged_encoder_is_refused(stopped: Config, tmp_path: Path) -> None:
    write_tiny_encoder(tmp_path / "encoder", seed=1)
    with pytest.raises(UserError, match="another content of encoder;"):
        start(stopped, tmp_path / "r", resume=True)


def test_the_same_input_under_another_path_is_accepted(stopped: Config, config: Config, tmp_path: Path) -> None:
    # The same pairs in another format are the same data.
    (tmp_path / "moved").mkdir()
    for name in ("train", "dev"):
        first, *lines = (tmp_path / "pairs" / f"{name}.tsv").read_text().splitlines()
        rows = [dict(zip(first.split("\t"), line.split("\t"), strict=True)) for line in lines]
        (tmp_path / "moved" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.rmtree(tmp_path / "pairs")
    moved = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(tmp_path / "moved")))
    assert start(moved, tmp_path / "r", resume=True).exit_code == 0
    whole = start(config, tmp_path / "whole").dir
    for name, value in tensors(Path(str(whole))).items():
        np.testing.assert_array_equal(tensors(tmp_path / "r")[name], value, err_msg=name)


def test_a_run_of_an_older_version_has_new_options_at_their_defaults(stopped: Config, tmp_path: Path) -> None:
    file = tmp_path / "r" / "config.json"
    record = json.loads(file.read_text())
    del record["config"]["optim"]["average"], record["config"]["train"]["patience"]
    file.write_text(json.dumps(record))
    changed = dataclasses.replace(stopped, train=dataclasses.replace(stopped.train, patience=1))
    with pytest.raises(UserError, match=r"train\.patience was 0 and is now 1"):
        start(changed, tmp_path / "r", resume=True)
    assert start(stopped, tmp_path / "r", resume=True).exit_code == 0


def test_a_saved_config_runs_again(stopped: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "r" / "config.json"
    assert main(["train", str(file)]) == 2
    assert "--run.resume" in capsys.readouterr().err
    assert main(["train", str(file), "--run.resume"]) == 0
    assert main(["train", str(tmp_path / "r"), "--run.dir", str(tmp_path / "again")]) == 0
    for name, value in tensors(tmp_path / "r").items():
        np.testing.assert_array_equal(tensors(tmp_path / "again")[name], value, err_msg=name)
    saved = Config.from_dict(json.loads(file.read_text()))
    assert saved.train == stopped.train
    assert saved.data == stopped.data
    assert main(["pretrain", str(file)]) == 2
    assert "use pairjax train" in capsys.readouterr().err
    assert main(["train", str(Path(stopped.model.encoder) / "config.json")]) == 2
    assert "not the config.json of a run" in capsys.readouterr().err
