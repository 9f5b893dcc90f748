"""Folders of other libraries with tiny models, made from the golden encoders (tests/golden)."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from pairjax.base.families import FAMILIES
from pairjax.weights import read_encoder_spec
from tests.models.test_encoder import GOLDEN
from tests.tiny import write_tiny_encoder

TORCH = {"tanh": "torch.nn.modules.activation.Tanh", "relu": "torch.nn.modules.activation.ReLU"}
TORCH |= {"gelu": "torch.nn.modules.activation.GELU", "identity": "torch.nn.modules.linear.Identity"}
TORCH |= {"sigmoid": "torch.nn.modules.activation.Sigmoid"}
NAMES = {"0": "CONTRADICTION", "1": "neutral", "2": "Entailment"}


def write_json(path: Path, value: Any) -> None:
    """Writes JSON; the folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def configure(folder: Path, **changes: Any) -> Path:
    """Changes config.json; `...` removes a key."""
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    write_json(path, {key: value for key, value in values.items() if value is not ...})
    return folder


def golden_tensors(family: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the tensors of the family's class for sequence classification, and torch's logits."""
    with np.load(GOLDEN / family / "head.npz") as arrays:
        head = dict(arrays)
    logits, prefix = head.pop("logits"), FAMILIES[family].prefix
    bare = load_file(GOLDEN / family / "model.safetensors")
    if not FAMILIES[family].head.is_pooler:
        bare = {name: value for name, value in bare.items() if not name.startswith("pooler")}
    return {f"{prefix}.{name}": value for name, value in bare.items()} | head, logits


def write_classifier(folder: Path, family: str = "bert", *, tokeniser: bool = False) -> np.ndarray:
    """Writes a folder as transformers saves a classifier of three classes; returns torch's logits.

    Args:
        folder: The folder.
        family: A family that has a golden encoder.
        tokeniser: Whether it gets a tokeniser, whose vocabulary then fits the encoder.
    """
    tensors, logits = golden_tensors(family)
    folder.mkdir(parents=True)
    shutil.copyfile(GOLDEN / family / "config.json", folder / "config.json")
    configure(folder, architectures=[FAMILIES[family].head.model], id2label=NAMES)
    save_file(tensors, folder / "model.safetensors")
    if tokeniser:
        write_tokeniser(folder, family)
    return logits


def write_tokeniser(folder: Path, family: str = "bert") -> None:
    """Gives a folder a tokeniser, and its word embeddings a row for each of the tokens."""
    with tempfile.TemporaryDirectory() as place:
        tiny = write_tiny_encoder(Path(place), family=family, layers=1, hidden=8, vocabulary=())
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(tiny / name, folder / name)
        size = read_encoder_spec(tiny).vocab_size
    tensors = load_file(folder / "model.safetensors")
    words = next(name for name in tensors if name.endswith(("word_embeddings.weight", "tok_embeddings.weight")))
    old = tensors[words]
    extra = np.random.default_rng(0).normal(0, 0.15, (max(0, size - len(old)), old.shape[1])).astype(np.float32)
    tensors[words] = np.concatenate([old, extra])
    configure(folder, vocab_size=len(tensors[words]))
    save_file(tensors, folder / "model.safetensors")


def write_dense(folder: Path, weight: np.ndarray, bias: np.ndarray, *, activation: str, **settings: Any) -> None:
    """Writes a dense module of sentence-transformers."""
    values = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": True}
    write_json(folder / "config.json", values | {"activation_function": TORCH[activation]} | settings)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "model.safetensors")


def write_modules(folder: Path, kinds: list[str], **settings: Any) -> None:
    """Writes modules.json for the given kinds in their order, and config_sentence_transformers.json."""
    entries = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(entries))
    write_json(folder / "config_sentence_transformers.json", settings)


def write_chain(folder: Path, *, kind: str = "CrossEncoder", pooling: str = "mean") -> dict[str, np.ndarray]:
    """Writes BERT's golden encoder as a chain; returns the weights and biases of its dense layers by name.

    A cross-encoder has a hidden layer with ReLU and three classes; a SentenceTransformer a dense layer with tanh, and
    vectors of length 1.
    """
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(GOLDEN / "bert" / name, folder / name)
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, "pooling_mode": pooling})
    rng = np.random.default_rng(3)
    shapes = {"w2": (6, 32), "b2": (6,), "w3": (3, 6), "b3": (3,)}
    arrays = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    if kind == "CrossEncoder":
        configure(folder, id2label=NAMES)
        write_modules(
            folder, ["Transformer", "Pooling", "Dense", "Dense"], model_type=kind, activation_fn=TORCH["identity"]
        )
        write_dense(folder / "2_Dense", arrays["w2"], arrays["b2"], activation="relu")
        write_dense(folder / "3_Dense", arrays["w3"], arrays["b3"], activation="identity", module_output_name="scores")
    else:
        write_modules(folder, ["Transformer", "Pooling", "Dense", "Normalize"], similarity_fn_name="cosine")
        write_dense(folder / "2_Dense", arrays["w2"], arrays["b2"], activation="tanh")
        (folder / "3_Normalize").mkdir()
    return arrays
