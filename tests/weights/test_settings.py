"""Settings of config.json that one family has: what is read, and what is refused by name."""

import json
from pathlib import Path

import pytest

from pairjax.base.errors import UserError
from pairjax.base.types import Disentangled, Rotary
from pairjax.weights import read_encoder_spec
from tests.tiny import write_tiny_encoder


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """The config.json of each family."""
    folder = tmp_path_factory.mktemp("configs")
    names = ("mpnet", "albert", "modernbert", "deberta-v2")
    return {
        name: json.loads((write_tiny_encoder(folder / name, family=name) / "config.json").read_text()) for name in names
    }


def read(folder: Path, config: dict, changes: dict):
    values = {key: value for key, value in (config | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(values))
    return read_encoder_spec(folder)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("deberta-v2", {"conv_kernel_size": 3}, "conv_kernel_size is not supported; got 3; expected 0"),
        ("deberta-v2", {"relative_attention": ...}, "relative_attention is not supported; got False; expected True"),
        ("deberta-v2", {"pos_att_type": ["p2p"]}, "pos_att_type is not supported; got p2p; expected c2p, p2c or both"),
        ("deberta-v2", {"norm_rel_ebd": "rms"}, "norm_rel_ebd is not supported; got rms"),
        ("deberta-v2", {"embedding_size": 8}, "embedding_size is not supported; got 8; expected 32"),
        ("deberta-v2", {"attention_head_size": 64}, "attention_head_size is not supported; got 64; expected 16"),
        ("deberta-v2", {"position_buckets": 3}, "position_buckets is impossible; got 3"),
        ("deberta-v2", {"hidden_act": "mish"}, "the activation is not supported; got mish"),
        ("albert", {"num_hidden_groups": 2}, "num_hidden_groups is not supported; got 2; expected 1"),
        ("albert", {"inner_group_num": 2}, "inner_group_num is not supported; got 2; expected 1"),
        ("mpnet", {"pad_token_id": 0}, "pad_token_id is not supported; got 0; expected 1"),
        ("mpnet", {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets is not supported; got 64"),
        ("modernbert", {"norm_bias": True}, "norm_bias is not supported; got True; expected False"),
        ("modernbert", {"layer_types": ["full_attention"] * 9}, "layer_types is not supported"),
        ("modernbert", {"rope_scaling": {"factor": 2}}, "rope_scaling is not supported"),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            "rope_type is not supported; got yarn; expected default",
        ),
        ("modernbert", {"local_rope_theta": "x"}, "the base of the rotary positions is impossible; got x"),
        ("modernbert", {"global_attn_every_n_layers": 0}, "global_attn_every_n_layers is impossible; got 0"),
    ],
)
def test_an_unsupported_setting_is_named(
    configs: dict[str, dict], family: str, changes: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, configs[family], changes)
    assert "\n" not in str(error.value)


def test_settings_are_read_in_their_old_and_new_forms(configs: dict[str, dict], tmp_path: Path) -> None:
    old = {"num_hidden_layers": 4, "global_attn_every_n_layers": 3, "global_rope_theta": 8e4, "local_attention": 10}
    spec = read(tmp_path, configs["modernbert"], old)
    assert spec.rotary == Rotary(8e4, 10_000.0, 5, (False, True, True, False))
    new = {
        "num_hidden_layers": 4,
        "global_attn_every_n_layers": ...,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 8e4}, "sliding_attention": None},
        "local_attention": 10,
    }
    assert read(tmp_path, configs["modernbert"], new) == spec
    changes = {"pos_att_type": "p2c|c2p", "position_buckets": -1, "share_att_key": ..., "norm_rel_ebd": ...}
    spec = read(tmp_path, configs["deberta-v2"], changes | {"position_biased_input": ...})
    assert spec.disentangled == Disentangled(128, 0, 128, ("c2p", "p2c"), shared_keys=False, norm=False)
    assert spec.absolute_positions
    assert spec.type_vocab_size == 0
