"""Every experiment file's full train step, at MiniLM's shapes, without weights, data or arithmetic."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from pairjax.base.config import Config
from pairjax.base.params import split
from pairjax.base.pretrain_config import PretrainConfig
from pairjax.base.types import Batch, TaskSpec
from pairjax.cli.options import load_experiment
from pairjax.models.build import PairModelFns, build_pair_model
from pairjax.models.pretraining import PretrainingFns, build_pretraining_model
from pairjax.step.losses import make_loss, make_pretraining_loss
from pairjax.step.optim import build_optimizer, decay_mask, rate_multipliers, trainable_paths
from pairjax.step.programs import hypers_of
from pairjax.step.state import init_state
from pairjax.step.step import make_train_step
from tests.step import test_pair_step

ALL = sorted((Path(__file__).resolve().parents[1] / "experiments").glob("*.py"))
PRETRAINING = [path for path in ALL if path.stem.startswith("pretrain")]
EXPERIMENTS = [path for path in ALL if path not in PRETRAINING]
MINILM = dataclasses.replace(test_pair_step.MINILM, num_layers=6)


def batch(rows: int, length: int, *, regression: bool) -> Batch:
    slots, pairs = np.zeros((rows, length), np.int32), np.zeros((rows, 1), np.int32)
    label = pairs.astype(np.float32) if regression else pairs
    return Batch(slots, slots, slots, slots, slots, label, pairs.astype(np.float32), pairs)


def shapes_of_step(
    config: Config | PretrainConfig,
    fns: PairModelFns | PretrainingFns,
    loss: Callable,
    rows: Batch,
    *,
    accumulate: int = 1,
) -> tuple:
    """Returns the shapes of (state, (state after a full train step, metrics)), without arithmetic."""

    def run(key: jax.Array, rows: Batch) -> tuple:
        params = fns.init(key)
        trainable, frozen = split(params, trainable_paths(config.optim, params, pooler_kept=True))
        optimizer = build_optimizer(
            config.optim,
            total_steps=10,
            decay=decay_mask(trainable),
            multiplier=rate_multipliers(config.optim, trainable),
        )
        step = make_train_step(fns.apply, loss, optimizer, accumulate=accumulate)
        state = init_state(trainable, optimizer, key=key)
        return state, step(state, frozen, rows, hypers_of(config))

    return jax.eval_shape(run, jax.random.key(0), rows)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_full_train_step_has_the_shapes_it_should(path: Path) -> None:
    module = load_experiment(str(path))
    assert module.__doc__
    assert "Command: pairjax train" in module.__doc__
    config = module.config
    regression = path.stem.startswith("stsb")
    task = TaskSpec("regression") if regression else TaskSpec("classification", ("a", "b", "c"))
    fns = build_pair_model(config.model, MINILM, task.outputs)

    loss = make_loss(config.loss, task, None)
    rows = batch(32, 64, regression=regression)
    if config.loss.kind == "soft":
        rows = rows._replace(soft=np.zeros((32, 1, task.outputs), np.float32))
    before, (after, metrics) = shapes_of_step(config, fns, loss, rows)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(lambda x: (x.shape, x.dtype), after)
    assert metrics["loss_sum"].shape == ()


@pytest.mark.parametrize("path", PRETRAINING, ids=lambda path: path.stem)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_full_pretraining_step_has_the_shapes_it_should(path: Path, accumulate: int) -> None:
    module = load_experiment(str(path))
    assert module.__doc__
    assert "Command: pairjax pretrain" in module.__doc__
    config = module.config
    fns = build_pretraining_model(MINILM, masked=config.data.most_masked)
    loss, terms = make_pretraining_loss(segments=config.data.objective != "none")
    places = np.zeros((16, config.data.most_masked), np.int32)
    rows = batch(16, config.data.max_length, regression=False)._replace(
        masked_positions=places, masked_targets=places, masked_weights=places.astype(np.float32)
    )

    before, (after, metrics) = shapes_of_step(config, fns, loss, rows, accumulate=accumulate)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(lambda x: (x.shape, x.dtype), after)
    assert metrics["loss_sum"].shape == (len(terms),)
