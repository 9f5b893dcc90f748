"""Random inputs: each is read, or refused in one line, quickly and in little memory.

The unmarked tests are CI's short share. The whole, with the figures of experiments/RELIABILITY.md:

    PAIRJAX_FUZZ=100000 PAIRJAX_FUZZ_DEAR=2000 pytest tests/torture/test_fuzz.py
"""

import json
import os
import resource
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import EncoderSpec
from pairjax.data.sources import load_pairs
from pairjax.data.stream import iter_pairs, iter_rows
from pairjax.data.table import BadRow
from pairjax.data.tokenizer import load_tokenizer
from pairjax.inference.model_folder import load_artifact
from pairjax.weights import load_encoder, read_encoder_spec
from tests.tiny import write_tiny_encoder

CHEAP = int(os.environ.get("PAIRJAX_FUZZ", "150"))
DEAR = int(os.environ.get("PAIRJAX_FUZZ_DEAR", "25"))
SECONDS = 60.0
"""No single input may take longer, however slow the machine."""
MEGABYTES = 500
"""How much all inputs of a test together may add to the process's peak."""

pytestmark = pytest.mark.timeout(0)


def fuzz(count: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=count < 1000,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES


def accepted_or_refused(read: Callable[[], Any]) -> bool:
    """Returns whether the input was read; fails on anything but a one-line `UserError` in time."""
    began = time.monotonic()
    told: str | None = None
    try:
        read()
    except UserError as error:
        told = str(error)
    assert time.monotonic() - began < SECONDS
    assert told is None or (told and "\n" not in told)
    return told is None


# -------------------------------------------------------------------------------- delimited, JSONL

ODD = [
    "\t",
    ",",
    '"',
    '""',
    "\n",
    "\r\n",
    "\r",
    "\0",
    "\ufeff",
    "\ud7ff",
    "\u2028",
    "é",
    "e\u0301",
    "👩‍👩‍👧",
    "\u202eabc",
    "\x1b[31m",
    "NaN",
]
CELL = st.one_of(
    st.text(max_size=8), st.sampled_from(ODD), st.sampled_from(["yes", "no", "1", "0.5", "a man sleeps", ""])
)
HEADER = st.sampled_from([["sentence1", "sentence2", "label"], ["a", "b"], ["premise", "hypothesis"], ["x"], []])


@st.composite
def tables(draw: st.DrawFn, separator: str) -> bytes:
    """Draws rows below a header, mostly of one width, with a few bytes changed."""
    rows = [draw(HEADER), *draw(st.lists(st.lists(CELL, min_size=0, max_size=4), max_size=6))]
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    data = bytearray(end.join(separator.join(row) for row in rows).encode("utf-8", "surrogatepass"))
    return mutated(draw, data)


def mutated(draw: st.DrawFn, data: bytearray) -> bytes:
    for _ in range(draw(st.integers(0, 3))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["flip", "cut", "insert", "double"])):
            case "flip":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=6))
            case "double":
                data[at:at] = data[at : at + 40]
    return bytes(data)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def json_lines(draw: st.DrawFn) -> bytes:
    value = st.one_of(CELL, JSON)
    row = st.one_of(
        st.fixed_dictionaries({"sentence1": value, "sentence2": value}, optional={"label": value}),
        st.dictionaries(st.text(max_size=5), value, max_size=3),
        JSON,
    )
    lines = [json.dumps(draw(row), ensure_ascii=draw(st.booleans())) for _ in range(draw(st.integers(0, 5)))]
    if draw(st.integers(0, 20)) == 0:
        lines.append("[" * 2_000)
    if draw(st.integers(0, 20)) == 0:
        lines.append('{"sentence1": ' + "9" * 5000 + "}")
    return mutated(draw, bytearray("\n".join(lines).encode("utf-8", "surrogatepass")))


def plain(row: tuple[str, str] | BadRow) -> list[str]:
    return [row.reason] if isinstance(row, BadRow) else list(row)


def both_ways(file: Path, data: bytes) -> bool:
    """Reads with the readers of `predict` and `train`, and with the one of `predict` that marks bad rows."""
    file.write_bytes(data)
    accepted_or_refused(lambda: [json.dumps(row, ensure_ascii=False).encode() for row in map(plain, iter_rows(file))])
    one = accepted_or_refused(lambda: sum(1 for _ in iter_pairs(file)))
    other = accepted_or_refused(lambda: load_pairs(DataConfig(train=str(file), dev_fraction=0.3)))
    return one or other


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@fuzz(CHEAP)
@given(data=st.one_of(tables("\t"), st.binary(max_size=200)))
def test_tsv(folder: Path, data: bytes) -> None:
    both_ways(folder / "x.tsv", data)


@fuzz(CHEAP)
@given(data=st.one_of(tables(","), st.binary(max_size=200)))
def test_csv(folder: Path, data: bytes) -> None:
    both_ways(folder / "x.csv", data)


@fuzz(CHEAP)
@given(data=st.one_of(json_lines(), st.binary(max_size=200)))
def test_jsonl(folder: Path, data: bytes) -> None:
    both_ways(folder / "x.jsonl", data)


# -------------------------------------------------------------------------------- encoders, artefacts


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Path:
    return write_tiny_encoder(folder / "encoder", layers=1, hidden=8)


@pytest.fixture(scope="module")
def spec(encoder: Path) -> EncoderSpec:
    return read_encoder_spec(encoder)


