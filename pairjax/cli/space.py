"""Options `--grid FIELD=V,V` and `--random FIELD=KIND:...` to configs, typed by the config's own annotations."""

import contextlib
import dataclasses
import difflib
import io
import itertools
import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

from pairjax.base.config import Config
from pairjax.base.errors import UserError

REFUSED = {
    "run": "is no part of training",
    "evaluation": "is no part of training",
    "mesh": "is no part of training",
    "train.seed": "is what --seeds varies",
    "train.keep": "is fixed to last: a fold that scores a run may not choose its step",
    "train.patience": "is fixed to 0: a fold that scores a run may not end it",
    "train.metric": "is the measure, one for all trials",
    "train.eval_every": "changes nothing: runs of a sweep are evaluated at their end",
    "model.combiner": "takes no value from the command line",
}
READING = ("max_length", "truncation", "layout", "buckets", "row_length")
"""Fields of data that change how pairs are read, and not which."""
KINDS = "uniform:LOW:HIGH, log:LOW:HIGH or choice:V,V"
ATTEMPTS = 50
"""Draws for each trial wanted, before a space counts as used up."""


@dataclass(frozen=True)
class Dimension:
    """One field of the space.

    Attributes:
        field: Dotted (`optim.learning_rate`).
        values: The values of a grid or choice; empty for a range.
        draw: From a generator to a value.
    """

    field: str
    values: tuple[Any, ...]
    draw: Callable[[np.random.Generator], Any]


def fields_of(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, annotation) of every field that is no config itself."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from fields_of(typing.cast(type, hint), f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", hint


