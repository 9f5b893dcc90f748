"""Opens the source of pairs that a config names: a folder, files, the hub, a TFDS set, or data passed in Python."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.data import tfds
from pairjax.data.columns import join_names
from pairjax.data.compression import open_raw
from pairjax.data.parquet import is_saved_dataset, saved_splits
from pairjax.data.readers import open_table, require_regular
from pairjax.data.split_files import (
    FIX,
    FORMATS,
    file_kind,
    find_in_folder,
    lone_file,
    name_splits,
    parse_split,
)
from pairjax.data.table import Table
from pairjax.storage.hashes import hash_stream

SPLIT_COLUMNS = ("split", "set", "semeval_set", "partition", "subset", "data_split", "dataset_split")
"""Usual names of a column that says the split of a row, in lower case."""


class OpenSource(NamedTuple):
    """A source whose tables are open and whose rows have not been read.

    Attributes:
        tables: The tables of each split, in order; or, under "", the one table whose split column says the split.
        provenance: Name, digests of files, licence and the like, for config.json and the model card.
        notes: Lines on files and splits that were joined or left out.
        why: How each split was recognised.
        split_column: The column that says the split of each row, if one table holds all splits.
    """

    tables: dict[str, tuple[Table, ...]]
    provenance: dict[str, Any]
    notes: tuple[str, ...]
    why: Mapping[str, str]
    split_column: str | None = None


def open_source(config: DataConfig) -> OpenSource:
    """Opens the source that a config names.

    Raises:
        UserError: No source is named, or it cannot be found or opened.
    """
    if config.tfds is not None:
        return _open_tfds(config)
    if config.hf is not None:
        from pairjax.data.hub import find_hub_files

        hub = find_hub_files(config.hf, download=config.download)
        tables = {split: tuple(open_table(path, config) for path in paths) for split, paths in hub.files.items()}
        tables = {split: tuple(hub.name_classes(table) for table in group) for split, group in tables.items()}
        digests = {hub.name_of(path): _digest(path) for paths in hub.files.values() for path in paths}
        provenance = hub.provenance | {"files": digests}
        return OpenSource(tables, provenance, hub.notes, hub.why)
    if config.path is None:
        return _open_named(config)
    path = Path(config.path)
    if path.is_dir():
        if is_saved_dataset(path):
            return _open_saved(path, config)
        return _open_folder(path, config)
    if not path.is_file():
        require_regular(path)
        raise UserError(f"{path}: no such file or folder", fix="check --data.path")
    return _open_lone(path, config)


def _open_named(config: DataConfig) -> OpenSource:
    """Opens the files that --data.train, --data.dev and --data.test name."""
    options = {"train": config.train, "dev": config.dev, "test": config.test}
    paths = {split: Path(name) for split, name in options.items() if name is not None}
    if not paths:
        raise UserError(
            "no data source",
            expected="--data.path FOLDER, --data.hf ORG/NAME, --data.tfds NAME or --data.rules entailment",
            fix="give one of them",
        )
    why = {split: f"--data.{split}" for split in paths}
    files = {split: (path,) for split, path in paths.items()}
    return _open_files(files, config, name=paths["train"].name, why=why)


def _open_files(
    files: Mapping[str, tuple[Path, ...]],
    config: DataConfig,
    *,
    name: str,
    why: Mapping[str, str],
    notes: tuple[str, ...] = (),
    root: Path | None = None,
) -> OpenSource:
    """Opens the files of each split; their names in the provenance start at `root`, if it is given."""
    digests = {
        str(path.relative_to(root)) if root else path.name: _digest(path) for paths in files.values() for path in paths
    }
    tables = {split: tuple(open_table(path, config) for path in paths) for split, paths in files.items()}
    return OpenSource(tables, {"name": name, "files": digests, "licence": None}, notes, why)


def _open_folder(folder: Path, config: DataConfig) -> OpenSource:
    """Opens the files of a folder by their names; a lone file without a split's name has a split column."""
    form = None if config.format == "auto" else config.format
    folder_files = find_in_folder(folder, form=form)
    if not folder_files.files:
        only_file = lone_file(folder, form=form)
        if only_file is not None:
            return _open_lone(only_file, config)
        content = sorted(path.name for path in folder.iterdir())
        raise UserError(
            f"{folder}: no train, dev or test file",
            got=join_names(content) or "no file",
            expected=f"train{', train'.join(FORMATS)}",
            fix=FIX,
        )
    why = {
        split: f"{join_names(path.name for path in paths)}, by {'their' if len(paths) > 1 else 'its'} name"
        for split, paths in folder_files.files.items()
    }
    return _open_files(
        folder_files.files, config, name=folder.resolve().name, why=why, notes=folder_files.notes, root=folder
    )


