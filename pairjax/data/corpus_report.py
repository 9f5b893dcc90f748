"""Prints what a corpus has: counts of each split, and a few examples as they are drawn."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from pairjax.base.terminal import plain_table, shorten
from pairjax.data.corpus import Corpus
from pairjax.data.nsp import LABELS, PairSampler
from pairjax.data.tokenizer import PairTokenizer

TEXT_LENGTH = 320
"""Most characters shown of a segment."""
ROWS = ("documents", "sentences", "tokens", "unknown", "duplicates", "single", "bare", "longest")
NAMES = {
    "unknown": "unknown tokens",
    "duplicates": "duplicate sentences",
    "single": "documents of one sentence",
    "bare": "sentences without a token",
    "longest": "longest sentence (tokens)",
}


def print_report(
    console: Console,
    corpora: Mapping[str, Corpus],
    samplers: Mapping[str, PairSampler],
    tokenizer: PairTokenizer,
    *,
    limit: int,
    examples: int,
) -> None:
    """Prints counts by split and by source, and examples.

    Args:
        console: Where to print.
        corpora: The corpora by split.
        samplers: The samplers by split; empty if the objective cannot be drawn from the corpora.
        tokenizer: The tokeniser that the corpora were indexed with.
        limit: Number of tokens from which on a sentence is cut.
        examples: Number of train examples to print.
    """
    table = plain_table("Corpus", ("", *corpora))
    for name in ROWS:
        cells = []
        for corpus in corpora.values():
            value = getattr(corpus.facts, name)
            total = {"unknown": corpus.facts.tokens, "duplicates": corpus.facts.sentences}.get(name)
            cells.append(f"{value:,}" + (f" ({value / total:.2%})" if total else ""))
        table.add_row(NAMES.get(name, name), *cells)
    table.add_row(
        f"sentences of more than {limit} tokens", *(f"{corpus.longer_than(limit):,}" for corpus in corpora.values())
    )
    if samplers:
        table.add_row("examples an epoch", *(f"{len(samplers[split]):,}" for split in corpora))
    tables = [table]
    for split, corpus in corpora.items():
        if len(corpus.names) > 1:
            table = plain_table(f"{split}: documents of each source", ("source", "documents"))
            for name, count in zip(corpus.names, corpus.facts.files, strict=True):
                table.add_row(escape(name), f"{count:,}")
            tables.append(table)
    for table in tables:
        console.print()
        console.print(table, highlight=False)
    console.print(f"vocabulary: {tokenizer.vocabulary_size:,} tokens; index: {corpora['train'].folder.parent}")
    if samplers and examples:
        _print_examples(console, samplers["train"], tokenizer, examples)


def _print_examples(console: Console, sampler: PairSampler, tokenizer: PairTokenizer, examples: int) -> None:
    """Prints the first examples with their labels."""
    names = LABELS[sampler.objective]
    for index in range(min(examples, len(sampler))):
        segments = sampler.draw(index)
        console.print(f"\nexample {index}" + (f": B {names[segments.label]}" if names else ""), style="bold")
        for side, tokens in zip("AB", (segments.first, segments.second), strict=True):
            if len(tokens):
                text = shorten(tokenizer.backend.decode(tokens.tolist()), TEXT_LENGTH)
                console.print(f"{side} ({len(tokens)} tokens): {text}", markup=False, highlight=False)
