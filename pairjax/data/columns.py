"""Finds the columns of the pair and its label in a table: those that options name, else those with usual names."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError

TEXT_NAMES = (
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_A", "sentence_B"),
    ("sent1", "sent2"),
    ("premise", "hypothesis"),
    ("premise", "hypo"),
    ("context", "hypothesis"),
    ("text", "hypothesis"),
    ("text", "text_pair"),
    ("question1", "question2"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("query", "passage"),
    ("query", "document"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "answer"),
    ("#1 String", "#2 String"),
    ("anchor", "positive"),
    ("claim", "evidence"),
    ("t", "h"),
    ("string1", "string2"),
    ("source", "target"),
    ("first", "second"),
    ("s1", "s2"),
    ("q1", "q2"),
    ("a", "b"),
)
LABEL_NAMES = (
    "label",
    "labels",
    "gold_label",
    "score",
    "similarity",
    "similarity_score",
    "relatedness",
    "relatedness_score",
    "relatednessScore",
    "entailment_label",
    "is_duplicate",
    "is_paraphrase",
    "entailment",
    "entailment_judgment",
    "quality",
    "class",
    "target",
)


class Columns(NamedTuple):
    """Names of a pair's columns.

    Attributes:
        first: Column of the first text.
        second: Column of the second text.
        label: Column of the label, or None if the file has none.
        soft: Columns of the probabilities of the classes; empty if there are none.
        negative: Column of a text that does not match the first one, or None.
        group: Column of the group whose pairs are ranked, or None.
    """

    first: str
    second: str
    label: str | None
    soft: tuple[str, ...] = ()
    negative: str | None = None
    group: str | None = None

    @property
    def further(self) -> tuple[str, ...]:
        """The columns besides the texts and the label; their values are in `RawSplit.extra`."""
        return (*self.soft, *(name for name in (self.negative, self.group) if name is not None))


def join_names(names: Iterable[str]) -> str:
    """Joins names with commas for a message: the first 12, and their number if there are more."""
    quoted = [name if name.strip() else repr(name) for name in names]
    return ", ".join(quoted[:12]) + (f", ... ({len(quoted)} in all)" if len(quoted) > 12 else "")


def _match_column(header: Sequence[str], name: str) -> str | None:
    """Returns the column with that name, or else the only one that differs in case alone."""
    if name in header:
        return name
    matches = [column for column in header if column.casefold() == name.casefold()]
    return matches[0] if len(matches) == 1 else None


def _named_column(header: Sequence[str], name: str | None, option: str, place: str) -> str | None:
    """Returns the column that an option names, or None if the option is not given."""
    if name is None:
        return None
    column = _match_column(header, name)
    if column is None:
        raise UserError(f"{place}: no column {name}", got=f"columns {join_names(header)}", fix=f"give --data.{option}")
    return column


class NoTextColumnsError(UserError):
    """A table in which no two columns have usual names: the file may hold no pairs at all."""


def _text_matches(header: Sequence[str], first: str | None, second: str | None) -> list[tuple[str, str]]:
    """Returns every two columns with usual names, or one of these and the column that is known."""
    matches = []
    for usual in TEXT_NAMES:
        left, right = _match_column(header, usual[0]), _match_column(header, usual[1])
        if left and right and (first in (None, left)) and (second in (None, right)):
            matches.append((left, right))
    return matches


def has_text_columns(header: Sequence[str], first: str | None = None, second: str | None = None) -> bool:
    """Returns whether a header has two text columns: those that the user names, else any with usual names."""
    named = [name for name in (first, second) if name is not None]
    if any(_match_column(header, name) is None for name in named):
        return False
    return len(named) == 2 or bool(_text_matches(header, first, second))


def find_text_columns(
    header: Sequence[str],
    first: str | None = None,
    second: str | None = None,
    *,
    place: str,
    fix: str = "name them with --data.first and --data.second, or all columns with --data.columns if it has no header",
) -> tuple[str, str]:
    """Returns the two text columns: those that are given, else those with usual names.

    Args:
        header: Names of all columns.
        first: Column of the first text, if it is known.
        second: Column of the second text, if it is known.
        place: Where the table is, for messages.
        fix: How the user can name the columns.

    Raises:
        UserError: No two columns have usual names, or more than two have.
    """
    if first is not None and second is not None:
        return first, second
    matches = _text_matches(header, first, second)
    if len(matches) == 1:
        return matches[0]
    if matches:
        got = " or ".join(f"{left} and {right}" for left, right in matches)
        raise UserError(f"{place}: more than one pair of text columns", got=got, fix=fix)
    expected = "sentence1 and sentence2, premise and hypothesis, ..."
    raise NoTextColumnsError(
        f"{place}: no text columns found", got=f"columns {join_names(header)}", expected=expected, fix=fix
    )


def find_columns(
    header: Sequence[str],
    config: DataConfig,
    *,
    place: str,
    need_label: bool = True,
    like: Columns | None = None,
    sample: Callable[[str], str] | None = None,
    with_label: bool = True,
) -> Columns:
    """Finds the columns of the pair: those of the options, else those of `like`, else those with usual names.

    Args:
        header: Names of all columns.
        config: Only `first`, `second` and `label` are read.
        place: Where the table is, for messages.
        need_label: Whether a missing label column is an error.
        like: The columns of train, for the other splits.
        sample: Returns a few values of a column, for the message if two columns could be the label.
        with_label: Whether to look for the label; a file to predict may have any number of label columns.

    Raises:
        UserError: A column is missing, appears twice, or could be any of several.
    """
    first = _named_column(header, config.first, "first", place)
    second = _named_column(header, config.second, "second", place)
    if like is not None:
        first = first or _match_column(header, like.first)
        second = second or _match_column(header, like.second)
    first, second = find_text_columns(header, first, second, place=place)
    soft = _soft_columns(header, config, place=place, need=like is None)
    label, negative = None, None
    if config.task == "ranking":
        negative = _named_column(header, config.negative, "negative", place) or _match_column(header, "negative")
    elif with_label:
        others = [name for name in header if name not in soft]
        texts, need = (first, second), need_label and not soft
        label = _find_label(others, config, place=place, texts=texts, need=need, like=like, sample=sample)
    group = None if config.group is None else _match_column(header, config.group)
    names = [first, second, *(name for name in (label, *soft, negative, group) if name is not None)]
    for name in names:
        if list(header).count(name) > 1:
            raise UserError(f"{place}: two columns are called {name}", fix="rename one of them")
    if len(set(names)) < len(names):
        raise UserError(
            f"{place}: one column in two roles",
            got=f"first {first}, second {second}, label {label}",
            fix="give --data.first, --data.second and --data.label",
        )
    return Columns(first, second, label, soft, negative, group)


def _soft_columns(header: Sequence[str], config: DataConfig, *, place: str, need: bool) -> tuple[str, ...]:
    """Returns the columns of `--data.soft-labels`; a split that need not have them may lack all of them."""
    if not need and not any(_match_column(header, name) for name in config.soft_labels):
        return ()
    columns = (_named_column(header, name, "soft-labels", place) for name in config.soft_labels)
    return tuple(column for column in columns if column is not None)


def _find_label(
    header: Sequence[str],
    config: DataConfig,
    *,
    place: str,
    texts: tuple[str, str],
    need: bool,
    like: Columns | None,
    sample: Callable[[str], str] | None,
) -> str | None:
    """Returns the label column, or None if there is none and none is needed."""
    if config.label is not None:
        column = _match_column(header, config.label)
        return column if column is not None or not need else _named_column(header, config.label, "label", place)
    if like is not None and like.label is not None and (column := _match_column(header, like.label)) is not None:
        return column
    matches = [column for name in LABEL_NAMES if (column := _match_column(header, name)) and column not in texts]
    if len(matches) > 1:
        values = [sample(column) if sample else "" for column in matches]
        got = " or ".join(f"{name} ({some})" if some else name for name, some in zip(matches, values, strict=True))
        fix = f"choose one with --data.label, such as --data.label {matches[0]}"
        raise UserError(f"{place}: more than one label column", got=got, fix=fix)
    if not matches and need:
        raise UserError(
            f"{place}: no label column found", got=f"columns {join_names(header)}", fix="name it with --data.label"
        )
    return matches[0] if matches else None
