"""Finds the files of each split by their names, as data sets are published.

A name has a word for the split (`train`, `dev`, `validation`, `trial`, `test`), and may have a prefix and a suffix:
`snli_1.0_train.jsonl`, `SICK_trial.txt`, `dev_matched.tsv`, `train-00000-of-00003.parquet`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pairjax.base.errors import UserError
from pairjax.data.columns import join_names
from pairjax.data.compression import MAGIC, UNKNOWN

FORMATS = (".tsv", ".csv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".xml")
SAME_FORMAT = {".ndjson": ".jsonl"}
SPLIT_WORDS = {
    "train": ("train", "training"),
    "dev": ("dev", "development", "val", "valid", "validation", "trial"),
    "test": ("test", "testing"),
}
BASE_OF = {word: base for base, words in SPLIT_WORDS.items() for word in words}
SHARD = re.compile(r"[-_.](\d+)[-_]of[-_](\d+)$", re.IGNORECASE)
"""End of a shard's stem: `train-00000-of-00003`."""
FIX = "name the files with --data.train, --data.dev and --data.test"


class SplitName(NamedTuple):
    """The parts of a file's name or of a split's name.

    Attributes:
        base: `train`, `dev` or `test`.
        prefix: What is before the word, such as the name of a data set.
        qualifier: What is after the word, such as `matched`.
    """

    base: str
    prefix: str
    qualifier: str


def parse_split(name: str) -> SplitName | None:
    """Parses the name of a split or the stem of a file; None if no word in it names a split."""
    words = [word for word in re.split(r"[-_.\s]+", name.lower()) if word]
    matches = [number for number, word in enumerate(words) if word in BASE_OF]
    if not matches:
        return None
    number = matches[-1]
    return SplitName(BASE_OF[words[number]], "_".join(words[:number]), "_".join(words[number + 1 :]))


def name_splits(names: Iterable[str], *, place: str) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Maps the names of a source's own splits to `train`, `dev`, `test` and further splits of dev and test.

    Example:
        >>> name_splits(["train", "validation_matched", "validation_mismatched"], place="mnli")[0]
        {'train': ('train',), 'dev_matched': ('validation_matched',), 'dev_mismatched': ('validation_mismatched',)}

    Args:
        names: The source's own names.
        place: The source, for messages.

    Returns:
        The source's names by split, in order, and notes on names that were left out or joined.

    Raises:
        UserError: A split has two candidates.
    """
    splits: dict[str, tuple[str, ...]] = {}
    parsed = [(name, split) for name in names if (split := parse_split(name)) is not None]
    for base in SPLIT_WORDS:
        of_base = [(name, split) for name, split in parsed if split.base == base]
        of_base = [(name, split) for name, split in of_base if not split.prefix] or of_base
        if base == "train":
            of_base = [(name, split) for name, split in of_base if not split.qualifier] or of_base
        by_qualifier: dict[str, list[str]] = defaultdict(list)
        for name, split in of_base:
            by_qualifier[split.qualifier].append(name)
        for group in by_qualifier.values():
            if len(group) > 1:
                raise UserError(f"{place}: two {base} splits", got=" and ".join(group), fix="rename one of them")
        if len(of_base) == 1:
            splits[base] = (of_base[0][0],)
        elif base == "train" and of_base:
            splits[base] = _numbered([name for name, _ in of_base], place)
        else:
            for qualifier in sorted(by_qualifier):
                splits[f"{base}_{qualifier}" if qualifier else base] = tuple(by_qualifier[qualifier])
    used = {name for group in splits.values() for name in group}
    left_out = [name for name in names if name not in used]
    notes = [f"splits left out: {join_names(left_out)}"] if left_out else []
    notes += [f"train: joined {join_names(group)}" for group in splits.values() if len(group) > 1]
    return splits, tuple(notes)


def _numbered(names: Sequence[str], place: str) -> tuple[str, ...]:
    """Orders names that differ in numbers alone.

    Raises:
        UserError: They differ in more.
    """
    if len({re.sub(r"\d+", "0", name) for name in names}) > 1:
        raise UserError(f"{place}: more than one candidate for train", got=join_names(names), fix=FIX)
    return tuple(sorted(names, key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)]))


class SplitFile(NamedTuple):
    """One file of a split.

    Attributes:
        path: The file.
        split: The parts of its name.
        kind: Suffixes of format and compression.
        shard: Its number among the split's files, and how many there are; None if it is the only one.
    """

    path: Path
    split: SplitName
    kind: str
    shard: tuple[int, int | None] | None


class FolderFiles(NamedTuple):
    """The files of a folder.

    Attributes:
        files: Files by split, in order.
        notes: Lines on files that were joined or left out.
    """

    files: dict[str, tuple[Path, ...]]
    notes: tuple[str, ...]


def file_kind(path: Path) -> tuple[str, str] | None:
    """Returns the stem and the suffixes of a file that may hold pairs; None of any other."""
    name = path.name
    lower = name.lower()
    compression = next((suffix for suffix in (*MAGIC, *UNKNOWN) if lower.endswith(suffix)), "")
    inner = lower.removesuffix(compression)
    form = next((suffix for suffix in FORMATS if inner.endswith(suffix) and inner != suffix), None)
    if form is None:
        return None
    return name[: len(inner) - len(form)], SAME_FORMAT.get(form, form) + compression


def read_name(path: Path) -> SplitFile | None:
    """Reads a file's split from its name, or from that of its folder if it is a bare number (`train/0000.parquet`)."""
    suffixes = file_kind(path)
    if suffixes is None:
        return None
    stem, kind = suffixes
    shard: tuple[int, int | None] | None = None
    if match := SHARD.search(stem):
        stem, shard = stem[: match.start()], (int(match[1]), int(match[2]))
    elif stem.isdecimal() and stem.isascii():
        stem, shard = path.parent.name, (int(stem), None)
    split = parse_split(stem)
    return None if split is None else SplitFile(path, split, kind, shard)


