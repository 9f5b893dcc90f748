"""Builds the training step of an experiment on shapes, without weights or arrays, for `pairjax plan`.

The step is the one that training runs (`pairjax.step.programs.build_update`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pairjax.base.config import Config, LossConfig, OptimConfig, trained_model
from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import PretrainConfig
from pairjax.base.types import Batch, EncoderSpec, Hypers, Params, TaskSpec
from pairjax.data.encode import encode_split
from pairjax.data.layout import choose_layout, plan_epoch
from pairjax.data.objectives import apply_objective
from pairjax.data.sources import load_pairs
from pairjax.data.tasks import label_counts
from pairjax.data.tokenizer import check_fit, load_tokenizer
from pairjax.inference.start import read_start
from pairjax.models.build import build_pair_model, heads_by_path
from pairjax.models.encoder import encoder_heads
from pairjax.models.pretraining import build_pretraining_model
from pairjax.pretrain import prepare as pretraining
from pairjax.step.adapt import add_lora, with_lora
from pairjax.step.losses import Loss, make_loss, make_pretraining_loss
from pairjax.step.optim import trainable_paths
from pairjax.step.programs import Update, build_update, hypers_of
from pairjax.step.sharding import batch_sharding, place_params, shardings
from pairjax.step.step import Apply, two_passes
from pairjax.step.vector_losses import forward_pass, make_vector_loss
from pairjax.weights import read_encoder_spec, resolve_encoder

STEPS = 1000
"""Length of the schedule, which no figure of a plan depends on."""


@dataclass(frozen=True)
class Rows:
    """The rows that a step reads.

    Attributes:
        rows: Number of rows R, on all devices together.
        length: Token slots L of each row.
        pairs: Pair slots K of each row.
        masked: Masked positions M of each row; 0 in fine-tuning.
    """

    rows: int
    length: int
    pairs: int = 1
    masked: int = 0


@dataclass(frozen=True)
class Planned:
    """An experiment's step, independent of the mesh.

    Attributes:
        spec: The encoder's architecture.
        params: Shapes of all parameters.
        chosen: By path, whether the parameter trains.
        heads: Path patterns, with the number of attention heads of the parameters that match.
        apply: The model.
        loss: Its loss.
        optim: Optimiser and accumulation.
        hypers: The numbers that the step takes as an argument.
        dtype: Dtype of the activations.
        remat: Whether the backward pass recomputes each layer.
        batch_size: Examples a step.
        rows: The longest rows of the experiment.
        lengths: Steps of an epoch by row length; one entry if the data was not read.
        float_labels: Whether labels are scores.
        notes: Assumptions, one line each.
    """

    spec: EncoderSpec
    params: Params
    chosen: Mapping[str, bool]
    heads: tuple[tuple[str, int], ...]
    apply: Apply
    loss: Loss
    optim: OptimConfig
    hypers: Hypers
    dtype: str
    remat: bool
    batch_size: int
    rows: Rows
    lengths: Mapping[int, int]
    float_labels: bool
    notes: tuple[str, ...]

    def rows_for(self, batch_size: int, shards: int) -> Rows:
        """Returns the rows of a step, rounded up as the pipeline does.

        Args:
            batch_size: Examples a step; as many share a row as in the experiment.
            shards: Number of devices that share the rows.
        """
        wanted = -(-batch_size * self.rows.rows // self.batch_size)
        multiple = shards * self.optim.accumulate
        return replace(self.rows, rows=-(-wanted // multiple) * multiple)


def plan_pairs(config: Config, *, length: int | None = None) -> Planned:
    """Builds a fine-tuning step on shapes.

    Args:
        config: The experiment's config.
        length: Token slots of a row; None reads the train split to find out.

    Raises:
        UserError: Training would refuse the input too. Weights are read only with `--model.init`.
    """
    if config.model.init is None:
        folder = resolve_encoder(config.model.encoder, download=config.model.download)
    else:
        start = read_start(config.model, _unread_task(config.loss))
        folder, config = start.artifact.encoder_folder, replace(config, model=start.config)
    spec = read_encoder_spec(folder)
    notes: tuple[str, ...] = ()
    if length is None:
        task, counts, rows, lengths = _read_rows(config, spec, folder)
        task = apply_objective(task, config.loss)
    else:
        if length > spec.max_positions:
            raise UserError("--length is longer than the encoder reads", got=length, expected=spec.max_positions)
        task, counts = _unread_task(config.loss), np.ones(2, np.int64)
        rows, lengths = Rows(config.train.batch_size, length), {length: 1}
        notes = ("no data read: rows have --length slots and one pair each; two classes",)
    frozen = config.optim.freeze in ("encoder", "all_but_head")
    fns = build_pair_model(trained_model(config.model, config.loss), spec, task, freeze_encoder=frozen)
    lora = config.optim.lora
    params = jax.eval_shape(lambda key: add_lora(lora, fns.init(key), key), jax.random.key(0))
    apply = with_lora(forward_pass(fns, config.loss), lora)
    pooler_kept = fns.config.pooling == "pooler" and fns.config.pooler != "fresh"
    return Planned(
        spec=spec,
        params=params,
        chosen=trainable_paths(config.optim, params, pooler_kept=pooler_kept),
        heads=heads_by_path(fns.config, spec),
        apply=two_passes(apply) if config.loss.r_drop else apply,
        loss=_loss_on_shapes(config.loss, task, counts),
        optim=config.optim,
        hypers=hypers_of(config),
        dtype=config.model.dtype,
        remat=config.model.remat,
        batch_size=config.train.batch_size,
        rows=rows,
        lengths=lengths,
        float_labels=task.kind == "regression",
        notes=notes,
    )


def _unread_task(loss: LossConfig) -> TaskSpec:
    """Returns the task of a plan that reads no data: two classes, or two labels."""
    if loss.kind == "multi-label":
        return TaskSpec("multi-label", ("0", "1"))
    return TaskSpec("classification", ("0", "1"), positive="1")


def _loss_on_shapes(config: LossConfig, task: TaskSpec, counts: Any) -> Loss:
    """Returns the loss of a plan. Targets that are class probabilities cost as much as classes."""
    if config.kind == "multi-label":
        # A plan's batch has one label for each pair; the losses of several cost next to nothing more.
        return make_loss(LossConfig(), replace(task, kind="classification"), None)
    if config.reads_vectors:
        return make_vector_loss(config, task)
    return make_loss(LossConfig() if config.kind == "soft" else config, task, counts)


def _read_rows(config: Config, spec: EncoderSpec, folder: Path) -> tuple[TaskSpec, Any, Rows, dict[int, int]]:
    """Returns the task, the pairs of each class, the longest rows, and the first epoch's steps by row length."""
    data = load_pairs(config.data)
    train = data.splits["train"]
    tokenizer = load_tokenizer(folder, family=spec.family, prefixes=config.data.prefixes)
    check_fit(config.data.max_length, spec=spec, tokenizer=tokenizer, folder=folder)
    encoded = encode_split(
        train,
        tokenizer,
        model=config.model,
        max_length=config.data.max_length,
        truncation=config.data.truncation,
    )
    layout = choose_layout(config.data, encoded.lengths)
    plan = plan_epoch(
        seed=config.train.seed, epoch=0, lengths=encoded.lengths, layout=layout, batch_size=config.train.batch_size
    )
    lengths, steps = np.unique(plan.length, return_counts=True)
    rows = Rows(plan.index.shape[1], int(lengths.max()), plan.index.shape[2])
    counts = label_counts(data.task, train)
    return data.task, counts, rows, dict(zip(lengths.tolist(), steps.tolist(), strict=True))


