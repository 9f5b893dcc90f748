"""Pairs from files, TFDS sets or rules: found, read, checked, and turned into a task with its splits."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pairjax.base.config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import PairData, Pairs, TaskSpec
from pairjax.data import tfds
from pairjax.data.columns import TEXT_NAMES, Columns, find_columns, listed
from pairjax.data.quality import measure
from pairjax.data.readers import (
    SUFFIXES,
    BadRow,
    Faulty,
    RawSplit,
    Table,
    byte_lines,
    clean_text,
    csv_records,
    decoded_lines,
    jsonl_table,
    mark,
    open_stream,
    open_table,
    read_rows,
    refuse,
    table_of_records,
    tsv_records,
)
from pairjax.data.tasks import cut_dev, drop_unlabelled, encode_labels, read_task, relabel
from pairjax.storage.hashes import hash_stream

REASON = 500
"""Characters of a bad row's reason, at most."""
Format = Literal["auto", "tsv", "csv", "jsonl"]
SPLIT_NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}


def load_pairs(config: DataConfig) -> PairData:
    """The splits that a config names, checked, with their task.

    Args:
        config: One of `path`, `train`, `tfds` or `rules` says where from.

    Returns:
        train and dev, labelled; test where there is one, its label None where it carries none.

    Raises:
        UserError: Whatever is wrong with the source, with the place and the remedy.
    """
    if config.rules is not None:
        if config.dev_fraction:
            raise UserError("--data.dev-fraction: rule-made pairs have a dev split", fix="set --data.sizes instead")
        from pairjax.data.synthetic import rule_pairs

        return rule_pairs(config)
    tables, source, notes = _open_source(config)
    if "train" not in tables:
        given = (
            f"splits {listed(tables)}" if config.tfds else listed(Path(table.place).name for table in tables.values())
        )
        fix = None if config.tfds else "add it, or name the files with --data.train and --data.dev"
        raise UserError(f"{config.path or source['name']}: no train split", got=given, fix=fix)
    _check_dev(config, tables, source["name"])
    raw, more = _read_all(tables, config, need_label=True)
    task = read_task(raw["train"], config)
    splits = {split: _pairs(raw[split], task, may_lack=split == "test") for split in raw}
    if "dev" not in splits:
        splits, cut_note = _with_dev_cut(splits, task, config)
        more.append(cut_note)
    return _finish(task, splits, source, [*notes, *more])


def load_for_task(config: DataConfig, task: TaskSpec) -> PairData:
    """The splits that a config names, labels counted as a trained model counts them; for `pairjax evaluate`.

    No split is required, and any may be unlabelled. `config.path` may be a file: it becomes the split that its name
    says, or `test`.

    Args:
        config: As for `load_pairs`.
        task: The model's.

    Raises:
        UserError: As `load_pairs`; also a label that the model does not know.
    """
    if config.rules is not None:
        data = load_pairs(config)
        splits = {split: relabel(pairs, data.task, task, place=split) for split, pairs in data.splits.items()}
        return replace(data, task=task, splits=splits)
    tables, source, notes = _open_source(config)
    raw, more = _read_all(tables, config, need_label=False)
    splits = {split: _pairs(raw[split], task, may_lack=True, known_from="the model") for split in raw}
    return _finish(task, splits, source, [*notes, *more])


def read_pairs(path: str | Path, config: DataConfig, task: TaskSpec) -> Pairs:
    """One file, labels counted as a trained model counts them, or None where it has none.

    Raises:
        UserError: The file cannot be read, or a label is one that the model does not know.
    """
    table = open_table(Path(path))
    raw = _read(table, config, need_label=False, like=None)
    return _pairs(raw, task, may_lack=True, known_from="the model")


# ------------------------------------------------------------------------------------------------------------- splits


def _train_expected() -> str:
    return f"train{', train'.join(SUFFIXES)}"


