"""A small encoder with random weights as a Hugging Face folder, tokeniser included: no torch, no network."""

import json
import re
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from pairjax.base.families import find_family
from pairjax.base.types import PairData
from pairjax.weights import read_encoder_spec
from pairjax.weights.names import encoder_tensors, pooler_tensors

BERT_SPECIALS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA_SPECIALS = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
OWN_SPECIALS = {
    "roberta": ROBERTA_SPECIALS,
    "xlm-roberta": ROBERTA_SPECIALS,
    "mpnet": ROBERTA_SPECIALS | {"unk": "[UNK]"},
    "albert": BERT_SPECIALS | {"pad": "<pad>", "unk": "<unk>"},
}
LATER = {
    "mpnet": {"relative_attention_num_buckets": 32},
    "albert": {"embedding_size": 16, "hidden_act": "gelu_new"},
    "modernbert": {"local_attention": 8, "global_attn_every_n_layers": 2},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 16,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "type_vocab_size": 0,
        "layer_norm_eps": 1e-7,
    },
}
"""Settings of the families whose tensors `pairjax.weights.names` lists here; tests/golden has the names of torch."""
WORDS = ("the", "a", "man", "woman", "dog", "is", "are", "not", "no", "some", "all", "um", "uma", "homem", "mulher")
MAX_POSITIONS = 128


def vocabulary_of(data: PairData) -> list[str]:
    """All words of some pairs, so that each is one token and rows are short."""
    texts = (text for pairs in data.splits.values() for text in (*pairs.first, *pairs.second))
    return sorted({word for text in texts for word in re.findall(r"[a-z]+", text.lower())})


def write_tiny_encoder(
    folder: Path,
    *,
    family: str = "bert",
    seed: int = 0,
    layers: int = 1,
    hidden: int = 32,
    heads: int = 2,
    vocabulary: Sequence[str] = WORDS,
) -> Path:
    """Write config.json, model.safetensors, tokenizer.json and tokenizer_config.json.

    Args:
        folder: Made where it is missing.
        family: The family; ELECTRA's embeddings are half as wide.
        seed: Of the weights.
        layers: Of the encoder.
        hidden: Its width; the feed-forward sublayers are twice that.
        heads: Must divide the width.
        vocabulary: Whole words that are one token each (BERT-like families); all other text is spelt by characters.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    byte_level = family in ("roberta", "xlm-roberta")
    specials = OWN_SPECIALS.get(family, BERT_SPECIALS)
    tokenizer = _byte_tokenizer() if byte_level else _wordpiece_tokenizer(vocabulary, specials)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {f"{role}_token": token for role, token in specials.items()} | {"model_max_length": MAX_POSITIONS}
    classes = {"bert": "BertTokenizer", "electra": "ElectraTokenizer", "distilbert": "DistilBertTokenizer"}
    settings["tokenizer_class"] = classes.get(family, "PreTrainedTokenizerFast")
    if not byte_level:
        settings["do_lower_case"] = True
    _write_json(folder / "tokenizer_config.json", settings)
    config = _config(family, tokenizer, layers=layers, hidden=hidden, heads=heads, pad=specials["pad"])
    _write_json(folder / "config.json", config)
    rng = np.random.default_rng(seed)
    shapes = _listed_shapes(folder) if family in LATER else _shapes(family, config)
    tensors = {name: _random(rng, name, shape) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Spread wider than a fresh model's, so that inputs matter; norms near 1 and biases near 0."""
    values = rng.normal(0.0, 0.02 if len(shape) == 1 else 0.1, shape)
    return (values + (1.0 if "norm.weight" in name.lower() else 0.0)).astype(np.float32)


