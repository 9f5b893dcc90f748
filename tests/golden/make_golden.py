"""Write the golden encoders: small random models of each family, with torch's hidden states and gradients.

Run where torch and transformers are installed (made with torch 2.13, transformers 5.23):

    python tests/golden/make_golden.py

Each family's folder gets config.json, model.safetensors and golden.npz: the inputs, the last hidden state, the pooler's
output, and the gradient of `sum(hidden * weights) + sum(pooled * pooled_weights)` by every parameter, where `weights`
is 0 on padding. The folder pretraining holds a `BertForPreTraining` alike, with its logits, its two losses and the
gradient of their sum.
"""

from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).parent
ROWS, LENGTH, LENGTHS = 3, 12, (12, 7, 9)
SIZES = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 64, "max_position_embeddings": 24, "attn_implementation": "eager"}
ROBERTA = SIZES | {"pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "max_position_embeddings": 26}
DISTIL = {"vocab_size": 90, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 24}


def build(family: str) -> torch.nn.Module:
    """A model of the family in evaluation mode, its weights spread enough for errors to show."""
    match family:
        case "bert":
            model = transformers.BertModel(transformers.BertConfig(**SIZES))
        case "roberta":
            model = transformers.RobertaModel(transformers.RobertaConfig(**ROBERTA))
        case "xlm-roberta":
            model = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**ROBERTA))
        case "distilbert":
            config = transformers.DistilBertConfig(**DISTIL, attn_implementation="eager")
            model = transformers.DistilBertModel(config)
        case "electra":
            model = transformers.ElectraModel(transformers.ElectraConfig(**SIZES, embedding_size=16))
    return spread(model)


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """The model in evaluation mode, its weights drawn wide."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 2:
                value.normal_(0.0, 0.15)
            else:
                value.normal_(1.0 if name.endswith("LayerNorm.weight") or "layer_norm.weight" in name else 0.0, 0.1)
    return model.eval()


def inputs(family: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Rows of three lengths; the second side starts in the middle, with segment 1 where the family has segments."""
    roberta = family in ("roberta", "xlm-roberta")
    slots, lengths = np.arange(LENGTH), np.asarray(LENGTHS)[:, None]
    mask = slots < lengths
    side = mask & (slots >= lengths // 2)
    ids = np.where(mask, rng.integers(4, 90, (ROWS, LENGTH)), 1 if roberta else 0)
    segments = np.zeros_like(ids) if roberta or family == "distilbert" else side.astype(ids.dtype)
    arrays = {"input_ids": ids, "token_type_ids": segments, "attention_mask": mask, "side_ids": side}
    return {name: value.astype(np.int32) for name, value in arrays.items()}


def pretraining() -> None:
    """Write the folder pretraining: masked positions, labels, logits, losses and gradients of BertForPreTraining."""
    torch.manual_seed(5)
    rng = np.random.default_rng(5)
    model = transformers.BertForPreTraining(transformers.BertConfig(**SIZES))
    spread(model)
    arrays = inputs("bert", rng)
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
    mlm_loss, order_loss = (torch.nn.functional.cross_entropy(*each) for each in (flat, order))
    whole = model(**tokens, labels=flat[1].view(ROWS, LENGTH), next_sentence_label=order[1])
    assert torch.allclose(whole.loss, mlm_loss + order_loss)
    whole.loss.backward()
    arrays |= {"prediction_logits": output.prediction_logits.detach().numpy()}
    arrays |= {"order_logits": output.seq_relationship_logits.detach().numpy()}
    arrays |= {"mlm_loss": mlm_loss.detach().numpy(), "order_loss": order_loss.detach().numpy()}
    arrays |= {f"gradient/{name}": value.grad.numpy() for name, value in model.named_parameters()}
    model.save_pretrained(HERE / "pretraining")
    np.savez_compressed(HERE / "pretraining" / "golden.npz", **arrays)


def main() -> None:
    """Write all six."""
    pretraining()
    for seed, family in enumerate(("bert", "roberta", "xlm-roberta", "distilbert", "electra")):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        model, arrays = build(family), inputs(family, rng)
        names = ["input_ids", "attention_mask", *(["token_type_ids"] if family != "distilbert" else [])]
        output = model(**{name: torch.from_numpy(arrays[name]).long() for name in names})
        hidden, pooled = output.last_hidden_state, getattr(output, "pooler_output", None)
        weights = rng.normal(size=hidden.shape) * arrays["attention_mask"][..., None]
        arrays |= {"hidden": hidden.detach().numpy(), "weights": weights.astype(np.float32)}
        loss = (hidden * torch.from_numpy(arrays["weights"])).sum()
        if pooled is not None:
            arrays["pooled"] = pooled.detach().numpy()
            arrays["pooled_weights"] = rng.normal(size=pooled.shape).astype(np.float32)
            loss = loss + (pooled * torch.from_numpy(arrays["pooled_weights"])).sum()
        loss.backward()
        arrays |= {f"gradient/{name}": value.grad.numpy() for name, value in model.named_parameters()}
        folder = HERE / family
        model.save_pretrained(folder)
        np.savez_compressed(folder / "golden.npz", **arrays)
        print(family, {path.name: path.stat().st_size for path in sorted(folder.iterdir())})


if __name__ == "__main__":
    main()