def _open_source(config: DataConfig) -> tuple[dict[str, Table], dict[str, Any], list[str]]:
    """Tables by split, the provenance, and notes."""
    if config.tfds is not None:
        return _open_tfds(config)
    files = _find_files(config)
    name = Path(config.path).resolve().name if config.path else files["train"].name
    source = {
        "name": name,
        "files": {path.name: _digest(path) for path in files.values()},
        "licence": None,
    }
    return {split: open_table(path) for split, path in files.items()}, source, []


def _open_tfds(config: DataConfig) -> tuple[dict[str, Table], dict[str, Any], list[str]]:
    assert config.tfds is not None
    source = tfds.open_set(config.tfds, folder=config.tfds_dir, download=config.download)
    available = list(source.builder.info.splits)
    chosen, notes = tfds.choose_splits(available, source.title)
    if not chosen:
        raise UserError(f"{source.title}: no split that is known", got=listed(available), expected="train, validation")
    provenance = {
        "name": source.title,
        "files": {name: _digest(path) for name, path in tfds.set_files(source).items()},
        "licence": tfds.licence_of(source),
        "citation": source.builder.info.citation or None,
    }
    return {ours: tfds.split_table(source, theirs) for ours, theirs in chosen.items()}, provenance, notes


def _find_files(config: DataConfig) -> dict[str, Path]:
    """The file of each split.

    Raises:
        UserError: No source is named, the folder is not there or has no such file, or a split has two.
    """
    if config.path is None:
        given = {"train": config.train, "dev": config.dev, "test": config.test}
        files = {split: Path(name) for split, name in given.items() if name is not None}
        if not files:
            raise UserError(
                "no data source",
                expected="--data.path FOLDER, --data.tfds NAME or --data.rules entailment",
                fix="give one of them",
            )
        return files
    folder = Path(config.path)
    if folder.is_file():
        named = [split for split, names in SPLIT_NAMES.items() if folder.stem.lower() in names]
        return {named[0] if named else "test": folder}
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder", fix="check --data.path")
    there = sorted(path for path in folder.iterdir() if path.is_file())
    files = {}
    for split, names in SPLIT_NAMES.items():
        found = [path for path in there if path.suffix.lower() in SUFFIXES and path.stem.lower() in names]
        if len(found) > 1:
            raise UserError(
                f"{folder}: more than one file for {split}",
                got=" and ".join(path.name for path in found),
                fix="keep one, or name the files with --data.train, --data.dev and --data.test",
            )
        if found:
            files[split] = found[0]
    if not files:
        got = listed(path.name for path in there) or "no file"
        raise UserError(f"{folder}: no train, dev or test file", got=got, expected=_train_expected())
    return files


def _check_dev(config: DataConfig, tables: Mapping[str, Table], name: str) -> None:
    if "dev" in tables and config.dev_fraction:
        raise UserError(
            "--data.dev-fraction cuts a dev split where there is none",
            got=f"one in {tables['dev'].place}",
            fix="leave one of them out",
        )
    if "dev" not in tables and not config.dev_fraction:
        raise UserError(
            f"{name}: no dev split",
            expected="dev or validation, as .tsv, .csv, .jsonl or .parquet",
            fix="add it, or cut one off train with --data.dev-fraction 0.1",
        )


def _digest(path: Path) -> str:
    with open_stream(path) as file:
        return hash_stream(file)


# --------------------------------------------------------------------------------------------------------------- rows


def _read(table: Table, config: DataConfig, *, need_label: bool, like: Columns | None) -> RawSplit:
    columns = find_columns(table.header, config, place=table.place, need_label=need_label, like=like)
    return read_rows(table, columns, empty=config.empty)


def _read_all(
    tables: Mapping[str, Table], config: DataConfig, *, need_label: bool
) -> tuple[dict[str, RawSplit], list[str]]:
    """All splits, train first so that the others are read like it; and notes on what was left out."""
    raw: dict[str, RawSplit] = {}
    notes: list[str] = []
    for split, table in tables.items():
        like = next(iter(raw.values())).columns if raw else None
        raw[split] = _read(table, config, need_label=need_label and split != "test", like=like)
        if raw[split].skipped:
            notes.append(f"{split}: {raw[split].skipped:,} rows skipped, a text was empty (--data.empty skip)")
        notes += _quoting_note(split, table, raw[split])
        if config.empty == "skip":
            raw[split], dropped = drop_unlabelled(raw[split])
            if dropped:
                notes.append(f"{split}: {dropped:,} rows skipped, their label is missing (--data.empty skip)")
    return raw, notes


