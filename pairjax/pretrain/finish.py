"""The end of a pretraining run: score the held-out text, write the model and the result, show the tables."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Literal

from jax.sharding import Mesh
from rich.console import Console
from rich.text import Text

from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import PretrainConfig
from pairjax.base.terminal import format_score, plain_table, print_next
from pairjax.base.types import Params
from pairjax.data.nsp import LABELS
from pairjax.pretrain.baselines import baseline_scores, segment_texts
from pairjax.pretrain.held_out import HeldOut, scores_with_intervals, sizes
from pairjax.pretrain.prepare import PreparedPretraining
from pairjax.run.distributed import is_main
from pairjax.run.folder import RunFolder
from pairjax.run.loop import Fit, optional
from pairjax.step.sharding import gather
from pairjax.storage.files import write_json
from pairjax.weights import save_pretraining

TITLES = {
    "mlm_perplexity": "perplexity of masked tokens",
    "mlm_loss": "loss of masked tokens (nats)",
    "mlm_accuracy": "accuracy of masked tokens",
    "segment_accuracy": "segments: accuracy",
    "segment_loss": "segments: loss (nats)",
    "segment_accuracy_unmasked": "segments: accuracy, no token masked",
}
BASELINE_TITLES = {
    "majority": "majority class",
    "second_alone": "second segment alone",
    "lengths": "lengths alone",
    "tfidf_overlap": "TF-IDF overlap",
    "frozen_minilm": "cosine of a frozen MiniLM",
}


Score = Callable[..., HeldOut]
"""`score(params, split, examples, with_unmasked=) -> HeldOut`; all processes must call it alike."""


def finish_pretraining(
    config: PretrainConfig,
    prepared: PreparedPretraining,
    score: Score,
    mesh: Mesh,
    metric: str,
    fit: Fit,
    params: Params,
    *,
    run: RunFolder,
    origin: Mapping[str, Any],
    console: Console,
) -> dict[str, Any]:
    """Scores, writes and shows a finished run; returns the content of result.json.

    All processes must call it: each scores its share of the rows. Only the first writes and prints.

    Args:
        config: The config.
        prepared: The corpora and the model.
        score: Scores held-out examples of a split.
        mesh: The device mesh.
        metric: Name of the score that selected the best model.
        fit: The end of the loop.
        params: The parameters that become the model, sharded.
        run: The run's folder.
        origin: The run's provenance.
        console: The terminal for tables.
    """
    # 1. The model first: whatever fails below, the training is not lost. All processes gather sharded parameters.
    gathered = gather(params, mesh)
    if is_main():
        save_pretraining(
            run.model / "encoder",
            prepared.spec,
            gathered,
            config=prepared.settings,
            tokeniser=prepared.save_tokeniser,
            untrained=prepared.untrained,
        )
    # 2. All processes: scoring is collective.
    splits = [split for split in ("dev", "test") if split in prepared.makers]
    try:
        scores = {split: score(params, split, config.evaluation.examples, with_unmasked=True) for split in splits}
    except UserError as error:
        raise type(error)(f"the model is in {run.model}, but it cannot be scored: {error}") from error
    result = describe_run(config, prepared, scores, fit, metric=metric, origin=origin)
    result["warnings"] = fit.warnings(metric, keep=config.train.keep)
    # 3. The first process alone.
    if is_main():
        write_run(config, prepared, scores, result, run=run)
        show_run(console, result, run, pooler="fresh" if prepared.untrained else "keep")
    return result


def describe_run(
    config: PretrainConfig,
    prepared: PreparedPretraining,
    scores: Mapping[str, HeldOut],
    fit: Fit,
    *,
    metric: str,
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the content of result.json, except for the baselines, which `write_run` adds.

    Args:
        config: The config.
        prepared: The corpora and the model.
        scores: The model's scores of each held-out example, by split.
        fit: The end of the loop.
        metric: Name of the score that selected the best model.
        origin: The run's provenance.
    """
    progress, segments = fit.progress, config.data.objective != "none"
    return {
        "metrics": {
            split: scores_with_intervals(held_out, segments=segments, bootstrap=config.evaluation.bootstrap)
            for split, held_out in scores.items()
        },
        "scored": {split: dict(sizes(held_out)) for split, held_out in scores.items()},
        "labels": list(LABELS[config.data.objective]),
        "corpus": {split: asdict(corpus.facts) for split, corpus in prepared.corpora.items()},
        "train": {
            "seconds": progress.seconds,
            "compile_seconds": progress.compile_seconds,
            "tokens_per_second": progress.examples_per_second,
            "tokens": progress.examples,
            "steps": int(fit.state.step),
            "ended": fit.ended,
            "metric": metric,
            "best_step": progress.best_step,
        },
        "notes": list(prepared.notes),
        "provenance": dict(origin)
        | {
            "data": {
                split: [{"name": source.name, "sha256": source.digest} for source in sources]
                for split, sources in prepared.sources.items()
            }
        },
    }


