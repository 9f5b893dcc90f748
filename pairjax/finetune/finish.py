"""The end of a fine-tuning run: calibrate on dev, score each split, write model and result, show the tables."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from pairjax.base.config import Config
from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, Params, main_split
from pairjax.data.encode import encode_split
from pairjax.evaluation.calibration import Calibration, temperature_warning
from pairjax.evaluation.scores import abstention_warning, calibrate, collapsed
from pairjax.evaluation.tables import print_results
from pairjax.finetune.prepare import Prepared, plain_config
from pairjax.inference.card import CardInfo, model_card
from pairjax.inference.evaluate import prediction_lines, score_splits, slice_splits
from pairjax.inference.logits import PredictLogits
from pairjax.inference.model_folder import save_artifact
from pairjax.inference.predictions import predictions_from
from pairjax.run.distributed import is_main
from pairjax.run.folder import RunFolder
from pairjax.run.loop import Fit, optional
from pairjax.step.sharding import gather
from pairjax.storage.files import write_json, write_text


class RunScores(NamedTuple):
    """The trained model's outputs and scores.

    Attributes:
        outputs: float32 [N, outputs] of each scored split: logits, or scores in the data's unit.
        calibration: Temperature and threshold, fitted on dev.
        metrics: The metrics of each split, as result.json has them.
        classes: The report by class of each split.
        examples: Pairs of texts to show.
        example_outputs: float32 [examples, outputs].
    """

    outputs: dict[str, np.ndarray]
    calibration: Calibration
    metrics: dict[str, Any]
    classes: dict[str, Any]
    examples: tuple[tuple[str, str], ...]
    example_outputs: np.ndarray


def finish(
    config: Config,
    prepared: Prepared,
    predict: PredictLogits,
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

    All processes must call it: each predicts its share of the rows. Only the first writes and prints.

    Args:
        config: The config.
        prepared: The data and the model.
        predict: Computes the outputs of encoded pairs.
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
        write_model(config, prepared, gathered, Calibration(), run=run, card=f"# {run.name}\n\nNot evaluated yet.\n")
    # 2. All processes: predictions are collective.
    try:
        scores = score_run(config, prepared, predict, params)
    except UserError as error:
        raise type(error)(f"the model is in {run.model}, but it cannot be scored: {error}") from error
    result = describe_run(prepared, scores, fit, metric=metric, origin=origin)
    result["warnings"] += fit.warnings(metric, keep=config.train.keep)
    # 3. The first process alone.
    if is_main():
        write_run(config, prepared, scores, result, gathered, run=run, origin=origin)
        show_run(console, prepared, scores, result, run=run)
    return result


def score_run(config: Config, prepared: Prepared, predict: PredictLogits, params: Params) -> RunScores:
    """Predicts every split but train, calibrates on dev, and scores.

    Args:
        config: The config.
        prepared: The data and the model.
        predict: Computes the outputs of encoded pairs.
        params: The model's parameters.
    """
    task, splits = prepared.task, prepared.data.splits

    def outputs_of(pairs: Pairs) -> np.ndarray:
        encoded = encode_split(
            pairs,
            prepared.tokenizer,
            model=prepared.fns.config,
            max_length=config.data.max_length,
            truncation=config.data.truncation,
        )
        return predict(params, encoded, layout=prepared.layout, batch_size=config.evaluation.batch_size)

    scored = scored_splits(prepared)
    outputs = {split: outputs_of(pairs) for split, pairs in scored.items()}
    dev = splits[prepared.dev]
    assert dev.label is not None
    calibration = Calibration()
    if config.evaluation.fit:
        calibration = calibrate(task, outputs[prepared.dev], dev.label, config=config.evaluation)
    metrics, classes = score_splits(
        task, scored, outputs, outputs_of=outputs_of, config=config.evaluation, calibration=calibration
    )
    examples = config.evaluation.examples or tuple(zip(dev.first[:3], dev.second[:3], strict=True))
    first, second = zip(*examples, strict=True)
    example_outputs = outputs_of(Pairs(tuple(first), tuple(second), None))
    return RunScores(outputs, calibration, metrics, classes, examples, example_outputs)


def scored_splits(prepared: Prepared) -> dict[str, Pairs]:
    """Returns every split but train."""
    return {split: pairs for split, pairs in prepared.data.splits.items() if split != "train"}


def describe_run(
    prepared: Prepared, scores: RunScores, fit: Fit, *, metric: str, origin: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the content of result.json, except for baselines and slices, which `write_run` adds.

    Args:
        prepared: The data and the model.
        scores: The model's scores.
        fit: The end of the loop.
        metric: Name of the score that selected the best model.
        origin: The run's provenance.
    """
    progress, calibration = fit.progress, scores.calibration
    warnings = (
        *(collapsed(prepared.task, scores.outputs[prepared.dev]), temperature_warning(calibration.temperature)),
        abstention_warning(calibration),
    )
    return {
        "metrics": scores.metrics,
        "classes": scores.classes,
        "rows": {split: len(pairs) for split, pairs in prepared.data.splits.items()},
        "train": {
            "seconds": progress.seconds,
            "compile_seconds": progress.compile_seconds,
            "pairs_per_second": progress.examples_per_second,
            "steps": int(fit.state.step),
            "examples": progress.examples,
            "ended": fit.ended,
            "metric": metric,
            "best_step": progress.best_step,
        },
        "calibration": scores.calibration.to_json(),
        "task": prepared.task.to_json(),
        "warnings": [line for line in warnings if line],
        "notes": list(prepared.notes),
        "provenance": dict(origin) | {"data": dict(prepared.data.source)},
    }