def group_files(paths: Iterable[Path], *, place: str, form: str | None = None) -> FolderFiles:
    """Groups files by split.

    Files with a split's bare name (`train.tsv`) are preferred to those with a prefix. Files of dev or test whose
    suffixes differ are splits of their own (`dev_matched`, `dev_mismatched`). Files of train whose suffixes differ in
    numbers alone are joined (`train_r1`, `train_r2`).

    Args:
        paths: The files; those whose names name no split are left out.
        place: The folder, for messages.
        form: Format of the files to read (`tsv`), or None for all.

    Raises:
        UserError: A split has two candidates, or a shard is missing.
    """
    candidates = [file for path in sorted(paths) if (file := read_name(path)) is not None]
    if form is not None:
        candidates = [file for file in candidates if file.kind.split(".")[1] == form]
    files: dict[str, tuple[Path, ...]] = {}
    notes: list[str] = []
    for base in SPLIT_WORDS:
        of_base = [file for file in candidates if file.split.base == base]
        unprefixed = [file for file in of_base if not file.split.prefix]
        selection = unprefixed or of_base
        if plain := [file for file in selection if not file.split.qualifier]:
            # `train_small.tsv` beside `train.tsv` is another subset; `test_hard.tsv` beside `test.tsv` is a split.
            same = {file.kind for file in plain}
            selection = plain if base == "train" else [f for f in selection if not f.split.qualifier or f.kind in same]
        if left_out := [file.path.name for file in of_base if file not in selection]:
            notes.append(f"{base}: left out {join_names(left_out)}")
        by_name = _by_name(selection, base, place)
        if base == "train" and len(by_name) > 1:
            by_name, note = _join_rounds(by_name, place)
            notes.append(note)
        for name, group in by_name.items():
            files[name] = _in_order(group, name, place)
    return FolderFiles(files, tuple(notes))


