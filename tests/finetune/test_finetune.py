"""Whole runs: stop and resume, early stop, the best model, a loss that is not finite, a damaged model folder."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file

import pairjax
from pairjax import Config, DataConfig, EvalConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig, UserError
from pairjax.finetune.train import TrainResult, train
from pairjax.run.distributed import StopSignal
from tests.cli.conftest import write_pairs
from tests.tiny import write_tiny_encoder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("finetune")
    encoder = write_tiny_encoder(folder / "encoder")
    data = folder / "pairs"
    data.mkdir()
    write_pairs(data / "train.tsv", start=0, rows=21)
    write_pairs(data / "dev.tsv", start=40, rows=9)
    return Config(
        data=DataConfig(path=str(data), max_length=64, buckets=2),
        model=ModelConfig(encoder=str(encoder)),
        train=TrainConfig(batch_size=4, max_steps=8, eval_every=2),
        evaluation=EvalConfig(bootstrap=100, swap=False),
        run=RunConfig(compilation_cache="", progress=False),
    )


def start(config: Config, folder: Path, **run: object) -> TrainResult:
    run_config = dataclasses.replace(config.run, dir=str(folder), **run)
    return train(dataclasses.replace(config, run=run_config), console=Console(quiet=True))


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StopSignal, "requested", lambda self, done: done == step)


def tensors(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model/encoder/model.safetensors") | load_file(folder / "model/head.safetensors")


def losses(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


@pytest.mark.parametrize("step", [3, 7])
def test_a_stopped_run_resumes_bit_for_bit(
    config: Config, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, keep="last"))
    whole = start(config, tmp_path / "whole")
    stop_at(step, monkeypatch)
    stopped = start(config, tmp_path / "cut")
    assert stopped.exit_code == 143
    assert stopped.result is None
    assert not (tmp_path / "cut" / "result.json").exists()
    monkeypatch.undo()
    assert start(config, tmp_path / "cut", resume=True).exit_code == 0
    expected, actual = tensors(whole.dir), tensors(tmp_path / "cut")
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
    assert losses(tmp_path / "cut") == losses(whole.dir)


def test_metrics_after_the_restored_step_are_cut(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(4, monkeypatch)
    start(config, tmp_path / "r")
    with (tmp_path / "r" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 99.0}\n{"step": 6, "lo')
    monkeypatch.undo()
    start(config, tmp_path / "r", resume=True)
    assert [step for step, _ in losses(tmp_path / "r")] == list(range(1, 9))
    assert all(loss < 99 for _, loss in losses(tmp_path / "r"))


def test_resuming_with_another_config_says_what_differs(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(2, monkeypatch)
    start(config, tmp_path / "r")
    changed = dataclasses.replace(config, optim=OptimConfig(learning_rate=1e-3))
    with pytest.raises(UserError, match=r"learning.rate"):
        start(changed, tmp_path / "r", resume=True)


def test_a_run_that_is_there_is_left_alone(config: Config, tmp_path: Path) -> None:
    first = start(config, tmp_path / "r")
    before = (first.dir / "result.json").read_bytes()
    with pytest.raises(UserError, match="overwrite"):
        start(config, tmp_path / "r")
    assert (first.dir / "result.json").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_with_step_and_rows(config: Config, tmp_path: Path) -> None:
    wild = dataclasses.replace(config, optim=OptimConfig(learning_rate=1e30, warmup=0.0, clip_norm=0.0))
    with pytest.raises(UserError, match=r"not finite at step \d+.*train rows \[\d+"):
        start(wild, tmp_path / "r")
    assert not (tmp_path / "r" / "result.json").exists()
    assert not (tmp_path / "r" / "model").exists()


def test_patience_stops_a_run_that_no_longer_improves(config: Config, tmp_path: Path) -> None:
    still = dataclasses.replace(
        config,
        optim=OptimConfig(learning_rate=1e-12),
        train=dataclasses.replace(config.train, patience=2),
    )
    result = start(still, tmp_path / "r").result
    assert result is not None
    assert result["train"]["ended"] == "early"
    assert result["train"]["steps"] == 6
    assert result["train"]["best_step"] == 2
    # It predicts one class all along, and says so.
    assert "predicts" in result["warnings"][0]


def test_the_model_is_the_best_on_dev_and_not_the_last(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = dataclasses.replace(config, train=dataclasses.replace(config.train, metric="nll"))
    kept = start(chosen, tmp_path / "best")
    assert kept.result is not None
    best = kept.result["train"]["best_step"]
    rows = [json.loads(line) for line in (kept.dir / "metrics.jsonl").read_text().splitlines()]
    dev = {row["step"]: row["dev/nll"] for row in rows if "dev/nll" in row}
    assert best == min(dev, key=lambda step: dev[step])
    assert kept.result["metrics"]["dev"]["nll"]["value"] == pytest.approx(dev[best], abs=1e-6)


@pytest.fixture(scope="module")
def model(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(config, tmp_path_factory.mktemp("model") / "r").dir / "model"


def damaged(model: Path, folder: Path) -> Path:
    import shutil

    return Path(shutil.copytree(model, folder))


def test_a_newer_model_is_refused(model: Path, tmp_path: Path) -> None:
    copy = damaged(model, tmp_path / "m")
    manifest = json.loads((copy / "pairjax.json").read_text())
    (copy / "pairjax.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(UserError, match="newer pairjax"):
        pairjax.load(copy)


@pytest.mark.parametrize("name", ["head.safetensors", "encoder/model.safetensors", "encoder/tokenizer.json"])
def test_a_flipped_bit_or_a_missing_file_is_named(model: Path, name: str, tmp_path: Path) -> None:
    copy = damaged(model, tmp_path / "m")
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        pairjax.load(copy)
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{name}.*missing"):
        pairjax.load(copy)


def test_a_manifest_cannot_name_files_elsewhere(model: Path, tmp_path: Path) -> None:
    copy = damaged(model, tmp_path / "m")
    manifest = json.loads((copy / "pairjax.json").read_text())
    manifest["files"]["../secret"] = "0" * 64
    manifest["format"] = 1
    manifest.pop("seal")  # which would be noticed first; format 1 had none
    (copy / "pairjax.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="outside"):
        pairjax.load(copy)


def test_sigterm_saves_and_says_how_to_resume(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    args = ["train", "--data.path", str(config.data.path), "--model.encoder", config.model.encoder]
    args += ["--data.max-length", "64", "--train.max-steps", "100000", "--train.eval-every", "50000"]
    args += ["--train.batch-size", "4", "--run.dir", str(folder), "--run.compilation-cache", ""]
    code = f"import sys\nfrom pairjax.cli.main import main\nsys.exit(main({args!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    for _ in range(1200):
        if (folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").stat().st_size > 500:
            break
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "--run.resume" in error
    assert any((folder / "checkpoints").iterdir())
