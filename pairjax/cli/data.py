"""`pairjax data inspect`, `corpus` and `mine`: look at pairs or text before training, and mine hard negatives."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.mine_config import MineConfig
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


@dataclass(frozen=True)
class MineOptions:
    """Mines hard negatives of the train pairs that match, with a bi-encoder: texts near the first one that do not
    match it. Writes triplets for --loss.kind in-batch, or labelled pairs."""

    model: Annotated[str, tyro.conf.Positional]
    """Model or run folder of a bi-encoder."""
    data: DataConfig = field(default_factory=DataConfig)
    mine: Annotated[MineConfig, tyro.conf.arg(name="")] = field(default_factory=MineConfig)
    filter: str | None = None
    """Model or run folder, usually of a cross-encoder, whose scores replace the cosine in margins and --max-score."""
    format: Literal["triplets", "pairs"] = "triplets"
    """triplets: anchor, positive, negative; pairs: sentence1, sentence2, label (match or other)."""
    output: str = "negatives.jsonl"
    """File for the result: .jsonl or .tsv."""
    batch_size: int = 64
    """Texts per batch."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError("--batch-size is too small", got=self.batch_size, expected="at least 1")
        if not self.output.endswith((".jsonl", ".tsv")):
            raise UserError("--output has another suffix", got=self.output, expected=".jsonl or .tsv")


def main(args: Sequence[str]) -> int:
    """Runs `pairjax data inspect`, `pairjax data corpus` or `pairjax data mine`."""
    commands = {"inspect": _inspect, "corpus": _corpus, "mine": _mine}
    if args and args[0] in commands:
        return commands[args[0]](args[1:])
    if args and args[0] in ("-h", "--help"):
        print("usage: pairjax data inspect [options]   pairs (--help lists the options)")
        print("       pairjax data corpus [options]    text for pretraining")
        print("       pairjax data mine MODEL [options]   hard negatives")
        return 0
    raise UserError("pairjax data", got=args[0] if args else "nothing", expected="inspect, corpus or mine")


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


def _mine(args: Sequence[str]) -> int:
    """Mines hard negatives and writes them."""
    options = parse(MineOptions, args, prog="pairjax data mine", description=MineOptions.__doc__ or "")

    from pairjax.data.sources import load_train
    from pairjax.inference.load import load
    from pairjax.inference.mine import as_pairs, mine_negatives, rescorer
    from pairjax.inference.model_folder import find_artifact
    from pairjax.step.compilation import use_compilation_cache
    from pairjax.storage.files import write_text
    from pairjax.storage.outputs import check_output

    # 1. All checks that need no model.
    inputs = [name for name in (options.data.path, options.data.train) if name is not None]
    output = check_output(options.output, inputs=inputs)
    for model in (options.model, options.filter):
        if model is not None:
            find_artifact(model)
    data = load_train(options.data)
    # 2. The negatives.
    use_compilation_cache(None)
    rescore = None if options.filter is None else rescorer(load(options.filter), batch_size=options.batch_size)
    mined = mine_negatives(
        load(options.model),
        data.splits["train"],
        data.task,
        options.mine,
        rescore=rescore,
        batch_size=options.batch_size,
    )
    if not mined.rows:
        raise UserError(
            f"no negative is left for any of {mined.pairs:,} pairs",
            fix="lower the margins, or raise --last-rank or --max-score",
        )
    # 3. The file.
    triplets = options.format == "triplets"
    names = ("anchor", "positive", "negative") if triplets else ("sentence1", "sentence2", "label")
    rows = mined.rows if triplets else as_pairs(mined.rows)
    write_text(output, _rows_text(names, rows, tsv=output.suffix == ".tsv"))
    print(
        f"{len(rows):,} rows in {output}; {mined.lacking:,} of {mined.pairs:,} pairs have fewer than "
        f"{options.mine.negatives} negatives, {mined.empty:,} have none",
        file=sys.stderr,
    )
    return 0


def _rows_text(names: Sequence[str], rows: Sequence[Sequence[str]], *, tsv: bool) -> str:
    """Returns the text of a file of rows.

    Raises:
        UserError: A text of a .tsv holds a tab or a line break.
    """
    if not tsv:
        return "".join(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)
    for row in rows:
        if any(character in text for text in row for character in "\t\n\r"):
            raise UserError("a text has a tab or a line break", got=repr(row)[:80], fix="use --output FILE.jsonl")
    return "".join("\t".join(row) + "\n" for row in [names, *rows])
