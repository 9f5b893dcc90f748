"""Finds the Parquet files of a data set of the Hugging Face hub, in the hub's cache or by download.

Only Parquet files and the data set's card are read: no loading script is run. The files are those of the main branch,
or else those that the hub has converted (the branch refs/convert/parquet).
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pairjax.base.errors import UserError
from pairjax.data.columns import join_names
from pairjax.data.split_files import check_shards, group_files, name_splits, parse_split
from pairjax.data.table import Table

NAME = re.compile(r"(?P<id>[\w.-]+(/[\w.-]+)?)(:(?P<config>[^@]+))?(@(?P<revision>.+))?")
CONVERTED = "refs/convert/parquet"
CARD = "README.md"


class HubName(NamedTuple):
    """The parts of a name such as `nyu-mll/glue:mrpc`.

    Attributes:
        id: Id of the data set.
        config: Name of its config, or None for the only or the default one.
        revision: Branch, tag or commit, or None for the main branch.
    """

    id: str
    config: str | None
    revision: str | None


class HubFiles(NamedTuple):
    """The files of a data set.

    Attributes:
        folder: The snapshot that holds them.
        files: Files by split, in order.
        provenance: Name, revision and licence.
        notes: Lines on splits that were joined or left out.
        why: How each split was recognised.
        class_names: Names of integer labels by column, if the card has them.
    """

    folder: Path
    files: dict[str, tuple[Path, ...]]
    provenance: dict[str, Any]
    notes: tuple[str, ...]
    why: dict[str, str]
    class_names: dict[str, tuple[str, ...]]

    def name_of(self, path: Path) -> str:
        """Returns a file's path in the data set."""
        return path.relative_to(self.folder).as_posix()

    def name_classes(self, table: Table) -> Table:
        """Returns a table with the class names of the card, unless the file itself has some."""
        return table if table.class_names else replace(table, class_names=self.class_names)


def parse_hub_name(text: str) -> HubName:
    """Parses the name of a data set on the hub.

    Raises:
        UserError: The name has another form.
    """
    match = NAME.fullmatch(text)
    if match is None:
        raise UserError("--data.hf is not the name of a data set", got=text, expected="ORG/NAME or ORG/NAME:CONFIG")
    return HubName(match["id"], match["config"], match["revision"])


def find_hub_files(text: str, *, download: bool) -> HubFiles:
    """Finds the Parquet files of a data set.

    Args:
        text: The name, as in `--data.hf`.
        download: Whether files that are not in the hub's cache may be downloaded.

    Raises:
        UserError: The data set is not in the cache and may not or could not be downloaded; it has no Parquet files; it
            has several configs and none is named; or a shard is missing.
    """
    name = parse_hub_name(text)
    revisions = [name.revision] if name.revision is not None else ["main", CONVERTED]
    suffixes: list[str] = []
    for revision in revisions:
        fetch = _download if download else _find_cached
        folder = fetch(name, revision)
        if folder is None:
            continue
        choice = choose_files(_files_in(folder), _read_card(folder / CARD), name)
        suffixes += sorted({Path(path).suffix or path for path in _files_in(folder)})
        if choice.splits:
            return _hub_files(name, folder, choice)
    if not suffixes and not download:
        raise UserError(
            f"--data.hf {text}: not in the hub's cache", fix="add --data.download to download it, or check the name"
        )
    raise UserError(
        f"--data.hf {text}: no Parquet files of train, dev or test",
        got=f"files {join_names(suffixes)}" if suffixes else "none",
        expected="Parquet in the main branch or in refs/convert/parquet",
        fix="download its files yourself, and give their folder as --data.path",
    )


