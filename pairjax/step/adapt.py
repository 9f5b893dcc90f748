"""What changes the parameters before the first step: layers that start anew, and low-rank updates (LoRA).

A kernel W [in, out] with an update becomes W + alpha / rank * A B, A [in, rank] and B [rank, out], after Hu et al.,
"LoRA: Low-Rank Adaptation of Large Language Models" (2021). A and B lie beside it in the tree, as `lora_a` and
`lora_b`, so that every path table reads them; the model is given the sum and never sees them.
"""

import re
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from pairjax.base.config import OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.optim_config import LoraConfig
from pairjax.base.params import Table, flatten, lookup, unflatten
from pairjax.base.types import Params
from pairjax.step.optim import layer_count
from pairjax.step.step import Apply

FRESH: Table[str] = (
    (r".*/kernel", "normal"),
    (r".*/scale", "ones"),
    (r".*/bias", "zeros"),
)
"""How a layer's parameters start anew, as BERT's did: kernels from N(0, 0.02^2)."""

DEVIATION = 0.02


def _key_of(key: PRNGKeyArray, path: str) -> PRNGKeyArray:
    """A key for each path, whatever other paths there are."""
    return jax.random.fold_in(key, zlib.crc32(path.encode()))


def reinit_top(config: OptimConfig, params: Params, key: PRNGKeyArray) -> Params:
    """The tree with its top `config.reinit_layers` encoder layers drawn anew; other leaves are the same objects.

    After Zhang et al., "Revisiting Few-sample BERT Fine-tuning" (2021).

    Raises:
        UserError: More layers than there are, or a path that the table does not cover.
    """
    flat = flatten(params)
    layers = layer_count(list(flat))
    if config.reinit_layers > layers:
        raise UserError(
            "--optim.reinit-layers is more than the encoder has",
            got=config.reinit_layers,
            expected=f"at most {layers}",
        )
    tops = tuple(f"encoder/layer_{i}/" for i in range(layers - config.reinit_layers, layers))
    for path, how in lookup(FRESH, [path for path in flat if path.startswith(tops)]).items():
        shape = flat[path].shape
        match how:
            case "normal":
                flat[path] = np.asarray(DEVIATION * jax.random.normal(_key_of(key, path), shape))
            case "ones":
                flat[path] = np.ones(shape, np.float32)
            case _:
                flat[path] = np.zeros(shape, np.float32)
    return unflatten(flat)


def adapted_kernels(config: LoraConfig, params: Params) -> list[str]:
    """Paths without `/kernel` of the encoder's kernels that some target matches; none where the rank is 0.

    Raises:
        UserError: A target that is no pattern, or matches no kernel; or a kernel smaller than the rank.
    """
    if config.rank == 0:
        return []
    shapes = {
        path.removesuffix("/kernel"): leaf.shape
        for path, leaf in flatten(params).items()
        if path.startswith("encoder/") and path.endswith("/kernel")
    }
    found = set()
    for target in config.targets:
        try:
            matched = {path for path in shapes if re.fullmatch(target, path)}
        except re.error as error:
            raise UserError("--optim.lora.targets: not a regular expression", got=f"{target} ({error})") from None
        if not matched:
            raise UserError(
                "--optim.lora.targets matches no kernel of the encoder",
                got=target,
                expected=f"a pattern of whole paths such as {next(iter(shapes), 'encoder/layer_0/attention/query')}",
            )
        found |= matched
    small = [path for path in found if min(shapes[path]) < config.rank]
    if small:
        raise UserError(
            "--optim.lora.rank is more than a kernel has",
            got=config.rank,
            expected=f"at most {min(min(shapes[path]) for path in small)}",
        )
    return [path for path in shapes if path in found]


def add_lora(config: LoraConfig, params: Params, key: PRNGKeyArray) -> Params:
    """The tree with an A and a B beside each target; A uniform in +-1 / sqrt(in), B zero, so the model is the same.

    Raises:
        UserError: As `adapted_kernels`.
    """
    flat = flatten(params)
    for path in adapted_kernels(config, params):
        inputs, outputs = flat[f"{path}/kernel"].shape
        drawn = jax.random.uniform(_key_of(key, path), (inputs, config.rank), minval=-1.0, maxval=1.0)
        flat[f"{path}/lora_a"] = drawn / np.float32(np.sqrt(inputs))
        flat[f"{path}/lora_b"] = np.zeros((config.rank, outputs), np.float32)
    return unflatten(flat)


@jax.jit
def _merged(kernel: Any, a: Any, b: Any, scale: Any) -> Any:
    return kernel + scale * jnp.matmul(a, b, precision="highest")


def merge_lora(config: LoraConfig, params: Params) -> Params:
    """The model's own tree: each A B added to its kernel and left out. A tree without any is given back alike."""
    flat = flatten(params)
    plain = {path: leaf for path, leaf in flat.items() if not path.endswith(("/lora_a", "/lora_b"))}
    for path in plain:
        stem = path.removesuffix("/kernel")
        if f"{stem}/lora_a" in flat:
            a, b = flat[f"{stem}/lora_a"], flat[f"{stem}/lora_b"]
            plain[path] = _merged(plain[path], a, b, config.alpha / config.rank)
    return unflatten(plain)


def with_lora(apply: Apply, config: LoraConfig) -> Apply:
    """The model over a tree with low-rank updates; `apply` itself where the rank is 0."""
    if config.rank == 0:
        return apply

    def adapted(params: Params, *args: Any, **options: Any) -> Any:
        return apply(merge_lora(config, params), *args, **options)

    return adapted


def adaptation_notes(config: OptimConfig, params: Params) -> tuple[str, ...]:
    """A line on each of these options that is used.

    Args:
        config: Of the optimiser.
        params: The tree with its updates (`add_lora`).
    """
    notes = []
    if config.reinit_layers:
        notes.append(f"the top {config.reinit_layers} encoder layers start anew")
    added = [leaf for path, leaf in flatten(params).items() if path.endswith(("/lora_a", "/lora_b"))]
    if added:
        numbers = sum(leaf.size for leaf in added)
        notes.append(f"LoRA: rank {config.lora.rank} beside {len(added) // 2} kernels, {numbers:,} numbers")
    return tuple(notes)
