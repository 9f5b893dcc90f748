"""Folders that an older version wrote still load, score, resume and report.

`golden/version_0_1.tar.xz` holds folders of commit 350156f, made with random weights and relative paths: `encoder`,
`pairs` and `corpus.txt`; the finished runs `finished` (cross) and `bi`; `stopped`, which is `finished` stopped at step
5 of 12; the pretraining runs `pretrained`, and `pretraining_stopped`, which is the same stopped at step 4 of 6.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import pairjax
from pairjax.cli.main import main

ARCHIVE = Path(__file__).parent / "golden" / "version_0_1.tar.xz"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of the archive, in the working directory."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def resume(folder: str, *, command: str) -> None:
    """Resumes a run as its user would: the same options, read from its config.json."""
    config = json.loads(Path(folder, "config.json").read_text())["config"]
    args = [command, "--run.dir", folder, "--run.resume", "--run.compilation-cache", "", "--run.no-progress"]
    train, model = config["train"], config["model"]
    args += ["--optim.learning-rate", str(config["optim"]["learning_rate"]), "--model.encoder", model["encoder"]]
    args += ["--train.batch-size", str(train["batch_size"]), "--train.eval-every", str(train["eval_every"])]
    args += ["--train.keep", train["keep"], "--data.max-length", str(config["data"]["max_length"])]
    args += ["--evaluation.bootstrap", "200"]
    if command == "train":
        args += ["--data.path", "pairs", "--train.epochs", "2", "--model.pooling", "mean", "--model.pool-over", "sides"]
        args += ["--model.combine.features", *model["combine"]["features"]]
    else:
        args += ["--data.corpus", "corpus.txt", "--data.cache", "cache", "--data.dev-fraction", "0.3"]
        args += ["--train.epochs", str(train["epochs"]), "--train.max-steps", str(train["max_steps"])]
        args += ["--evaluation.examples", "16", "--evaluation.during", "8", "--evaluation.batch-size", "8"]
    assert main(args) == 0


def test_the_config_of_an_older_run_is_read(old: Path) -> None:
    for folder, kind in (("stopped", pairjax.Config), ("pretraining_stopped", pairjax.PretrainConfig)):
        record = json.loads(Path(folder, "config.json").read_text())
        config = kind.from_dict(record)
        assert config.train.batch_size == record["config"]["train"]["batch_size"]
        evaluation = record["config"]["evaluation"]
        assert config.evaluation.baselines == evaluation.get("oracles", evaluation.get("baselines"))


@pytest.mark.parametrize("folder", ["finished", "bi"])
def test_a_model_folder_predicts_what_its_run_predicted(old: Path, folder: str) -> None:
    rows = [json.loads(line) for line in Path(folder, "predictions.test.jsonl").read_text().splitlines()]
    answers = pairjax.load(folder).predict([(row["sentence1"], row["sentence2"]) for row in rows])
    for row, answer in zip(rows, answers, strict=True):
        assert answer.label == row["label"]
        assert answer.probabilities == pytest.approx(row["probabilities"], abs=1e-5)


def test_a_model_folder_is_scored_as_its_run_was(old: Path) -> None:
    assert main(["evaluate", "finished", "--data.path", "pairs", "--output", "scores.json"]) == 0
    found = json.loads(Path("scores.json").read_text())["metrics"]["test"]
    expected = json.loads(Path("finished", "result.json").read_text())["metrics"]["test"]
    for name in ("accuracy", "nll", "brier"):
        assert found[name]["value"] == pytest.approx(expected[name]["value"], abs=1e-5)


@pytest.mark.parametrize("folder", ["stopped", "pretraining_stopped"])
def test_a_stopped_run_resumes_to_what_the_whole_run_reached(old: Path, folder: str) -> None:
    pretraining = folder != "stopped"
    resume(folder, command="pretrain" if pretraining else "train")
    whole = "pretrained" if pretraining else "finished"
    expected, found = (load_file(Path(name, "model/encoder/model.safetensors")) for name in (whole, folder))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-5, err_msg=name)


def test_a_report_shows_the_figures_of_older_runs(old: Path) -> None:
    assert main(["report", "finished", "pretrained", "--output", "report.html"]) == 0
    page = Path("report.html").read_text()
    accuracy = json.loads(Path("pretrained", "result.json").read_text())["metrics"]["dev"]["order_accuracy_whole"]
    assert "segment accuracy" in page
    assert f"{accuracy['value']:.3f}" in page
