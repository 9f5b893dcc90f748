"""Loads pairs from files, TFDS sets or rules: finds, reads and checks them, and makes a task with its splits."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import PairData, Pairs, TaskSpec
from pairjax.data import tfds
from pairjax.data.columns import find_columns, join_names
from pairjax.data.groups import describe_groups
from pairjax.data.line_formats import SPACED_QUOTE
from pairjax.data.quality import measure_quality
from pairjax.data.readers import SUFFIXES, open_stream, open_table, read_rows, require_regular
from pairjax.data.subsets import cut_dev, take_pairs
from pairjax.data.table import RawSplit, Table
from pairjax.data.tasks import drop_unlabelled, encode_labels, read_task, relabel, task_notes
from pairjax.evaluation.clusters import text_clusters
from pairjax.storage.hashes import hash_stream

SHARD = re.compile(r"-\d{5}-of-\d{5}$")
"""End of the stem of a data set's file on the hub: `train-00000-of-00001`."""
SPLIT_NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}


def load_pairs(config: DataConfig) -> PairData:
    """Loads and checks the splits that a config names, and their task.

    Example:
        >>> from pairjax.base.config import DataConfig
        >>> data = load_pairs(DataConfig(rules="paraphrase", sizes=(40, 8, 8)))
        >>> data.task.labels
        ('not_paraphrase', 'paraphrase')
        >>> {name: len(pairs) for name, pairs in data.splits.items()}
        {'train': 40, 'dev': 8, 'test': 8}

    Args:
        config: The source is the one of `path`, `train`, `tfds` and `rules` that is given.

    Returns:
        Labelled train and dev splits; a test split if there is one, whose label is None if it has no labels.

    Raises:
        UserError: Something is wrong with the source. The message names the place and says how to fix it.
    """
    if config.rules is not None:
        if config.dev_fraction:
            raise UserError(
                "--data.dev-fraction: rule-made pairs already have a dev split", fix="set --data.sizes instead"
            )
        from pairjax.data.synthetic import rule_pairs

        return rule_pairs(config)
    tables, source, notes = _open_source(config)
    if "train" not in tables:
        names = (
            f"splits {join_names(tables)}"
            if config.tfds
            else join_names(Path(table.place).name for table in tables.values())
        )
        fix = None if config.tfds else "add it, or name the files with --data.train and --data.dev"
        raise UserError(f"{config.path or source['name']}: no train split", got=names, fix=fix)
    _check_dev(config, tables, source["name"])
    raw, read_notes = _read_splits(tables, config, need_label=True)
    task = read_task(raw["train"], config)
    read_notes += task_notes(raw["train"], task, config)
    splits = {split: _encode_split(raw[split], task, may_lack=split == "test") for split in raw}
    if "dev" not in splits:
        splits, cut_note = _cut_dev_split(splits, task, config)
        read_notes.append(cut_note)
    return _pair_data(task, splits, source, [*notes, *read_notes])


def load_for_task(config: DataConfig, task: TaskSpec) -> PairData:
    """Loads the splits that a config names with the label indices of a trained model; for `pairjax evaluate`.

    No split is required, and any split may be unlabelled. `config.path` may be a file: it becomes the split that its
    name says, else `test`.

    Args:
        config: As in `load_pairs`.
        task: The task of the trained model.

    Raises:
        UserError: As `load_pairs`; also if a label is not one of the model's.
    """
    if config.rules is not None:
        data = load_pairs(config)
        splits = {split: relabel(pairs, data.task, task, place=split) for split, pairs in data.splits.items()}
        return replace(data, task=task, splits=splits)
    tables, source, notes = _open_source(config)
    raw, read_notes = _read_splits(tables, config, need_label=False)
    splits = {split: _encode_split(raw[split], task, may_lack=True, known_from="the model") for split in raw}
    return _pair_data(task, splits, source, [*notes, *read_notes])


# ------------------------------------------------------------------------------------------------------------- tables


