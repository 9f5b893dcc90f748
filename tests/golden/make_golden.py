"""Writes the golden encoders: a small random model of each family, with torch's hidden states and gradients.

Run it in an environment with pairjax, torch and transformers (the files come from torch 2.13, transformers 5.23):

    python tests/golden/make_golden.py [FOLDER ...]

Each folder gets config.json, model.safetensors and golden.npz. The last holds the inputs, the last hidden
state, the pooler's output, and the gradient of `sum(hidden * weights) + sum(pooled * pooled_weights)` with respect to
each parameter; `weights` is 0 on padding. The folder pretraining holds a `BertForPreTraining` in the same form, with
its logits, its two losses and the gradient of their sum.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers

from pairjax.base.families import FAMILIES, find_family

HERE = Path(__file__).parent
ROWS, LENGTH, LENGTHS = 3, 12, (12, 7, 9)
SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 64}
SHARED = {"vocab_size": 90, "max_position_embeddings": 24, "attn_implementation": "eager"}
ROBERTA = {"pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "max_position_embeddings": 26}
OWN = {"roberta": ROBERTA, "xlm-roberta": ROBERTA, "electra": {"embedding_size": 16}}
NARROW = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 40}
MODERN = NARROW | {"num_hidden_layers": 4, "local_attention": 6, "pad_token_id": 0, "global_attn_every_n_layers": 3}
DEBERTA = NARROW | {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]}
SHARED_KEYS = {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 8}
# Folder: family and settings. The odd ones have no other test of their settings.
CASES = {
    "mpnet": ("mpnet", NARROW | {"pad_token_id": 1, "max_position_embeddings": 26}),
    "albert": ("albert", NARROW | {"embedding_size": 8, "num_hidden_layers": 3}),
    "modernbert": ("modernbert", MODERN),
    "modernbert-global": ("modernbert", MODERN | {"num_hidden_layers": 2, "global_attn_every_n_layers": 1}),
    "modernbert-wide": (
        "modernbert",
        MODERN | {"num_hidden_layers": 2, "local_attention": 40, "local_rope_theta": 50.0},
    ),
    "deberta-v2": ("deberta-v2", DEBERTA | SHARED_KEYS),
    "deberta-v2-own-keys": ("deberta-v2", DEBERTA | {"position_buckets": 6}),
    "deberta-v2-c2p": (
        "deberta-v2",
        DEBERTA | {"pos_att_type": "c2p", "position_biased_input": True, "type_vocab_size": 2},
    ),
}


def config_of(family: str, changes: dict[str, object] | None = None) -> transformers.PretrainedConfig:
    """Builds the configuration of a small model of the family."""
    keys = find_family(family).config_keys
    sizes = {getattr(keys, field): size for field, size in SIZES.items()}
    return transformers.AutoConfig.for_model(family, **SHARED | sizes | OWN.get(family, {}) | (changes or {}))


def build(config: transformers.PretrainedConfig) -> torch.nn.Module:
    """Builds a random model in evaluation mode."""
    return spread(getattr(transformers, find_family(config.model_type).bare_model)(config))


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """Draws weights that are large enough for errors to show, and sets evaluation mode."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 2:
                value.normal_(0.0, 0.15)
            else:
                value.normal_(1.0 if name.lower().endswith("norm.weight") else 0.0, 0.1)
    return model.eval()