def plan_pretraining(config: PretrainConfig, *, length: int | None = None) -> Planned:
    """Builds a pretraining step on shapes; reads no text.

    Args:
        config: The experiment's config.
        length: Token slots of a row; None takes `config.data.max_length`.

    Raises:
        UserError: The encoder or the tokeniser is missing or does not fit.
    """
    notes: tuple[str, ...] = ()
    if length is not None:
        config = replace(config, data=replace(config.data, max_length=length))
    if config.model.encoder is not None:
        folder = resolve_encoder(config.model.encoder, download=config.model.download)
        spec = pretraining.read_pretrained(folder, config)[1]
    else:
        words = config.data.vocabulary
        if config.data.tokenizer is None:
            notes = (f"a vocabulary of {words:,}: the run trains the tokeniser, which may find fewer words",)
        else:
            words = pretraining.corpus_tokenizer(config.data, ())[0].vocabulary_size
        spec = pretraining.new_spec(config, vocabulary=words, pad=0)
    masked = config.data.most_masked
    fns = build_pretraining_model(spec, masked=masked, dtype=config.model.dtype, remat=config.model.remat)
    params = jax.eval_shape(fns.init, jax.random.key(0))
    segments = config.data.objective != "none"
    chosen = pretraining.trainable(config, params, pooler_kept=config.model.encoder is not None)
    return Planned(
        spec=spec,
        params=params,
        chosen=chosen,
        heads=encoder_heads(spec),
        apply=fns.apply,
        loss=make_pretraining_loss(segments=segments)[0],
        optim=config.optim,
        hypers=hypers_of(config),
        dtype=config.model.dtype,
        remat=config.model.remat,
        batch_size=config.train.batch_size,
        rows=Rows(config.train.batch_size, config.data.max_length, masked=masked),
        lengths={config.data.max_length: 1},
        float_labels=False,
        notes=notes,
    )


