"""Named sets of TensorFlow Datasets, read from prepared ArrayRecord, Parquet or TFRecord files without TensorFlow.

A prepared folder is found first and read by itself (`builder_from_directory`), with no need of the set's code or of the
network; TFDS is asked to download only where the options allow it.
"""

import importlib
import importlib.util
import json
import logging
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pairjax.base.errors import UserError
from pairjax.data.table import Record, Table

NAME = re.compile(r"(?P<name>[A-Za-z]\w*)(/(?P<config>[\w.\-]+))?(:(?P<version>[\d.]+))?")
SPLITS = {
    "train": ("train",),
    "dev": ("validation", "dev", "valid", "val", "validation_matched"),
    "test": ("test", "test_matched"),
}


class TfdsName(NamedTuple):
    """`glue/mrpc:2.0.0` in its parts."""

    name: str
    config: str | None
    version: str | None


def parse_name(text: str) -> TfdsName:
    """Parts of a builder's name.

    Raises:
        UserError: It has another form.
    """
    found = NAME.fullmatch(text)
    if found is None:
        raise UserError("--data.tfds is no builder's name", got=text, expected="NAME, NAME/CONFIG or NAME/CONFIG:1.0.0")
    return TfdsName(found["name"], found["config"], found["version"])


def tfds_root(folder: str | None) -> Path:
    """Where prepared sets lie: the folder given, or TFDS's own."""
    given = folder or os.environ.get("TFDS_DATA_DIR")
    return Path(given).expanduser() if given else Path.home() / "tensorflow_datasets"


def _versions(folder: Path) -> dict[tuple[int, ...], Path]:
    """Prepared versions in a folder."""
    if not folder.is_dir():
        return {}
    return {
        tuple(map(int, path.name.split("."))): path
        for path in folder.iterdir()
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and (path / "dataset_info.json").is_file()
    }


def _config_folder(base: Path, wanted: str | None) -> Path:
    """The folder of a set's config; its default one, or the only one, where none is named.

    Raises:
        UserError: There are several, and no default is known.
    """
    if wanted is not None:
        return base / wanted
    if _versions(base) or not base.is_dir():
        return base
    configs = sorted(path.name for path in base.iterdir() if path.is_dir() and _versions(path))
    if not configs:
        return base
    try:
        default = json.loads((base / ".config" / "metadata.json").read_text("utf-8")).get("default_config_name")
    except (OSError, ValueError, AttributeError):
        default = None
    if default in configs:
        return base / default
    if len(configs) > 1:
        raise UserError(
            f"{base}: several configs are prepared", got=", ".join(configs), fix=f"name one: {base.name}/{configs[0]}"
        )
    return base / configs[0]


def find_prepared(name: TfdsName, root: Path) -> Path | None:
    """The folder of the prepared set, the newest version where none is named; None where it is not there."""
    versions = _versions(_config_folder(root / name.name, name.config))
    if name.version is not None:
        wanted = tuple(map(int, name.version.split(".")))
        return versions.get(wanted)
    return versions[max(versions)] if versions else None


