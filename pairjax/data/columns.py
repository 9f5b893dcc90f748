"""Which columns of a table are the pair and its label: those that options name, else those of a usual name."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pairjax.base.config import DataConfig
from pairjax.base.errors import UserError

TEXT_NAMES = (
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_A", "sentence_B"),
    ("sent1", "sent2"),
    ("premise", "hypothesis"),
    ("text", "hypothesis"),
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
    "is_duplicate",
    "is_paraphrase",
    "entailment",
    "entailment_judgment",
    "quality",
    "class",
    "target",
)


class Columns(NamedTuple):
    """The columns of a pair; `label` is None where the file has none."""

    first: str
    second: str
    label: str | None


def listed(names: Iterable[str]) -> str:
    """Names for a message, cut short where they are many."""
    shown = [name if name.strip() else repr(name) for name in names]
    return ", ".join(shown[:12]) + (f", ... ({len(shown)} in all)" if len(shown) > 12 else "")


def _match(header: Sequence[str], name: str) -> str | None:
    """The column of that name: as it is written, else whatever its case."""
    if name in header:
        return name
    same = [column for column in header if column.casefold() == name.casefold()]
    return same[0] if len(same) == 1 else None


def _given(header: Sequence[str], name: str | None, option: str, place: str) -> str | None:
    if name is None:
        return None
    found = _match(header, name)
    if found is None:
        raise UserError(f"{place}: no column {name}", got=f"columns {listed(header)}", fix=f"give --data.{option}")
    return found


def _find_texts(header: Sequence[str], first: str | None, second: str | None, place: str) -> tuple[str, str]:
    if first is not None and second is not None:
        return first, second
    found = []
    for usual in TEXT_NAMES:
        one, two = _match(header, usual[0]), _match(header, usual[1])
        if one and two and (first in (None, one)) and (second in (None, two)):
            found.append((one, two))
    if len(found) == 1:
        return found[0]
    fix = "name them with --data.first and --data.second"
    if found:
        what = " or ".join(f"{one} and {two}" for one, two in found)
        raise UserError(f"{place}: more than one pair of text columns", got=what, fix=fix)
    expected = "sentence1 and sentence2, premise and hypothesis, ..."
    if len(header) == 1 and "\t" in header[0]:
        fix = "the header holds tabs: is this a .tsv?"
    elif len(header) == 1 and "," in header[0]:
        fix = "the header holds commas: is this a .csv?"
    elif len(header) == 1 and ";" in header[0]:
        fix = "the header holds semicolons: write a .csv with commas"
    raise UserError(f"{place}: no text columns found", got=f"columns {listed(header)}", expected=expected, fix=fix)


def find_columns(
    header: Sequence[str],
    config: DataConfig,
    *,
    place: str,
    need_label: bool = True,
    like: Columns | None = None,
) -> Columns:
    """Which columns are the pair: those of the options, those of `like` (another split), or those of a usual name.

    Args:
        header: All columns.
        config: `first`, `second` and `label`, where given.
        place: For messages.
        need_label: Whether a missing label column is an error.
        like: The columns of train.

    Raises:
        UserError: A column is missing, named twice, or could be either of several.
    """
    first = _given(header, config.first, "first", place)
    second = _given(header, config.second, "second", place)
    if like is not None:
        first = first or _match(header, like.first)
        second = second or _match(header, like.second)
    first, second = _find_texts(header, first, second, place)
    label = _find_label(header, config, place=place, texts=(first, second), need=need_label, like=like)
    chosen = [first, second, *([label] if label is not None else [])]
    for name in chosen:
        if list(header).count(name) > 1:
            raise UserError(f"{place}: two columns are called {name}", fix="rename one of them")
    if len(set(chosen)) < len(chosen):
        raise UserError(
            f"{place}: one column in two roles",
            got=f"first {first}, second {second}, label {label}",
            fix="give --data.first, --data.second and --data.label",
        )
    return Columns(first, second, label)


def _find_label(
    header: Sequence[str],
    config: DataConfig,
    *,
    place: str,
    texts: tuple[str, str],
    need: bool,
    like: Columns | None,
) -> str | None:
    if config.label is not None:
        found = _match(header, config.label)
        return found if found is not None or not need else _given(header, config.label, "label", place)
    if like is not None and like.label is not None and (same := _match(header, like.label)) is not None:
        return same
    usual = [found for name in LABEL_NAMES if (found := _match(header, name)) is not None and found not in texts]
    if len(usual) > 1:
        raise UserError(
            f"{place}: more than one label column", got=" or ".join(usual), fix="choose one with --data.label"
        )
    if not usual and need:
        raise UserError(
            f"{place}: no label column found", got=f"columns {listed(header)}", fix="name it with --data.label"
        )
    return usual[0] if usual else None
