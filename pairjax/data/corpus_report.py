"""What a corpus holds: counts of each split, and a few examples as they would be drawn."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from pairjax.base.terminal import plain_table
from pairjax.data.corpus import Corpus
from pairjax.data.nsp import LABELS, PairSampler
from pairjax.data.tokenizer import PairTokenizer

SHOWN = 320
ROWS = ("documents", "sentences", "tokens", "unknown", "duplicates", "single", "bare", "longest")
NAMES = {
    "unknown": "unknown tokens",
    "duplicates": "sentences seen before",
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
    """Show counts by split and by source, and examples.

    Args:
        console: Where to.
        corpora: By split.
        samplers: By split; empty where the objective cannot be drawn.
        tokenizer: That the corpora were indexed with.
        limit: Tokens beyond which a sentence is cut.
        examples: Shown of train.
    """
    table = plain_table("Corpus", ("", *corpora))
    for name in ROWS:
        cells = []
        for corpus in corpora.values():
            value = getattr(corpus.facts, name)
            whole = {"unknown": corpus.facts.tokens, "duplicates": corpus.facts.sentences}.get(name)
            cells.append(f"{value:,}" + (f" ({value / whole:.2%})" if whole else ""))
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
    names = LABELS[sampler.objective]
    for index in range(min(examples, len(sampler))):
        drawn = sampler.draw(index)
        console.print(f"\nexample {index}" + (f": B {names[drawn.label]}" if names else ""), style="bold")
        for side, tokens in zip("AB", (drawn.first, drawn.second), strict=True):
            if len(tokens):
                text = tokenizer.backend.decode(tokens.tolist())
                short = text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
                console.print(f"{side} ({len(tokens)} tokens): {short}", markup=False, highlight=False)