def _hub_files(name: HubName, folder: Path, choice: "Choice") -> HubFiles:
    """Returns the files of a snapshot that were chosen."""
    files = {split: tuple(folder / path for path in paths) for split, paths in choice.splits.items()}
    card = _read_card(folder / CARD)
    licence = card.get("license")
    provenance = {
        "name": f"{name.id}:{choice.config}" if choice.config not in (None, "default") else name.id,
        "revision": folder.name,
        "licence": ", ".join(map(str, licence)) if isinstance(licence, list) else licence,
    }
    why = {split: join_names(paths) for split, paths in choice.splits.items()}
    return HubFiles(folder, files, provenance, choice.notes, why, card_classes(card, choice.config))


def _files_in(folder: Path) -> list[str]:
    """Returns the paths of all files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _find_cached(name: HubName, revision: str) -> Path | None:
    """Returns the folder of a cached snapshot, or None if there is none."""
    from huggingface_hub import snapshot_download

    try:
        snapshot = snapshot_download(
            name.id, repo_type="dataset", revision=revision, local_files_only=True, allow_patterns=[]
        )
    except Exception:  # Errors of the hub and of the system: there is no such snapshot.
        return None
    return Path(str(snapshot))


def _download(name: HubName, revision: str) -> Path | None:
    """Downloads the Parquet files of the config and the card, and returns their folder; None if the branch is missing.

    Raises:
        UserError: The hub cannot be reached, or does not give the data set.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled, RevisionNotFoundError

    try:
        names = HfApi().list_repo_files(name.id, repo_type="dataset", revision=revision)
        card = snapshot_download(name.id, repo_type="dataset", revision=revision, allow_patterns=[CARD])
        choice = choose_files(names, _read_card(Path(str(card)) / CARD), name)
        paths = [path for group in choice.splits.values() for path in group]
        snapshot = snapshot_download(
            name.id, repo_type="dataset", revision=revision, allow_patterns=[CARD, *map(_literal, paths)]
        )
    except UserError:
        raise
    except RevisionNotFoundError:
        return None
    except OfflineModeIsEnabled:
        cached = _find_cached(name, revision)
        if cached is None and revision != CONVERTED:
            raise UserError(
                f"--data.hf {name.id}: not in the hub's cache, and HF_HUB_OFFLINE forbids the network",
                fix="unset HF_HUB_OFFLINE",
            ) from None
        return cached
    except Exception as error:  # Errors of the hub, of its HTTP client and of the system.
        lines = str(error).strip().splitlines() or [""]
        raise UserError(
            f"--data.hf {name.id}: cannot be downloaded from the hub",
            got=f"{type(error).__name__}: {lines[0]:.200}",
            fix="check the name and the network; a private set needs HF_TOKEN",
        ) from None
    return Path(str(snapshot))


def _literal(path: str) -> str:
    """Returns a pattern that matches a path only."""
    return re.sub(r"([*?\[])", r"[\1]", path)


class Choice(NamedTuple):
    """The Parquet files of one config.

    Attributes:
        config: Name of the config; None if the data set has no configs.
        splits: Paths by split, in order.
        notes: Lines on splits that were joined or left out.
    """

    config: str | None
    splits: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()


def choose_files(paths: Sequence[str], card: Mapping[str, Any], name: HubName) -> Choice:
    """Chooses the Parquet files of a config: those that the card lists, else those whose paths name a split.

    Args:
        paths: All paths in the data set.
        card: Metadata of the card; empty if there is none.
        name: The data set and its config.

    Raises:
        UserError: There are several configs and none is named, or the named one is missing.
    """
    parquet = [path for path in paths if path.endswith(".parquet")]
    configs = card.get("configs")
    if isinstance(configs, list) and parquet:
        entries = {str(entry.get("config_name", "default")): entry for entry in configs if isinstance(entry, Mapping)}
        entries = {key: entry for key, entry in entries.items() if _data_files(entry)}
        if entries:
            default = next((key for key, entry in entries.items() if entry.get("default")), None)
            config = _choose_config(list(entries), name, default)
            choice = _listed_files(parquet, _data_files(entries[config]), config, name)
            if choice.splits:
                return choice
    by_config: dict[str, list[str]] = {}
    for path in parquet:
        by_config.setdefault(_config_of(PurePosixPath(path)), []).append(path)
    if not by_config:
        return Choice(None, {})
    config = _choose_config(list(by_config), name, None)
    groups = group_files(map(Path, by_config[config]), place=name.id)
    return Choice(
        config, {split: tuple(path.as_posix() for path in group) for split, group in groups.files.items()}, groups.notes
    )


