"""A tiny encoder and a folder of pairs, on which every command runs in seconds and without a network."""

from pathlib import Path

import pytest

from tests.tiny import write_tiny_encoder

PEOPLE = ("man", "woman", "dog", "boy", "girl", "cat")
ACTS = ("sleeps", "runs", "sings", "eats")


def write_pairs(path: Path, *, start: int, rows: int) -> Path:
    """Writes pairs in which B repeats A (same) or negates it (other)."""
    lines = ["sentence1\tsentence2\tlabel"]
    for i in range(start, start + rows):
        text = f"the {PEOPLE[i % 6]} {ACTS[(i // 6) % 4]} {i}"
        lines.append(f"{text}\t{text if i % 2 else 'no ' + text}\t{'same' if i % 2 else 'other'}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_pairs(folder / "train.tsv", start=0, rows=40)
    write_pairs(folder / "dev.tsv", start=40, rows=12)
    write_pairs(folder / "test.tsv", start=52, rows=11)
    return folder


@pytest.fixture
def options(encoder: Path, pairs: Path) -> list[str]:
    """Options that make a run small."""
    return [
        *("--data.path", str(pairs), "--model.encoder", str(encoder), "--data.max-length", "64"),
        *("--train.batch-size", "8", "--train.max-steps", "4", "--train.eval-every", "2"),
        *("--evaluation.bootstrap", "100", "--evaluation.batch-size", "16", "--run.compilation-cache", ""),
    ]
