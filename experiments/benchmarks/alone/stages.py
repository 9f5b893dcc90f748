"""Measures each stage of the model, the step, the optimiser and the pipeline alone, without torch.

Command: pairjax bench --cases micro

For each stage, batch size and length it prints the milliseconds of a run, best of several runs interleaved over the
stages, the seconds of compilation, and the share of the matrix rate if the stage is mostly matrix products.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.alone.command import parse_options, print_result
from experiments.benchmarks.pairjax_side.case import measure_matrix_rate
from experiments.benchmarks.shared.flops import Cost
from pairjax.base.config import LossConfig, OptimConfig
from pairjax.base.model_config import CombineConfig, InteractConfig, ModelConfig
from pairjax.base.types import Batch, DropoutRates, EncoderSpec, Hypers, TaskSpec
from pairjax.data.encode import EncodedPairs
from pairjax.data.layout import Layout, plan_epoch
from pairjax.data.pipeline import make_batch
from pairjax.models.attention import Attention, affine
from pairjax.models.build import build_pair_model, initial_params
from pairjax.models.encoder import Embeddings, attention_mask
from pairjax.models.layers import LayerNorm, TransformerLayer, activate
from pairjax.models.pretraining import MaskedTokenHead
from pairjax.step.losses import make_loss
from pairjax.step.optim import build_optimizer, decay_mask, rate_multipliers
from pairjax.step.state import init_state
from pairjax.step.step import make_train_step
from pairjax.weights import load_encoder, read_encoder_spec, resolve_encoder

RATES = DropoutRates(0.1, 0.1, 0.1, 0.1)


@dataclass(frozen=True)
class Stage:
    """A stage to time.

    Attributes:
        group: The table in which it is shown.
        name: Its name in that table.
        run: Executes it once and waits for the result.
        flops: Operations of its matrix products; 0 if they are negligible.
    """

    group: str
    name: str
    run: Callable[[], Any]
    flops: float = 0.0


def random_batch(spec: EncoderSpec, batch: int, length: int) -> Batch:
    """Returns full rows of random tokens, one pair each."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, spec.vocab_size, (batch, length), dtype=np.int32)
    sides = np.broadcast_to((np.arange(length) >= length // 2).astype(np.int32), (batch, length)).copy()
    places = np.broadcast_to(np.arange(length, dtype=np.int32), (batch, length)).copy()
    ones, pair = np.ones((batch, length), np.int32), np.arange(batch, dtype=np.int32)[:, None]
    return Batch(tokens, sides, places, ones, sides, pair % 3, np.ones((batch, 1), np.float32), pair)


def layer_stages(spec: EncoderSpec, batch: int, length: int) -> list[Stage]:
    """Returns the parts of one layer, each forward and with backward."""
    rows = random_batch(spec, batch, length)
    key = jax.random.key(0)
    x = jax.random.normal(key, (batch, length, spec.hidden_size))
    mask = attention_mask(rows, kind="cross")
    attention = Attention(spec.num_heads)
    layer = TransformerLayer(spec.num_heads, spec.intermediate_size, spec.activation, spec.layer_norm_eps)
    norm, embed = LayerNorm(spec.layer_norm_eps), Embeddings(spec)
    wide = jax.random.normal(key, (spec.hidden_size, spec.intermediate_size)) * 0.02
    bias = jnp.zeros(spec.intermediate_size)
    inner = jax.random.normal(key, (batch, length, spec.intermediate_size))
    drop = {"dropout": key}
    functions: dict[str, tuple[Callable[..., Any], Any]] = {
        "embeddings": (lambda p: embed.apply(p, rows), embed.init(key, rows)),
        "attention": (
            lambda p, x: attention.apply(p, x, x, mask, rate=0.1, rngs=drop),
            attention.init(key, x, x, mask),
        ),
        "product": (lambda p, x: affine(x, *p), (wide, bias)),
        "gelu": (lambda p, x: activate(p, "gelu"), inner),
        "norm": (norm.apply, norm.init(key, x)),
        "layer": (
            lambda p, x: layer.apply(p, x, mask, hidden_rate=0.1, attention_rate=0.1, rngs=drop),
            layer.init(key, x, mask),
        ),
    }
    cost = Cost(1, spec.hidden_size, spec.intermediate_size, 0)
    tokens = batch * length
    flops = {
        "layer": cost.forward([length] * batch, 0),
        "product": 2.0 * tokens * spec.hidden_size * spec.intermediate_size,
        "attention": Cost(1, spec.hidden_size, 0, 0).forward([length] * batch, 0),
    }
    stages = []
    for name, (function, params) in functions.items():
        arguments = (params,) if name == "embeddings" else (params, x)
        stages += _forward_and_backward("layer", name, function, arguments, flops.get(name, 0.0))
    return stages


def above_stages(spec: EncoderSpec, batch: int, length: int) -> list[Stage]:
    """Returns the parts above the encoder: those of a bi-encoder, the loss, and the masked-token head (15 %)."""
    rows, key = random_batch(spec, batch, length), jax.random.key(0)
    hidden = jax.random.normal(key, (batch, length, spec.hidden_size))
    combine = CombineConfig(features=("u", "v", "|u-v|", "u*v"))
    plain = build_pair_model(ModelConfig(kind="bi", combine=combine), spec, 3)
    crossed = build_pair_model(
        ModelConfig(kind="bi", combine=combine, interact=InteractConfig(kind="cross", heads=spec.num_heads)), spec, 3
    )
    params, with_attention = plain.init_above(key), crossed.init_above(key)
    pooled = plain.pooled(params, hidden, rows)
    loss = make_loss(LossConfig(), TaskSpec("classification", ("a", "b", "c")), None)
    masked = max(1, round(0.15 * length))
    head, table = MaskedTokenHead(spec), jax.random.normal(key, (spec.vocab_size, spec.hidden_size))
    gathered = hidden[:, :masked]
    words = 2.0 * batch * masked * spec.hidden_size * (spec.hidden_size + spec.vocab_size)
    stages: list[tuple[str, Callable[..., Any], tuple[Any, ...], float]] = [
        ("pooling", lambda h: plain.pooled(params, h, rows), (hidden,), 0.0),
        ("cross-attention, pooling", lambda p, h: crossed.pooled(p, h, rows), (with_attention, hidden), 0.0),
        ("combiner, classifier", plain.head_pooled, (params, pooled), 0.0),
        ("loss", lambda x: loss(x, rows, smoothing=0.0)[0], (jax.random.normal(key, (batch, 1, 3)),), 0.0),
        ("masked tokens", head.apply, (head.init(key, gathered, table), gathered, table), words),
    ]
    return [stage for name, *rest in stages for stage in _forward_and_backward("above the encoder", name, *rest)]


def _forward_and_backward(
    group: str, name: str, function: Callable[..., Any], arguments: tuple[Any, ...], flops: float
) -> list[Stage]:
    """Returns a function as two stages: forward, and forward with backward from a given cotangent."""
    forward = jax.jit(function)
    like = jax.eval_shape(function, *arguments)
    cotangent = jax.random.normal(jax.random.key(1), like.shape, like.dtype)

    def both(cotangent: Any, *arguments: Any) -> Any:
        out, pull = jax.vjp(function, *arguments)
        return out, pull(cotangent)

    return [
        Stage(f"{group}, forward", name, _waiting(forward, *arguments), flops),
        Stage(f"{group}, with backward", name, _waiting(jax.jit(both), cotangent, *arguments), 3 * flops),
    ]


def _waiting(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Returns a call of the function that waits for its result."""
    return lambda: jax.block_until_ready(function(*arguments))


def step_stages(folder: Path, spec: EncoderSpec, batch: int, length: int) -> list[Stage]:
    """Returns the whole model, the step, the optimiser, and the making of a batch."""
    rows = random_batch(spec, batch, length)
    fns = build_pair_model(ModelConfig(), spec, 3)
    loaded = load_encoder(folder, spec)
    params, _ = initial_params(fns, jax.random.key(0), encoder=loaded.params, pooler=loaded.pooler)
    params = jax.tree.map(jnp.asarray, params)
    optimizer = build_optimizer(
        OptimConfig(), total_steps=1000, decay=decay_mask(params), multiplier=rate_multipliers(OptimConfig(), params)
    )
    loss = make_loss(LossConfig(), TaskSpec("classification", ("a", "b", "c")), None)
    hypers = Hypers(5e-5, 0.01, 0.0, RATES)
    step = make_train_step(fns.apply, loss, optimizer)
    state = init_state(params, optimizer, key=jax.random.key(0))

    def update() -> None:
        nonlocal state
        state, metrics = step(state, {}, rows, hypers)
        jax.block_until_ready(metrics)

    def objective(params: Any, key: Any) -> Any:
        total, weight = loss(fns.apply(params, rows, key=key, rates=RATES), rows, smoothing=0.0)
        return total / weight

    transform = optimizer(hypers)
    moments = optimizer.init(params)
    encoded = _random_pairs(spec, batch, length)
    label = np.zeros(len(encoded), np.int32)
    plan = plan_epoch(seed=0, epoch=0, lengths=encoded.lengths, layout=Layout("padded", (length,)), batch_size=batch)
    cost = Cost(spec.num_layers, spec.hidden_size, spec.intermediate_size, spec.hidden_size**2)
    forward, backward = cost.forward([length] * batch, batch), cost.training([length] * batch, batch)
    key = jax.random.key(1)
    return [
        Stage("whole", "encoder", _waiting(jax.jit(fns.encode), params, rows), forward),
        Stage("whole", "logits", _waiting(jax.jit(fns.apply), params, rows), forward),
        Stage("whole", "gradient", _waiting(jax.jit(jax.grad(objective)), params, key), backward),
        Stage(
            "whole", "optimiser", _waiting(jax.jit(lambda g, m, p: transform.update(g, m, p)), params, moments, params)
        ),
        Stage("whole", "step", update, backward),
        Stage("whole", "batch", lambda: make_batch(encoded, label, plan.index[0], length)),
    ]


def _random_pairs(spec: EncoderSpec, batch: int, length: int) -> EncodedPairs:
    """Returns 16 batches of pairs that are a little shorter than a row."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(max(4, length - 8), length + 1, 16 * batch)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = rng.integers(5, spec.vocab_size, offsets[-1], dtype=np.int32)
    return EncodedPairs(tokens, offsets, (lengths // 2).astype(np.int32), "cross", True, 0, length, "longest_first")


def measure_stages(stages: list[Stage], *, repeats: int) -> list[dict[str, Any]]:
    """Times stages: compiles each, then runs each once a turn, so a slow moment hits all alike; the best run counts."""
    compiled, best = {}, {}
    for stage in stages:
        began = time.perf_counter()
        stage.run()
        compiled[stage] = time.perf_counter() - began
    for _ in range(repeats):
        for stage in stages:
            began = time.perf_counter()
            stage.run()
            best[stage] = min(best.get(stage, np.inf), time.perf_counter() - began)
    return [
        {
            "group": stage.group,
            "stage": stage.name,
            "milliseconds": 1e3 * best[stage],
            "compile_seconds": compiled[stage],
            "flops": stage.flops,
        }
        for stage in stages
    ]


def main() -> None:
    """Measures every stage at every shape and prints the result."""
    options = parse_options(__doc__)
    folder = resolve_encoder(options.encoder, download=False)
    spec = read_encoder_spec(folder)
    shapes = [(32, 32)] if options.quick else [(32, 16), (32, 32), (32, 64), (32, 128), (8, 64), (128, 32)]
    rates, rows = [measure_matrix_rate()], []
    for batch, length in shapes:
        stages = [
            *layer_stages(spec, batch, length),
            *above_stages(spec, batch, length),
            *step_stages(folder, spec, batch, length),
        ]
        timings = measure_stages(stages, repeats=3 if options.quick else 7)
        rates.append(measure_matrix_rate())
        rows += [{"batch": batch, "length": length, **row} for row in timings]
    rate = median(rates)
    for row in rows:
        if row["flops"]:
            row["share_of_floor"] = row["flops"] / (row["milliseconds"] / 1e3) / (rate * 1e9)
    print_result(rows, rates)


if __name__ == "__main__":
    main()
