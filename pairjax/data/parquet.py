"""Reader of .parquet."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pairjax.base.errors import UserError
from pairjax.data.table import Record, Table


def parquet_table(path: Path) -> Table:
    """Builds the table of a .parquet file; class names that Hugging Face's datasets wrote are read too.

    Raises:
        UserError: The file is damaged, is not Parquet, or has no rows.
    """
    import pyarrow
    import pyarrow.parquet

    def unreadable(error: Exception) -> UserError:
        return UserError(f"{path}: not a readable Parquet file ({error})", fix="write or copy it again")

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise unreadable(error) from None
    schema = file.schema_arrow
    if file.metadata.num_rows == 0:
        raise UserError(f"{path}: the file has no rows")

    def select(columns: Sequence[str]) -> Iterator[Record]:
        number = 0
        try:
            for batch in file.iter_batches(batch_size=8192, columns=list(dict.fromkeys(columns))):
                values = [batch.column(name).to_pylist() for name in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise unreadable(error) from None

    return Table(
        place=str(path),
        short=path.name,
        header=tuple(schema.names),
        select=select,
        unit="row",
        class_names=_class_names(schema.metadata or {}),
    )


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Returns the `ClassLabel` names that Hugging Face's datasets stores in a file's metadata, by column."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: tuple(kind["names"]) for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