@st.composite
def safetensors(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draws a file in which the header's JSON, its length or other bytes are changed."""
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    kind = draw(st.sampled_from(["bytes", "length", "entry", "json"]))
    if kind == "bytes":
        return mutated(draw, bytearray(whole))
    if kind == "length":
        return struct.pack("<Q", draw(st.integers(0, 2**64 - 1))) + whole[8:]
    name = draw(st.sampled_from(sorted(header)))
    if kind == "entry" and isinstance(header[name], dict):
        field = draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        numbers = st.lists(st.integers(-1, 2**64), max_size=4)
        header[name] = header[name] | {
            field: draw(st.one_of(numbers, st.sampled_from(["F64", "I8", "Q", "BOOL"]), JSON))
        }
    else:
        header[draw(st.text(max_size=10))] = draw(JSON)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + whole[8 + size :]


@fuzz(CHEAP)
@given(data=st.data())
def test_safetensors(folder: Path, encoder: Path, spec: EncoderSpec, data: st.DataObject) -> None:
    copy = folder / "weights"
    copy.mkdir(exist_ok=True)
    (copy / "model.safetensors").write_bytes(data.draw(safetensors((encoder / "model.safetensors").read_bytes())))
    accepted_or_refused(lambda: load_encoder(copy, spec))


def changed_json(draw: st.DrawFn, value: Any) -> bytes:
    """Draws a JSON object with fields changed or missing, or with bytes changed."""
    value = dict(value)
    for _ in range(draw(st.integers(0, 3))):
        key = draw(st.sampled_from(sorted(value))) if value else ""
        if draw(st.booleans()):
            value[key] = draw(st.one_of(JSON, st.integers(-1, 10**12), st.sampled_from([0, 1, 10**9, "bert", "gelu"])))
        else:
            value.pop(key, None)
    data = bytearray(json.dumps(value).encode())
    return mutated(draw, data) if draw(st.integers(0, 3)) == 0 else bytes(data)


@st.composite
def json_files(draw: st.DrawFn, value: Any) -> bytes:
    if draw(st.integers(0, 50)) == 0:
        return b"[" * 2_000
    return changed_json(draw, value)


@fuzz(CHEAP)
@given(data=st.data())
def test_config_json(folder: Path, encoder: Path, data: st.DataObject) -> None:
    copy = folder / "config"
    copy.mkdir(exist_ok=True)
    shutil.copyfile(encoder / "model.safetensors", copy / "model.safetensors")
    value = json.loads((encoder / "config.json").read_text())
    (copy / "config.json").write_bytes(data.draw(json_files(value)))
    accepted_or_refused(lambda: load_encoder(copy, read_encoder_spec(copy)))


@fuzz(DEAR)
@given(data=st.data())
def test_parquet(folder: Path, data: st.DataObject) -> None:
    table = pyarrow.table(
        {
            "sentence1": data.draw(st.lists(st.text(max_size=5), min_size=3, max_size=3)),
            "sentence2": ["x", "y", "z"],
            "label": data.draw(st.sampled_from([["a", "b", "a"], [0, 1, 0], [0.5, 1.0, 2.0], [None, "a", "b"]])),
        }
    )
    file = folder / "x.parquet"
    pyarrow.parquet.write_table(table, file)
    raw = bytearray(file.read_bytes())
    both_ways(file, data.draw(st.composite(lambda draw: mutated(draw, raw))()))


@fuzz(DEAR)
@given(data=st.data())
def test_tokeniser(folder: Path, encoder: Path, data: st.DataObject) -> None:
    copy = folder / "tokeniser"
    copy.mkdir(exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (encoder / name).read_text()
        chosen = data.draw(st.booleans())
        (copy / name).write_bytes(data.draw(json_files(json.loads(text))) if chosen else text.encode())
    accepted_or_refused(lambda: load_tokenizer(copy, family="bert"))


@pytest.fixture(scope="module")
def artefact(folder: Path) -> Path:
    return write_tiny_artifact(folder)


def write_tiny_artifact(folder: Path, *, sharpness: float = 1.0) -> Path:
    """Writes an untrained cross-encoder as a model folder; `sharpness` multiplies its classifier's weights."""
    from pairjax.base.model_config import ModelConfig
    from pairjax.base.types import TaskSpec
    from tests.inference.tiny_model import write_tiny_model

    task = TaskSpec("classification", ("no", "yes"))
    return write_tiny_model(folder, config=ModelConfig(), task=task, layers=1, hidden=8, sharpness=sharpness)


@fuzz(DEAR)
@given(data=st.data())
def test_artefact(folder: Path, artefact: Path, data: st.DataObject) -> None:
    """Changes the manifest, with or without correct digests, or the bytes of any file."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(artefact, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    file = data.draw(st.sampled_from(files))
    if file.name == "pairjax.json" or data.draw(st.booleans()):
        manifest = json.loads((copy / "pairjax.json").read_text())
        section = data.draw(st.sampled_from(["", "task", "model", "calibration", "files"]))
        if section:
            inner = data.draw(st.composite(lambda draw: changed_json(draw, manifest[section]))())
            try:
                manifest[section] = json.loads(inner)
            except ValueError:
                return
            (copy / "pairjax.json").write_text(json.dumps(manifest))
        else:
            (copy / "pairjax.json").write_bytes(data.draw(json_files(manifest)))
        accepted_or_refused(lambda: load_artifact(copy))
    else:
        before = file.read_bytes()
        file.write_bytes(data.draw(st.composite(lambda draw: mutated(draw, bytearray(before)))()))
        whole = file.read_bytes() == before
        assert accepted_or_refused(lambda: load_artifact(copy)) == whole
