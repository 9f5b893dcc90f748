"""A checkpoint of one mesh on another: the same parameters bit for bit, the data order continued."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from rich.console import Console
from safetensors.numpy import load_file

from pairjax.base.config import Config, MeshConfig, OptimConfig
from pairjax.base.model_config import ModelConfig
from pairjax.base.params import flatten
from pairjax.finetune.train import train
from pairjax.models.build import build_pair_model, heads_by_path
from pairjax.run.checkpoint import Checkpointer
from pairjax.run.distributed import StopSignal
from pairjax.step.optim import build_optimizer, decay_mask, rate_multipliers
from pairjax.step.sharding import build_mesh, place_params
from pairjax.step.state import TrainState, init_state, state_sharding
from tests.finetune.test_finetune import config as config
from tests.step.test_pair_step import SPEC

pytestmark = pytest.mark.mesh


def make_state(mesh: Mesh, seed: int) -> TrainState:
    fns = build_pair_model(ModelConfig(), SPEC, 3)
    params = fns.init(jax.random.key(seed))
    settings = OptimConfig()
    optimizer = build_optimizer(
        settings, total_steps=4, decay=decay_mask(params), multiplier=rate_multipliers(settings, params)
    )
    specs = place_params(params, mesh, heads=heads_by_path(fns.config, SPEC)).specs
    sharding = state_sharding(params, optimizer, mesh, specs=specs)
    return init_state(params, optimizer, key=jax.random.key(seed), sharding=sharding)


def meshes() -> list[Mesh]:
    return [build_mesh(jax.devices()[:1]), build_mesh(), build_mesh(fsdp=2, tensor=2)]


@pytest.mark.parametrize(("saved", "restored"), [(0, 1), (1, 2), (2, 0)], ids=["1-8", "8-2x2x2", "2x2x2-1"])
def test_a_state_restores_on_another_mesh_bit_for_bit(saved: int, restored: int, tmp_path: Path) -> None:
    state = make_state(meshes()[saved], 1)
    template = make_state(meshes()[restored], 2)
    with Checkpointer(tmp_path) as checkpoints:
        checkpoints.save(1, state, host={})
        actual = checkpoints.restore(template).state
    for path, leaf in flatten(state.params).items():
        np.testing.assert_array_equal(flatten(actual.params)[path], leaf, err_msg=path)
        assert flatten(actual.params)[path].sharding == flatten(template.params)[path].sharding
    np.testing.assert_array_equal(jax.random.key_data(actual.key), np.asarray(jax.random.key_data(state.key)))


def test_a_run_goes_on_upon_another_mesh(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, keep="last"))

    def start(folder: Path, mesh: MeshConfig, *, resume: bool = False) -> int:
        run = dataclasses.replace(config.run, dir=str(folder), resume=resume)
        return train(dataclasses.replace(config, run=run, mesh=mesh), console=Console(quiet=True)).exit_code

    assert start(tmp_path / "whole", MeshConfig()) == 0
    monkeypatch.setattr(StopSignal, "requested", lambda self, done: done == 3)
    assert start(tmp_path / "cut", MeshConfig()) == 143
    monkeypatch.undo()
    assert start(tmp_path / "cut", MeshConfig(fsdp=2, tensor=2), resume=True) == 0
    rows = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "cut")
    ]
    for one, other in zip(*rows, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    tensors = [load_file(tmp_path / name / "model/encoder/model.safetensors") for name in ("whole", "cut")]
    for name, value in tensors[0].items():
        np.testing.assert_allclose(tensors[1][name], value, rtol=0, atol=1e-5, err_msg=name)
