"""Whole runs with other losses: they train, save, load and predict; a teacher's predictions train a student."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import pairjax
from pairjax import Config, DataConfig, EvalConfig, LossConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import HeadConfig
from pairjax.cli.main import main
from pairjax.finetune.prepare import prepare
from pairjax.plan.step import plan_pairs
from pairjax.population.members import supported
from tests.cli.conftest import write_pairs
from tests.finetune.test_finetune import start
from tests.tiny import write_tiny_encoder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("objectives")
    encoder = write_tiny_encoder(folder / "encoder", layers=1, hidden=16)
    (folder / "pairs").mkdir()
    write_pairs(folder / "pairs/train.tsv", start=0, rows=16)
    write_pairs(folder / "pairs/dev.tsv", start=40, rows=8)
    return Config(
        data=DataConfig(path=str(folder / "pairs"), max_length=64, buckets=1),
        model=ModelConfig(encoder=str(encoder)),
        optim=OptimConfig(learning_rate=1e-3),
        train=TrainConfig(batch_size=8, max_steps=4, eval_every=2),
        evaluation=EvalConfig(bootstrap=100, swap=False),
        run=RunConfig(compilation_cache="", progress=False),
    )


@pytest.fixture(scope="module")
def binary(base: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed bi-encoder with one logit, which abstains and predicts sets."""
    config = dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, layout="packed", buckets=4),
        model=dataclasses.replace(base.model, kind="bi"),
        loss=LossConfig(kind="binary", class_weights="balanced"),
        evaluation=dataclasses.replace(base.evaluation, abstain_at=0.5, conformal=0.6),
    )
    return start(config, tmp_path_factory.mktemp("binary") / "r").dir


def test_a_binary_run_saves_one_logit_and_reports_what_two_classes_report(binary: Path) -> None:
    assert load_file(binary / "model/head.safetensors")["head/logits/bias"].shape == (1,)
    result = json.loads((binary / "result.json").read_text())
    assert result["task"]["head"] == "sigmoid"
    assert {"accuracy", "f1", "nll", "ece", "mcc", "answered", "set_coverage"} <= result["metrics"]["dev"].keys()
    assert json.loads((binary / "model/pairjax.json").read_text())["format"] == 3
    rows = [json.loads(line) for line in (binary / "predictions.dev.jsonl").read_text().splitlines()]
    labels = result["task"]["labels"]
    positive = labels.index(result["task"]["positive"])
    assert all(row["logits"][1 - positive] == 0.0 for row in rows)
    temperature = result["calibration"]["temperature"]
    for row in rows:
        sigmoid = 1.0 / (1.0 + np.exp(-row["logits"][positive] / temperature))
        assert row["probabilities"][labels[positive]] == pytest.approx(sigmoid, abs=1e-4)


def test_a_binary_model_loads_and_predicts_what_its_run_predicted(binary: Path) -> None:
    rows = [json.loads(line) for line in (binary / "predictions.dev.jsonl").read_text().splitlines()]
    predictions = pairjax.load(binary).predict([(row["sentence1"], row["sentence2"]) for row in rows])
    for row, prediction in zip(rows, predictions, strict=True):
        assert prediction.label == row["label"]
        assert list(prediction.label_set or ()) == row["label_set"]
        assert prediction.abstain is row["abstain"]
        for name, value in row["probabilities"].items():
            assert prediction.probabilities[name] == pytest.approx(value, abs=1e-5)


def test_a_student_learns_from_the_predictions_of_a_teacher(binary: Path, base: Config, tmp_path: Path) -> None:
    train, teacher = f"{base.data.path}/train.tsv", str(tmp_path / "teacher.jsonl")
    assert main(["predict", str(binary), train, "--output", teacher, "--no-progress"]) == 0
    loss = LossConfig(kind="soft", teacher=teacher, temperature=2.0, hard_share=0.25)
    config = dataclasses.replace(base, loss=loss)
    prepared = prepare(config)
    probabilities = np.array(
        [list(json.loads(line)["probabilities"].values()) for line in Path(teacher).read_text().splitlines()]
    )
    roots = np.sqrt(probabilities)
    np.testing.assert_allclose(prepared.soft, roots / roots.sum(axis=1, keepdims=True), rtol=1e-5)
    assert "class probabilities" in prepared.content()
    run = start(config, tmp_path / "student")
    assert run.exit_code == 0
    assert "soft (teacher" in (run.dir / "model/README.md").read_text()
    # Another teacher is another run.
    lines = Path(teacher).read_text().splitlines()
    changed = json.loads(lines[0])
    changed["probabilities"] = dict(zip(changed["probabilities"], (0.5, 0.5), strict=True))
    Path(teacher).write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    with pytest.raises(UserError, match="class probabilities"):
        start(config, tmp_path / "student", resume=True)


def test_a_plan_counts_a_single_logit_and_populations_refuse_other_losses(base: Config) -> None:
    one, two = (plan_pairs(dataclasses.replace(base, loss=LossConfig(kind=kind))) for kind in ("binary", None))
    shapes = [planned.params["head"]["logits"]["bias"].shape for planned in (one, two)]
    assert shapes == [(1,), (2,)]
    assert supported(base.optim, LossConfig(kind="cross-entropy"))
    assert not supported(base.optim, LossConfig(kind="binary"))


