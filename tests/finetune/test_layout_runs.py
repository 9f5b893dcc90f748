"""A run on data with several dev splits: the layout of the data changes no bit of it, and each split is scored."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file

import pairjax
from pairjax.cli.main import main
from tests.data.layouts import LAYOUTS, PAIRS, SPLITS, write_layout
from tests.tiny import write_tiny_encoder

DEVS = ["dev_matched", "dev_mismatched"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny encoder, and with runs on two layouts of the same pairs: files, and lists of dicts."""
    folder = tmp_path_factory.mktemp("layouts")
    write_tiny_encoder(folder / "encoder", layers=1, hidden=16)
    write_layout(folder / "mnli", LAYOUTS["glue mnli"])
    config = pairjax.Config(
        data=pairjax.DataConfig(path=str(folder / "mnli"), max_length=64, buckets=1),
        model=pairjax.ModelConfig(encoder=str(folder / "encoder")),
        train=pairjax.TrainConfig(max_steps=2, batch_size=4),
        evaluation=pairjax.EvalConfig(bootstrap=100, swap=False),
        run=pairjax.RunConfig(dir=str(folder / "files"), compilation_cache="", progress=False),
    )
    pairjax.train(config, console=Console(quiet=True))
    names = ("premise", "hypothesis", "label")
    splits = dict(zip(("train", "validation_matched", "validation_mismatched"), SPLITS.values(), strict=True))
    data = {name: [dict(zip(names, row[:3], strict=True)) for row in rows] for name, rows in splits.items()}
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, path=None),
        run=dataclasses.replace(config.run, dir=str(folder / "dicts")),
    )
    pairjax.train(config, console=Console(quiet=True), data=data)
    return folder


def test_two_layouts_of_the_same_pairs_train_the_same_model(folder: Path) -> None:
    [left, right] = [
        {path.name: load_file(path) for path in sorted((folder / run / "model").rglob("*.safetensors"))}
        for run in ("files", "dicts")
    ]
    assert left.keys() == right.keys() != set()
    for name, tensors in left.items():
        assert tensors.keys() == right[name].keys()
        for key, value in tensors.items():
            np.testing.assert_array_equal(value, right[name][key])
    lines = [(folder / run / "predictions.dev_matched.jsonl").read_bytes() for run in ("files", "dicts")]
    assert lines[0] == lines[1]


def test_each_dev_split_is_scored_and_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads((folder / "files" / "result.json").read_text())
    assert list(result["metrics"]) == DEVS
    assert result["rows"] == {"train": len(PAIRS), "dev_matched": 2, "dev_mismatched": 2}
    assert main(["report", str(folder / "files"), "--output", str(folder / "report.html")]) == 0
    assert "dev_matched" in (folder / "report.html").read_text()
    data = ["--data.path", str(folder / "mnli")]
    assert main(["evaluate", str(folder / "files"), *data, "--output", str(folder / "scores.json")]) == 0
    assert [name for name in json.loads((folder / "scores.json").read_text())["metrics"] if name != "train"] == DEVS
    capsys.readouterr()
    assert main(["data", "inspect", *data, "--baselines"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "dev_mismatched: dev_mismatched.tsv, by its name; separated by tabs" in output
    assert "dev_matched: the model and word-only baselines" in output
