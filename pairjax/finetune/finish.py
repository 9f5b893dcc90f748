"""The end of a run: calibrate on dev, score every split, write the model and the result, and show them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console

from pairjax.base.config import Config
from pairjax.base.types import Pairs, Params
from pairjax.data.encode import encode_split
from pairjax.evaluation.calibration import Calibration
from pairjax.evaluation.scores import calibrate, collapsed
from pairjax.evaluation.tables import print_results
from pairjax.finetune.job import Trainer
from pairjax.finetune.prepare import plain_config
from pairjax.inference.card import CardInfo, model_card
from pairjax.inference.classifier import predictions_from
from pairjax.inference.evaluate import prediction_lines, score_splits, slice_splits
from pairjax.inference.model_folder import save_artifact
from pairjax.run.distributed import is_main
from pairjax.run.folder import RunFolder
from pairjax.run.loop import Fit
from pairjax.step.sharding import gather
from pairjax.storage.files import write_json, write_text


def finish(
    config: Config,
    trainer: Trainer,
    done: Fit,
    params: Params,
    *,
    run: RunFolder,
    origin: Mapping[str, Any],
    console: Console,
) -> dict[str, Any]:
    """Score, write and show; returns what result.json holds. Of several processes all compute and the first writes."""
    prepared, task = trainer.prepared, trainer.prepared.task
    splits = prepared.data.splits

    def outputs_of(pairs: Pairs) -> np.ndarray:
        encoded = encode_split(
            pairs,
            prepared.tokenizer,
            model=config.model,
            max_length=config.data.max_length,
            truncation=config.data.truncation,
        )
        return trainer.predict(params, encoded, layout=prepared.layout, batch_size=config.evaluation.batch_size)

    shown = {split: pairs for split, pairs in splits.items() if split != "train"}
    outputs = {split: outputs_of(pairs) for split, pairs in shown.items()}
    dev = splits["dev"]
    assert dev.label is not None
    calibration = calibrate(task, outputs["dev"], dev.label) if config.evaluation.fit else Calibration()
    metrics, classes = score_splits(
        task, shown, outputs, outputs_of=outputs_of, config=config.evaluation, calibration=calibration
    )
    texts = config.evaluation.examples or tuple(zip(dev.first[:3], dev.second[:3], strict=True))
    first, second = zip(*texts, strict=True)
    example_outputs = outputs_of(Pairs(tuple(first), tuple(second), None))
    params = gather(params, trainer.programs.mesh)
    warning = collapsed(task, outputs["dev"])
    progress = done.progress
    result: dict[str, Any] = {
        "metrics": metrics,
        "classes": classes,
        "rows": {split: len(pairs) for split, pairs in splits.items()},
        "train": {
            "seconds": progress.seconds,
            "compile_seconds": progress.compile_seconds,
            "pairs_per_second": progress.examples_per_second,
            "steps": int(done.state.step),
            "examples": progress.examples,
            "ended": done.ended,
            "metric": trainer.job.metric,
            "best_step": progress.best_step,
        },
        "calibration": dataclasses.asdict(calibration),
        "task": dataclasses.asdict(task),
        "warnings": [warning] if warning else [],
        "notes": list(prepared.notes),
        "provenance": dict(origin) | {"data": dict(prepared.data.source)},
    }
    if not is_main():
        return result
    if config.evaluation.baselines:
        from pairjax.evaluation.baselines import lexical_baselines

        result["baselines"] = {split: lexical_baselines(prepared.data, split=split) for split in metrics}
    if config.evaluation.slices:
        result["slices"] = slice_splits(task, shown, outputs, config=config.evaluation)
    card = model_card(
        CardInfo(
            name=run.name,
            task=task,
            config=plain_config(config, pooling=prepared.fns.config.pooling),
            metrics=metrics,
            source=prepared.data.source,
            provenance=origin,
            steps=progress.best_step if config.train.keep == "best" else int(done.state.step),
            temperature=calibration.temperature,
            threshold=calibration.threshold,
            language=prepared.data.source.get("language"),
            notes=prepared.notes,
            warnings=result["warnings"],
        )
    )
    save_artifact(
        run.model,
        task=task,
        model=prepared.fns.config,
        max_length=config.data.max_length,
        truncation=config.data.truncation,
        calibration=calibration,
        spec=prepared.spec,
        params=params,
        encoder_source=prepared.encoder_folder,
        card=card,
    )
    for split, pairs in shown.items():
        text = prediction_lines(task, pairs, outputs[split], calibration=calibration)
        write_text(run.predictions_file(split), text)
    # Last: a run folder with a result is a finished run.
    write_json(run.result_file, result)
    answers = predictions_from(
        example_outputs,
        task,
        temperature=calibration.temperature,
        threshold=calibration.threshold,
    )
    rows = [{"sentence1": a, "sentence2": b, **answer.to_json()} for (a, b), answer in zip(texts, answers, strict=True)]
    seconds, compiling = progress.seconds, progress.compile_seconds
    console.print(
        f"{result['train']['steps']} steps in {seconds:.0f} s ({compiling:.0f} s of them compiling), "
        f"{progress.examples_per_second:.1f} pairs/s; best dev {trainer.job.metric} at step {progress.best_step}",
        highlight=False,
    )
    print_results(
        console,
        metrics=metrics,
        reports={split: report for split, report in classes.items() if split == list(metrics)[-1]},
        baselines={"dev": result["baselines"]["dev"]} if "baselines" in result else {},
        slices={"dev": result["slices"]["dev"]} if "slices" in result else {},
        examples=rows,
        warnings=result["warnings"],
        commands=next_commands(run),
        positive=task.positive,
        threshold=calibration.threshold,
    )
    return result


def next_commands(run: RunFolder) -> list[tuple[str, str]]:
    """What to try next: (purpose, command)."""
    folder, first = run.in_commands()
    return [
        *first,
        ("label pairs of your own", f"pairjax predict {folder} pairs.tsv --output answers.jsonl"),
        ("score it on other labelled pairs", f"pairjax evaluate {folder} --data.path DIR"),
        ("train on your own data", "pairjax train --data.path DIR --run.dir runs/mine"),
        ("look at data first", "pairjax data inspect --data.path DIR"),
    ]
