"""A prepared run's programs: the `Job` that the loop takes, for fine-tuning on pairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from pairjax.base.config import Config
from pairjax.base.errors import UserError
from pairjax.base.types import Batch, TaskSpec
from pairjax.data.layout import steps_per_epoch
from pairjax.data.pipeline import train_batches
from pairjax.data.tasks import label_counts
from pairjax.evaluation.metrics import LOWER_IS_BETTER, quick_scores
from pairjax.finetune.prepare import Prepared, hypers_of
from pairjax.inference.logits import PredictLogits, make_predict_logits
from pairjax.models.build import heads_by_path
from pairjax.run.loop import Job
from pairjax.step.adapt import adaptation_notes, add_lora, merge_lora, reinit_top, with_lora
from pairjax.step.losses import make_loss
from pairjax.step.optim import anchors, trainable_paths
from pairjax.step.programs import Programs, build_programs
from pairjax.step.sharding import build_mesh, place_params, row_shards, row_share
from pairjax.step.state import TrainState
from pairjax.step.step import two_passes


@dataclass(frozen=True)
class Trainer:
    """A prepared run's programs."""

    prepared: Prepared
    programs: Programs
    job: Job
    predict: PredictLogits
    notes: tuple[str, ...]


def total_steps(config: Config, pairs: int) -> int:
    """Updates of the whole run."""
    planned = config.train.epochs * steps_per_epoch(pairs, config.train.batch_size)
    return planned if config.train.max_steps is None else config.train.max_steps


def choose_metric(config: Config, task: TaskSpec) -> str:
    """The dev metric that chooses the best model.

    Raises:
        UserError: It is none of the task's.
    """
    known = quick_scores(task, np.zeros((2, task.outputs), np.float32), np.zeros(2, np.int32))
    metric = config.train.metric or ("accuracy" if task.kind == "classification" else "spearman")
    if metric not in known:
        raise UserError(f"--train.metric {metric} is no metric of this task", expected=f"one of {', '.join(known)}")
    return metric


def build_trainer(config: Config, prepared: Prepared) -> Trainer:
    """Compile nothing yet; lay out the state and the functions that the loop calls."""
    task, encoded = prepared.task, prepared.encoded
    mesh = build_mesh(data=config.mesh.data, fsdp=config.mesh.fsdp, tensor=config.mesh.tensor)
    optim, key = config.optim, jax.random.key(config.train.seed)
    params = add_lora(optim.lora, reinit_top(optim, prepared.params, key), key)
    placement = place_params(params, mesh, heads=heads_by_path(prepared.fns.config, prepared.spec))
    apply = with_lora(prepared.fns.apply, optim.lora)
    pairs = len(encoded["train"])
    per_epoch, steps = steps_per_epoch(pairs, config.train.batch_size), total_steps(config, pairs)
    metric = choose_metric(config, task)
    programs = build_programs(
        params,
        trainable_paths(optim, params, pooler_kept=prepared.pooler_kept),
        apply=two_passes(apply) if config.loss.r_drop else apply,
        loss=make_loss(config.loss, task, label_counts(task, prepared.data.splits["train"])),
        optim=optim,
        hypers=hypers_of(config),
        total_steps=steps,
        seed=config.train.seed,
        mesh=mesh,
        specs=placement.specs,
        anchored=anchors(optim, params, pooler_kept=prepared.pooler_kept),
        export=partial(merge_lora, optim.lora),
    )
    predict = make_predict_logits(prepared.fns, task, mesh=mesh)
    dev_label = prepared.data.splits["dev"].label
    assert dev_label is not None
    process_index, process_count = row_share(mesh)

    def batches(start: int) -> Iterator[tuple[int, Batch]]:
        return train_batches(
            encoded["train"],
            prepared.targets["train"],
            seed=config.train.seed,
            layout=prepared.layout,
            batch_size=config.train.batch_size,
            start_step=start,
            stop_step=steps,
            process_index=process_index,
            process_count=process_count,
            multiple=row_shards(mesh) * config.optim.accumulate,
        )

    def evaluate(state: TrainState) -> dict[str, float]:
        outputs = predict(
            programs.params(state),
            encoded["dev"],
            layout=prepared.layout,
            batch_size=config.evaluation.batch_size,
        )
        return quick_scores(task, outputs, dev_label)

    job = Job(
        batches=batches,
        step=programs.step,
        evaluate=evaluate,
        total_steps=steps,
        steps_per_epoch=per_epoch,
        eval_every=config.train.eval_every or per_epoch,
        save_every=config.run.save_every or 0,
        metric=metric,
        mode="min" if metric in LOWER_IS_BETTER else "max",
        patience=config.train.patience,
    )
    return Trainer(prepared, programs, job, predict, (*placement.notes, *adaptation_notes(optim, params)))
