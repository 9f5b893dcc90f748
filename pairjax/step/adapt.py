"""Changes of the parameters before the first step: reinitialised layers, and low-rank updates (LoRA).

A kernel W [in, out] with a low-rank update becomes W + alpha / rank * A B, with A [in, rank] and B [rank, out], after
Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021). A and B are leaves `lora_a` and `lora_b` beside
the kernel, so every path table covers them. The model gets the sum and never sees A and B.
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
"""How each parameter of a layer is reinitialised, as in BERT: kernels from N(0, 0.02^2)."""

DEVIATION = 0.02
"""Standard deviation of new kernels."""


def _key_of(key: PRNGKeyArray, path: str) -> PRNGKeyArray:
    """Returns the key of a path; it does not depend on the other paths."""
    return jax.random.fold_in(key, zlib.crc32(path.encode()))


def reinit_top(config: OptimConfig, params: Params, key: PRNGKeyArray) -> Params:
    """Returns the tree with its top encoder layers reinitialised; all other leaves are the same objects.

    After Zhang et al., "Revisiting Few-sample BERT Fine-tuning" (2021).

    Args:
        config: The optimiser's config; `reinit_layers` layers are reinitialised.
        params: The whole tree.
        key: Seeds the new kernels.

    Raises:
        UserError: The encoder has fewer layers, or the table does not cover a path.
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
    """Returns the paths, without `/kernel`, of the encoder's kernels that get a low-rank update.

    Args:
        config: The targets and the rank; rank 0 adapts none.
        params: The whole tree.

    Raises:
        UserError: A target is not a regular expression or matches no kernel; or a kernel is smaller than the rank.
    """
    if config.rank == 0:
        return []
    shapes = {
        path.removesuffix("/kernel"): leaf.shape
        for path, leaf in flatten(params).items()
        if path.startswith("encoder/") and path.endswith("/kernel")
    }
    adapted = set()
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
        adapted |= matched
    small = [path for path in adapted if min(shapes[path]) < config.rank]
    if small:
        raise UserError(
            "--optim.lora.rank is more than a kernel has",
            got=config.rank,
            expected=f"at most {min(min(shapes[path]) for path in small)}",
        )
    return [path for path in shapes if path in adapted]


def add_lora(config: LoraConfig, params: Params, key: PRNGKeyArray) -> Params:
    """Returns the tree with A and B beside each target kernel.

    A is uniform in +-1 / sqrt(in) and B is zero, so the model does not change.

    Args:
        config: The targets and the rank.
        params: The whole tree.
        key: Seeds A.

    Raises:
        UserError: As for `adapted_kernels`.
    """
    flat = flatten(params)
    for path in adapted_kernels(config, params):
        inputs, outputs = flat[f"{path}/kernel"].shape
        sample = jax.random.uniform(_key_of(key, path), (inputs, config.rank), minval=-1.0, maxval=1.0)
        flat[f"{path}/lora_a"] = sample / np.float32(np.sqrt(inputs))
        flat[f"{path}/lora_b"] = np.zeros((config.rank, outputs), np.float32)
    return unflatten(flat)


@jax.jit
def _merged(kernel: Any, a: Any, b: Any, scale: Any) -> Any:
    """Returns W + scale * A B."""
    return kernel + scale * jnp.matmul(a, b, precision="highest")


def merge_lora(config: LoraConfig, params: Params) -> Params:
    """Returns the model's own tree: each A B is added to its kernel and removed. A tree without LoRA is unchanged.

    Args:
        config: The scale of the updates.
        params: The tree that is trained.
    """
    flat = flatten(params)
    plain = {path: leaf for path, leaf in flat.items() if not path.endswith(("/lora_a", "/lora_b"))}
    for path in plain:
        stem = path.removesuffix("/kernel")
        if f"{stem}/lora_a" in flat:
            a, b = flat[f"{stem}/lora_a"], flat[f"{stem}/lora_b"]
            plain[path] = _merged(plain[path], a, b, config.alpha / config.rank)
    return unflatten(plain)


def with_lora(apply: Apply, config: LoraConfig) -> Apply:
    """Returns the forward pass of a tree with low-rank updates; `apply` itself if the rank is 0."""
    if config.rank == 0:
        return apply

    def adapted(params: Params, *args: Any, **options: Any) -> Any:
        return apply(merge_lora(config, params), *args, **options)

    return adapted


def adaptation_notes(config: OptimConfig, params: Params) -> tuple[str, ...]:
    """Returns a line about each of these options that is used.

    Args:
        config: The optimiser's config.
        params: The tree with its low-rank updates (`add_lora`).
    """
    notes = []
    if config.reinit_layers:
        notes.append(f"the top {config.reinit_layers} encoder layers start from new random weights")
    leaves = [leaf for path, leaf in flatten(params).items() if path.endswith(("/lora_a", "/lora_b"))]
    if leaves:
        numbers = sum(leaf.size for leaf in leaves)
        notes.append(f"LoRA: rank {config.lora.rank} beside {len(leaves) // 2} kernels, {numbers:,} parameters")
    return tuple(notes)