def inputs(config: transformers.PretrainedConfig, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draws rows of three lengths; the second side starts in the middle, with segment 1 if the family has segments."""
    record = find_family(config.model_type)
    slots, lengths = np.arange(LENGTH), np.asarray(LENGTHS)[:, None]
    mask = slots < lengths
    side = mask & (slots >= lengths // 2)
    ids = np.where(mask, rng.integers(4, config.vocab_size, (ROWS, LENGTH)), config.pad_token_id)
    segments = side.astype(ids.dtype) if record.segments else np.zeros_like(ids)
    arrays = {"input_ids": ids, "token_type_ids": segments, "attention_mask": mask, "side_ids": side}
    return {name: value.astype(np.int32) for name, value in arrays.items()}


def pretraining() -> None:
    """Writes the folder pretraining: masked positions, labels, logits, losses and gradients of BertForPreTraining."""
    torch.manual_seed(5)
    rng = np.random.default_rng(5)
    model = transformers.BertForPreTraining(config_of("bert"))
    spread(model)
    arrays = inputs(model.config, rng)
    names = ("input_ids", "attention_mask", "token_type_ids")
    tokens = {name: torch.from_numpy(arrays[name]).long() for name in names}
    positions = np.stack([rng.choice(np.arange(1, length - 1), 3, replace=False) for length in LENGTHS])
    arrays["masked_positions"] = np.sort(positions, axis=1).astype(np.int32)
    arrays["masked_targets"] = rng.integers(4, 90, positions.shape).astype(np.int32)
    arrays["masked_weights"] = np.asarray([[1, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)
    arrays["order"] = np.asarray([0, 1, 1], np.int32)
    labels = np.full((ROWS, LENGTH), -100)
    used = arrays["masked_weights"] > 0
    labels[np.nonzero(used)[0], arrays["masked_positions"][used]] = arrays["masked_targets"][used]
    output = model(**tokens)
    flat = output.prediction_logits.view(-1, 90), torch.from_numpy(labels).view(-1)
    order = output.seq_relationship_logits, torch.from_numpy(arrays["order"]).long()
    mlm_loss, order_loss = (torch.nn.functional.cross_entropy(*pair) for pair in (flat, order))
    total = model(**tokens, labels=flat[1].view(ROWS, LENGTH), next_sentence_label=order[1]).loss
    assert torch.allclose(total, mlm_loss + order_loss)
    total.backward()
    arrays |= {"prediction_logits": output.prediction_logits.detach().numpy()}
    arrays |= {"order_logits": output.seq_relationship_logits.detach().numpy()}
    arrays |= {"mlm_loss": mlm_loss.detach().numpy(), "order_loss": order_loss.detach().numpy()}
    arrays |= {f"gradient/{name}": value.grad.numpy() for name, value in model.named_parameters()}
    model.save_pretrained(HERE / "pretraining")
    np.savez_compressed(HERE / "pretraining" / "golden.npz", **arrays)


def main() -> None:
    """Writes the folders that are named as arguments; by default every folder."""
    chosen = sys.argv[1:]
    if not chosen:
        pretraining()
    old = {family: (family, {}) for family in FAMILIES if family not in CASES}
    for seed, (name, (family, changes)) in enumerate((old | CASES).items()):
        if chosen and name not in chosen:
            continue
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        config = config_of(family, changes)
        model, arrays = build(config), inputs(config, rng)
        names = ["input_ids", "attention_mask"]
        if getattr(config, "type_vocab_size", 0):
            names.append("token_type_ids")
        output = model(**{key: torch.from_numpy(arrays[key]).long() for key in names})
        hidden, pooled = output.last_hidden_state, getattr(output, "pooler_output", None)
        weights = rng.normal(size=hidden.shape) * arrays["attention_mask"][..., None]
        arrays |= {"hidden": hidden.detach().numpy(), "weights": weights.astype(np.float32)}
        loss = (hidden * torch.from_numpy(arrays["weights"])).sum()
        if pooled is not None:
            arrays["pooled"] = pooled.detach().numpy()
            arrays["pooled_weights"] = rng.normal(size=pooled.shape).astype(np.float32)
            loss = loss + (pooled * torch.from_numpy(arrays["pooled_weights"])).sum()
        loss.backward()
        for parameter, value in model.named_parameters():
            arrays[f"gradient/{parameter}"] = np.zeros(value.shape) if value.grad is None else value.grad.numpy()
        folder = HERE / name
        model.save_pretrained(folder)
        np.savez_compressed(folder / "golden.npz", **arrays)
        print(name, {path.name: path.stat().st_size for path in sorted(folder.iterdir())})


if __name__ == "__main__":
    main()
