"""The job of a pretraining run: programs, batches and evaluation."""

from collections.abc import Iterator

from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import PretrainConfig
from pairjax.base.types import Batch, Params
from pairjax.data.masking import RowMaker, train_rows
from pairjax.models.encoder import encoder_heads
from pairjax.pretrain.finish import PretrainEnd
from pairjax.pretrain.held_out import HeldOut, make_held_out, quick_figures
from pairjax.pretrain.prepare import (
    PreparedPretraining,
    hypers_of,
    trainable,
)
from pairjax.run.loop import Job
from pairjax.step.losses import make_pretraining_loss
from pairjax.step.programs import Programs, build_programs
from pairjax.step.sharding import build_mesh, place_params, row_shards, row_share
from pairjax.step.state import TrainState

SEGMENT_METRICS = ("segment_accuracy", "segment_loss")


METRICS = ("loss", "mlm_loss", "mlm_perplexity", "mlm_accuracy")


def choose_metric(config: PretrainConfig) -> str:
    """The dev metric that chooses the best model.

    Raises:
        UserError: It is none of pretraining's.
    """
    known = METRICS if config.data.objective == "none" else METRICS + SEGMENT_METRICS
    metric = config.train.metric or "loss"
    if metric not in known:
        raise UserError(f"--train.metric {metric} is no metric of pretraining", expected=f"one of {', '.join(known)}")
    return metric


def held_out_size(maker: RowMaker, wanted: int) -> int:
    """Examples that are scored: as asked for, or one for each sentence that one can start at; even."""
    size = min(wanted, maker.sampler.anchors)
    return max(2, size - size % 2)


def build_pretraining(config: PretrainConfig, prepared: PreparedPretraining) -> tuple[Programs, Job, PretrainEnd]:
    """The update, the loop's job, and what the end of the run needs; compiles nothing yet."""
    segments = config.data.objective != "none"
    metric = choose_metric(config)
    mesh = build_mesh(data=config.mesh.data, fsdp=config.mesh.fsdp, tensor=config.mesh.tensor)
    placement = place_params(prepared.params, mesh, heads=encoder_heads(prepared.spec))
    maker, size = prepared.makers["train"], config.train.batch_size
    per_epoch = max(1, -(-len(maker.sampler) // size))
    steps = config.train.max_steps or config.train.epochs * per_epoch
    loss, terms = make_pretraining_loss(segments=segments)
    programs = build_programs(
        prepared.params,
        trainable(config, prepared.params, pooler_kept=prepared.pooler_kept),
        apply=prepared.fns.apply,
        loss=loss,
        optim=config.optim,
        hypers=hypers_of(config),
        total_steps=steps,
        seed=config.train.seed,
        mesh=mesh,
        specs=placement.specs,
    )
    process_index, process_count = row_share(mesh)
    held_out = make_held_out(prepared.fns, mesh=mesh)

    def batches(start: int) -> Iterator[tuple[int, Batch]]:
        return train_rows(
            maker,
            batch_size=size,
            start_step=start,
            stop_step=steps,
            process_index=process_index,
            process_count=process_count,
            multiple=row_shards(mesh) * config.optim.accumulate,
        )

    def score(params: Params, split: str, wanted: int, *, whole: bool) -> HeldOut:
        rows = prepared.makers[split]
        size = held_out_size(rows, wanted)
        return held_out(params, rows, size, batch_size=config.evaluation.batch_size, whole=whole and segments)

    def evaluate(state: TrainState) -> dict[str, float]:
        return quick_figures(
            score(programs.params(state), "dev", config.evaluation.during, whole=False), segments=segments
        )

    job = Job(
        batches=batches,
        step=programs.step,
        evaluate=evaluate,
        total_steps=steps,
        steps_per_epoch=per_epoch,
        eval_every=config.train.eval_every or per_epoch,
        save_every=config.run.save_every or 0,
        metric=metric,
        mode="max" if metric.endswith("accuracy") else "min",
        patience=config.train.patience,
        terms=terms,
        counts="tokens",
    )
    return programs, job, PretrainEnd(prepared, programs, job, score, placement.notes)
