"""`pairjax features --data.path DIR --output DIR`: encodes each distinct text once and keeps the vectors."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pairjax.base.data_config import DataConfig
from pairjax.base.feature_config import FeatureConfig
from pairjax.cli.options import parse


@dataclass(frozen=True)
class FeaturesOptions:
    """Encode each distinct text of a data source once with a frozen encoder, and keep the vectors in memory-mapped
    arrays. An existing cache is read if its texts, weights, tokeniser and settings are the same, and made again
    otherwise."""

    data: DataConfig = field(default_factory=DataConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    output: str = "runs/features"
    """Folder of the cache."""
    overwrite: bool = False
    """Replace the cache of another encoder."""
    compilation_cache: str | None = None
    """Folder of compiled programs; see --run.compilation-cache of pairjax train."""


def main(args: Sequence[str]) -> int:
    """Runs `pairjax features` and returns its exit code."""
    options = parse(FeaturesOptions, args, prog="pairjax features", description=FeaturesOptions.__doc__ or "")

    from rich.console import Console
    from rich.progress import Progress

    from pairjax.data.sources import load_pairs
    from pairjax.data.texts import add_prefixes, distinct_texts
    from pairjax.population.features import cached_features
    from pairjax.step.compilation import use_compilation_cache
    from pairjax.storage.outputs import check_output_folder

    console = Console(stderr=True)
    output = check_output_folder(options.output)
    data = add_prefixes(load_pairs(options.data), options.data.prefixes)
    use_compilation_cache(options.compilation_cache)
    total = len(distinct_texts(data.splits.values()))
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("encoding", total=total)
        features = cached_features(
            data.splits.values(),
            output,
            options.features,
            max_length=options.data.max_length,
            truncation=options.data.truncation,
            overwrite=options.overwrite,
            progress=lambda done: bar.advance(task, done),
        )
        encoded = bar.tasks[0].completed > 0
    for note in (*data.notes, *features.notes):
        console.print(note, highlight=False, markup=False)
    size = sum(path.stat().st_size for path in features.folder.iterdir())
    pairs = sum(len(pairs) for pairs in data.splits.values())
    contents = (
        f"{features.pooled.shape[0]:,} distinct texts of {pairs:,} pairs, {features.pooled.shape[1]} numbers each"
    )
    if features.tokens is not None:
        contents += f", and {features.tokens.shape[0]:,} token vectors"
    origin = "encoded" if encoded else "read from the cache"
    print(f"{features.folder}: {contents} ({options.features.dtype}, {size / 2**20:.1f} MiB), {origin}")
    return 0