def _config_of(path: PurePosixPath) -> str:
    """Returns the config of a Parquet file by its folder: `mrpc` of `mrpc/train-00000-of-00001.parquet`."""
    parts = path.parent.parts
    if path.stem.isdecimal() and parts:
        parts = parts[:-1]  # `mrpc/train/0000.parquet`
    return parts[-1] if parts and parts[-1] != "data" else "default"


def _choose_config(configs: Sequence[str], name: HubName, default: str | None) -> str:
    """Returns the config that is named, the only one, or the default one.

    Raises:
        UserError: The named one is missing, or there are several and none is the default one.
    """
    if name.config is not None:
        if name.config not in configs:
            raise UserError(f"--data.hf {name.id}: no config {name.config}", got=join_names(sorted(configs)))
        return name.config
    if len(configs) == 1:
        return configs[0]
    if default is not None or "default" in configs:
        return default or "default"
    got = join_names(sorted(configs))
    raise UserError(f"--data.hf {name.id}: several configs", got=got, fix=f"name one: {name.id}:{sorted(configs)[0]}")


def _data_files(entry: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Returns the splits of a config of the card, each with its patterns."""
    files = entry.get("data_files")
    if isinstance(files, str):
        return [("train", [files])]
    splits = []
    for item in files if isinstance(files, list) else ():
        if isinstance(item, Mapping) and "split" in item and "path" in item:
            path = item["path"]
            splits.append((str(item["split"]), [str(part) for part in path] if isinstance(path, list) else [str(path)]))
    return splits


def _listed_files(
    parquet: Sequence[str], patterns_by_split: Sequence[tuple[str, list[str]]], config: str, name: HubName
) -> Choice:
    """Returns the Parquet files that the patterns of a card match."""
    files_by_split = {
        split: sorted(path for path in parquet if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns))
        for split, patterns in patterns_by_split
    }
    files_by_split = {
        split: files for split, files in files_by_split.items() if files and parse_split(split) is not None
    }
    names, notes = name_splits(list(files_by_split), place=name.id)
    splits = {split: tuple(path for part in group for path in files_by_split[part]) for split, group in names.items()}
    for split, files in splits.items():
        check_shards(files, split, name.id)
    return Choice(config, splits, notes)


def _read_card(path: Path) -> dict[str, Any]:
    """Returns the metadata of a data set's card; empty if there is none or it cannot be read."""
    from huggingface_hub import repocard

    if not path.is_file():
        return {}
    try:
        return dict(repocard.metadata_load(path) or {})
    except Exception:  # The card is written by hand, and only helps.
        return {}


def card_classes(card: Mapping[str, Any], config: str | None) -> dict[str, tuple[str, ...]]:
    """Returns the class names of integer labels that a card gives for a config, by column."""
    infos = card.get("dataset_info")
    names: dict[str, tuple[str, ...]] = {}
    for info in infos if isinstance(infos, list) else [infos]:
        if not isinstance(info, Mapping) or str(info.get("config_name", "default")) != (config or "default"):
            continue
        for feature in info.get("features") or ():
            try:
                values = feature["dtype"]["class_label"]["names"]
                ordered = [values[key] for key in sorted(values, key=int)] if isinstance(values, Mapping) else values
                names[str(feature["name"])] = tuple(map(str, ordered))
            except (KeyError, TypeError, ValueError):
                continue
    return names