def test_a_report_draws_the_risk_of_the_pairs_that_are_answered(binary: Path, tmp_path: Path) -> None:
    assert main(["report", str(binary), "--output", str(tmp_path / "report.html")]) == 0
    assert "Risk and coverage on dev" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_thresholds": True}, "class-thresholds needs three classes or more; got 2 classes"),
        ({"abstain_at": 0.9}, "abstain-at needs classes; got scores"),
    ],
)
def test_options_of_confidence_that_do_not_fit_the_labels_are_refused(
    base: Config, options: dict, message: str
) -> None:
    evaluation = dataclasses.replace(base.evaluation, **options)
    data = DataConfig(rules="similarity", sizes=(20, 8, 0)) if "abstain_at" in options else base.data
    with pytest.raises(UserError, match=message):
        prepare(dataclasses.replace(base, data=data, evaluation=evaluation))


def test_a_sigmoid_refuses_a_relu_on_its_logit(base: Config) -> None:
    model = dataclasses.replace(base.model, head=HeadConfig(relu_logits=True))
    with pytest.raises(UserError, match="relu-logits"):
        prepare(dataclasses.replace(base, model=model, loss=LossConfig(kind="binary")))


def write_triplets(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for split, count in (("train", 16), ("dev", 6)):
        rows = [{"query": f"the man {n}", "passage": f"a man {n}", "negative": f"no dog {n}"} for n in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_triplets_train_a_bi_encoder_whose_output_is_the_cosine(base: Config, tmp_path: Path) -> None:
    config = dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, path=str(write_triplets(tmp_path / "pairs")), task="ranking"),
        model=dataclasses.replace(base.model, kind="bi"),
        loss=LossConfig(kind="in-batch"),
    )
    run = start(config, tmp_path / "r")
    result = json.loads((run.dir / "result.json").read_text())
    assert result["train"]["metric"] == "ndcg@10"
    assert {"mrr@10", "ndcg@10", "map", "average_precision", "f1"} <= result["metrics"]["dev"].keys()
    assert load_file(run.dir / "model/head.safetensors") == {}
    model = pairjax.load(run.dir)
    [prediction] = model.predict([("the man 1", "a man 2")])
    u, v = model.embed(["the man 1", "a man 2"])
    cosine = float(u @ v / np.linalg.norm(u) / np.linalg.norm(v))
    logit = (cosine - 0.5) / 0.05 / result["calibration"]["temperature"]
    assert prediction.probabilities["match"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)


def test_scores_train_a_cosine_in_their_own_units(base: Config, tmp_path: Path) -> None:
    config = dataclasses.replace(
        base,
        data=DataConfig(rules="similarity", sizes=(16, 8, 0), max_length=64, buckets=1),
        model=dataclasses.replace(base.model, kind="bi"),
        loss=LossConfig(kind="cosine"),
    )
    prepared = prepare(config)
    scores = prepared.data.splits["train"].label
    targets = prepared.targets["train"]
    assert (targets.min(), targets.max()) == (0.0, 1.0)
    run = start(config, tmp_path / "r")
    u, v = (pairjax.load(run.dir).embed([text])[0] for text in ("a man", "some dog"))
    cosine = float(u @ v / np.linalg.norm(u) / np.linalg.norm(v))
    [prediction] = pairjax.load(run.dir).predict([("a man", "some dog")])
    assert prediction.score == pytest.approx(scores.min() + (scores.max() - scores.min()) * cosine, abs=1e-5)


def test_a_plan_of_a_loss_of_vectors_has_no_head(base: Config) -> None:
    config = dataclasses.replace(
        base, model=dataclasses.replace(base.model, kind="bi"), loss=LossConfig(kind="contrastive")
    )
    assert set(plan_pairs(config).params) == {"encoder"}


def test_several_labels_train_save_load_and_report(base: Config, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for split, count in (("train", 16), ("dev", 9)):
        rows = [
            f"the man {n}\ta dog {n}\t{','.join(('odd',) * (n % 2) + ('third',) * (n % 3 == 0))}" for n in range(count)
        ]
        (folder / f"{split}.tsv").write_text("\n".join(["sentence1\tsentence2\tlabel", *rows]) + "\n")
    config = dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, path=str(folder), task="multi-label"),
        loss=LossConfig(kind="multi-label", label_smoothing=0.1),
        evaluation=dataclasses.replace(base.evaluation, baselines=True, slices=True),
    )
    run = start(config, tmp_path / "r")
    result = json.loads((run.dir / "result.json").read_text())
    assert result["train"]["metric"] == "micro_f1"
    assert {"micro_f1", "macro_f1", "micro_f1_at_threshold"} <= result["metrics"]["dev"].keys()
    assert sum("several labels" in line for line in result["warnings"]) == 2
    rows = [json.loads(line) for line in (run.dir / "predictions.dev.jsonl").read_text().splitlines()]
    model = pairjax.load(run.dir)
    for row, prediction in zip(rows, model.predict([(r["sentence1"], r["sentence2"]) for r in rows]), strict=True):
        assert list(prediction.labels or ()) == row["labels"]
        assert prediction.probabilities == pytest.approx(row["probabilities"], abs=1e-5)
    assert main(["report", str(run.dir), "--output", str(tmp_path / "report.html")]) == 0
    assert "micro F1" in (tmp_path / "report.html").read_text()
    scores = tmp_path / "scores.json"
    assert (
        main(
            [
                "evaluate",
                str(run.dir),
                "--data.path",
                str(folder),
                "--evaluation.bootstrap",
                "100",
                "--output",
                str(scores),
            ]
        )
        == 0
    )
    assert json.loads(scores.read_text())["metrics"]["dev"]["micro_f1"] == pytest.approx(
        result["metrics"]["dev"]["micro_f1"]
    )
