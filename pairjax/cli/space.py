"""Reads `--grid FIELD=V,V` and `--random FIELD=KIND:...`; the config's own annotations give the types of values."""

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
    "run": "does not affect training",
    "evaluation": "does not affect training",
    "mesh": "does not affect training",
    "train.seed": "is varied by --seeds",
    "train.keep": "is fixed to last: the fold that scores a run may not choose its step",
    "train.patience": "is fixed to 0: the fold that scores a run may not stop it",
    "train.metric": "is the same for all trials",
    "train.eval_every": "has no effect: runs of a sweep are evaluated at their end",
    "model.combiner": "takes no value from the command line",
}
"""Fields and sections that a sweep may not vary, and why."""
READING = ("max_length", "truncation", "layout", "buckets", "row_length")
"""Fields of data that change how pairs are read, not which pairs."""
KINDS = "uniform:LOW:HIGH, log:LOW:HIGH or choice:V,V"
ATTEMPTS = 50
"""Random points for each trial requested, before a space counts as exhausted."""


@dataclass(frozen=True)
class Dimension:
    """One field of the space.

    Attributes:
        field: Dotted name of the field (`optim.learning_rate`).
        values: The values of a grid or choice; empty for a range.
        draw: Draws a value with a random generator.
    """

    field: str
    values: tuple[Any, ...]
    draw: Callable[[np.random.Generator], Any]


