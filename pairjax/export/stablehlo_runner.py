"""Classifies pairs with this folder: python run.py "first text" "second text". Needs jax, safetensors, tokenizers."""

import json
import sys
from pathlib import Path

import numpy as np
from jax import export
from safetensors.numpy import load_file
from tokenizers import Tokenizer

FOLDER = Path(__file__).resolve().parent


def cut(first: list[int], second: list[int], joint: bool, budget: int, truncation: str) -> tuple[list[int], list[int]]:
    """Returns the two texts' tokens, cut to the budget of the pair (joint) or of each text."""
    n, m = len(first), len(second)
    if not joint:
        n, m = min(n, budget), min(m, budget)
    elif truncation in ("only_first", "only_second"):
        n, m = (min(n, budget - m), m) if truncation == "only_first" else (n, min(m, budget - n))
    while joint and n + m > budget:
        n, m = (n - 1, m) if n > m or (n == m and len(first) <= len(second)) else (n, m - 1)
    tails = [k // 2 if truncation == "head_tail" and k < len(x) else 0 for k, x in ((n, first), (m, second))]
    kept = [x[: k - t] + x[len(x) - t :] for x, k, t in ((first, n, tails[0]), (second, m, tails[1]))]
    return kept[0], kept[1]


def rows(pairs: list[tuple[str, str]], settings: dict, tokenizer: Tokenizer) -> list[np.ndarray]:
    """Returns token, segment, position, pair and side ids, int32 [pairs, length]."""
    joint, cls, sep = settings["joint"], [settings["cls_id"]], [settings["sep_id"]]
    encoded = []
    for pair in pairs:
        first, second = (tokenizer.encode(text, add_special_tokens=False).ids for text in pair)
        first, second = cut(first, second, joint, settings["budget"], settings["truncation"])
        encoded.append((cls + first + sep, settings["opening"] + second + sep))
    arrays = np.zeros((5, len(pairs), max(len(a) + len(b) for a, b in encoded)), np.int32)
    arrays[0], arrays[2] = settings["pad_id"], 1
    for row, (a, b) in enumerate(encoded):
        size, total = len(a), len(a) + len(b)
        arrays[0, row, :total] = a + b
        arrays[1, row, size:total] = settings["segments"]
        arrays[2, row, :total] = np.arange(total) - (0 if joint else size * (np.arange(total) >= size))
        arrays[3, row, :total], arrays[4, row, size:total] = 1, 1
    return list(arrays)


def outputs(pairs: list[tuple[str, str]], folder: Path = FOLDER) -> np.ndarray:
    """Returns logits, or scores in the units of the data, float32 [pairs, outputs]."""
    settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    program = export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    return np.asarray(program.call(load_file(folder / "model.safetensors"), *rows(pairs, settings, tokenizer)))


if __name__ == "__main__":
    print(outputs([(sys.argv[1], sys.argv[2])]).tolist())
