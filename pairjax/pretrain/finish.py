"""The end of a pretraining run: score the held-out text, write the model and the result, and show them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from pairjax.base.pretrain_config import PretrainConfig
from pairjax.base.terminal import format_score, plain_table, print_next
from pairjax.base.types import Params
from pairjax.data.nsp import LABELS
from pairjax.pretrain.baselines import baseline_scores, drawn_texts
from pairjax.pretrain.held_out import HeldOut, figures_with_intervals, sizes
from pairjax.pretrain.prepare import PreparedPretraining
from pairjax.run.distributed import is_main
from pairjax.run.folder import RunFolder
from pairjax.run.loop import Fit, Job
from pairjax.step.programs import Programs
from pairjax.step.sharding import gather
from pairjax.storage.files import write_json
from pairjax.weights import save_pretraining

NAMES = {
    "mlm_perplexity": "perplexity of masked tokens",
    "mlm_loss": "their loss (nats)",
    "mlm_accuracy": "their accuracy",
    "segment_accuracy": "segments: accuracy",
    "segment_loss": "segments: loss (nats)",
    "segment_accuracy_unmasked": "segments: accuracy, nothing masked",
}
BASELINE_NAMES = {
    "majority": "majority class",
    "second_alone": "second segment alone",
    "lengths": "lengths alone",
    "tfidf_overlap": "TF-IDF overlap",
    "frozen_minilm": "cosine of a frozen MiniLM",
}


@dataclass(frozen=True)
class PretrainEnd:
    """What the end needs.

    Attributes:
        prepared: Corpora and model.
        programs: The compiled update.
        job: Of the loop.
        score: `score(params, split, examples, whole=) -> HeldOut`; all processes call it alike.
        notes: What the mesh does not divide, a line each.
    """

    prepared: PreparedPretraining
    programs: Programs
    job: Job
    score: Callable[..., HeldOut]
    notes: tuple[str, ...]


def finish_pretraining(
    config: PretrainConfig,
    end: PretrainEnd,
    done: Fit,
    params: Params,
    *,
    run: RunFolder,
    origin: Mapping[str, Any],
    console: Console,
) -> dict[str, Any]:
    """Score, write and show; returns what result.json holds. Of several processes all compute and the first writes."""
    prepared, progress = end.prepared, done.progress
    segments = config.data.objective != "none"
    splits = [split for split in ("dev", "test") if split in prepared.makers]
    found = {split: end.score(params, split, config.evaluation.examples, whole=True) for split in splits}
    result: dict[str, Any] = {
        "metrics": {
            split: figures_with_intervals(one, segments=segments, bootstrap=config.evaluation.bootstrap)
            for split, one in found.items()
        },
        "scored": {split: dict(sizes(one)) for split, one in found.items()},
        "labels": list(LABELS[config.data.objective]),
        "corpus": {split: asdict(corpus.facts) for split, corpus in prepared.corpora.items()},
        "train": {
            "seconds": progress.seconds,
            "compile_seconds": progress.compile_seconds,
            "tokens_per_second": progress.examples_per_second,
            "tokens": progress.examples,
            "steps": int(done.state.step),
            "ended": done.ended,
            "metric": end.job.metric,
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
    params = gather(params, end.programs.mesh)
    if not is_main():
        return result
    if segments and config.evaluation.baselines:
        train = drawn_texts(prepared.makers["train"], config.evaluation.baseline_train)
        texts = {split: drawn_texts(prepared.makers[split], len(one.label)) for split, one in found.items()}
        right = {split: one.whole_right for split, one in found.items()}
        baselines = baseline_scores(train, texts, right, bootstrap=config.evaluation.bootstrap)
        for part, scores in (("baselines", baselines.accuracy), ("over_baselines", baselines.margin)):
            result[part] = {
                split: {name: interval.to_json() for name, interval in rows.items()} for split, rows in scores.items()
            }
        result["notes"] += baselines.notes
    save_pretraining(
        run.model / "encoder",
        prepared.spec,
        params,
        config=prepared.settings,
        tokeniser=prepared.save_tokeniser,
        untrained=prepared.untrained,
    )
    # Last: a run folder with a result is a finished run.
    write_json(run.result_file, result)
    show(console, result, run, pooler="fresh" if prepared.untrained else "keep")
    return result


def show(console: Console, result: Mapping[str, Any], run: RunFolder, *, pooler: str) -> None:
    """The figures as tables, and what to try next."""
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
    for name, shown in NAMES.items():
        if name in next(iter(metrics.values())):
            table.add_row(Text(shown), *(format_score(rows[name]) for rows in metrics.values()))
    console.print()
    console.print(table, highlight=False)
    if "baselines" in result:
        first, second = result["labels"]
        table = plain_table(f"Segments, {first} or {second}: the model beside what needs none", ["", *metrics])
        for name in next(iter(result["baselines"].values())):
            table.add_row(
                Text(BASELINE_NAMES[name]), *(format_score(rows[name]) for rows in result["baselines"].values())
            )
        table.add_section()
        for name, title in (
            ("segment_accuracy_unmasked", Text("this model", style="bold")),
            ("segment_accuracy", Text("with masked tokens")),
        ):
            table.add_row(title, *(format_score(rows[name]) for rows in metrics.values()))
        best = {split: max(rows, key=lambda one: rows[one]["value"]) for split, rows in result["baselines"].items()}
        margins = (format_score(rows[best[split]]) for split, rows in result["over_baselines"].items())
        table.add_row(Text("this model less the best without"), *margins)
        console.print()
        console.print(table, highlight=False)
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
            ("go on with it on other text", f"pairjax pretrain --model.encoder {folder} --data.corpus 'DIR/*.txt'"),
        ],
    )
