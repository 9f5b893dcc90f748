"""The commands through their entry point, on a tiny encoder."""

import importlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pairjax
from pairjax.cli.main import COMMANDS, MODULES, main
from tests.cli.conftest import write_pairs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, encoder: Path, pairs: Path) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "r"
    args = ["train", "--data.path", str(pairs), "--model.encoder", str(encoder), "--run.dir", str(folder)]
    small = ["--data.max-length", "64", "--train.batch-size", "8", "--train.max-steps", "4", "--train.eval-every", "2"]
    rest = [
        "--evaluation.bootstrap",
        "100",
        "--evaluation.baselines",
        "--evaluation.slices",
        "--run.compilation-cache",
        "",
        "--run.tensorboard",
    ]
    assert main([*args, *small, *rest]) == 0
    return folder


def test_train_writes_a_complete_run_folder(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert set(result["metrics"]) == {"train", "dev", "test"} or set(result["metrics"]) == {"dev", "test"}
    for scores in result["metrics"].values():
        accuracy = scores["accuracy"]
        assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert result["train"]["steps"] == 4
    assert result["train"]["pairs_per_second"] > 0
    assert set(result["baselines"]["dev"]) == {"majority", "length", "hypothesis_only", "word_overlap"}
    assert set(result["slices"]) == set(result["metrics"])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    rows = [json.loads(line) for line in (run / "predictions.test.jsonl").read_text().splitlines()]
    assert len(rows) == 11
    assert set(rows[0]["probabilities"]) == {"other", "same"}
    assert json.loads((run / "config.json").read_text())["config"]["train"]["max_steps"] == 4
    assert any((run / "tensorboard").iterdir())
    card = (run / "model" / "README.md").read_text()
    assert "accuracy" in card


def test_evaluate_repeats_the_scores_of_training(run: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    assert main(["evaluate", str(run), "--data.path", str(pairs), "--output", str(out)]) == 0
    again = json.loads(out.read_text())["metrics"]["test"]
    first = json.loads((run / "result.json").read_text())["metrics"]["test"]
    assert again["accuracy"]["value"] == first["accuracy"]["value"]
    assert again["nll"]["value"] == pytest.approx(first["nll"]["value"], abs=1e-6)


def test_evaluate_shows_baselines_and_slices(
    run: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.json"
    probes = ["--evaluation.baselines", "--evaluation.slices"]
    assert main(["evaluate", str(run), "--data.path", str(pairs), "--output", str(out), *probes]) == 0
    scores, first = json.loads(out.read_text()), json.loads((run / "result.json").read_text())
    assert set(scores["baselines"]) == {"dev", "test"}
    assert scores["baselines"]["test"] == first["baselines"]["test"]
    assert scores["slices"]["test"] == first["slices"]["test"]
    assert sum(row["pairs"] for row in scores["slices"]["train"] if row["by"] == "negation") == 40
    printed = capsys.readouterr().out
    assert "lengths alone" in printed
    assert "Slices of train" in printed
    assert "more negations in one text: yes" in printed
    capsys.readouterr()
    alone = ["evaluate", str(run), "--data.path", str(pairs / "test.tsv"), "--evaluation.baselines"]
    assert main(alone) == 2
    error = capsys.readouterr().err
    assert "needs a labelled train split" in error
    assert len(error.strip().splitlines()) == 1


def test_predict_keeps_order_and_agrees_with_the_run(run: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert main(["predict", str(run / "model"), str(pairs / "test.tsv"), "--output", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    saved = [json.loads(line) for line in (run / "predictions.test.jsonl").read_text().splitlines()]
    assert [row["sentence1"] for row in rows] == [row["sentence1"] for row in saved]
    assert [row["label"] for row in rows] == [row["label"] for row in saved]


def test_predict_reads_standard_input(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "the man sleeps\tno the man sleeps\na dog\ta dog\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))
    assert main(["predict", str(run)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["sentence1"] for row in rows] == ["the man sleeps", "a dog"]


def test_python_interface_agrees_with_the_run(run: Path) -> None:
    model = pairjax.load(run / "model")
    saved = [json.loads(line) for line in (run / "predictions.test.jsonl").read_text().splitlines()]
    answers = model.predict([(row["sentence1"], row["sentence2"]) for row in saved])
    for row, answer in zip(saved, answers, strict=True):
        assert answer.label == row["label"]
        assert sum(answer.probabilities.values()) == pytest.approx(1.0)
        assert answer.probabilities[row["label"]] == pytest.approx(row["probabilities"][row["label"]], abs=1e-5)
    with pytest.raises(pairjax.UserError, match="bi-encoder"):
        model.embed(["a text"])


def test_train_is_a_function_after_other_names_were_used() -> None:
    code = "import pairjax\npairjax.load\nassert callable(pairjax.train)\nassert callable(pairjax.train)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_a_bi_encoder_embeds_single_texts(options: list[str], tmp_path: Path) -> None:
    bi = ["--model.kind", "bi", "--run.dir", str(tmp_path / "bi")]
    assert main(["train", *options, *bi]) == 0
    model = pairjax.load(tmp_path / "bi")
    vectors = model.embed(["the man", "a dog runs", "the man"])
    assert vectors.shape == (3, 32)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
    np.testing.assert_allclose(model.embed(["the man"])[0], vectors[0], atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_regression_predicts_in_the_units_of_the_scores(encoder: Path, options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "scores"
    folder.mkdir()
    for name, rows in (("train", 24), ("dev", 8)):
        lines = [f"the man {i}\tthe man {i % 3}\t{20.5 + i % 5}" for i in range(rows)]
        (folder / f"{name}.tsv").write_text("sentence1\tsentence2\tscore\n" + "\n".join(lines) + "\n")
    assert main(["train", *options, "--data.path", str(folder), "--run.dir", str(tmp_path / "r")]) == 0
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert {"pearson", "spearman", "mse"} <= set(result["metrics"]["dev"])
    (answer,) = pairjax.load(tmp_path / "r").predict([("the man 1", "the man 1")])
    assert answer.label is None
    assert 15 < answer.score < 30


def test_data_inspect_shows_classes(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", "--data.path", str(pairs)]) == 0
    printed = capsys.readouterr().out
    assert "same" in printed
    assert "other" in printed


def test_training_does_not_change_a_frozen_encoder(encoder: Path, options: list[str], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    assert main(["train", *options, "--optim.freeze", "encoder", "--run.dir", str(tmp_path / "r")]) == 0
    before = load_file(encoder / "model.safetensors")
    after = load_file(tmp_path / "r" / "model" / "encoder" / "model.safetensors")
    shared = before.keys() & after.keys()
    assert len(shared) > 20
    for name in shared:
        np.testing.assert_array_equal(before[name], after[name])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["trian"], ["trian", "train"]),
        (["train", "--run.dir", "RUN"], ["--data.path", "--data.tfds", "--data.rules"]),
        (["train", "--data.path", "nowhere", "--run.dir", "RUN"], ["nowhere"]),
        (["train", "missing.py"], ["missing.py"]),
        (["train", "--data.rules", "entailment", "--model.combine.features", "u-v", "--run.dir", "RUN"], ["u-v", "bi"]),
        (["train", "--data.rules", "entailment", "--data.path", "x", "--run.dir", "RUN"], ["one"]),
        (["predict", "nowhere"], ["nowhere"]),
        (["evaluate", "nowhere", "--data.path", "x"], ["nowhere"]),
    ],
)
def test_bad_input_is_one_line_and_code_two(
    args: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([str(run) if arg == "RUN" else arg for arg in args]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert error.startswith("pairjax: error: ")
    for word in words:
        assert word in error
    assert not run.exists()


def test_each_command_of_the_table_has_a_module() -> None:
    for command in COMMANDS:
        assert callable(importlib.import_module(f"pairjax.cli.{MODULES.get(command, command)}").main)


@pytest.mark.parametrize("args", [["--version"], ["trian"], ["predict", "nowhere"]])
def test_python_m_pairjax_equals_the_script(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main(args)
    expected = capsys.readouterr()
    done = subprocess.run([sys.executable, "-m", "pairjax", *args], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, expected.out, expected.err)


def test_misspelt_option_exits_two_and_names_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--optim.learning-rat", "1e-4"])
    assert stop.value.code == 2
    assert "--optim.learning-rate" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["--help"], ["train", "--help"], ["train", "--optim.learning-rat", "1"]])
def test_help_and_misspelt_options_import_no_heavy_package(args: list[str]) -> None:
    code = (
        "import sys\nfrom pairjax.cli.main import main\n"
        f"try: main({args!r})\nexcept SystemExit: pass\n"
        "heavy = {'jax', 'flax', 'optax', 'orbax', 'transformers', 'tensorflow_datasets', 'sklearn', 'scipy'}\n"
        "found = heavy & set(sys.modules)\nassert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_evaluate_refuses_an_unknown_label(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_pairs(tmp_path / "test.tsv", start=0, rows=4)
    file.write_text(file.read_text() + "a\tb\tunknown\n", encoding="utf-8")
    assert main(["evaluate", str(run), "--data.test", str(file), "--data.train", str(file)]) == 2
    assert "unknown" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("values = {}\n\nvalues['a']\n", ["line 3", "KeyError"]),
        ("def fail():\n    raise RuntimeError('two\\nlines')\n\nfail()\n", ["line 2", "RuntimeError: two lines"]),
        ("config = (\n", ["SyntaxError"]),
    ],
)
def test_an_experiment_file_that_fails_is_one_line(
    source: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "failing.py"
    path.write_text(source, encoding="utf-8")
    assert main(["train", str(path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert all(word in line for word in ["failing.py", "cannot be imported", *words]), line
