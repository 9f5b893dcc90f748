"""Writes the vectors, batches and initial parameters from which both sides train the same heads."""

import json
from pathlib import Path

import jax
import numpy as np

from experiments.benchmarks.shared.constants import HEADS
from pairjax.base.config import OptimConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.feature_config import FeatureConfig
from pairjax.base.model_config import CombineConfig, ModelConfig
from pairjax.base.types import DropoutRates, Hypers
from pairjax.data.sources import load_pairs
from pairjax.population.engine import MemberProgram, Members, make_hypers
from pairjax.population.features import cached_features
from pairjax.population.members import make_runs
from pairjax.population.pooled import HeadTask, head_program, head_task

SEEDS = 20
LEARNING_RATES = tuple(float(rate) for rate in np.geomspace(1e-4, 1e-2, 8))
DECAY = 0.01


def load_head_task(work: Path) -> HeadTask:
    """Returns SICK as cached vectors of the frozen encoder."""
    encoder = json.loads((work / "meta.json").read_text())["encoder"]
    data = load_pairs(DataConfig(path=str(work / "sick")))
    return head_task(data, cached_features(data.splits.values(), work / "features", FeatureConfig(encoder=encoder)))


def make_head_members(work: Path, *, steps: int) -> tuple[MemberProgram, Members, np.ndarray]:
    """Builds linear heads on [|u - v|, u * v], one for each seed and constant learning rate.

    Args:
        work: The working folder.
        steps: Number of training steps.

    Returns:
        The program, its members, and the indices of the dev pairs.
    """
    task = load_head_task(work)
    model = ModelConfig(kind="bi", combine=CombineConfig(features=("|u-v|", "u*v")))
    optim = OptimConfig(schedule="constant", warmup=0.0, clip_norm=0.0)
    program = head_program(task, model, optim=optim, steps=steps, dropout=False)
    base = Hypers(0.0, DECAY, 0.0, DropoutRates(0.0, 0.0, 0.0, 0.0))
    members = make_runs(
        [task.rows["train"]] * SEEDS,
        seeds=range(SEEDS),
        hypers=make_hypers(base, learning_rate=LEARNING_RATES),
        batch_size=32,
        steps=steps,
    )
    return program, members, task.rows["dev"]


def write_heads(work: Path, steps: int) -> None:
    """Writes the same population for the torch side: features, order of the pairs, and initial parameters."""
    task = load_head_task(work)
    program, members, dev = make_head_members(work, steps=steps)
    u, v = (task.vectors[side] for side in task.sides.T)
    features = np.concatenate([np.abs(u - v), u * v], axis=1)
    initial = [program.init(jax.random.key(seed))["head"]["logits"] for seed in members.seeds]
    np.savez(
        work / f"{HEADS}.npz",
        features=features[task.rows["train"]],
        label=task.target[task.rows["train"]].astype(np.int64),
        dev=features[dev],
        order=members.order.astype(np.int64),
        kernel=np.stack([head["kernel"] for head in initial]),
        bias=np.stack([head["bias"] for head in initial]),
        rates=np.asarray(LEARNING_RATES),
        decay=np.asarray(DECAY),
    )
