"""Checks every field of a config by its type hint, whoever builds it: the command line, Python, or a saved config.

Values that mean the same are converted: numbers as text (YAML reads 5e-5 as text), NumPy numbers, lists for tuples,
`Path` objects for text, dicts for sections. All other values raise a `UserError` that names the option. This module
imports no JAX.
"""

import dataclasses
import difflib
import functools
import math
import numbers
import os
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pairjax.base.errors import UserError

C = TypeVar("C", bound="CheckedConfig")
HOME = "home"
"""Marks a text field that names a file or folder: `~` at its start is the home folder."""
FilePath = Annotated[str, HOME]
"""A path, a glob or the name of an encoder, as text."""
OLD_NAMES = {
    "evaluation.oracles": "baselines",
    "evaluation.oracle_train": "baseline_train",
    "data.empty": "bad_rows",
}
"""Fields that have another name in saved configs of version 0.1."""
RENAMED_VALUES = {("data.empty", "error"): "refuse"}
"""Values that have another name in these configs, by field and old value."""
TRUTH = {"true": True, "false": False}


class CheckedConfig:
    """Base class of the configs: frozen dataclasses whose fields are checked when they are built.

    A subclass names its options with `class DataConfig(CheckedConfig, section="data")`, and checks ranges and
    combinations of its fields in `check`, which reads fields that already have the right type.
    """

    section: ClassVar[str] = ""

    def __init_subclass__(cls, *, section: str = "") -> None:
        cls.section = section or cls.section

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, hint in _hints(kind).items():
            value = getattr(self, name)
            converted = _convert(value, hint, _Option(kind, name))
            if converted is not value:
                object.__setattr__(self, name, converted)
        self.check()

    def check(self) -> None:
        """Checks ranges and combinations of fields.

        Raises:
            UserError: A value is out of range, or two values contradict each other.
        """

    @classmethod
    def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
        """Builds the config from plain data, such as the content of a run's config.json.

        Example:
            >>> import pairjax
            >>> pairjax.Config.from_dict({"train": {"epochs": 2}}).train.epochs
            2

        Args:
            values: Values by field, with a dict for each section; or a whole config.json, whose `config` is read.
                Fields that are missing have their defaults.

        Raises:
            UserError: A field does not exist, or a value is wrong.
        """
        if isinstance(values, Mapping) and isinstance(values.get("config"), Mapping) and "provenance" in values:
            values = values["config"]
        merged: C = _merge(cls(), values, cls.section)
        return merged


class _Option:
    """Names a field as its option is spelt.

    Args:
        owner: The config's class.
        field: The field.
    """

    def __init__(self, owner: type[CheckedConfig], field: str) -> None:
        self.owner, self.field = owner, field

    def __str__(self) -> str:
        parts = [self.owner.section, self.field] if self.owner.section else [self.field]
        return ".".join(parts).replace("_", "-")


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """Returns the type hint of each field of a config's class."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _merge(config: Any, values: Any, place: str) -> Any:
    """Returns a config with the fields that plain data names; dicts change the fields of a section."""
    if not isinstance(values, Mapping):
        raise UserError(f"{place or 'the config'} is not a dict", got=_show(values), expected="values by field")
    names = [field.name for field in dataclasses.fields(config)]
    fields = {}
    for name, value in values.items():
        name, value = rename_old(f"{place}.{name}", value, default=str(name))
        dotted = f"{place}.{name}" if place else str(name)
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            raise UserError(
                f"the config has no field {dotted}",
                expected=f"one of {', '.join(names)}",
                fix=f"perhaps you meant {near[0]}" if near else "leave it out, or use the version that wrote it",
            )
        section = getattr(config, name)
        fields[name] = _merge(section, value, dotted) if dataclasses.is_dataclass(section) else value
    return dataclasses.replace(config, **fields)


def rename_old(dotted: str, value: Any, *, default: str) -> tuple[str, Any]:
    """Returns the name of a field of an older config, without its section, and its value, as they are called today.

    Args:
        dotted: The field with its section, such as `data.empty`.
        value: Its value.
        default: The name of a field that has kept its name.
    """
    renamed = RENAMED_VALUES.get((dotted, value), value) if isinstance(value, str) else value
    return OLD_NAMES.get(dotted, default), renamed


def _default(option: _Option) -> Any:
    """Returns the default of a field that is a section."""
    [field] = [field for field in dataclasses.fields(typing.cast(Any, option.owner)) if field.name == option.field]
    return field.default_factory() if callable(field.default_factory) else field.default


def _show(value: Any) -> str:
    """Formats a value for a message: text as it is typed in a shell, if that is readable."""
    plain = isinstance(value, str) and value.strip() == value != ""
    return (str(value) if plain else repr(value))[:200]


def _wrong(option: _Option, value: Any, expected: str, *, fix: str | None = None) -> UserError:
    return UserError(f"--{option} {_show(value)}", expected=expected, fix=fix)


def _convert(value: Any, hint: Any, option: _Option) -> Any:
    """Returns a field's value with the type of its hint; raises UserError if it has another meaning."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        value = _convert(value, args[0], option)
        return expand_home(value, str(option)) if HOME in args[1:] and isinstance(value, str) else value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        [inner] = [arg for arg in args if arg is not type(None)]
        return _convert(value, inner, option)
    if origin is Literal:
        return _choice(value, args, option)
    if origin is tuple:
        return _items(value, args, option)
    if isinstance(hint, type) and issubclass(hint, CheckedConfig):
        return _section(value, hint, option)
    if origin is not None and issubclass(origin, Callable):  # type: ignore[arg-type]
        if not callable(value):
            raise _wrong(
                option, value, "a Flax module of your own", fix="name it in an experiment file; a saved config cannot"
            )
        return value
    scalars: dict[Any, Callable[[Any, _Option], Any]] = {bool: _truth, int: _whole, float: _number, str: _text}
    return scalars[hint](value, option) if hint in scalars else value


