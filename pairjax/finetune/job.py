"""The `Job` of a fine-tuning run: its update, its batches and its evaluation."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from pairjax.base.config import Config
from pairjax.base.types import Params, TaskSpec
from pairjax.data.layout import steps_per_epoch
from pairjax.data.pipeline import train_batches
from pairjax.data.tasks import label_counts
from pairjax.evaluation.metrics import LOWER_IS_BETTER, quick_scores
from pairjax.finetune.finish import finish
from pairjax.finetune.prepare import Prepared
from pairjax.inference.logits import PredictLogits, make_predict_logits
from pairjax.models.build import heads_by_path
from pairjax.run.loop import Job, choose_metric
from pairjax.step.adapt import adaptation_notes, add_lora, merge_lora, reinit_top, with_lora
from pairjax.step.losses import make_loss
from pairjax.step.optim import anchors, trainable_paths
from pairjax.step.programs import build_update, hypers_of
from pairjax.step.sharding import build_mesh, place_params, row_split
from pairjax.step.state import TrainState
from pairjax.step.step import two_passes
from pairjax.step.vector_losses import forward_pass, make_vector_loss


def total_steps(config: Config, pairs: int) -> int:
    """Returns the number of updates of a run on this many training pairs."""
    planned = config.train.epochs * steps_per_epoch(pairs, config.train.batch_size)
    return planned if config.train.max_steps is None else config.train.max_steps


def task_metric(config: Config, task: TaskSpec, *, grouped: bool = False) -> str:
    """Returns the dev metric that selects the best model.

    Args:
        config: The config.
        task: The task.
        grouped: Whether dev has groups, whose candidates are ranked.

    Raises:
        UserError: `--train.metric` is not a metric of the task.
    """
    group = np.zeros(2, np.int32) if grouped else None
    label = np.zeros((2, task.outputs), np.float32) if task.kind == "multi-label" else np.zeros(2, np.int32)
    known = quick_scores(task, np.zeros((2, task.outputs), np.float32), label, group=group)
    default = {"classification": "accuracy", "regression": "spearman", "multi-label": "micro_f1"}[task.kind]
    if task.head == "cosine" and task.kind == "classification":
        default = "average_precision"
    if grouped:
        default = "ndcg@10"
    return choose_metric(config.train.metric, list(known), default=default, of="this task")


def make_evaluate(
    config: Config, prepared: Prepared, predict: PredictLogits, params_of: Callable[[TrainState], Params]
) -> Callable[[TrainState], dict[str, float]]:
    """Builds the evaluation on dev during training.

    Args:
        config: The config.
        prepared: The data and the model.
        predict: Computes the outputs of encoded pairs.
        params_of: Returns the parameters of a state.
    """
    dev, encoded = prepared.data.splits[prepared.dev], prepared.encoded[prepared.dev]
    label = dev.label
    assert label is not None

    def evaluate(state: TrainState) -> dict[str, float]:
        batch_size = config.evaluation.batch_size
        outputs = predict(params_of(state), encoded, layout=prepared.layout, batch_size=batch_size)
        return quick_scores(prepared.task, outputs, label, group=dev.group)

    return evaluate


def build_job(config: Config, prepared: Prepared) -> Job:
    """Builds the job of a prepared run: lays out its state and its functions; compiles nothing yet.

    Args:
        config: The config.
        prepared: The data and the model.

    Raises:
        UserError: The devices, the metric or the options do not fit the data or the model.
    """
    task, encoded = prepared.task, prepared.encoded
    mesh = build_mesh(data=config.mesh.data, fsdp=config.mesh.fsdp, tensor=config.mesh.tensor)
    # Triplets have a third text.
    sides = 2 if encoded["train"].third_length is None else 3
    optim, key = config.optim, jax.random.key(config.train.seed)
    params = add_lora(optim.lora, reinit_top(optim, prepared.params, key), key)
    placement = place_params(params, mesh, heads=heads_by_path(prepared.fns.config, prepared.spec))
    apply = with_lora(forward_pass(prepared.fns, config.loss, sides=sides), optim.lora)
    pairs = len(encoded["train"]) if prepared.chosen is None else len(prepared.chosen)
    per_epoch, steps = steps_per_epoch(pairs, config.train.batch_size), total_steps(config, pairs)
    metric = task_metric(config, task, grouped=prepared.data.splits[prepared.dev].group is not None)
    counts = label_counts(task, prepared.data.splits["train"])
    update = build_update(
        params,
        trainable_paths(optim, params, pooler_kept=prepared.pooler_kept),
        apply=two_passes(apply) if config.loss.r_drop else apply,
        loss=make_vector_loss(config.loss, task) if config.loss.reads_vectors else make_loss(config.loss, task, counts),
        optim=optim,
        total_steps=steps,
        mesh=mesh,
        specs=placement.specs,
        anchored=anchors(optim, params, pooler_kept=prepared.pooler_kept),
        program=(
            *(prepared.fns.program, prepared.fns.module.freeze_encoder, task, sides),
            # The smoothing is an argument of the update.
            *(replace(config.loss, label_smoothing=0.0), None if counts is None else tuple(counts.tolist())),
        ),
    )
    start = update.start(hypers_of(config), seed=config.train.seed, export=partial(merge_lora, optim.lora))
    predict = make_predict_logits(prepared.fns, task, mesh=mesh)
    split = row_split(mesh, accumulate=optim.accumulate)
    return Job(
        **start._asdict(),
        mesh=mesh,
        batches=lambda start_step: train_batches(
            encoded["train"],
            prepared.targets["train"],
            seed=config.train.seed,
            layout=prepared.layout,
            batch_size=config.train.batch_size,
            start_step=start_step,
            stop_step=steps,
            soft=prepared.soft,
            subset=prepared.chosen,
            **split._asdict(),
        ),
        evaluate=make_evaluate(config, prepared, predict, start.params),
        finish=partial(finish, config, prepared, predict, mesh, metric),
        total_steps=steps,
        steps_per_epoch=per_epoch,
        eval_every=config.train.eval_every or per_epoch,
        save_every=config.run.save_every or 0,
        metric=metric,
        mode="min" if metric in LOWER_IS_BETTER else "max",
        patience=config.train.patience,
        sources=prepared.data.source,
        content=prepared.content,
        initial=prepared.params,
        notes=(*prepared.notes, *placement.notes, *adaptation_notes(optim, params)),
    )
