"""Readers of Parquet and Arrow files, and of the folders that `save_to_disk` of Hugging Face's datasets writes."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError
from pairjax.data.compression import FREE_BYTES, MAX_RATIO
from pairjax.data.table import Record, Table

BATCH = 8192
"""Rows that are converted to Python values at a time."""


def parquet_table(path: Path) -> Table:
    """Builds the table of a .parquet file; class names that Hugging Face's datasets wrote are read too.

    Raises:
        UserError: The file is damaged, is not Parquet, has no rows, or expands more than `MAX_RATIO` times.
    """
    import pyarrow
    import pyarrow.parquet

    with _readable(path, "Parquet"):
        file = pyarrow.parquet.ParquetFile(path)
    if file.metadata.num_rows == 0:
        raise UserError(f"{path}: the file has no rows")
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    expanded = sum(group.total_byte_size for group in groups)
    if expanded > FREE_BYTES and expanded > MAX_RATIO * path.stat().st_size:
        raise UserError(
            f"{path}: a decompression bomb",
            got=f"{expanded / 2**20:,.0f} MiB from {path.stat().st_size / 2**20:,.2f} MiB",
            expected=f"at most {MAX_RATIO} times as much",
        )
    return _batch_table(
        path,
        file.schema_arrow,
        lambda columns: file.iter_batches(batch_size=BATCH, columns=list(columns)),
        kind="Parquet",
        class_names=_class_names(file.schema_arrow.metadata or {}),
    )


def arrow_table(path: Path, *, class_names: Mapping[str, tuple[str, ...]] | None = None) -> Table:
    """Builds the table of an .arrow file: a stream, as Hugging Face's datasets writes it, or a file with a footer.

    Args:
        path: The file.
        class_names: As in `Table`; by default those in the file's metadata.

    Raises:
        UserError: The file is damaged or is not Arrow.
    """
    import pyarrow
    import pyarrow.ipc

    def reader_of(source: Any) -> Any:
        return pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)

    with _readable(path, "Arrow"):
        with path.open("rb") as file:
            is_file = file.read(6) == b"ARROW1"
        with pyarrow.OSFile(str(path)) as source:
            schema = reader_of(source).schema

    def batches(columns: Iterable[str]) -> Iterator[Any]:
        with pyarrow.OSFile(str(path)) as source:
            reader = reader_of(source)
            record_batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
            for batch in record_batches:
                selection = batch.select(list(columns))
                # Arrow trusts the offsets of a file: a damaged one would end the process.
                selection.validate(full=True)
                yield selection

    names = _class_names(schema.metadata or {}) if class_names is None else class_names
    return _batch_table(path, schema, batches, kind="Arrow", class_names=names)


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Turns the errors of damaged files into a `UserError`."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable {kind} file ({error})", fix="write or copy it again") from None


def _batch_table(
    path: Path,
    schema: Any,
    batches: Callable[[Iterable[str]], Iterator[Any]],
    *,
    kind: str,
    class_names: Mapping[str, tuple[str, ...]],
) -> Table:
    """Builds the table of a file that is read in record batches."""

    def select(columns: Sequence[str]) -> Iterator[Record]:
        number = 0
        with _readable(path, kind):
            for batch in batches(dict.fromkeys(columns)):
                for start in range(0, batch.num_rows, BATCH):
                    part = batch.slice(start, BATCH)
                    for row in zip(*(part.column(name).to_pylist() for name in columns), strict=True):
                        number += 1
                        yield number, row

    return Table(
        place=str(path),
        short=path.name,
        header=tuple(schema.names),
        select=select,
        unit="row",
        class_names=class_names,
        layout=kind,
    )


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Returns the `ClassLabel` names that Hugging Face's datasets stores in a file's metadata, by column."""
    try:
        return label_names(json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def label_names(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Returns the class names of each `ClassLabel` among the features of Hugging Face's datasets, by column."""
    return {name: tuple(kind["names"]) for name, kind in features.items() if kind.get("_type") == "ClassLabel"}


# --------------------------------------------------------------------------------------------------------- save_to_disk


def is_saved_dataset(folder: Path) -> bool:
    """Returns whether `save_to_disk` wrote a folder: a dataset, or a dict of them by split."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def saved_splits(folder: Path) -> dict[str, tuple[Table, ...]]:
    """Returns the tables of a folder that `save_to_disk` wrote, by name of the split; a lone dataset has the name "".

    Raises:
        UserError: The folder is damaged: a file that it names is missing.
    """
    listing = folder / "dataset_dict.json"
    if not listing.is_file():
        return {"": _saved_tables(folder)}
    names = _read(listing).get("splits")
    if not isinstance(names, list) or not names:
        raise UserError(f"{listing}: names no splits", fix="save the data again")
    return {str(name): _saved_tables(folder / Path(str(name)).name) for name in names}


def _read(path: Path) -> dict[str, Any]:
    """Reads a JSON object of a saved dataset."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path}: missing or not JSON", fix="save the data again with save_to_disk") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object", fix="save the data again with save_to_disk")
    return content


def _saved_tables(folder: Path) -> tuple[Table, ...]:
    """Returns the tables of one saved dataset, in order."""
    try:
        names = [Path(entry["filename"]).name for entry in _read(folder / "state.json")["_data_files"]]
    except (KeyError, TypeError):
        raise UserError(f"{folder / 'state.json'}: names no files", fix="save the data again") from None
    info = _read(folder / "dataset_info.json") if (folder / "dataset_info.json").is_file() else {}
    try:
        classes = label_names(info["features"])
    except (KeyError, TypeError, AttributeError):
        classes = {}
    missing_names = [name for name in names if not (folder / name).is_file()]
    if missing_names or not names:
        raise UserError(
            f"{folder}: missing shards", got=", ".join(missing_names) or "none", fix="copy the whole folder"
        )
    return tuple(arrow_table(folder / name, class_names=classes or None) for name in names)
