"""`pairjax features --data.path DIR --output DIR`: encode each distinct text once, and keep what the encoder gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pairjax.base.config import DataConfig, FeatureConfig
from pairjax.cli.options import parse


@dataclass(frozen=True)
class FeaturesOptions:
    """Encode each distinct text of a data source once with a frozen encoder, and keep the vectors in memory-mapped
    arrays. A cache that is there already is read if texts, weights, tokeniser and settings are its own, and made
    again if they are not."""

    data: DataConfig = field(default_factory=DataConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    output: str = "runs/features"
    """Folder of the cache."""
    overwrite: bool = False
    """Replace the cache of another encoder."""
    compilation_cache: str | None = None
    """As --run.compilation-cache."""


def main(args: Sequence[str]) -> int:
    options = parse(FeaturesOptions, args, prog="pairjax features", description=FeaturesOptions.__doc__ or "")

    from rich.console import Console
    from rich.progress import Progress

    from pairjax.data.sources import load_pairs
    from pairjax.data.texts import distinct_texts
    from pairjax.population.features import cached_features
    from pairjax.step.compilation import use_compilation_cache

    console = Console(stderr=True)
    data = load_pairs(options.data)
    use_compilation_cache(options.compilation_cache)
    total = len(distinct_texts(data.splits.values()))
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("encoding", total=total)
        found = cached_features(
            data.splits.values(),
            Path(options.output),
            options.features,
            max_length=options.data.max_length,
            truncation=options.data.truncation,
            overwrite=options.overwrite,
            progress=lambda done: bar.advance(task, done),
        )
        fresh = bar.tasks[0].completed > 0
    for note in (*data.notes, *found.notes):
        console.print(note, highlight=False, markup=False)
    size = sum(path.stat().st_size for path in found.folder.iterdir())
    pairs = sum(len(pairs) for pairs in data.splits.values())
    kept = f"{found.pooled.shape[0]:,} distinct texts of {pairs:,} pairs, {found.pooled.shape[1]} numbers each"
    if found.tokens is not None:
        kept += f", and {found.tokens.shape[0]:,} token vectors"
    state = "encoded" if fresh else "read from the cache"
    print(f"{found.folder}: {kept} ({options.features.dtype}, {size / 2**20:.1f} MiB), {state}")
    return 0
