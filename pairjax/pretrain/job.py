"""The `Job` of a pretraining run: its update, its batches and its evaluation."""

from functools import partial

from pairjax.base.pretrain_config import PretrainConfig
from pairjax.base.types import Params
from pairjax.data.masking import RowMaker, train_rows
from pairjax.models.encoder import encoder_heads
from pairjax.pretrain.finish import finish_pretraining
from pairjax.pretrain.held_out import HeldOut, make_held_out, quick_scores
from pairjax.pretrain.prepare import PreparedPretraining, trainable
from pairjax.run.loop import Job, choose_metric
from pairjax.step.losses import make_pretraining_loss
from pairjax.step.programs import build_update, hypers_of
from pairjax.step.sharding import build_mesh, place_params, row_split
from pairjax.step.state import TrainState

METRICS = ("loss", "mlm_loss", "mlm_perplexity", "mlm_accuracy")
SEGMENT_METRICS = ("segment_accuracy", "segment_loss")


def pretraining_metric(config: PretrainConfig) -> str:
    """Returns the dev metric that selects the best model.

    Raises:
        UserError: `--train.metric` is not a metric of pretraining.
    """
    known = METRICS if config.data.objective == "none" else METRICS + SEGMENT_METRICS
    return choose_metric(config.train.metric, known, default="loss", of="pretraining")


def held_out_size(maker: RowMaker, wanted: int) -> int:
    """Returns the number of scored examples: `wanted`, or at most one for each sentence that can start one; even."""
    size = min(wanted, maker.sampler.anchors)
    return max(2, size - size % 2)


def build_pretraining_job(config: PretrainConfig, prepared: PreparedPretraining) -> Job:
    """Builds the job of a prepared run: lays out its state and its functions; compiles nothing yet.

    Args:
        config: The config.
        prepared: The corpora and the model.

    Raises:
        UserError: The devices, the metric or the options do not fit the model.
    """
    segments = config.data.objective != "none"
    metric = pretraining_metric(config)
    mesh = build_mesh(data=config.mesh.data, fsdp=config.mesh.fsdp, tensor=config.mesh.tensor)
    placement = place_params(prepared.params, mesh, heads=encoder_heads(prepared.spec))
    maker, size = prepared.makers["train"], config.train.batch_size
    per_epoch = max(1, -(-len(maker.sampler) // size))
    steps = config.train.max_steps or config.train.epochs * per_epoch
    loss, terms = make_pretraining_loss(segments=segments)
    update = build_update(
        prepared.params,
        trainable(config, prepared.params, pooler_kept=prepared.pooler_kept),
        apply=prepared.fns.apply,
        loss=loss,
        optim=config.optim,
        total_steps=steps,
        mesh=mesh,
        specs=placement.specs,
        program=(prepared.fns.program, segments),
    )
    start = update.start(hypers_of(config), seed=config.train.seed)
    split = row_split(mesh, accumulate=config.optim.accumulate)
    held_out = make_held_out(prepared.fns, mesh=mesh)

    def score(params: Params, name: str, wanted: int, *, with_unmasked: bool) -> HeldOut:
        rows = prepared.makers[name]
        examples = held_out_size(rows, wanted)
        return held_out(
            params, rows, examples, batch_size=config.evaluation.batch_size, with_unmasked=with_unmasked and segments
        )

    def evaluate(state: TrainState) -> dict[str, float]:
        scores = score(start.params(state), "dev", config.evaluation.during, with_unmasked=False)
        return quick_scores(scores, segments=segments)

    return Job(
        **start._asdict(),
        mesh=mesh,
        batches=lambda start_step: train_rows(
            maker,
            batch_size=size,
            start_step=start_step,
            stop_step=steps,
            **split._asdict(),
        ),
        evaluate=evaluate,
        finish=partial(finish_pretraining, config, prepared, score, mesh, metric),
        total_steps=steps,
        steps_per_epoch=per_epoch,
        eval_every=config.train.eval_every or per_epoch,
        save_every=config.run.save_every or 0,
        metric=metric,
        mode="max" if metric.endswith("accuracy") else "min",
        patience=config.train.patience,
        sources=prepared.digests(),
        content=prepared.content,
        initial=prepared.params,
        notes=(*prepared.notes, *placement.notes),
        terms=terms,
        counts="tokens",
    )