def _open_source(config: DataConfig) -> tuple[dict[str, Table], dict[str, Any], list[str]]:
    """Returns the tables by split, the provenance, and notes."""
    if config.tfds is not None:
        return _open_tfds(config)
    files = _find_files(config)
    name = Path(config.path).resolve().name if config.path else files["train"].name
    source = {
        "name": name,
        "files": {path.name: _digest(path) for path in files.values()},
        "licence": None,
    }
    return {split: open_table(path, empty=config.empty) for split, path in files.items()}, source, []


def _open_tfds(config: DataConfig) -> tuple[dict[str, Table], dict[str, Any], list[str]]:
    """Returns the tables, provenance and notes of a TFDS set."""
    assert config.tfds is not None
    source = tfds.open_set(config.tfds, folder=config.tfds_dir, download=config.download)
    available = list(source.builder.info.splits)
    names, notes = tfds.choose_splits(available, source.title)
    if not names:
        raise UserError(f"{source.title}: no known split", got=join_names(available), expected="train, validation")
    provenance = {
        "name": source.title,
        "files": {name: _digest(path) for name, path in tfds.set_files(source).items()},
        "licence": tfds.licence_of(source),
        "citation": source.builder.info.citation or None,
    }
    return {split: tfds.split_table(source, name) for split, name in names.items()}, provenance, notes


def _find_files(config: DataConfig) -> dict[str, Path]:
    """Returns the file of each split.

    Raises:
        UserError: No source is named, the folder is missing or has no such file, or a split has two files.
    """
    if config.path is None:
        options = {"train": config.train, "dev": config.dev, "test": config.test}
        files = {split: Path(name) for split, name in options.items() if name is not None}
        if not files:
            raise UserError(
                "no data source",
                expected="--data.path FOLDER, --data.tfds NAME or --data.rules entailment",
                fix="give one of them",
            )
        return files
    folder = Path(config.path)
    if folder.is_file():
        splits = [split for split, names in SPLIT_NAMES.items() if folder.stem.lower() in names]
        return {splits[0] if splits else "test": folder}
    if not folder.is_dir():
        require_regular(folder)
        raise UserError(f"{folder}: no such folder", fix="check --data.path")
    content = sorted(path for path in folder.iterdir() if path.is_file())
    files = {}
    for split, names in SPLIT_NAMES.items():
        paths = [
            path for path in content if path.suffix.lower() in SUFFIXES and SHARD.sub("", path.stem.lower()) in names
        ]
        if len(paths) > 1 and all(SHARD.search(path.stem) for path in paths):
            raise UserError(
                f"{folder}: {split} is in several shards",
                got=join_names(path.name for path in paths),
                expected="one file",
                fix=f"join them into one file {split}{paths[0].suffix}",
            )
        if len(paths) > 1:
            raise UserError(
                f"{folder}: more than one file for {split}",
                got=" and ".join(path.name for path in paths),
                fix="keep one, or name the files with --data.train, --data.dev and --data.test",
            )
        if paths:
            files[split] = paths[0]
    if not files:
        got = join_names(path.name for path in content) or "no file"
        expected = f"train{', train'.join(SUFFIXES)}"
        fix = "name the files with --data.train, --data.dev and --data.test"
        if any(path.suffix.lower() == ".json" for path in content):
            fix = "name a file with one JSON object a line .jsonl"
        raise UserError(f"{folder}: no train, dev or test file", got=got, expected=expected, fix=fix)
    return files


def _check_dev(config: DataConfig, tables: Mapping[str, Table], name: str) -> None:
    """Raises unless there is either a dev split or a fraction of train to cut one off."""
    if "dev" in tables and config.dev_fraction:
        raise UserError(
            "--data.dev-fraction cuts a dev split off train, but the data already has one",
            got=tables["dev"].place,
            fix="drop either the option or the split",
        )
    if "dev" not in tables and not config.dev_fraction:
        raise UserError(
            f"{name}: no dev split",
            expected="dev or validation, as .tsv, .csv, .jsonl or .parquet",
            fix="add it, or cut one off train with --data.dev-fraction 0.1",
        )