def _by_name(files: Sequence[SplitFile], base: str, place: str) -> dict[str, list[SplitFile]]:
    """Groups the files of train, dev or test by the names of their splits."""
    groups: dict[str, list[SplitFile]] = defaultdict(list)
    for file in files:
        groups[file.split.qualifier].append(file)
    for group in groups.values():
        kinds = {(file.split.prefix, file.kind, file.path.parent, file.shard and file.shard[1]) for file in group}
        if len(kinds) > 1 or (len(group) > 1 and group[0].shard is None):
            names = [file.path.name for file in group]
            forms = sorted({file.kind.split(".")[1] for file in group})
            choose = f"choose one with --data.format {forms[0]}, or " if len(forms) > 1 else ""
            raise UserError(
                f"{place}: more than one file for {base}",
                got=" and ".join(names) if len(names) < 6 else join_names(names),
                fix=f"{choose}{FIX}",
            )
    if len(groups) == 1:
        return {base: next(iter(groups.values()))}
    return {f"{base}_{qualifier}" if qualifier else base: groups[qualifier] for qualifier in sorted(groups)}


def _join_rounds(by_name: dict[str, list[SplitFile]], place: str) -> tuple[dict[str, list[SplitFile]], str]:
    """Joins files of train whose names differ in numbers alone, in the order of the numbers."""
    rounds = [file for name in _numbered(list(by_name), place) for file in _in_order_files(by_name[name], name, place)]
    note = f"train: joined {join_names(file.path.name for file in rounds)}"
    return {"train": [file._replace(shard=(number, None)) for number, file in enumerate(rounds)]}, note


def _in_order(files: Sequence[SplitFile], name: str, place: str) -> tuple[Path, ...]:
    return tuple(file.path for file in _in_order_files(files, name, place))


def _in_order_files(files: Sequence[SplitFile], name: str, place: str) -> list[SplitFile]:
    """Returns the shards of a split in order.

    Raises:
        UserError: A shard is missing.
    """
    if files[0].shard is None:
        return list(files)
    numbers = {file.shard[0]: file for file in files if file.shard is not None}
    total = files[0].shard[1]
    count = max(numbers) + 1 if total is None else total
    gaps = sorted(set(range(count)) - set(numbers))
    if gaps or len(numbers) > count:
        got = f"{len(numbers)} of {count}: {join_names(sorted(file.path.name for file in files))}"
        raise UserError(
            f"{place}: {name} lacks {'a shard' if len(gaps) == 1 else f'{len(gaps)} shards'}"
            + (f" (number {gaps[0]})" if gaps else ""),
            got=got,
            fix="copy or download all of them",
        )
    return [numbers[number] for number in sorted(numbers)]


def check_shards(paths: Iterable[str], name: str, place: str) -> None:
    """Raises UserError if the paths are shards (`train-00000-of-00003.parquet`) and one is missing."""
    shards = [(Path(path), SHARD.search(Path(path).stem)) for path in paths]
    by_stem: dict[str, list[SplitFile]] = defaultdict(list)
    for path, match in shards:
        if match is not None:
            stem = (path.parent / path.stem[: match.start()]).as_posix()
            number = (int(match[1]), int(match[2]))
            by_stem[stem].append(SplitFile(path, SplitName(name, "", ""), path.suffix, number))
    for files in by_stem.values():
        _in_order_files(files, name, place)


def find_in_folder(folder: Path, *, form: str | None = None) -> FolderFiles:
    """Finds the files of each split in a folder.

    They are in the folder itself, in folders named by split (`train/0000.parquet`), or in `data/`, as in a data set's
    repository on the hub.

    Args:
        folder: The folder.
        form: As in `group_files`.

    Raises:
        UserError: As `group_files`.
    """
    content = sorted(folder.iterdir())
    result = group_files((path for path in content if path.is_file()), place=str(folder), form=form)
    if result.files:
        return result
    inner = [path for part in content if part.is_dir() and parse_split(part.name) for path in part.iterdir()]
    result = group_files((path for path in inner if path.is_file()), place=str(folder), form=form)
    if result.files or not (folder / "data").is_dir():
        return result
    return find_in_folder(folder / "data", form=form)


def lone_file(folder: Path, *, form: str | None = None) -> Path | None:
    """Returns the only file of a folder that may hold pairs, which then needs a split column; None if there is none."""
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and file_kind(path) is not None]
    if form is None:
        paths = [path for path in paths if not path.name.lower().startswith(("readme", "license"))]
    else:
        paths = [path for path in paths if (file_kind(path) or ("", ""))[1].split(".")[1] == form]
    return paths[0] if len(paths) == 1 else None