def _quoting_note(split: str, table: Table, raw: RawSplit) -> list[str]:
    """A line where a plain .tsv seems to have been written with quoting, as spreadsheets and pandas do."""
    if not table.short.lower().endswith(".tsv"):
        return []
    texts = chain(raw.first, raw.second)
    count = sum(len(text) > 2 and text[0] == text[-1] == '"' and '""' in text[1:-1] for text in texts)
    if not count:
        return []
    return [
        f"{split}: {count:,} texts look quoted ( within quotes); a .tsv is read plain: write it unquoted, or as .csv"
    ]


def _pairs(raw: RawSplit, task: TaskSpec, *, may_lack: bool, known_from: str = "train") -> Pairs:
    return Pairs(
        first=tuple(raw.first),
        second=tuple(raw.second),
        label=encode_labels(raw, task, may_lack=may_lack, known_from=known_from),
        where=tuple(f"{raw.short}:{number}" for number in raw.number),
    )


def take_rows(pairs: Pairs, rows: Any) -> Pairs:
    """The pairs of the rows named, int [M], in that order."""
    chosen = [int(row) for row in rows]
    return Pairs(
        first=tuple(pairs.first[row] for row in chosen),
        second=tuple(pairs.second[row] for row in chosen),
        label=None if pairs.label is None else pairs.label[chosen],
        where=tuple(pairs.where[row] for row in chosen) if pairs.where else (),
    )


def sample_rows(pairs: Pairs, most: int) -> Pairs:
    """At most so many pairs, a fixed sample in their order; the pairs themselves where there are no more."""
    if len(pairs) <= most:
        return pairs
    return take_rows(pairs, np.sort(np.random.default_rng(0).permutation(len(pairs))[:most]))


def _with_dev_cut(splits: Mapping[str, Pairs], task: TaskSpec, config: DataConfig) -> tuple[dict[str, Pairs], str]:
    whole = splits["train"]
    assert whole.label is not None
    kept, cut = cut_dev(whole.label, kind=task.kind, fraction=config.dev_fraction, seed=config.seed)
    parts = {"train": take_rows(whole, kept), "dev": take_rows(whole, cut)}
    by = "label" if task.kind == "classification" else "score"
    note = (
        f"dev: {len(cut):,} of train's {len(whole):,} pairs, cut off by "
        f"--data.dev-fraction {config.dev_fraction:g} (seed {config.seed}, stratified by {by})"
    )
    return parts | {split: pairs for split, pairs in splits.items() if split != "train"}, note


def _finish(task: TaskSpec, splits: dict[str, Pairs], source: dict[str, Any], notes: list[str]) -> PairData:
    rows = {split: len(pairs) for split, pairs in splits.items()}
    notes += [
        f"{split}: no labels, so predictions and no score" for split, pairs in splits.items() if pairs.label is None
    ]
    notes += measure(task, splits).notes()
    return PairData(task=task, splits=splits, source=source | {"rows": rows}, notes=tuple(notes))


# ------------------------------------------------------------------------------------------------------------- stream


def iter_pairs(
    source: str | Path | Iterable[bytes],
    *,
    first: str | None = None,
    second: str | None = None,
    format: Format = "auto",
) -> Iterator[tuple[str, str]]:
    """Pairs one by one, for `pairjax predict`; memory does not grow with the file.

    The first line of a .tsv or .csv is a header where it holds the columns asked for or two of the usual names. If it
    does not, and has two fields, the file has no header and its two fields are the pair; else it is an error.

    Args:
        source: A file of a kind that is read; the lines of a binary stream; or `-` for standard input.
        first: Column of the first text.
        second: Column of the second text.
        format: How to read it; `auto` goes by a file's name, and takes a stream for JSON lines where it begins with
            `{`, else for plain TSV.

    Raises:
        UserError: As `load_pairs`; also where a text is empty, since every pair read gets an answer.
    """
    config = DataConfig(first=first, second=second)
    for row in _iter(source, config, format, refuse):
        assert not isinstance(row, BadRow)
        yield row


