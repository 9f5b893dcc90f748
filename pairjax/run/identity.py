"""Decides whether a run is the one that a folder holds: the same config and the same content of its input.

A run is a pure function of both, so a run that is resumed with others would be neither of the two.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from pairjax.base.errors import UserError
from pairjax.base.fields import rename_old
from pairjax.storage.bucket import AnyPath
from pairjax.storage.files import to_json
from pairjax.storage.hashes import hash_json

MAY_CHANGE = ("run", "evaluation", "mesh", "data.download", "data.cache", "model.download")
"""Fields that may change when a run is resumed, because they do not affect training. No other field may change:
`train.epochs`, for example, sets the learning-rate schedule."""

OLD_VALUES = {"data.group_texts": False}
"""Values that fields newer than a run had in effect when it began, if these are not today's defaults."""

LOCATIONS = (
    *("data.path", "data.train", "data.dev", "data.test", "data.hf", "data.tfds", "data.tfds_dir"),
    *("data.corpus", "data.tokenizer", "model.encoder"),
)
"""Fields that say where data, encoder and tokeniser are. They may change if their content is the same."""


def as_json(resolved: Mapping[str, Any]) -> Any:
    """Returns the config as JSON gives it back (tuples become lists)."""
    return json.loads(to_json(resolved))


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) of every value that is not a dict."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _renamed(leaf: tuple[str, Any]) -> tuple[str, Any]:
    """Returns a leaf of a saved config under today's name."""
    section, _, field = leaf[0].rpartition(".")
    name, value = rename_old(*leaf, default=field)
    return f"{section}.{name}" if section else name, value


def _may_change(name: str) -> bool:
    """Returns whether a resumed run may change the field."""
    return any(name == field or name.startswith(f"{field}.") for field in MAY_CHANGE)


def identity_of(plain: Any, content: Mapping[str, str]) -> str:
    """Returns the identity of a run: of its content, and of the fields that neither may change nor name a place.

    Without content the places are part of it, as in version 0.1.
    """
    fixed = {
        name: value for name, value in _leaves(plain) if not _may_change(name) and not (content and name in LOCATIONS)
    }
    return hash_json(fixed | {f"content {name}": digest for name, digest in content.items()})


def _same_place(old: Any, new: Any) -> bool:
    """Returns whether two values of a field name the same file or folder."""
    if not (isinstance(old, str) and isinstance(new, str)):
        return False
    left, right = (os.path.realpath(os.path.expanduser(name)) for name in (old, new))
    return left == right and os.path.exists(left)


def check_same(path: AnyPath, saved: Mapping[str, Any], resolved: Any, defaults: Any) -> None:
    """Raises UserError with each field that differs and must not change when a run is resumed."""
    old, new = dict(map(_renamed, _leaves(saved["config"]))), dict(_leaves(resolved))
    absent = object()
    # A run that began before an option existed did what its default, or its entry in `OLD_VALUES`, does now.
    before = dict(_leaves(defaults)) | OLD_VALUES
    old = {name: value for name, value in before.items() if name in new} | old
    known = bool(saved.get("content"))
    changed = [
        f"{name} was {_value(old, name)} and is now {_value(new, name)}"
        for name in sorted(old.keys() | new.keys())
        if not _may_change(name)
        and old.get(name, absent) != new.get(name, absent)
        and not (name in LOCATIONS and (known or _same_place(old.get(name), new.get(name))))
    ]
    if changed:
        raise UserError(
            f"{path}: the run cannot be resumed with another config: " + ", ".join(changed),
            fix="resume with the options of the first start, or choose another --run.dir",
        )


def check_content(path: AnyPath, saved: Mapping[str, Any], content: Mapping[str, str]) -> None:
    """Raises UserError with each part of the input that is not the one that the run began with."""
    began = saved.get("content")
    if not isinstance(began, dict):
        return
    changed = [name for name in sorted(began.keys() & content.keys()) if began[name] != content[name]]
    if changed:
        raise UserError(
            f"{path}: the run cannot be resumed on other input",
            got=f"another content of {', '.join(changed)}",
            expected="the content that the run began with, under any path",
            fix="restore it, or start a new run in another --run.dir",
        )


def _value(fields: Mapping[str, Any], name: str) -> str:
    """Formats a field's value for a message."""
    return json.dumps(fields[name], ensure_ascii=False) if name in fields else "not set"