def _field(option: str, spelt: str) -> tuple[str, Any]:
    """The field that an option names, with `-` or `_`, and its annotation.

    Raises:
        UserError: There is none, or it is none that a sweep may vary.
    """
    name, known = spelt.strip().removeprefix("--").replace("-", "_"), dict(fields_of(Config))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        last = [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
        guess = (last or near or [""])[0].replace("_", "-")
        raise UserError(
            f"{option}: no such field", got=spelt or "''", fix=f"perhaps you meant {guess}" if guess else None
        )
    section = name.split(".")[0]
    if section == "data" and name.split(".")[1] not in READING:
        raise UserError(
            f"{option} {spelt}: all trials read the same pairs",
            expected=f"of data one of {', '.join(one.replace('_', '-') for one in READING)}",
        )
    for refused in (name, section):
        if refused in REFUSED:
            raise UserError(f"{option} {spelt}: {name.replace('_', '-')} {REFUSED[refused]}", fix="leave it out")
    return name, known[name]


def _described(hint: Any) -> str:
    """An annotation in words."""
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    arguments = [one for one in typing.get_args(hint) if one is not Ellipsis]
    if typing.get_origin(hint) is tuple:
        return f"{_described(arguments[0])}, several separated by spaces"
    if arguments:
        return " or ".join("None" if one is type(None) else _described(one) for one in arguments)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(hint, str(hint))


def _value(option: str, name: str, hint: Any, text: str) -> Any:
    """One value, read as the command line reads the field's option.

    Raises:
        UserError: The field does not take it.
    """
    tokens = text.split()
    if hint is bool:
        tokens = [token.capitalize() for token in tokens]
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            value = tyro.cli(hint, args=tokens, console_outputs=False)
    except SystemExit:
        choices = [str(one) for one in _choices(hint)]
        near = [match for token in tokens for match in difflib.get_close_matches(token, choices, n=1, cutoff=0.5)]
        raise UserError(
            f"{option} {name.replace('_', '-')}: a value that the field does not take",
            got=repr(text),
            expected=_described(hint),
            fix=f"perhaps you meant {near[0]}" if near else None,
        ) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{option} {name.replace('_', '-')}: a value that is not finite", got=text)
    return value


def _choices(hint: Any) -> Iterator[Any]:
    if typing.get_origin(hint) is typing.Literal:
        yield from typing.get_args(hint)
    else:
        for one in typing.get_args(hint):
            yield from _choices(one)


def _values(option: str, name: str, hint: Any, text: str) -> tuple[Any, ...]:
    if not text.strip():
        raise UserError(
            f"{option} {name.replace('_', '-')}: an empty grid",
            got="no value",
            expected=f"{name.replace('_', '-')}=V,V,...",
        )
    values = tuple(_value(option, name, hint, part) for part in text.split(","))
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise UserError(f"{option} {name.replace('_', '-')}: a value stands there twice", got=twice[0])
    return values


def _pick(values: tuple[Any, ...]) -> Callable[[np.random.Generator], Any]:
    return lambda generator: values[int(generator.integers(len(values)))]


def _range(option: str, name: str, hint: Any, kind: str, bounds: Sequence[str]) -> Dimension:
    spelt = name.replace("_", "-")
    number: type | None = next((one for one in (int, float) if hint is one or one in typing.get_args(hint)), None)
    if number is None or hint is bool:
        raise UserError(
            f"{option} {spelt}: a range of a field that is no number",
            got=kind,
            expected=f"choice:V,V, {_described(hint)}",
        )
    if len(bounds) != 2:
        raise UserError(f"{option} {spelt}: a range has two bounds", got=":".join(bounds) or "none", expected=KINDS)
    low, high = (_value(option, name, number, bound) for bound in bounds)
    if low >= high or (kind == "log" and low <= 0):
        expected = "0 < LOW < HIGH" if kind == "log" else "LOW < HIGH"
        raise UserError(f"{option} {spelt}: bounds that span nothing", got=f"{low} and {high}", expected=expected)

    def draw(generator: np.random.Generator) -> Any:
        if kind == "log":
            drawn = math.exp(generator.uniform(math.log(low), math.log(high)))
            return min(max(round(drawn), low), high) if number is int else drawn
        return int(generator.integers(low, high + 1)) if number is int else float(generator.uniform(low, high))

    return Dimension(name, (), draw)


def _split(option: str, text: str) -> tuple[str, Any, str]:
    spelt, equals, rest = text.partition("=")
    if not equals:
        raise UserError(f"{option} names no values", got=text or "''", expected=f"{option} FIELD=...")
    name, hint = _field(option, spelt)
    return name, hint, rest


def read_space(grid: Sequence[str], random: Sequence[str]) -> list[Dimension]:
    """The space that options span.

    Args:
        grid: Each `FIELD=V,V,...`; a value of several parts has spaces between them.
        random: Each `FIELD=uniform:LOW:HIGH`, `FIELD=log:LOW:HIGH` or `FIELD=choice:V,V`; whole numbers are drawn for
            fields that are.

    Raises:
        UserError: No field at all, an unknown one, one named twice, or values that it does not take.
    """
    dimensions = []
    for text in grid:
        name, hint, rest = _split("--grid", text)
        values = _values("--grid", name, hint, rest)
        dimensions.append(Dimension(name, values, _pick(values)))
    for text in random:
        name, hint, rest = _split("--random", text)
        kind, _, parameters = rest.partition(":")
        match kind.strip():
            case "choice":
                values = _values("--random", name, hint, parameters)
                dimensions.append(Dimension(name, values, _pick(values)))
            case "uniform" | "log" as known:
                dimensions.append(_range("--random", name, hint, known, parameters.split(":") if parameters else ()))
            case other:
                near = difflib.get_close_matches(other, ("uniform", "log", "choice"), n=1, cutoff=0.5)
                raise UserError(
                    f"--random {name.replace('_', '-')}: no such distribution",
                    got=other or "none",
                    expected=KINDS,
                    fix=f"perhaps you meant {near[0]}" if near else None,
                )
    if not dimensions:
        raise UserError(
            "an empty grid: nothing to search",
            expected="--grid FIELD=V,V or --random FIELD=log:LOW:HIGH",
            fix="e.g. --grid optim.learning-rate=1e-5,3e-5",
        )
    names = [one.field for one in dimensions]
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise UserError("a field stands in the space twice", got=twice[0].replace("_", "-"))
    return dimensions


def every_point(dimensions: Sequence[Dimension]) -> list[dict[str, Any]]:
    """All combinations of a grid, the last field fastest."""
    names = [one.field for one in dimensions]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(one.values for one in dimensions))]


def drawn_points(dimensions: Sequence[Dimension], *, count: int, seed: int) -> list[dict[str, Any]]:
    """Distinct random points; fewer than `count` where the space holds no more."""
    generator = np.random.default_rng(seed)
    points: list[dict[str, Any]] = []
    for _ in range(count * ATTEMPTS):
        point = {one.field: one.draw(generator) for one in dimensions}
        if point not in points:
            points.append(point)
        if len(points) == count:
            break
    return points


def set_fields(config: Any, values: Mapping[str, Any]) -> Any:
    """The config with some fields changed, by dotted name, all at once.

    Raises:
        UserError: The fields do not go together; names the combination.
    """
    own = {name: value for name, value in values.items() if "." not in name}
    for section in dict.fromkeys(name.split(".")[0] for name in values if "." in name):
        inner = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{section}.")}
        own[section] = set_fields(getattr(config, section), inner)
    return dataclasses.replace(config, **own)
