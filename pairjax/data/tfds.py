"""Reads sets of TensorFlow Datasets from prepared ArrayRecord, Parquet or TFRecord files without TensorFlow.

A prepared folder is read directly (`builder_from_directory`), which needs neither the set's code nor the network. TFDS
downloads a set only if the options allow it.
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
from pairjax.base.fields import expand_home
from pairjax.data.table import Record, Table

NAME = re.compile(r"(?P<name>[A-Za-z]\w*)(/(?P<config>[\w.\-]+))?(:(?P<version>[\d.]+))?")
SPLITS = {
    "train": ("train",),
    "dev": ("validation", "dev", "valid", "val", "validation_matched"),
    "test": ("test", "test_matched"),
}


class TfdsName(NamedTuple):
    """The parts of a name such as `glue/mrpc:2.0.0`.

    Attributes:
        name: The builder (`glue`).
        config: The builder's config (`mrpc`), or None.
        version: The version (`2.0.0`), or None for the newest.
    """

    name: str
    config: str | None
    version: str | None


def parse_name(text: str) -> TfdsName:
    """Parses the name of a TFDS builder.

    Raises:
        UserError: The name has another form.
    """
    match = NAME.fullmatch(text)
    if match is None:
        raise UserError(
            "--data.tfds is not a builder's name", got=text, expected="NAME, NAME/CONFIG or NAME/CONFIG:1.0.0"
        )
    return TfdsName(match["name"], match["config"], match["version"])


def tfds_root(folder: str | None) -> Path:
    """Returns the folder of prepared sets: the given one, or the default of TFDS."""
    root = folder or os.environ.get("TFDS_DATA_DIR")
    return Path(expand_home(root or "~/tensorflow_datasets", "data.tfds-dir"))


def _versions(folder: Path) -> dict[tuple[int, ...], Path]:
    """Returns the prepared versions in a folder."""
    if not folder.is_dir():
        return {}
    return {
        tuple(map(int, path.name.split("."))): path
        for path in folder.iterdir()
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and (path / "dataset_info.json").is_file()
    }


def _config_folder(base: Path, wanted: str | None) -> Path:
    """Returns the folder of a set's config; if none is named, the default one or the only one.

    Raises:
        UserError: There are several configs and no default is known.
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
    """Returns the folder of the prepared set (the newest version if none is named), or None if there is none."""
    versions = _versions(_config_folder(root / name.name, name.config))
    if name.version is not None:
        wanted = tuple(map(int, name.version.split(".")))
        return versions.get(wanted)
    return versions[max(versions)] if versions else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences TFDS, which logs its work through absl."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _prepare(text: str, name: TfdsName, root: Path) -> None:
    """Downloads a set and prepares it as ArrayRecord.

    Raises:
        UserError: TFDS does not know the set, or could not download or prepare it.
    """
    import tensorflow_datasets as tfds

    # A builder under `text` is known only after its module has been imported.
    if importlib.util.find_spec(f"tensorflow_datasets.text.{name.name}") is not None:
        importlib.import_module(f"tensorflow_datasets.text.{name.name}")
    try:
        builder = tfds.builder(text, data_dir=str(root))
    except (tfds.core.registered.DatasetNotFoundError, ValueError, AssertionError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"TFDS has no {text} ({first})", fix="look up its name in the TFDS catalogue") from None
    try:
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # A foreign builder may fail in any way: network, disk, a format that needs TensorFlow.
        lines = str(error).strip().splitlines() or [""]
        raise UserError(
            f"TFDS could not prepare {text} ({type(error).__name__}: {lines[0]:.200})",
            fix="prepare it on another machine with file_format='array_record', and give the folder as --data.tfds-dir",
        ) from error


class TfdsSet(NamedTuple):
    """A prepared set.

    Attributes:
        title: Its full name, such as `glue/mrpc:2.0.0`.
        builder: TFDS's read-only builder.
        folder: The folder of its files.
    """

    title: str
    builder: Any
    folder: Path


