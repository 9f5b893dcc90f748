"""Reads pairs that Python code passes: a DatasetDict, data frames, Arrow tables, lists of dicts, by split or in one.

The types are known by their attributes: none of their packages is imported.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import PairData
from pairjax.data.columns import join_names
from pairjax.data.json_table import rows_table
from pairjax.data.open_source import OpenSource, choose_split_column
from pairjax.data.sources import pairs_from
from pairjax.data.split_files import name_splits, parse_split
from pairjax.data.table import Record, Table

EXPECTED = (
    'splits such as {"train": ..., "dev": ...} of data frames, datasets or lists of dicts; '
    "or one of these with a split column"
)


def read_python_data(data: object, config: DataConfig) -> PairData:
    """Reads pairs from Python objects as `load_pairs` reads those of files.

    Example:
        >>> from pairjax.base.data_config import DataConfig
        >>> row = {"premise": "A man sleeps.", "hypothesis": "Nobody is awake.", "label": "yes"}
        >>> splits = {"train": [row, row | {"label": "no"}], "validation": [row]}
        >>> read_python_data(splits, DataConfig()).task.labels
        ('no', 'yes')

    Args:
        data: A `datasets.DatasetDict` or another mapping of splits; or one object with a split column, or with train
            alone if `config.dev_fraction` cuts dev off it. A split is a `datasets.Dataset`, a pandas or Polars data
            frame, an Arrow table, a dict of columns, or a list of dicts.
        config: Names of columns, and how labels are read; its source is not used.

    Raises:
        UserError: As `load_pairs`; also if the data is none of these.
    """
    provenance: dict[str, Any] = {"name": "data from Python", "files": {}, "licence": None}
    if isinstance(data, PairData):
        return data
    if isinstance(data, Mapping) and any(parse_split(str(name)) is not None for name in data):
        names, notes = name_splits([str(name) for name in data], place="data")
        by_name = {str(name): part for name, part in data.items()}
        tables = {split: tuple(_table(by_name[name], name) for name in group) for split, group in names.items()}
        why = {split: join_names(group) for split, group in names.items()}
        return pairs_from(OpenSource(tables, provenance, notes, why), config)
    table = _table(data, "data")
    column = choose_split_column(table, config)
    if column is not None:
        source = OpenSource({"": (table,)}, provenance, (), {"": "data"}, split_column=column)
    else:
        source = OpenSource({"train": (table,)}, provenance, (), {"train": "data"})
    return pairs_from(source, config)


def column_names(values: object) -> tuple[Any, ...] | None:
    """Returns the column names of a data frame or table of pandas, Polars, Arrow or datasets; None of anything else."""
    for name in ("column_names", "columns"):
        if hasattr(type(values), name):
            names = getattr(values, name)
            return None if names is None else tuple(names)
    return None


def _table(data: Any, name: str) -> Table:
    """Builds the table of one split.

    Raises:
        UserError: The data is no table.
    """
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return rows_table(data, place=name, short=name, layout="a list of dicts")
    names = tuple(data) if isinstance(data, Mapping) else column_names(data)
    if not names or not all(isinstance(column, str) for column in names):
        raise UserError(f"{name}: no table of pairs", got=f"{type(data).__name__}", expected=EXPECTED)

    def select(columns: Sequence[str]) -> Iterator[Record]:
        values = [_values(data[column]) for column in columns]
        sizes = {len(column) for column in values}
        if len(sizes) > 1:
            raise UserError(f"{name}: the columns differ in length", got=" and ".join(map(str, sorted(sizes))))
        yield from enumerate(zip(*values, strict=True), 1)

    return Table(
        place=name,
        short=name,
        header=names,
        select=select,
        unit="row",
        class_names=_class_names(data),
        layout=f"{type(data).__module__.split('.')[0]}.{type(data).__name__}",
    )


def _values(column: Any) -> list[Any]:
    """Returns the values of a column as Python's own; what is missing is None."""
    for name in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, name):
            column = getattr(column, name)()
            break
    return [_value(value) for value in column]


def _value(value: Any) -> Any:
    """Returns one value as Python's own; NaN and the like, which mark a missing value in a data frame, become None."""
    if type(value) is str or value is None:
        return value
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    return None if isinstance(value, float) and value != value else value


def _class_names(data: Any) -> dict[str, tuple[str, ...]]:
    """Returns the names of the `ClassLabel` columns of a `datasets.Dataset`."""
    features = getattr(data, "features", None)
    if not isinstance(features, Mapping):
        return {}
    return {
        name: tuple(kind.names) for name, kind in features.items() if isinstance(getattr(kind, "names", None), list)
    }
