"""Small corpora in files, and a tokeniser for them."""

from pathlib import Path

from pairjax.data.corpus import Corpus, DevCut, build_index
from pairjax.data.corpus_sources import text_sources
from pairjax.data.tokenizer import PairTokenizer, load_tokenizer
from tests.tiny import write_tiny_encoder

NAMES = ("man", "woman", "dog", "boy", "girl", "cat", "nurse", "guard")
ACTS = ("sleeps", "runs", "sings", "eats", "reads", "waits")


def write_documents(path: Path, *, documents: int, sentences: int = 6, start: int = 0) -> Path:
    """Writes documents of `sentences` to twice as many sentences; each names its document and its position."""
    lines: list[str] = []
    for number in range(start, start + documents):
        for place in range(sentences + number % (sentences + 1)):
            lines.append(f"the {NAMES[number % 8]} {number} {ACTS[place % 6]} at {place} .")
        lines.append("")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tiny_tokenizer(folder: Path) -> PairTokenizer:
    return load_tokenizer(write_tiny_encoder(folder / "encoder"), family="bert")


def index(
    pattern: str | Path, tokenizer: PairTokenizer, cache: Path, *, cut: DevCut | None = None
) -> dict[str, Corpus]:
    sources = text_sources(str(pattern), format="lines", language="en", option="--data.corpus")
    return build_index(sources, tokenizer, cache=cache, cut=cut)