def write_model(
    config: Config, prepared: Prepared, params: Params, calibration: Calibration, *, run: RunFolder, card: str
) -> None:
    """Writes the model's folder.

    Args:
        config: The config.
        prepared: The data and the model.
        params: The model's parameters, whole.
        calibration: Temperature and threshold.
        run: The run's folder.
        card: The model card.
    """
    save_artifact(
        run.model,
        task=prepared.task,
        model=prepared.fns.config,
        max_length=config.data.max_length,
        truncation=config.data.truncation,
        prefixes=config.data.prefixes,
        calibration=calibration,
        spec=prepared.spec,
        params=params,
        encoder_source=prepared.encoder_folder,
        card=card,
    )


def write_run(
    config: Config,
    prepared: Prepared,
    scores: RunScores,
    result: dict[str, Any],
    params: Params,
    *,
    run: RunFolder,
    origin: Mapping[str, Any],
) -> None:
    """Writes the predictions, the model with its calibration and card, and result.json.

    Adds baselines and slices to the result if asked for. If they or the card fail, the result has a warning instead.

    Args:
        config: The config.
        prepared: The data and the model.
        scores: The model's scores.
        result: The content of result.json; changed in place.
        params: The model's parameters, whole.
        run: The run's folder.
        origin: The run's provenance.
    """
    task, scored, calibration = prepared.task, scored_splits(prepared), scores.calibration
    if config.evaluation.baselines:
        from pairjax.evaluation.baselines import lexical_baselines

        with optional("the baselines", result):
            result["baselines"] = {split: lexical_baselines(prepared.data, split=split) for split in scores.metrics}
    if config.evaluation.slices:
        with optional("the scores of slices", result):
            result["slices"] = slice_splits(task, scored, scores.outputs, config=config.evaluation)
    card = f"# {run.name}\n"
    with optional("the model card", result):
        card = model_card(
            CardInfo(
                name=run.name,
                task=task,
                config=plain_config(replace(config, model=prepared.fns.config)),
                metrics=scores.metrics,
                source=prepared.data.source,
                provenance=origin,
                steps=result["train"]["best_step" if config.train.keep == "best" else "steps"],
                temperature=calibration.temperature,
                threshold=calibration.threshold,
                language=prepared.data.source.get("language"),
                notes=prepared.notes,
                warnings=result["warnings"],
            )
        )
    write_model(config, prepared, params, calibration, run=run, card=card)
    for split, pairs in scored.items():
        text = prediction_lines(task, pairs, scores.outputs[split], calibration=calibration)
        write_text(run.predictions_file(split), text)
    # Last: a run folder with a result is a finished run.
    write_json(run.result_file, result)


def show_run(
    console: Console, prepared: Prepared, scores: RunScores, result: Mapping[str, Any], *, run: RunFolder
) -> None:
    """Prints the tables, the example pairs and the next commands.

    Args:
        console: The terminal.
        prepared: The data and the model.
        scores: The model's scores.
        result: The content of result.json.
        run: The run's folder.
    """
    train, calibration = result["train"], scores.calibration
    answers = predictions_from(scores.example_outputs, prepared.task, calibration=calibration)
    console.print(
        f"{train['steps']} steps in {train['seconds']:.0f} s ({train['compile_seconds']:.0f} s of them compiling), "
        f"{train['pairs_per_second']:.1f} pairs/s; best dev {train['metric']} at step {train['best_step']}",
        highlight=False,
    )
    main, dev = main_split(scores.metrics), prepared.dev
    print_results(
        console,
        metrics=scores.metrics,
        reports={split: report for split, report in scores.classes.items() if split == main},
        baselines={dev: result["baselines"][dev]} if "baselines" in result else {},
        slices={dev: result["slices"][dev]} if "slices" in result else {},
        examples=[
            {"sentence1": first, "sentence2": second, **answer.to_json()}
            for (first, second), answer in zip(scores.examples, answers, strict=True)
        ],
        warnings=result["warnings"],
        commands=next_commands(run),
        positive=prepared.task.positive,
        threshold=calibration.threshold,
    )


def next_commands(run: RunFolder) -> list[tuple[str, str]]:
    """Returns commands to try next, as (purpose, command)."""
    folder, first = run.in_commands()
    return [
        *first,
        ("label pairs of your own", f"pairjax predict {folder} pairs.tsv --output answers.jsonl"),
        ("score it on other labelled pairs", f"pairjax evaluate {folder} --data.path DIR"),
        ("train on your own data", "pairjax train --data.path DIR --run.dir runs/mine"),
        ("look at data first", "pairjax data inspect --data.path DIR"),
    ]
