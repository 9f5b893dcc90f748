"""Compares an exported folder with its model: the same pairs through pairjax and through the real library.

The two run in environments of their own, so that the library's needs no pairjax:

    pairjax export MODEL --to sentence-transformers --output FOLDER
    python tools/compare_export.py library FOLDER PAIRS.tsv theirs.npy     # torch and sentence-transformers
    python tools/compare_export.py pairjax MODEL PAIRS.tsv ours.npy        # pairjax
    python tools/compare_export.py differences ours.npy theirs.npy

PAIRS.tsv has the columns sentence1 and sentence2; the first 200 pairs are used. A SentenceTransformer gives the vectors
of all texts, a classifier the logits.
"""

import csv
import sys
from pathlib import Path

import numpy as np

PAIRS = 200


def read_pairs(path: str) -> list[tuple[str, str]]:
    """Returns the first pairs of a file."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [(row["sentence1"], row["sentence2"]) for row, _ in zip(rows, range(PAIRS), strict=False)]


def outputs_of_library(folder: Path, pairs: list[tuple[str, str]]) -> np.ndarray:
    """Returns logits or vectors of the folder's own library."""
    texts = [text for pair in pairs for text in pair]
    settings = folder / "config_sentence_transformers.json"
    if not settings.is_file():
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        model = AutoModelForSequenceClassification.from_pretrained(folder)
        rows = AutoTokenizer.from_pretrained(folder)(texts[::2], texts[1::2], padding=True, return_tensors="pt")
        outputs: np.ndarray = model(**rows).logits.detach().numpy()
        return outputs
    from sentence_transformers import CrossEncoder, SentenceTransformer

    if '"CrossEncoder"' in settings.read_text(encoding="utf-8"):
        return np.asarray(CrossEncoder(str(folder)).predict(pairs)).reshape(len(pairs), -1)
    return np.asarray(SentenceTransformer(str(folder)).encode(texts))


def outputs_of_pairjax(path: str, pairs: list[tuple[str, str]]) -> np.ndarray:
    """Returns logits or vectors of pairjax."""
    import pairjax

    model = pairjax.load(path)
    if model.can_embed:
        return model.embed([text for pair in pairs for text in pair])
    return model.outputs(*zip(*pairs, strict=True))


def main(args: list[str]) -> None:
    """Runs one of the three steps."""
    match args:
        case ["library", folder, pairs, output]:
            np.save(output, outputs_of_library(Path(folder), read_pairs(pairs)))
        case ["pairjax", path, pairs, output]:
            np.save(output, outputs_of_pairjax(path, read_pairs(pairs)))
        case ["differences", first, second]:
            left, right = np.load(first), np.load(second)
            print(
                f"{left.shape} outputs, largest {np.abs(left).max():.2f}, difference {np.abs(left - right).max():.1e}"
            )
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