def _digest(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    require_regular(path)
    with open_stream(path) as file:
        return hash_stream(file)


# -------------------------------------------------------------------------------------------------------------- pairs


def _read_splits(
    tables: Mapping[str, Table], config: DataConfig, *, need_label: bool
) -> tuple[dict[str, RawSplit], list[str]]:
    """Reads all splits, and returns notes on rows that were left out.

    Train is read first; the other splits use its columns.
    """
    raw: dict[str, RawSplit] = {}
    notes: list[str] = []
    for split, table in tables.items():
        like = next(iter(raw.values())).columns if raw else None
        columns = find_columns(
            table.header, config, place=table.place, need_label=need_label and split != "test", like=like
        )
        raw[split] = read_rows(table, columns, empty=config.empty)
        if raw[split].skipped:
            notes.append(
                f"{split}: skipped {raw[split].skipped:,} rows with an empty text or a wrong number of fields "
                "(--data.empty skip)"
            )
        notes += _quoting_note(split, table, raw[split])
        if config.empty == "skip":
            raw[split], dropped = drop_unlabelled(raw[split])
            if dropped:
                notes.append(f"{split}: skipped {dropped:,} rows without a label (--data.empty skip)")
    return raw, notes


def _quoting_note(split: str, table: Table, raw: RawSplit) -> list[str]:
    """Returns a note if a plain .tsv seems to have been written with quoting, or if a .csv has spaces before quotes."""
    if table.short.lower().endswith(".csv"):
        fields = chain(raw.first, raw.second, raw.label or ())
        spaced = sum(bool(SPACED_QUOTE.match(str(field))) for field in fields)
        if not spaced:
            return []
        return [
            f"{split}: {count_things(spaced, 'field')} with a space before the first quote, so the quotes are text: "
            "put no space between a comma and a quote"
        ]
    if not table.short.lower().endswith(".tsv"):
        return []
    texts = chain(raw.first, raw.second)
    count = sum(len(text) > 2 and text[0] == text[-1] == '"' and '""' in text[1:-1] for text in texts)
    if not count:
        return []
    return [
        f'{split}: {count_things(count, "text")} look{"s" * (count == 1)} quoted ("" inside quotes), '
        "but a .tsv is read as plain text: write it without quoting, or as .csv"
    ]


def count_things(count: int, noun: str) -> str:
    """Returns a number with its noun: `1 field`, `2 fields`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _encode_split(raw: RawSplit, task: TaskSpec, *, may_lack: bool, known_from: str = "train") -> Pairs:
    """Returns a split with its labels as the model counts them; see `encode_labels`."""
    return Pairs(
        first=tuple(raw.first),
        second=tuple(raw.second),
        label=encode_labels(raw, task, may_lack=may_lack, known_from=known_from),
        where=tuple(f"{raw.short}:{number}" for number in raw.number),
    )


def _cut_dev_split(splits: Mapping[str, Pairs], task: TaskSpec, config: DataConfig) -> tuple[dict[str, Pairs], str]:
    """Cuts dev off train, and returns all splits and a note."""
    full = splits["train"]
    assert full.label is not None
    cluster = text_clusters(full) if config.group_texts else None
    train, dev = cut_dev(full.label, kind=task.kind, fraction=config.dev_fraction, seed=config.seed, cluster=cluster)
    parts = {"train": take_pairs(full, train), "dev": take_pairs(full, dev)}
    by = "label" if task.kind == "classification" else "score"
    note = (
        f"dev: {len(dev):,} of train's {len(full):,} pairs, cut off by "
        f"--data.dev-fraction {config.dev_fraction:g} (seed {config.seed}, stratified by {by}"
    )
    note += f"; pairs that share texts stay together: {describe_groups(full)})" if config.group_texts else ")"
    return parts | {split: pairs for split, pairs in splits.items() if split != "train"}, note


def _pair_data(task: TaskSpec, splits: dict[str, Pairs], source: dict[str, Any], notes: list[str]) -> PairData:
    """Adds the row counts to the source and the notes on quality to the notes."""
    rows = {split: len(pairs) for split, pairs in splits.items()}
    notes += [
        f"{split}: no labels, so there are predictions but no scores"
        for split, pairs in splits.items()
        if pairs.label is None
    ]
    notes += measure_quality(task, splits).notes()
    return PairData(task=task, splits=splits, source=source | {"rows": rows}, notes=tuple(notes))