def iter_rows(
    source: str | Path | Iterable[bytes],
    *,
    first: str | None = None,
    second: str | None = None,
    format: Format = "auto",
) -> Iterator[tuple[str, str] | BadRow]:
    """As `iter_pairs`, but a row that is no pair comes as a `BadRow` in its place and the rest is read.

    Such are an empty text, bytes that are not UTF-8, a NUL, a lone surrogate, a ragged line, a line that is no JSON
    object. Blank lines at the end of a file are no rows.

    Args:
        source: As `iter_pairs`.
        first: Column of the first text.
        second: Column of the second text.
        format: As `iter_pairs`.

    Raises:
        UserError: The file cannot be read at all: its first line names no columns, a CSV's quote is never closed, a
            Parquet file is damaged.
    """
    return _iter(source, DataConfig(first=first, second=second), format, mark)


def _iter(
    source: str | Path | Iterable[bytes], config: DataConfig, format: Format, faulty: Faulty
) -> Iterator[tuple[str, str] | BadRow]:
    table = _open_unlabelled(sys.stdin.buffer if source == "-" else source, config, format, faulty)
    columns = find_columns(table.header, config, place=table.place, need_label=False)
    for number, values in table.select([columns.first, columns.second]):
        place = f"{table.place}, {table.unit} {number}"
        try:
            yield _pair(values, columns, place)
        except UserError as error:
            faulty(error)
            # A key of the row may itself be no text, or a megabyte long.
            yield BadRow(number, str(error).encode("utf-8", "backslashreplace").decode()[:REASON])


def _pair(values: tuple[Any, ...], columns: Columns, place: str) -> tuple[str, str]:
    """The texts of one row.

    Raises:
        UserError: One is empty or no text, or the reader left an error in the row's place.
    """
    if isinstance(values[0], UserError):
        raise values[0]
    one = clean_text(values[0], place=place, column=columns.first)
    two = clean_text(values[1], place=place, column=columns.second)
    if not one or not two:
        raise UserError(f"{place}: {columns.second if one else columns.first} is empty", fix="fill it in")
    return one, two


def _open_unlabelled(source: str | Path | Iterable[bytes], config: DataConfig, format: Format, faulty: Faulty) -> Table:
    lines: Iterator[bytes]
    if isinstance(source, str | Path):
        path = Path(source)
        suffix = path.suffix.lower() if format == "auto" else f".{format}"
        if suffix not in (".tsv", ".csv", ".jsonl"):
            return open_table(path)
        place, short, lines = str(path), path.name, byte_lines(path)
    else:
        place = short = "standard input"
        lines = iter(source)
        top = next(lines, b"")
        seen = "jsonl" if top.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{") else "tsv"
        suffix = f".{seen if format == 'auto' else format}"
        lines = chain([top] if top else [], lines)
    if suffix == ".jsonl":
        return jsonl_table(lines, place=place, short=short, faulty=faulty)
    text = decoded_lines(lines, place, faulty=faulty)
    records = tsv_records(text) if suffix == ".tsv" else csv_records(text, place)
    head = next(records, None)
    if head is None:
        raise UserError(f"{place}: the file is empty", expected="a pair a line")
    names = [name.strip() for name in head[1]]
    if len(names) == 2 and config.first is None and config.second is None and not _is_header(names):
        names, records = ["first", "second"], chain([head], records)
    return table_of_records(names, records, place=place, short=short, suffix=suffix, faulty=faulty)


def _is_header(names: list[str]) -> bool:
    """Whether two fields are column names and not a pair of texts."""
    here = {name.casefold() for name in names}
    return any(here == {one.casefold(), two.casefold()} for one, two in TEXT_NAMES)
