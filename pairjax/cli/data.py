"""`pairjax data inspect --data.path DIR` and `pairjax data corpus --data.corpus GLOB`: inspect data before training."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import CorpusConfig
from pairjax.base.types import dev_split
from pairjax.cli.options import parse


@dataclass(frozen=True)
class InspectOptions:
    """Shows classes, lengths, word overlap, leaks between splits and a few pairs."""

    data: DataConfig = field(default_factory=DataConfig)
    rows: int = 2
    """Number of pairs of each class to show."""
    baselines: bool = False
    """Also fit majority, length, hypothesis-only and word-overlap baselines, and score them on dev."""


@dataclass(frozen=True)
class CorpusOptions:
    """Indexes text for pretraining and shows documents, sentences, tokens, unknown tokens, duplicates and examples."""

    data: CorpusConfig = field(default_factory=CorpusConfig)
    encoder: str | None = None
    """Encoder whose tokeniser to use, as in --model.encoder of pairjax pretrain (default: see --data.tokenizer)."""
    examples: int = 4
    """Number of train examples to show, as they are drawn."""


def main(args: Sequence[str]) -> int:
    """Runs `pairjax data inspect` or `pairjax data corpus`."""
    commands = {"inspect": _inspect, "corpus": _corpus}
    if args and args[0] in commands:
        return commands[args[0]](args[1:])
    if args and args[0] in ("-h", "--help"):
        print("usage: pairjax data inspect [options]   pairs (--help lists the options)")
        print("       pairjax data corpus [options]    text for pretraining")
        return 0
    raise UserError("pairjax data", got=args[0] if args else "nothing", expected="inspect or corpus")


def _inspect(args: Sequence[str]) -> int:
    """Prints a summary of pairs."""
    options = parse(InspectOptions, args, prog="pairjax data inspect", description=InspectOptions.__doc__ or "")

    from rich.console import Console

    from pairjax.data.inspect import inspect_pairs, print_summary
    from pairjax.data.sources import load_pairs

    console = Console()
    data = load_pairs(options.data)
    print_summary(inspect_pairs(data), console, rows=options.rows, seed=options.data.seed)
    if options.baselines:
        from pairjax.evaluation.baselines import lexical_baselines
        from pairjax.evaluation.tables import baselines_table

        dev = dev_split(data.splits) or "dev"
        console.print(baselines_table(lexical_baselines(data, split=dev), split=dev))
    return 0


def _corpus(args: Sequence[str]) -> int:
    """Indexes text and prints a report."""
    options = parse(CorpusOptions, args, prog="pairjax data corpus", description=CorpusOptions.__doc__ or "")

    from rich.console import Console

    from pairjax.data.corpus_report import print_report
    from pairjax.data.masking import RowMaker
    from pairjax.pretrain.prepare import (
        build_corpora,
        build_makers,
        corpus_sources,
        corpus_tokenizer,
        sampler_notes,
        shared_notes,
    )
    from pairjax.weights import resolve_encoder

    data = options.data
    if options.encoder is not None:
        data = dataclasses.replace(data, tokenizer=str(resolve_encoder(options.encoder)))
    sources = corpus_sources(data)
    tokenizer, _ = corpus_tokenizer(data, sources["train"])
    corpora = build_corpora(data, sources, tokenizer)
    makers: dict[str, RowMaker] = {}
    try:
        makers |= build_makers(data, corpora, tokenizer)
    finally:
        # Print the counts even if the makers fail: they explain why no example can be drawn.
        console = Console()
        samplers = {split: maker.sampler for split, maker in makers.items()}
        print_report(console, corpora, samplers, tokenizer, limit=data.budget, examples=options.examples)
        for note in (*shared_notes(sources), *sampler_notes(makers)):
            console.print(note, markup=False, highlight=False, soft_wrap=True)
    return 0
