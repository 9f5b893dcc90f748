"""Random changes of published layouts, and random names of files: each is read, or refused in one line."""

import bz2
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairjax.base.data_config import DataConfig
from pairjax.data.python_data import read_python_data
from pairjax.data.sources import load_pairs
from pairjax.data.split_files import group_files
from tests.data.layouts import LAYOUTS, PAIRS
from tests.torture.test_fuzz import CHEAP, JSON, accepted_or_refused, bounded_memory, fuzz, mutated, tables

pytestmark = pytest.mark.timeout(0)
__all__ = ["bounded_memory"]


def arrow() -> bytes:
    """Returns a file that Hugging Face's datasets would write."""
    table = pa.table({name: [row[i] for row in PAIRS] for i, name in enumerate(("sentence1", "sentence2", "label"))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


FILES = [(path, layout.content(PAIRS)) for layout in LAYOUTS.values() for path in [Path(layout.files["train"])]]
FILES.append((Path("train.arrow"), arrow()))
PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read(path: Path, *, skip: bool, encoding: str = "utf-8") -> None:
    """Reads a file as train, with or without its bad rows."""
    rows = "skip" if skip else "refuse"
    accepted_or_refused(
        lambda: load_pairs(DataConfig(train=str(path), dev_fraction=0.3, bad_rows=rows, encoding=encoding))
    )


@st.composite
def changed_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draws the file of a layout with a few bytes changed, before or after compression."""
    path, data = draw(st.sampled_from(FILES))
    return path.name, mutated(draw, bytearray(data))


@fuzz(CHEAP)
@given(file=changed_files(), skip=st.booleans())
def test_changed_layouts(folder: Path, file: tuple[str, bytes], skip: bool) -> None:
    (folder / file[0]).write_bytes(file[1])
    read(folder / file[0], skip=skip)


@fuzz(CHEAP)
@given(
    data=st.one_of(tables("\t"), tables(";"), st.binary(max_size=100)),
    suffix=st.sampled_from(["", *PACK]),
    form=st.sampled_from([".txt", ".json", ".xml", ".csv"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "windows-1252", "gbk", "utf-7"]),
    skip=st.booleans(),
)
def test_any_bytes_in_any_format(folder: Path, data: bytes, suffix: str, form: str, encoding: str, skip: bool) -> None:
    path = folder / f"train{form}{suffix}"
    path.write_bytes(PACK[suffix](data) if suffix else data)
    read(path, skip=skip, encoding=encoding)


@fuzz(CHEAP)
@given(data=JSON)
def test_any_json(folder: Path, data: object) -> None:
    (folder / "train.json").write_text(json.dumps(data))
    read(folder / "train.json", skip=False)
    accepted_or_refused(lambda: read_python_data(data, DataConfig()))


@fuzz(CHEAP)
@given(
    names=st.lists(
        st.lists(st.sampled_from(["train", "dev", "test", "x", "1", "00000-of-00002", "of"]), min_size=1, max_size=4),
        max_size=6,
    ),
    suffix=st.sampled_from([".tsv", ".parquet", ".jsonl.gz", ".xz"]),
)
def test_any_names_of_files(names: list[list[str]], suffix: str) -> None:
    paths = {Path("-".join(words) + suffix) for words in names}
    accepted_or_refused(lambda: group_files(paths, place="folder"))