def _section(value: Any, hint: type[CheckedConfig], option: _Option) -> Any:
    """Returns a section; a dict changes fields of the section's default."""
    if isinstance(value, Mapping):
        return _merge(_default(option), value, str(option))
    if not isinstance(value, hint):
        got = _show(value) if isinstance(value, str | int | float) else f"of type {type(value).__name__}"
        raise UserError(f"--{option} {got}", expected=f"{hint.__name__} or a dict of its fields")
    return value


def _choice(value: Any, choices: tuple[Any, ...], option: _Option) -> Any:
    """Returns one of a field's choices."""
    for choice in choices:
        if isinstance(value, str) and value == choice:
            return choice
    near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    expected = " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
    raise _wrong(option, value, expected, fix=f"perhaps you meant {near[0]}" if near and len(choices) > 2 else None)


def _items(value: Any, hints: tuple[Any, ...], option: _Option) -> tuple[Any, ...]:
    """Returns a tuple of a list, a tuple or an array."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, list | tuple):
        raise _wrong(option, value, "a list")
    inner = [hints[0]] * len(value) if Ellipsis in hints else list(hints)
    if len(value) != len(inner):
        raise _wrong(option, value, f"{len(inner)} values")
    items = tuple(_convert(item, hint, option) for item, hint in zip(value, inner, strict=True))
    if isinstance(value, tuple) and all(a is b for a, b in zip(items, value, strict=True)):
        return value
    return items


def _truth(value: Any, option: _Option) -> bool:
    if isinstance(value, str) and value.lower() in TRUTH:
        return TRUTH[value.lower()]
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise _wrong(option, value, "True or False")


def _read_number(value: Any) -> float | int | None:
    """Returns a number, also one that is written as text; None if it is no finite number."""
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return None
    value = value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if math.isfinite(value) else None


def _whole(value: Any, option: _Option) -> int:
    number = _read_number(value)
    if number is None or number != int(number):
        raise _wrong(option, value, "a whole number")
    return value if type(value) is int else int(number)


def _number(value: Any, option: _Option) -> float:
    try:
        number = _read_number(value)
        converted = None if number is None else float(number)
    except OverflowError:
        converted = None
    if converted is None:
        raise _wrong(option, value, "a finite number")
    return value if type(value) is float else converted


def _text(value: Any, option: _Option) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
        if isinstance(value, str) and re.match(r"\w\w+:/[^/]", value):
            raise _wrong(option, value, "an address as text, such as gs://BUCKET/FOLDER: a Path drops a slash")
    if not isinstance(value, str):
        raise _wrong(option, value, "text")
    if "\0" in value:
        raise _wrong(option, value.replace("\0", r"\0"), "text without a NUL character")
    return str(value)


def expand_home(path: str, option: str) -> str:
    """Returns a path with the home folder for `~` at its start.

    Args:
        path: The path.
        option: The option that names it, without dashes, for the message.

    Raises:
        UserError: This user has no home folder.
    """
    expanded = os.path.expanduser(path)
    if expanded == "~" or expanded.startswith("~" + os.sep):
        raise UserError(f"--{option} {path}: this user has no home folder", fix="set HOME, or write the whole path")
    return expanded


def cache_root() -> str | None:
    """Returns the folder of the user's caches: XDG_CACHE_HOME, or ~/.cache; None if this user has no home folder."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser(os.path.join("~", ".cache"))
    return None if folder.startswith("~") else folder