def plan_step(config: Config | PretrainConfig, *, length: int | None = None) -> Planned:
    """Builds the step of an experiment of either kind; see `plan_pairs` and `plan_pretraining`."""
    if isinstance(config, PretrainConfig):
        return plan_pretraining(config, length=length)
    return plan_pairs(config, length=length)


def batch_shapes(rows: Rows, *, float_labels: bool = False) -> Batch:
    """Returns a batch of such rows as shapes.

    Args:
        rows: The rows.
        float_labels: Whether labels are scores.
    """

    def shape(size: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows.rows, size), dtype)

    slots, pair = shape(rows.length), shape(rows.pairs)
    masked = shape(rows.masked) if rows.masked else None
    return Batch(
        input_ids=slots,
        token_type_ids=slots,
        position_ids=slots,
        pair_ids=slots,
        side_ids=slots,
        label=shape(rows.pairs, jnp.float32) if float_labels else pair,
        weight=shape(rows.pairs, jnp.float32),
        example_id=pair,
        masked_positions=masked,
        masked_targets=masked,
        masked_weights=shape(rows.masked, jnp.float32) if rows.masked else None,
    )


@dataclass(frozen=True)
class Arguments:
    """The arguments of the compiled update, as shapes with shardings.

    Attributes:
        update: The update.
        state: Trainable parameters, moments, step and key.
        frozen: Parameters that do not train.
        batch: The batch.
        notes: Dimensions that the mesh does not divide, one line each.
    """

    update: Update
    state: Any
    frozen: Params
    batch: Batch
    notes: tuple[str, ...]


def on_mesh(planned: Planned, rows: Rows, mesh: Any) -> Arguments:
    """Lays out a step over a mesh.

    Args:
        planned: The step.
        rows: The rows of a step.
        mesh: The mesh, of devices or abstract.
    """
    placement = place_params(planned.params, mesh, heads=planned.heads)
    update = build_update(
        planned.params,
        planned.chosen,
        apply=planned.apply,
        loss=planned.loss,
        optim=planned.optim,
        total_steps=STEPS,
        mesh=mesh,
        specs=placement.specs,
    )
    shapes = jax.eval_shape(update.initial, update.trainable, jax.random.key(0))
    state = jax.tree.map(_placed, shapes, update.sharding)
    frozen = jax.tree.map(_placed, update.frozen, shardings(update.frozen_specs, mesh))
    return Arguments(update, state, frozen, batch_on_mesh(planned, rows, mesh), placement.notes)


def batch_on_mesh(planned: Planned, rows: Rows, mesh: Any) -> Batch:
    """Lays out a batch over a mesh, as shapes with shardings.

    Args:
        planned: The step.
        rows: The rows of a step.
        mesh: The mesh, of devices or abstract.
    """
    by_row = batch_sharding(mesh)
    return jax.tree.map(lambda x: _placed(x, by_row), batch_shapes(rows, float_labels=planned.float_labels))


def _placed(shape: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)
