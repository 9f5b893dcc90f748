"""Populations: each member is the run alone; a bad one spoils no other; a stopped one goes on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from scipy.stats import spearmanr

from pairjax.base.config import OptimConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.feature_config import FeatureConfig
from pairjax.base.model_config import CombineConfig, HeadConfig, ModelConfig
from pairjax.base.params import flatten
from pairjax.base.types import DropoutRates, Hypers, TaskSpec
from pairjax.data.layout import Layout, plan_epoch
from pairjax.data.sources import load_pairs
from pairjax.evaluation.metrics import quick_scores
from pairjax.population import engine
from pairjax.population.engine import MemberProgram, Members, Trained, groups_at_once, make_hypers, train_population
from pairjax.population.features import cached_features
from pairjax.population.members import make_runs, plan_orders, scores_of
from pairjax.population.pooled import HeadTask, head_program, head_task
from pairjax.step.state import init_state
from pairjax.step.step import make_train_step
from pairjax.storage.arrays import write_arrays
from tests.tiny import write_tiny_encoder

STEPS = 100
BASE = Hypers(1e-2, 0.01, 0.0, DropoutRates(0.0, 0.0, 0.0, 0.0))
MODEL = ModelConfig(kind="bi", combine=CombineConfig(features=("|u-v|", "u*v")), head=HeadConfig(hidden=(16,)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> HeadTask:
    folder = tmp_path_factory.mktemp("population")
    encoder = write_tiny_encoder(folder / "encoder")
    data = load_pairs(DataConfig(rules="entailment", sizes=(60, 30, 0)))
    return head_task(data, cached_features(data.splits.values(), folder / "f", FeatureConfig(encoder=str(encoder))))


def program_of(source: HeadTask, **options: Any) -> MemberProgram:
    return head_program(source, MODEL, optim=OptimConfig(), steps=STEPS, **{"dropout": True, **options})


def runs_of(source: HeadTask, *, seeds: tuple[int, ...] = (0, 3, 7), hypers: Hypers | None = None) -> Members:
    varied = make_hypers(
        BASE, learning_rate=[1e-3, 1e-2, 3e-2], weight_decay=[0.0, 0.1, 0.01], head=[0.0, 0.3, 0.5], hidden=[0, 0, 0]
    )
    return make_runs(
        [source.rows["train"]] * len(seeds), seeds=seeds, hypers=hypers or varied, batch_size=16, steps=STEPS
    )


def train(source: HeadTask, runs: Members, *, program: MemberProgram | None = None, **options: Any) -> Trained:
    return train_population(program or program_of(source), runs, evaluate={"dev": source.rows["dev"]}, **options)


def alone(program: MemberProgram, runs: Members, group: int, variant: int) -> dict[str, np.ndarray]:
    """One member by the ordinary step, batch after batch."""
    hypers = jax.tree.map(lambda leaf: float(leaf[variant]), runs.hypers)
    step, gather = make_train_step(program.apply, program.loss, program.optimizer), jax.jit(program.gather)
    key = jax.random.key(int(runs.seeds[group]))
    state = init_state(program.init(key), program.optimizer, key=key)
    for index in runs.order[group]:
        state, _ = step(state, {}, gather(program.data, index), hypers)
    return flatten(state.params)


def test_each_member_is_the_run_alone_after_100_steps(source: HeadTask) -> None:
    program, runs = program_of(source), runs_of(source)
    found = train(source, runs, program=program, keep_params=True)
    assert found.params is not None
    members = flatten(found.params)
    for group, variant in ((0, 0), (1, 1), (2, 2), (2, 0)):
        for path, leaf in alone(program, runs, group, variant).items():
            np.testing.assert_allclose(members[path][group, variant], leaf, atol=1e-5, err_msg=path)
    kernel = members["head/logits/kernel"]
    assert np.abs(kernel[0, 1] - kernel[1, 1]).max() > 0.01
    assert np.abs(kernel[0, 0] - kernel[0, 1]).max() > 0.01


def test_the_order_of_a_group_is_the_trainers_over_its_rows() -> None:
    rows = np.arange(100, 123)
    order = plan_orders(rows, seed=5, batch_size=8, steps=7)
    plans = [
        plan_epoch(seed=5, epoch=e, lengths=np.ones(23, np.int32), layout=Layout("padded", (8,)), batch_size=8).index[
            :, :, 0
        ]
        for e in range(3)
    ]
    expected = np.concatenate(plans)[:7]
    np.testing.assert_array_equal(order, np.where(expected >= 0, expected + 100, -1))
    first = order[:3][order[:3] >= 0]
    assert sorted(first) == list(rows)


def test_subsets_read_their_own_rows_alone(source: HeadTask) -> None:
    few = source.rows["train"][:16]
    runs = make_runs([few, source.rows["train"]], seeds=(1, 1), hypers=make_hypers(BASE), batch_size=16, steps=STEPS)
    assert set(runs.order[0].ravel()) <= {*few, -1}
    program = program_of(source)
    target = source.target.copy()
    target[source.rows["train"][16:]] = 0
    changed = program_of(source, target=target)
    one, other = (train(source, runs, program=p).outputs["dev"] for p in (program, changed))
    np.testing.assert_array_equal(one[0], other[0])
    assert np.abs(one[1] - other[1]).max() > 0.01


def test_a_member_that_diverges_is_reported_and_spoils_no_other(source: HeadTask) -> None:
    good = make_hypers(BASE, learning_rate=[1e-2, 1e-2, 1e-2])
    bad = make_hypers(BASE, learning_rate=[1e-2, np.inf, 1e-2])
    expected = train(source, runs_of(source, hypers=good))
    found = train(source, runs_of(source, hypers=bad))
    assert (found.diverged[:, 1] >= 0).all()
    assert (found.diverged[:, [0, 2]] == -1).all()
    assert np.isnan(found.outputs["dev"][:, 1]).all()
    np.testing.assert_array_equal(found.outputs["dev"][:, [0, 2]], expected.outputs["dev"][:, [0, 2]])
    assert "3 of 9 runs diverged" in found.notes()[0]
    assert expected.notes() == ()


@pytest.mark.mesh
def test_a_stopped_population_goes_on_by_chunk_and_a_damaged_chunk_is_made_again(
    source: HeadTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = tuple(range(20))
    runs = runs_of(source, seeds=seeds, hypers=make_hypers(BASE))
    program = program_of(source)
    assert groups_at_once(program, runs, memory=1) == 1
    options: dict[str, Any] = {"program": program, "folder": tmp_path, "memory": 1}
    written: list[Path] = []

    def write_then_stop(path: Path, identity: str, arrays: Mapping[str, np.ndarray]) -> None:
        write_arrays(path, identity, arrays)
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "write_arrays", write_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train(source, runs, **options)
    monkeypatch.undo()
    # Eight devices: chunks of eight groups, the last one half full.
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["chunk-0000.npz", "chunk-0001.npz"]
    found = train(source, runs, **options)
    assert found.resumed == 2
    whole = train(source, runs, program=program)
    np.testing.assert_allclose(found.outputs["dev"], whole.outputs["dev"], atol=1e-5)
    path = tmp_path / "chunk-0001.npz"
    path.write_bytes(path.read_bytes()[:-300])
    again = train(source, runs, **options)
    assert again.resumed == 2
    np.testing.assert_array_equal(again.outputs["dev"], found.outputs["dev"])
    other = dataclasses.replace(runs, seeds=runs.seeds + 1)
    assert train(source, other, **options).resumed == 0


def test_scores_of_members_are_those_of_each_alone(source: HeadTask) -> None:
    rng = np.random.default_rng(0)
    task, label = source.task, source.label("dev")
    outputs = rng.normal(size=(2, 3, 30, 3)).astype(np.float32)
    outputs[1, 2, 4, 0] = np.nan
    for metric in ("accuracy", "macro_f1"):
        found = scores_of(task, outputs, label, metric)
        assert np.isnan(found[1, 2])
        assert found[0, 1] == pytest.approx(quick_scores(task, outputs[0, 1], label)[metric])
    target = rng.normal(size=30).astype(np.float32)
    ranks = scores_of(TaskSpec("regression"), outputs[..., :1], target, "spearman")
    assert ranks[1, 0] == pytest.approx(spearmanr(outputs[1, 0, :, 0], target).statistic)


def test_options_that_pooled_vectors_cannot_serve_are_refused(source: HeadTask) -> None:
    from pairjax.base.model_config import InteractConfig

    with pytest.raises(UserError, match="interaction"):
        head_program(
            source,
            ModelConfig(kind="bi", interact=InteractConfig("cross")),
            optim=OptimConfig(),
            steps=9,
            dropout=False,
        )
    with pytest.raises(ValueError, match="several lengths"):
        make_hypers(BASE, learning_rate=[1.0], head=[0.1, 0.2])