def _wordpiece_tokenizer(words: Sequence[str], specials: dict[str, str]) -> Tokenizer:
    letters = string.ascii_lowercase + string.digits
    signs = "".join(sorted(set(string.punctuation)))
    tokens = [*specials.values(), *letters, *signs, *(f"##{letter}" for letter in letters)]
    tokens += [word for word in words if word not in tokens]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=specials["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    opening, closing = specials["cls"], specials["sep"]
    second = f"{closing} $B {closing}" if opening == "<s>" else f"$B:1 {closing}:1"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{opening} $A {closing}",
        pair=f"{opening} $A {closing} {second}",
        special_tokens=[(name, vocabulary[name]) for name in (opening, closing)],
    )
    tokenizer.add_special_tokens(list(specials.values()))
    return tokenizer


def _byte_tokenizer() -> Tokenizer:
    tokens = [*ROBERTA_SPECIALS.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]), add_prefix_space=False
    )
    tokenizer.add_special_tokens(list(ROBERTA_SPECIALS.values()))
    return tokenizer


def _config(family: str, tokenizer: Tokenizer, *, layers: int, hidden: int, heads: int, pad: str) -> dict:
    names = {"bert": "BertModel", "roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel"}
    names |= {"distilbert": "DistilBertModel", "electra": "ElectraModel"}
    common = {
        "architectures": [names.get(family, find_family(family).bare_model)],
        "model_type": family,
        "vocab_size": tokenizer.get_vocab_size(),
        "pad_token_id": tokenizer.token_to_id(pad),
    }
    if family == "distilbert":
        shape = {"dim": hidden, "hidden_dim": 2 * hidden, "n_layers": layers, "n_heads": heads}
        rates = {"dropout": 0.1, "attention_dropout": 0.1}
        return common | shape | rates | {"activation": "gelu", "max_position_embeddings": MAX_POSITIONS}
    offset = common["pad_token_id"] + 1 if family in ("roberta", "xlm-roberta", "mpnet") else 0
    return common | {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "layer_norm_eps": 1e-5 if offset else 1e-12,
        "max_position_embeddings": MAX_POSITIONS + offset,
        "type_vocab_size": 1 if offset else 2,
        **({"embedding_size": hidden // 2} if family == "electra" else {}),
        **LATER.get(family, {}),
    }


def _listed_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes as pairjax lists them."""
    spec = read_encoder_spec(folder)
    shapes = {}
    for path, tensor in (encoder_tensors(spec) | pooler_tensors(spec)).items():
        first, *others = tensor.shape[::-1] if path.endswith("/kernel") else tensor.shape
        shapes[tensor.name] = (first * tensor.part[1], *others)
    return shapes


def _shapes(family: str, config: dict) -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes as transformers saves the bare model."""
    hidden = config.get("hidden_size", config.get("dim"))
    inner = config.get("intermediate_size", config.get("hidden_dim"))
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    width = config.get("embedding_size", hidden)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
    }

    def norm(name: str, size: int) -> None:
        shapes.update({f"{name}.weight": (size,), f"{name}.bias": (size,)})

    def dense(name: str, inputs: int, outputs: int) -> None:
        shapes.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    if family != "distilbert":
        shapes["embeddings.token_type_embeddings.weight"] = (config["type_vocab_size"], width)
    norm("embeddings.LayerNorm", width)
    if width != hidden:
        dense("embeddings_project", width, hidden)
    for index in range(layers):
        if family == "distilbert":
            layer = f"transformer.layer.{index}"
            for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
                dense(f"{layer}.attention.{name}", hidden, hidden)
            norm(f"{layer}.sa_layer_norm", hidden)
            dense(f"{layer}.ffn.lin1", hidden, inner)
            dense(f"{layer}.ffn.lin2", inner, hidden)
            norm(f"{layer}.output_layer_norm", hidden)
        else:
            layer = f"encoder.layer.{index}"
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                dense(f"{layer}.attention.{name}", hidden, hidden)
            norm(f"{layer}.attention.output.LayerNorm", hidden)
            dense(f"{layer}.intermediate.dense", hidden, inner)
            dense(f"{layer}.output.dense", inner, hidden)
            norm(f"{layer}.output.LayerNorm", hidden)
    if family in ("bert", "roberta", "xlm-roberta"):
        dense("pooler.dense", hidden, hidden)
    return shapes
