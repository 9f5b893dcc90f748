"""Loads pairs from files, TFDS sets or rules: finds, reads and checks them, and makes a task with its splits."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import NamedTuple

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import PairData, Pairs, TaskSpec, dev_split
from pairjax.data.columns import Columns, NoTextColumnsError, find_columns, join_names
from pairjax.data.groups import describe_groups
from pairjax.data.labels import drop_unlabelled
from pairjax.data.line_formats import SPACED_QUOTE
from pairjax.data.objectives import order_soft_labels, prepare_labels
from pairjax.data.open_source import OpenSource, open_source
from pairjax.data.quality import measure_quality
from pairjax.data.ranking import number_groups, read_negatives
from pairjax.data.readers import LISTED_ROWS, read_rows, sample_values, skip_note
from pairjax.data.split_files import name_splits, parse_split
from pairjax.data.subsets import cut_dev, take_pairs
from pairjax.data.table import RawSplit, Table, join_splits
from pairjax.data.tasks import encode_labels, read_task, relabel, task_notes
from pairjax.evaluation.clusters import text_clusters


def load_pairs(config: DataConfig) -> PairData:
    """Loads and checks the splits that a config names, and their task.

    Example:
        >>> from pairjax.base.config import DataConfig
        >>> data = load_pairs(DataConfig(rules="paraphrase", sizes=(40, 8, 8)))
        >>> data.task.labels
        ('not_paraphrase', 'paraphrase')
        >>> {name: len(pairs) for name, pairs in data.splits.items()}
        {'train': 40, 'dev': 8, 'test': 8}

    Args:
        config: The source is the one of `path`, `train`, `hf`, `tfds` and `rules` that is given.

    Returns:
        Labelled train and dev splits; further dev and test splits if there are any, whose label is None if they have no
        labels. If several splits are dev's (`dev_matched`, `dev_mismatched`), the first one selects the model.

    Raises:
        UserError: Something is wrong with the source. The message names the place and says how to fix it.
    """
    if config.rules is not None:
        if config.dev_fraction:
            raise UserError(
                "--data.dev-fraction: rule-made pairs already have a dev split", fix="set --data.sizes instead"
            )
        from pairjax.data.synthetic import rule_pairs

        return rule_pairs(config)
    return pairs_from(open_source(config), config)


def pairs_from(source: OpenSource, config: DataConfig) -> PairData:
    """Reads and checks the splits of an open source, and their task.

    Args:
        source: The source.
        config: Names of columns, and how labels are read.

    Raises:
        UserError: As `load_pairs`.
    """
    if source.split_column is None and "train" not in source.tables:
        raise _no_train_error(config, source)
    if source.split_column is None:
        _check_dev(config, {name: tables[0].place for name, tables in source.tables.items()}, source)
    raw, notes, reading = _read_splits(source, config, need_label=True)
    if "train" not in raw:
        raise UserError(f"{source.provenance['name']}: no train split", got=f"splits {join_names(raw)}")
    _check_dev(config, {name: split.place for name, split in raw.items()}, source)
    raw["train"] = _drop_unlabelled(raw["train"], "train", None, config, notes)
    task = read_task(raw["train"], config)
    notes += task_notes(raw["train"], task, config)
    dev = dev_split(raw)
    splits = {
        split: _encode_split(
            split,
            _drop_unlabelled(part, split, task, config, notes),
            task,
            may_lack=split not in ("train", dev),
            config=config,
        )
        for split, part in raw.items()
    }
    if dev is None:
        splits, cut_note = _cut_dev_split(splits, task, config)
        notes.append(cut_note)
    elif dev != "dev":
        notes.append(f"{dev} selects the best model and fits the temperature; it is the first of the dev splits")
    return _pair_data(task, splits, source, notes, reading)


def load_train(config: DataConfig) -> PairData:
    """Loads the train split alone, and the task of its labels; dev and test need not exist.

    Args:
        config: As in `load_pairs`.

    Raises:
        UserError: As `load_pairs`.
    """
    if config.rules is not None:
        data = load_pairs(config)
        return replace(data, splits={"train": data.splits["train"]})
    source = open_source(config)
    if source.split_column is None:
        source = source._replace(tables={name: source.tables[name] for name in source.tables if name == "train"})
    raw, notes, reading = _read_splits(source, config, need_label=True)
    if "train" not in raw:
        raise _no_train_error(config, source)
    train = _drop_unlabelled(raw["train"], "train", None, config, notes)
    task = read_task(train, config)
    splits = {"train": _encode_split("train", train, task, may_lack=False, config=config)}
    return _pair_data(task, splits, source, notes, reading)


def load_for_task(config: DataConfig, task: TaskSpec) -> PairData:
    """Loads the splits that a config names with the label indices of a trained model; for `pairjax evaluate`.

    No split is required, and any split may be unlabelled. `config.path` may be a file: it becomes the split that its
    name says, else `test`.

    Args:
        config: As in `load_pairs`.
        task: The task of the trained model.

    Raises:
        UserError: As `load_pairs`; also if a label is not one of the model's.
    """
    if config.rules is not None:
        data = load_pairs(config)
        splits = {split: relabel(pairs, data.task, task, place=split) for split, pairs in data.splits.items()}
        return replace(data, task=task, splits=splits)
    if task.kind == "multi-label" and config.task == "auto":
        config = replace(config, task="multi-label")
    source = open_source(config)
    raw, notes, reading = _read_splits(source, config, need_label=False)
    splits = {}
    for split, part in raw.items():
        labelled = _drop_unlabelled(part, split, task, config, notes)
        splits[split] = _encode_split(split, labelled, task, may_lack=True, known_from="the model", config=config)
    return _pair_data(task, splits, source, notes, reading)


# -------------------------------------------------------------------------------------------------------------- pairs


def _no_train_error(config: DataConfig, source: OpenSource) -> UserError:
    """Returns the error for a source without a train split."""
    name = config.path or source.provenance["name"]
    if config.path is not None and "files" in source.provenance:
        got: str = join_names(source.provenance["files"])
        fix = "add it, name the files with --data.train and --data.dev, or add a column split"
        return UserError(f"{name}: no train split", got=got, fix=fix)
    return UserError(f"{name}: no train split", got=f"splits {join_names(source.tables)}")


def _check_dev(config: DataConfig, places: Mapping[str, str], source: OpenSource) -> None:
    """Raises unless there is either a dev split or a fraction of train to cut one off; `places` are those of splits."""
    dev = dev_split(places)
    if dev is not None and config.dev_fraction:
        raise UserError(
            "--data.dev-fraction cuts a dev split off train, but the data already has one",
            got=places[dev],
            fix="drop either the option or the split",
        )
    if dev is None and not config.dev_fraction:
        raise UserError(
            f"{source.provenance['name']}: no dev split",
            expected="dev or validation",
            fix="add it, or cut one off train with --data.dev-fraction 0.1",
        )


class ReadSplits(NamedTuple):
    """The rows of all splits.

    Attributes:
        raw: The splits, with labels as the source writes them.
        notes: Lines on rows that were left out and on doubtful readings.
        reading: How each split was understood, one line each.
    """

    raw: dict[str, RawSplit]
    notes: list[str]
    reading: list[str]


def _read_splits(source: OpenSource, config: DataConfig, *, need_label: bool) -> ReadSplits:
    """Reads all splits. Train is read first; the other splits use its columns.

    Raises:
        UserError: A table has no text columns or no label column, or a row is invalid.
    """
    if source.split_column is not None:
        return _read_one_table(source, config, need_label=need_label)
    result = ReadSplits({}, [*source.notes], [])
    needed = ("train", dev_split(source.tables)) if need_label else ()
    for split, tables in source.tables.items():
        like = next(iter(result.raw.values())).columns if result.raw else None
        try:
            parts = [_read_table(table, config, need_label=split in needed, like=like) for table in tables]
        except NoTextColumnsError as error:
            # `dev_ids.tsv` beside `dev.tsv` holds no pairs.
            if "_" not in split or split in needed:
                raise
            result.notes.append(f"{split}: left out, because {error}")
            continue
        _add_split(result, split, join_splits(parts), tables[0], source.why[split], config)
    return result


def _read_table(table: Table, config: DataConfig, *, need_label: bool, like: Columns | None) -> RawSplit:
    """Reads one table of a split."""
    columns = find_columns(
        table.header,
        config,
        place=table.place,
        need_label=need_label,
        like=like,
        sample=partial(sample_values, table),
    )
    return read_rows(table, columns, skip=config.bad_rows == "skip")


def _read_one_table(source: OpenSource, config: DataConfig, *, need_label: bool) -> ReadSplits:
    """Reads the table that holds all splits.

    Raises:
        UserError: As `_read_splits`; or the split column has a value that is no split.
    """
    [table] = source.tables[""]
    column = source.split_column
    assert column is not None
    columns = find_columns(
        table.header, config, place=table.place, need_label=need_label, sample=partial(sample_values, table)
    )
    raw = read_rows(table, columns, skip=config.bad_rows == "skip", extra=(column,))
    values = [str(value).strip().casefold() for value in raw.extra[column]]
    for index, value in enumerate(values):
        if parse_split(value) is None:
            raise UserError(
                f"{raw.locate(index)}: an unexpected value in the split column ({column})",
                got=repr(raw.extra[column][index]),
                expected="train, dev, validation, test or the like",
                fix="correct it, or name another column with --data.split-column",
            )
    names, notes = name_splits(dict.fromkeys(values), place=table.place)
    result = ReadSplits({}, [*source.notes, *notes], [])
    for split, group in names.items():
        part = raw.take([index for index, value in enumerate(values) if value in group])
        why = f"{table.short}, column {column} = {' or '.join(group)}"
        _add_split(result, split, replace(part, skipped=()), table, why, config)
    if raw.skipped:
        result.notes.insert(0, skip_note(table.short, raw.skipped))
    return result


def _add_split(result: ReadSplits, split: str, raw: RawSplit, table: Table, why: str, config: DataConfig) -> None:
    """Adds a split, its notes, and how it was understood."""
    if raw.skipped:
        result.notes.append(skip_note(split, raw.skipped))
    result.notes.extend(_quoting_note(split, table, raw))
    columns = raw.columns
    label = f"label {columns.label}" if columns.label is not None else "no label"
    layout = f"; {table.layout}" if table.layout else ""
    raw = prepare_labels(raw, split, config, result.notes)
    names = f"texts {columns.first} and {columns.second}, {label}"
    result.reading.append(f"{split}: {why}{layout}; {names} ({_why_columns(config)})")
    result.raw[split] = raw


def _why_columns(config: DataConfig) -> str:
    """Returns how the columns were found."""
    given = [f"--data.{name}" for name in ("first", "second", "label") if getattr(config, name) is not None]
    return join_names([*given, "usual names"] if 0 < len(given) < 3 else given or ["usual names"])


def _quoting_note(split: str, table: Table, raw: RawSplit) -> list[str]:
    """Returns a note if a plain file seems to have been written with quoting, or if a .csv has spaces before quotes."""
    if table.quoting == "quoted":
        fields = chain(raw.first, raw.second, raw.label or ())
        spaced = sum(bool(SPACED_QUOTE.match(str(field))) for field in fields)
        if not spaced:
            return []
        return [
            f"{split}: {count_things(spaced, 'field')} with a space before the first quote, so the quotes are text: "
            "put no space between a comma and a quote"
        ]
    if table.quoting != "plain":
        return []
    texts = chain(raw.first, raw.second)
    count = sum(len(text) > 2 and text[0] == text[-1] == '"' and '""' in text[1:-1] for text in texts)
    if not count:
        return []
    return [
        f'{split}: {count_things(count, "text")} look{"s" * (count == 1)} quoted ("" inside quotes), '
        "but a .tsv is read as plain text: write it without quoting, with a quoted header, or as .csv"
    ]


def count_things(count: int, noun: str) -> str:
    """Returns a number with its noun: `1 field`, `2 fields`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _drop_unlabelled(
    raw: RawSplit, split: str, task: TaskSpec | None, config: DataConfig, notes: list[str]
) -> RawSplit:
    """Leaves out rows that are marked as unlabelled, and all others without a label if the options say so."""
    keep = config.task == "classification"
    labelled, marked_rows = drop_unlabelled(raw, marks_only=True, task=task, keep_minus_one=keep)
    if marked_rows:
        hint = "; if -1 is a class, give --data.task classification" if raw.class_names is None and not keep else ""
        where = join_names(row.short for row in marked_rows[:LISTED_ROWS]) + ", ..." * (len(marked_rows) > LISTED_ROWS)
        count = count_things(len(marked_rows), "pair")
        notes.append(f"{split}: left out {count} marked as unlabelled (- or -1; {where}){hint}")
    if config.bad_rows == "skip":
        labelled, rows = drop_unlabelled(labelled, marks_only=False, task=task, keep_minus_one=keep)
        notes.extend([skip_note(split, rows)] if rows else [])
    return labelled


