"""The path tables on the parameters of every family of encoders: each covers every path and says what it should."""

import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from pairjax.base.config import OptimConfig
from pairjax.base.families import FAMILIES
from pairjax.base.model_config import ModelConfig
from pairjax.base.optim_config import LoraConfig
from pairjax.base.params import flatten
from pairjax.models.build import build_pair_model, heads_by_path
from pairjax.step.adapt import FRESH, add_lora
from pairjax.step.optim import decay_mask, layer_count, rate_multipliers, trainable_paths, turns
from pairjax.step.sharding import AXES, place_params
from pairjax.weights import read_encoder_spec
from tests.tiny import write_tiny_encoder

MESH = AbstractMesh((2, 2, 2), AXES, axis_types=(AxisType.Auto,) * 3)
LORA = LoraConfig(rank=2, targets=(r"encoder/layer_\d+/.*",))
LAYERS = 3


@cache
def build(family):
    """Returns a family's spec, and the shapes of a pair model's parameters."""
    with TemporaryDirectory() as folder:
        spec = read_encoder_spec(write_tiny_encoder(Path(folder), family=family, layers=LAYERS))
    return spec, jax.eval_shape(build_pair_model(ModelConfig(), spec, 2).init, jax.random.key(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_of_every_family_are_sharded(family):
    spec, params = build(family)
    adapted = jax.eval_shape(lambda key: add_lora(LORA, params, key), jax.random.key(0))
    placement = place_params(adapted, MESH, heads=heads_by_path(ModelConfig(), spec))
    flat = flatten(placement.specs)
    assert flat["encoder/layer_0/attention/query/kernel"] == PartitionSpec("fsdp", "tensor")
    assert flat["encoder/layer_0/mlp_out/kernel"] == PartitionSpec("tensor", "fsdp")
    assert not any("layer_" in note for note in placement.notes)
    if family == "modernbert":
        assert flat["encoder/layer_0/mlp_gate/kernel"] == PartitionSpec("fsdp", "tensor")


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_wise_rates_and_gradual_unfreezing_know_every_path(family):
    spec, params = build(family)
    stored = 1 if family == "albert" else LAYERS
    assert layer_count(list(flatten(params))) == stored == spec.stored_layers
    rates = flatten(rate_multipliers(OptimConfig(layer_decay=0.5), params))
    starts = flatten(turns(OptimConfig(gradual=0.5, freeze="none"), params, total_steps=100))
    for path, rate in rates.items():
        # Groups from the top: the layers, and then the embeddings with their projection.
        match = re.match(r"encoder/layer_(\d)/", path)
        if match or "final_norm" in path:
            below = stored - 1 - int(match[1]) if match else 0
        elif path.startswith("encoder/"):
            below = stored
        else:
            continue
        assert rate == 0.5**below, path
        assert starts[path] == round(50 * (below + 1) / (stored + 1)), path
    decay = flatten(decay_mask(params))
    assert all(decay[path] == path.endswith(("kernel", "embedding")) for path in decay)
    assert all(any(path.endswith(end) for end in ("kernel", "scale", "bias")) for path in decay if "layer_" in path)
    assert {pattern.rsplit("/", 1)[1] for pattern, _ in FRESH} == {"kernel", "scale", "bias"}


@pytest.mark.parametrize("family", FAMILIES)
def test_freezing_and_lora_know_every_path(family):
    spec, params = build(family)
    frozen = trainable_paths(OptimConfig(freeze="layers", freeze_layers=1), params, pooler_kept=True)
    assert not any(trains for path, trains in frozen.items() if "/embeddings/" in path or "/layer_0/" in path)
    if spec.disentangled or spec.relative_buckets:
        assert frozen["encoder/embeddings/relative/embedding"] is False
    adapted = jax.eval_shape(lambda key: add_lora(LORA, params, key), jax.random.key(0))
    kernels = {path.removesuffix("/kernel") for path in flatten(params) if "layer_" in path and path.endswith("kernel")}
    assert {path.removesuffix("/lora_a") for path in flatten(adapted) if path.endswith("lora_a")} == kernels