def open_set(text: str, *, folder: str | None, download: bool) -> TfdsSet:
    """Opens a prepared set by its name.

    Args:
        text: The name, as in `--data.tfds`.
        folder: Folder of prepared sets; None for the default of TFDS.
        download: Whether a missing set may be downloaded.

    Raises:
        UserError: The set is missing and may not or could not be downloaded, or its folder is damaged.
    """
    name, root = parse_name(text), tfds_root(folder)
    path = find_prepared(name, root)
    with _quiet():
        if path is None and download:
            _prepare(text, name, root)
            path = find_prepared(name, root)
        if path is None:
            raise UserError(
                f"TFDS set {text} is not prepared in {root}",
                fix="add --data.download to download it, or name the folder that has it with --data.tfds-dir",
            )
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder_from_directory(str(path))
        except Exception as error:  # A damaged dataset_info.json or features.json raises many kinds of errors.
            raise UserError(f"{path}: a damaged TFDS set ({error})", fix="prepare it again") from error
    return TfdsSet(builder.info.full_name, builder, path)


def choose_splits(available: Sequence[str], title: str) -> tuple[dict[str, str], list[str]]:
    """Returns the set's names of train, dev and test, and a note for each split that was chosen over another.

    Raises:
        UserError: A split could be any of several.
    """
    names: dict[str, str] = {}
    notes: list[str] = []
    for split, usual in SPLITS.items():
        matches = [name for name in usual if name in available]
        if len(matches) > 1:
            raise UserError(f"{title}: two {split} splits", got=" and ".join(matches))
        if matches:
            name = names[split] = matches[0]
            if name.endswith("_matched"):
                notes.append(f"{split}: {title}'s {name}; {name.replace('_matched', '_mismatched')} is left out")
    return names, notes


def split_table(source: TfdsSet, split: str) -> Table:
    """Builds the table of one split from its top-level text and number features."""
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
        except Exception as error:  # The record readers raise many kinds of errors for damaged or foreign files.
            lines = str(error).strip().splitlines() or [""]
            raise UserError(
                f"{place}: cannot be read ({type(error).__name__}: {lines[0]:.200})", fix="prepare the set again"
            ) from error

    return Table(place=place, short=split, header=header, select=select, unit="row", class_names=names)


def _plain(value: Any) -> Any:
    """Converts a scalar feature's value to a Python string or number."""
    value = value.item() if isinstance(value, np.generic | np.ndarray) else value
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _examples(source: TfdsSet, split: str) -> Iterator[Mapping[str, Any]]:
    """Yields the examples of a split by feature name."""
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
    """Yields the records of a TFRecord file.

    A record is a length (uint64), its checksum, the bytes, and their checksum (both uint32, not verified).

    Raises:
        UserError: The file is missing or cut off.
    """
    try:
        file = path.open("rb")
    except OSError:
        raise UserError(f"{path}: missing from the prepared set", fix="prepare the set again") from None
    size = path.stat().st_size
    with file:
        while head := file.read(12):
            length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else size
            if file.tell() + length + 4 > size:
                raise UserError(f"{path}: cut off or damaged", fix="prepare the set again")
            yield file.read(length)
            file.seek(4, os.SEEK_CUR)


def split_files(source: TfdsSet, split: str) -> tuple[Path, ...]:
    """Returns the files of one split, in order."""
    return tuple(sorted(Path(str(path)) for path in source.builder.info.splits[split].filepaths))


def set_files(source: TfdsSet) -> dict[str, Path]:
    """Returns every file of the prepared set, by name."""
    return {path.name: path for path in sorted(source.folder.iterdir()) if path.is_file()}


def licence_of(source: TfdsSet) -> str | None:
    """Returns the set's licence if TFDS states one."""
    redistribution = getattr(source.builder.info, "redistribution_info", None)
    return (getattr(redistribution, "license", "") or "").strip() or None