def _encode_split(
    split: str, raw: RawSplit, task: TaskSpec, *, may_lack: bool, config: DataConfig, known_from: str = "train"
) -> Pairs:
    """Returns a split with its labels as the model counts them; see `encode_labels`.

    Raises:
        UserError: A label is wrong, or pairs have groups and are not of two classes.
    """
    if raw.columns.group is not None and task.positive_index is None:
        kind = f"{len(task.labels)} classes" if task.labels else "scores"
        raise UserError("--data.group ranks pairs of two classes", got=kind, fix="leave it out")
    return Pairs(
        first=tuple(raw.first),
        second=tuple(raw.second),
        label=encode_labels(raw, task, may_lack=may_lack, known_from=known_from, config=config),
        where=raw.where(),
        soft=order_soft_labels(raw, task),
        negative=read_negatives(raw),
        group=None if split == "train" else number_groups(raw),
    )


def _cut_dev_split(splits: Mapping[str, Pairs], task: TaskSpec, config: DataConfig) -> tuple[dict[str, Pairs], str]:
    """Cuts dev off train, and returns all splits and a note."""
    full = splits["train"]
    assert full.label is not None
    cluster = text_clusters(full) if config.group_texts else None
    train, dev = cut_dev(full.label, kind=task.kind, fraction=config.dev_fraction, seed=config.seed, cluster=cluster)
    parts = {"train": take_pairs(full, train), "dev": take_pairs(full, dev)}
    by = "score" if task.kind == "regression" else "label"
    note = (
        f"dev: {len(dev):,} of train's {len(full):,} pairs, cut off by "
        f"--data.dev-fraction {config.dev_fraction:g} (seed {config.seed}, stratified by {by}"
    )
    note += f"; pairs that share texts stay together: {describe_groups(full)})" if config.group_texts else ")"
    return parts | {split: pairs for split, pairs in splits.items() if split != "train"}, note


def _pair_data(
    task: TaskSpec, splits: dict[str, Pairs], source: OpenSource, notes: list[str], reading: list[str]
) -> PairData:
    """Adds the row counts to the provenance and the notes on quality to the notes."""
    rows = {split: len(pairs) for split, pairs in splits.items()}
    notes += [
        f"{split}: no labels, so there are predictions but no scores"
        for split, pairs in splits.items()
        if pairs.label is None
    ]
    notes += measure_quality(task, splits).notes()
    return PairData(
        task=task,
        splits=splits,
        source=source.provenance | {"rows": rows},
        notes=tuple(notes),
        reading=tuple(reading),
    )