def _open_lone(path: Path, config: DataConfig) -> OpenSource:
    """Opens one file: by its split column if it has one, else as the split of its name, else as test."""
    split = parse_split((file_kind(path) or (path.stem, ""))[0])
    source = _open_files({"": (path,)}, config, name=path.resolve().parent.name, why={"": path.name})
    column = (
        None if split is not None and config.split_column is None else choose_split_column(source.tables[""][0], config)
    )
    if column is not None:
        return source._replace(split_column=column, provenance=source.provenance | {"name": path.name})
    name = split.base if split is not None else "test"
    return source._replace(
        tables={name: source.tables[""]},
        provenance=source.provenance | {"name": path.name},
        why={name: f"{path.name}, " + ("by its name" if split is not None else "which names no split")},
    )


def choose_split_column(table: Table, config: DataConfig) -> str | None:
    """Returns the column that says the split of each row: the one that is named, or one with a usual name; or None.

    Raises:
        UserError: The named column is missing, or two columns have usual names.
    """
    if config.split_column is not None:
        if config.split_column not in table.header:
            got = f"columns {join_names(table.header)}"
            raise UserError(f"{table.place}: no column {config.split_column}", got=got, fix="give --data.split-column")
        return config.split_column
    matches = [name for name in table.header if name.casefold() in SPLIT_COLUMNS]
    if len(matches) > 1:
        got = " or ".join(matches)
        raise UserError(
            f"{table.place}: more than one split column", got=got, fix="choose one with --data.split-column"
        )
    return matches[0] if matches else None


def _open_saved(folder: Path, config: DataConfig) -> OpenSource:
    """Opens a folder that `save_to_disk` of Hugging Face's datasets wrote."""
    tables_by_name = saved_splits(folder)
    names: dict[str, tuple[str, ...]] = {"": ("",)} if list(tables_by_name) == [""] else {}
    notes: tuple[str, ...] = ()
    if not names:
        names, notes = name_splits(list(tables_by_name), place=str(folder))
    if not names:
        raise UserError(f"{folder}: no known split", got=join_names(tables_by_name), expected="train, validation, test")
    tables = {split: tuple(table for name in group for table in tables_by_name[name]) for split, group in names.items()}
    digests = {
        str(Path(table.place).relative_to(folder)): _digest(Path(table.place))
        for group in tables.values()
        for table in group
    }
    provenance = {"name": folder.resolve().name, "files": digests, "licence": None}
    why = {split: f"{join_names(group)} of save_to_disk" for split, group in names.items()}
    source = OpenSource(tables, provenance, notes, why)
    if "" not in tables:
        return source
    column = choose_split_column(tables[""][0], config) if len(tables[""]) == 1 else None
    if column is not None:
        return source._replace(split_column=column)
    return source._replace(tables={"train": tables[""]}, why={"train": "a dataset of save_to_disk"})


def _open_tfds(config: DataConfig) -> OpenSource:
    """Opens a TFDS set."""
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
    tables: dict[str, tuple[Table, ...]] = {split: (tfds.split_table(source, name),) for split, name in names.items()}
    return OpenSource(tables, provenance, tuple(notes), {split: f"split {name}" for split, name in names.items()})


def _digest(path: Path) -> str:
    """Returns the SHA-256 of a file as it is on disk."""
    require_regular(path)
    with open_raw(path) as file:
        return hash_stream(file)