@contextmanager
def _quiet() -> Iterator[None]:
    """TFDS logs its doings through absl; a reader of pairs wants none of it."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _prepare(text: str, name: TfdsName, root: Path) -> None:
    """Download and prepare as ArrayRecord.

    Raises:
        UserError: TFDS does not know the set, or could not fetch or prepare it.
    """
    import tensorflow_datasets as tfds

    # The names of builders under `text` are known only once their module is imported.
    if importlib.util.find_spec(f"tensorflow_datasets.text.{name.name}") is not None:
        importlib.import_module(f"tensorflow_datasets.text.{name.name}")
    try:
        builder = tfds.builder(text, data_dir=str(root))
    except (tfds.core.registered.DatasetNotFoundError, ValueError, AssertionError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"TFDS has no {text} ({first})", fix="see the TFDS catalogue for its name") from None
    try:
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # Whatever a foreign builder meets: network, disk, a format that needs TensorFlow.
        lines = str(error).strip().splitlines() or [""]
        raise UserError(
            f"TFDS could not prepare {text} ({type(error).__name__}: {lines[0]:.200})",
            fix="prepare it elsewhere with file_format='array_record', and name the folder with --data.tfds-dir",
        ) from error


class TfdsSet(NamedTuple):
    """A prepared set.

    Attributes:
        title: Its full name, such as `glue/mrpc:2.0.0`.
        builder: TFDS's read-only builder.
        folder: Where its files lie.
    """

    title: str
    builder: Any
    folder: Path


def open_set(text: str, *, folder: str | None, download: bool) -> TfdsSet:
    """The prepared set of a name.

    Args:
        text: As `--data.tfds` has it.
        folder: Where prepared sets lie; None for TFDS's own.
        download: Whether one that is not there may be fetched.

    Raises:
        UserError: It is not there and may not be downloaded, or could not be; or its folder is damaged.
    """
    name, root = parse_name(text), tfds_root(folder)
    found = find_prepared(name, root)
    with _quiet():
        if found is None and download:
            _prepare(text, name, root)
            found = find_prepared(name, root)
        if found is None:
            raise UserError(
                f"TFDS set {text} is not prepared in {root}",
                fix="add --data.download to fetch it, or name the folder that has it with --data.tfds-dir",
            )
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder_from_directory(str(found))
        except Exception as error:  # A damaged dataset_info.json or features.json surfaces in many ways.
            raise UserError(f"{found}: a damaged TFDS set ({error})", fix="prepare it anew") from error
    return TfdsSet(builder.info.full_name, builder, found)


def choose_splits(available: Sequence[str], title: str) -> tuple[dict[str, str], list[str]]:
    """The set's splits by ours (train, dev, test), and a note for each choice that was one.

    Raises:
        UserError: A split could be either of several.
    """
    chosen: dict[str, str] = {}
    notes: list[str] = []
    for ours, usual in SPLITS.items():
        found = [name for name in usual if name in available]
        if len(found) > 1:
            raise UserError(f"{title}: two {ours} splits", got=" and ".join(found))
        if found:
            chosen[ours] = found[0]
            if found[0].endswith("_matched"):
                notes.append(f"{ours}: {title}'s {found[0]}; {found[0].replace('_matched', '_mismatched')} is left out")
    return chosen, notes


def split_table(source: TfdsSet, split: str) -> Table:
    """One split as a table of its top-level text and number columns."""
    features = source.builder.info.features
    place = f"{source.title}, split {split}"
    header = tuple(name for name, kind in features.items() if getattr(kind, "shape", None) == ())
    names = {name: tuple(features[name].names) for name in header if hasattr(features[name], "names")}

    def select(columns: Sequence[str]) -> Iterator[Record]:
        try:
            for number, example in enumerate(_examples(source, split), 1):
                yield number, tuple(_plain(example[name]) for name in columns)
        except UserError:
            raise
        except Exception as error:  # Cut-off or foreign files: whatever the record readers raise.
            lines = str(error).strip().splitlines() or [""]
            raise UserError(
                f"{place}: cannot be read ({type(error).__name__}: {lines[0]:.200})", fix="prepare the set anew"
            ) from error

    return Table(place=place, short=split, header=header, select=select, unit="row", class_names=names)


def _plain(value: Any) -> Any:
    """A scalar feature's value as a Python string or number."""
    value = value.item() if isinstance(value, np.generic | np.ndarray) else value
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _examples(source: TfdsSet, split: str) -> Iterator[Mapping[str, Any]]:
    info = source.builder.info
    if info.file_format.value != "tfrecord":
        with _quiet():
            records = source.builder.as_data_source(split=split)
        for row in range(len(records)):
            yield records[row]
        return
    for path in split_files(source, split):
        for record in tfrecords(path):
            yield info.features.deserialize_example_np(record)


def tfrecords(path: Path) -> Iterator[bytes]:
    """Records of a TFRecord file: length (uint64), its checksum, the bytes, their checksum (both uint32, unchecked).

    Raises:
        UserError: The file is missing or cut off.
    """
    try:
        file = path.open("rb")
    except OSError:
        raise UserError(f"{path}: missing from the prepared set", fix="prepare the set anew") from None
    size = path.stat().st_size
    with file:
        while head := file.read(12):
            length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else size
            if file.tell() + length + 4 > size:
                raise UserError(f"{path}: cut off or damaged", fix="prepare the set anew")
            yield file.read(length)
            file.seek(4, os.SEEK_CUR)


def split_files(source: TfdsSet, split: str) -> tuple[Path, ...]:
    """The files of one split, in their order."""
    return tuple(sorted(Path(str(path)) for path in source.builder.info.splits[split].filepaths))


def set_files(source: TfdsSet) -> dict[str, Path]:
    """Every file of the prepared set, by its name."""
    return {path.name: path for path in sorted(source.folder.iterdir()) if path.is_file()}


def licence_of(source: TfdsSet) -> str | None:
    """The set's licence where TFDS states one."""
    redistribution = getattr(source.builder.info, "redistribution_info", None)
    return (getattr(redistribution, "license", "") or "").strip() or None