def write_run(
    config: PretrainConfig,
    prepared: PreparedPretraining,
    scores: Mapping[str, HeldOut],
    result: dict[str, Any],
    *,
    run: RunFolder,
) -> None:
    """Writes result.json; adds the baselines' scores to the result if asked for, or a warning if they fail.

    Args:
        config: The config.
        prepared: The corpora and the model.
        scores: The model's scores of each held-out example, by split.
        result: The content of result.json; changed in place.
        run: The run's folder.
    """
    if config.data.objective != "none" and config.evaluation.baselines:
        with optional("the baselines", result):
            train = segment_texts(prepared.makers["train"], config.evaluation.baseline_train)
            texts = {
                split: segment_texts(prepared.makers[split], len(held_out.label)) for split, held_out in scores.items()
            }
            correct = {split: held_out.unmasked_correct for split, held_out in scores.items()}
            baselines = baseline_scores(train, texts, correct, bootstrap=config.evaluation.bootstrap)
            for part, intervals in (("baselines", baselines.accuracy), ("over_baselines", baselines.margin)):
                result[part] = {
                    split: {name: interval.to_json() for name, interval in rows.items()}
                    for split, rows in intervals.items()
                }
            result["notes"] += baselines.notes
    # Last: a run folder with a result is a finished run.
    write_json(run.result_file, result)


def show_run(console: Console, result: Mapping[str, Any], run: RunFolder, *, pooler: Literal["fresh", "keep"]) -> None:
    """Prints the tables of scores and the next commands.

    Args:
        console: The terminal.
        result: The content of result.json.
        run: The run's folder.
        pooler: The value of `--model.pooler` for fine-tuning.
    """
    train, metrics = result["train"], result["metrics"]
    console.print(
        f"{train['steps']} steps in {train['seconds']:.0f} s ({train['compile_seconds']:.0f} s of them compiling), "
        f"{train['tokens_per_second']:,.0f} tokens/s",
        highlight=False,
    )
    columns = [
        f"{split}: {size['examples']:,} of {size['documents']:,} documents" for split, size in result["scored"].items()
    ]
    table = plain_table("Held-out text (95 % intervals, documents resampled)", ["", *columns])
    for name, label in TITLES.items():
        if name in next(iter(metrics.values())):
            table.add_row(Text(label), *(format_score(rows[name]) for rows in metrics.values()))
    console.print()
    console.print(table, highlight=False)
    if "baselines" in result:
        first, second = result["labels"]
        table = plain_table(
            f"Segments, {first} or {second}: the model and baselines without pretraining", ["", *metrics]
        )
        for name in next(iter(result["baselines"].values())):
            table.add_row(
                Text(BASELINE_TITLES[name]), *(format_score(rows[name]) for rows in result["baselines"].values())
            )
        table.add_section()
        for name, title in (
            ("segment_accuracy_unmasked", Text("this model", style="bold")),
            ("segment_accuracy", Text("with masked tokens")),
        ):
            table.add_row(title, *(format_score(rows[name]) for rows in metrics.values()))
        best = {split: max(rows, key=lambda name: rows[name]["value"]) for split, rows in result["baselines"].items()}
        margins = (format_score(rows[best[split]]) for split, rows in result["over_baselines"].items())
        table.add_row(Text("this model minus the best baseline"), *margins)
        console.print()
        console.print(table, highlight=False)
    for warning in result["warnings"]:
        console.print(f"warning: {warning}", highlight=False, markup=False)
    for note in result["notes"]:
        if note.startswith("the frozen encoder"):
            console.print(note, highlight=False, markup=False)
    folder, first = run.in_commands()
    print_next(
        console,
        [
            *first,
            (
                "fine-tune it on pairs",
                f"pairjax train --data.path DIR --model.encoder {folder} --model.pooler {pooler}",
            ),
            ("continue it on other text", f"pairjax pretrain --model.encoder {folder} --data.corpus 'DIR/*.txt'"),
        ],
    )
