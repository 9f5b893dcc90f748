"""Reads the settings of config.json that one family has and others do not."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pairjax.base.errors import UserError
from pairjax.base.types import Disentangled, Rotary

GLOBAL, LOCAL = "full_attention", "sliding_attention"
"""Names of ModernBERT's kinds of layers in config.json."""


def check_fixed(path: Path, config: Mapping[str, Any], fixed: Mapping[str, object]) -> None:
    """Checks settings that pairjax supports with one value only.

    Args:
        path: The file, for the message.
        config: Its settings.
        fixed: The value of each setting, which is the default too.

    Raises:
        UserError: A setting has another value.
    """
    for key, value in fixed.items():
        if config.get(key) not in (None, value):
            raise UserError(f"{path}: {key} is not supported", got=config[key], expected=value)


def read_disentangled(path: Path, config: Mapping[str, Any], *, size: Callable[..., int]) -> Disentangled:
    """Reads the position scores of DeBERTa-v2 and v3.

    Args:
        path: The file, for messages.
        config: Its settings.
        size: Reads a whole number of them.

    Raises:
        UserError: There are none, or a setting is not supported.
    """
    heads = size("num_attention_heads")
    check_fixed(
        path,
        config,
        {"embedding_size": config.get("hidden_size"), "attention_head_size": size("hidden_size") // heads},
    )
    if config.get("relative_attention") is not True:
        raise UserError(
            f"{path}: relative_attention is not supported", got=config.get("relative_attention", False), expected=True
        )
    named = config.get("pos_att_type") or []
    named = named.lower().split("|") if isinstance(named, str) else named
    kinds: list[Literal["c2p", "p2c"]] = []
    for name in named if isinstance(named, list) else [named]:
        match str(name).strip():
            case "c2p" | "p2c" as kind:
                kinds.append(kind)
            case _:
                raise UserError(f"{path}: pos_att_type is not supported", got=name, expected="c2p, p2c or both")
    norms = {part.strip() for part in str(config.get("norm_rel_ebd", "none")).lower().split("|")}
    if norms - {"none", "layer_norm"}:
        raise UserError(
            f"{path}: norm_rel_ebd is not supported", got=config["norm_rel_ebd"], expected="none or layer_norm"
        )
    farthest = size("max_relative_positions", low=-1, default=-1)
    farthest = farthest if farthest > 0 else size("max_position_embeddings")
    buckets = max(0, size("position_buckets", low=-1, default=-1))
    if buckets > 0 and not 4 <= buckets <= 2 * (farthest - 2):
        raise UserError(
            f"{path}: position_buckets is impossible", got=buckets, expected=f"a number from 4 to {2 * (farthest - 2)}"
        )
    return Disentangled(
        span=buckets or farthest,
        buckets=buckets,
        max_distance=farthest,
        kinds=tuple(sorted(set(kinds))),
        shared_keys=config.get("share_att_key") is True,
        norm="layer_norm" in norms,
    )


def read_rotary(path: Path, config: Mapping[str, Any], *, size: Callable[..., int]) -> Rotary:
    """Reads the rotary positions and the local layers of ModernBERT, in the new form of config.json or in the old one.

    Args:
        path: The file, for messages.
        config: Its settings.
        size: Reads a whole number of them.

    Raises:
        UserError: A setting is impossible or not supported.
    """
    layers = size("num_hidden_layers")
    every = size("global_attn_every_n_layers", default=3)
    kinds = config.get("layer_types") or [LOCAL if index % every else GLOBAL for index in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or not set(kinds) <= {GLOBAL, LOCAL}:
        raise UserError(
            f"{path}: layer_types is not supported",
            got=f"{kinds!r:.80}",
            expected=f"{GLOBAL} or {LOCAL} for each of {layers} layers",
        )
    if config.get("rope_scaling"):
        raise UserError(f"{path}: rope_scaling is not supported", got=config["rope_scaling"], expected="none")
    if size("hidden_size") // size("num_attention_heads") % 2:
        raise UserError(f"{path}: the width of a head is odd, which rotary positions cannot be")
    return Rotary(
        theta=_theta(path, config, GLOBAL, old="global_rope_theta", default=160_000.0),
        local_theta=_theta(path, config, LOCAL, old="local_rope_theta", default=10_000.0),
        window=size("local_attention", default=128) // 2,
        local=tuple(kind == LOCAL for kind in kinds),
    )


def _theta(path: Path, config: Mapping[str, Any], kind: str, *, old: str, default: float) -> float:
    """Returns the base of the frequencies of one kind of layers."""
    parameters = config.get("rope_parameters") or {}
    parameters = parameters.get(kind) if isinstance(parameters, Mapping) else None
    parameters = parameters if isinstance(parameters, Mapping) else {}
    if parameters.get("rope_type", "default") != "default":
        raise UserError(f"{path}: rope_type is not supported", got=parameters["rope_type"], expected="default")
    theta = parameters.get("rope_theta", config.get(old) or default)
    if not isinstance(theta, int | float) or isinstance(theta, bool) or theta <= 1:
        raise UserError(f"{path}: the base of the rotary positions is impossible", got=theta, expected="more than 1")
    return float(theta)
