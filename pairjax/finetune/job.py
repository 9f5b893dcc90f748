"""The `Job` of a fine-tuning run: its update, its batches and its evaluation."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np

from pairjax.base.config import Config
from pairjax.base.types import TaskSpec
from pairjax.data.layout import steps_per_epoch
from pairjax.data.pipeline import train_batches
from pairjax.data.tasks import label_counts
from pairjax.evaluation.metrics import LOWER_IS_BETTER, quick_scores
from pairjax.finetune.finish import finish
from pairjax.finetune.prepare import Prepared
from pairjax.inference.logits import make_predict_logits
from pairjax.models.build import heads_by_path
from pairjax.run.loop import Job, choose_metric
from pairjax.step.adapt import adaptation_notes, add_lora, merge_lora, reinit_top, with_lora
from pairjax.step.losses import make_loss
from pairjax.step.optim import anchors, trainable_paths
from pairjax.step.programs import build_update, hypers_of
from pairjax.step.sharding import build_mesh, place_params, row_split
from pairjax.step.state import TrainState
from pairjax.step.step import two_passes


def total_steps(config: Config, pairs: int) -> int:
    """Returns the number of updates of a run on this many training pairs."""
    planned = config.train.epochs * steps_per_epoch(pairs, config.train.batch_size)
    return planned if config.train.max_steps is None else config.train.max_steps


def task_metric(config: Config, task: TaskSpec) -> str:
    """Returns the dev metric that selects the best model.

    Raises:
        UserError: `--train.metric` is not a metric of the task.
    """
    known = quick_scores(task, np.zeros((2, task.outputs), np.float32), np.zeros(2, np.int32))
    default = "accuracy" if task.kind == "classification" else "spearman"
    return choose_metric(config.train.metric, list(known), default=default, of="this task")


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
    optim, key = config.optim, jax.random.key(config.train.seed)
    params = add_lora(optim.lora, reinit_top(optim, prepared.params, key), key)
    placement = place_params(params, mesh, heads=heads_by_path(prepared.fns.config, prepared.spec))
    apply = with_lora(prepared.fns.apply, optim.lora)
    pairs = len(encoded["train"])
    per_epoch, steps = steps_per_epoch(pairs, config.train.batch_size), total_steps(config, pairs)
    metric = task_metric(config, task)
    counts = label_counts(task, prepared.data.splits["train"])
    update = build_update(
        params,
        trainable_paths(optim, params, pooler_kept=prepared.pooler_kept),
        apply=two_passes(apply) if config.loss.r_drop else apply,
        loss=make_loss(config.loss, task, counts),
        optim=optim,
        total_steps=steps,
        mesh=mesh,
        specs=placement.specs,
        anchored=anchors(optim, params, pooler_kept=prepared.pooler_kept),
        program=(
            *(prepared.fns.program, prepared.fns.module.freeze_encoder, task),
            # The smoothing is an argument of the update.
            *(replace(config.loss, label_smoothing=0.0), None if counts is None else tuple(counts.tolist())),
        ),
    )
    start = update.start(hypers_of(config), seed=config.train.seed, export=partial(merge_lora, optim.lora))
    predict = make_predict_logits(prepared.fns, task, mesh=mesh)
    dev_label = prepared.data.splits[prepared.dev].label
    assert dev_label is not None
    split = row_split(mesh, accumulate=optim.accumulate)

    def evaluate(state: TrainState) -> dict[str, float]:
        outputs = predict(
            start.params(state), encoded[prepared.dev], layout=prepared.layout, batch_size=config.evaluation.batch_size
        )
        return quick_scores(task, outputs, dev_label)

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
            **split._asdict(),
        ),
        evaluate=evaluate,
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