def fields_of(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted name and the annotation of every field that is not itself a config."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from fields_of(typing.cast(type, hint), f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", hint


def _field(option: str, text: str) -> tuple[str, Any]:
    """Returns the field that an option names, with `-` or `_`, and its annotation.

    Raises:
        UserError: The field does not exist, or a sweep may not vary it.
    """
    name, known = text.strip().removeprefix("--").replace("-", "_"), dict(fields_of(Config))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        same_end = [field for field in known if field.rpartition(".")[2] == name.rpartition(".")[2]]
        guess = (same_end or near or [""])[0].replace("_", "-")
        raise UserError(
            f"{option}: no such field", got=text or "''", fix=f"perhaps you meant {guess}" if guess else None
        )
    section = name.split(".")[0]
    if section == "data" and name.split(".")[1] not in READING:
        raise UserError(
            f"{option} {text}: all trials read the same pairs",
            expected=f"data with one of {', '.join(field.replace('_', '-') for field in READING)}",
        )
    for refused in (name, section):
        if refused in REFUSED:
            raise UserError(f"{option} {text}: {name.replace('_', '-')} {REFUSED[refused]}", fix="leave it out")
    return name, known[name]


def _described(hint: Any) -> str:
    """Describes an annotation in words."""
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    arguments = [argument for argument in typing.get_args(hint) if argument is not Ellipsis]
    if typing.get_origin(hint) is tuple:
        return f"{_described(arguments[0])}, several separated by spaces"
    if arguments:
        return " or ".join("None" if argument is type(None) else _described(argument) for argument in arguments)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(hint, str(hint))


def _value(option: str, name: str, hint: Any, text: str) -> Any:
    """Reads one value as the command line reads the field's option.

    Raises:
        UserError: The field does not take the value.
    """
    tokens = text.split()
    if hint is bool:
        tokens = [token.capitalize() for token in tokens]
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            value = tyro.cli(hint, args=tokens, console_outputs=False)
    except SystemExit:
        choices = [str(choice) for choice in _choices(hint)]
        near = [match for token in tokens for match in difflib.get_close_matches(token, choices, n=1, cutoff=0.5)]
        raise UserError(
            f"{option} {name.replace('_', '-')}: the field does not take this value",
            got=repr(text),
            expected=_described(hint),
            fix=f"perhaps you meant {near[0]}" if near else None,
        ) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{option} {name.replace('_', '-')}: the value is not finite", got=text)
    return value


def _choices(hint: Any) -> Iterator[Any]:
    """Yields the literals of an annotation."""
    if typing.get_origin(hint) is typing.Literal:
        yield from typing.get_args(hint)
    else:
        for argument in typing.get_args(hint):
            yield from _choices(argument)


def _values(option: str, name: str, hint: Any, text: str) -> tuple[Any, ...]:
    """Reads values separated by commas."""
    if not text.strip():
        raise UserError(
            f"{option} {name.replace('_', '-')}: an empty grid",
            got="no value",
            expected=f"{name.replace('_', '-')}=V,V,...",
        )
    values = tuple(_value(option, name, hint, part) for part in text.split(","))
    repeated = [value for place, value in enumerate(values) if value in values[:place]]
    if repeated:
        raise UserError(f"{option} {name.replace('_', '-')}: a value is given twice", got=repeated[0])
    return values


def _pick(values: tuple[Any, ...]) -> Callable[[np.random.Generator], Any]:
    """Returns a function that draws one of the values."""
    return lambda generator: values[int(generator.integers(len(values)))]


def _range(option: str, name: str, hint: Any, scale: str, bounds: Sequence[str]) -> Dimension:
    """Reads a range, uniform or log-uniform."""
    spelt = name.replace("_", "-")
    number: type | None = next((kind for kind in (int, float) if hint is kind or kind in typing.get_args(hint)), None)
    if number is None or hint is bool:
        raise UserError(
            f"{option} {spelt}: a range needs a field that is a number",
            got=scale,
            expected=f"choice:V,V, {_described(hint)}",
        )
    if len(bounds) != 2:
        raise UserError(f"{option} {spelt}: a range has two bounds", got=":".join(bounds) or "none", expected=KINDS)
    low, high = (_value(option, name, number, bound) for bound in bounds)
    if low >= high or (scale == "log" and low <= 0):
        expected = "0 < LOW < HIGH" if scale == "log" else "LOW < HIGH"
        raise UserError(f"{option} {spelt}: the bounds span no range", got=f"{low} and {high}", expected=expected)

    def draw(generator: np.random.Generator) -> Any:
        if scale == "log":
            value = math.exp(generator.uniform(math.log(low), math.log(high)))
            return min(max(round(value), low), high) if number is int else value
        return int(generator.integers(low, high + 1)) if number is int else float(generator.uniform(low, high))

    return Dimension(name, (), draw)


def _split(option: str, text: str) -> tuple[str, Any, str]:
    """Splits `FIELD=...` into the field's name, its annotation and the rest."""
    field, equals, rest = text.partition("=")
    if not equals:
        raise UserError(f"{option} names no values", got=text or "''", expected=f"{option} FIELD=...")
    name, hint = _field(option, field)
    return name, hint, rest


def read_space(grid: Sequence[str], random: Sequence[str]) -> list[Dimension]:
    """Reads the search space from the values of --grid and --random.

    Args:
        grid: Each is `FIELD=V,V,...`; spaces separate the parts of one value.
        random: Each is `FIELD=uniform:LOW:HIGH`, `FIELD=log:LOW:HIGH` or `FIELD=choice:V,V`; integer fields get
            integers.

    Raises:
        UserError: There is no field, a field is unknown or named twice, or it does not take a value.
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
            case "uniform" | "log" as scale:
                dimensions.append(_range("--random", name, hint, scale, parameters.split(":") if parameters else ()))
            case unknown:
                near = difflib.get_close_matches(unknown, ("uniform", "log", "choice"), n=1, cutoff=0.5)
                raise UserError(
                    f"--random {name.replace('_', '-')}: no such distribution",
                    got=unknown or "none",
                    expected=KINDS,
                    fix=f"perhaps you meant {near[0]}" if near else None,
                )
    if not dimensions:
        raise UserError(
            "an empty grid: there is nothing to search",
            expected="--grid FIELD=V,V or --random FIELD=log:LOW:HIGH",
            fix="e.g. --grid optim.learning-rate=1e-5,3e-5",
        )
    names = [dimension.field for dimension in dimensions]
    repeated = [name for place, name in enumerate(names) if name in names[:place]]
    if repeated:
        raise UserError("a field is in the space twice", got=repeated[0].replace("_", "-"))
    return dimensions


def grid_points(dimensions: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Returns all combinations of a grid; the last field varies fastest."""
    names = [dimension.field for dimension in dimensions]
    combinations = itertools.product(*(dimension.values for dimension in dimensions))
    return [dict(zip(names, values, strict=True)) for values in combinations]


def sample_points(dimensions: Sequence[Dimension], *, count: int, seed: int) -> list[dict[str, Any]]:
    """Draws distinct random points; fewer than `count` if the space holds no more."""
    generator = np.random.default_rng(seed)
    points: list[dict[str, Any]] = []
    for _ in range(count * ATTEMPTS):
        point = {dimension.field: dimension.draw(generator) for dimension in dimensions}
        if point not in points:
            points.append(point)
        if len(points) == count:
            break
    return points


def set_fields(config: Any, values: Mapping[str, Any]) -> Any:
    """Returns the config with some fields changed, all at once.

    Args:
        config: The config, or a section of it.
        values: New values by dotted name.

    Raises:
        UserError: The values contradict each other; the message names the combination.
    """
    own = {name: value for name, value in values.items() if "." not in name}
    for section in dict.fromkeys(name.split(".")[0] for name in values if "." in name):
        inner = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{section}.")}
        own[section] = set_fields(getattr(config, section), inner)
    return dataclasses.replace(config, **own)
