"""Writes a config as an experiment file, which `pairjax train FILE` runs."""

import dataclasses
from pathlib import Path
from typing import Any

from pairjax.base.config import Config
from pairjax.base.errors import UserError
from pairjax.base.fields import CheckedConfig

WIDTH = 120
"""Characters of a line, at most."""


def config_source(config: Config, docstring: str, *, experiment: Path | None = None) -> str:
    """Returns the text of a Python file that defines `config`, with only the fields that differ from the defaults.

    Args:
        config: The config.
        docstring: The file's docstring.
        experiment: The file that the config came from; the new file reads a user-defined combiner from it.

    Raises:
        UserError: The combiner has no name at the top level of an experiment file.
    """
    used: set[str] = set()
    before: list[str] = []
    combiner = config.model.combiner
    if combiner is not None:
        name = getattr(combiner, "__qualname__", "")
        if experiment is None or not name.isidentifier():
            raise UserError(
                "the combiner cannot be named in an experiment file",
                got=name or repr(combiner),
                expected="a module class at the top of the experiment file",
            )
        before = ["import runpy", ""]
        read = f"runpy.run_path({str(experiment.resolve())!r})[{name!r}]"
    text = _expression(config, used, indent=0, names={id(combiner): read} if combiner is not None else {})
    quoted = docstring.strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    imported = f"from pairjax import {', '.join(sorted(used))}"
    if len(imported) > WIDTH:
        imported = "from pairjax import (\n" + "".join(f"    {name},\n" for name in sorted(used)) + ")"
    return "\n".join([f'"""{quoted}\n"""', "", *before, imported, "", f"config = {text}", ""])


def _expression(value: Any, used: set[str], *, indent: int, names: dict[int, str]) -> str:
    """Returns an expression for a value; a config class names the fields that differ from its defaults.

    Args:
        value: The value.
        used: Collects the names of the config classes in the expression.
        indent: Spaces before the expression.
        names: Expressions for some values, by id.
    """
    if id(value) in names:
        return names[id(value)]
    if not dataclasses.is_dataclass(value):
        return repr(value)
    kind = type(value).__name__
    assert isinstance(value, CheckedConfig), kind
    used.add(kind)
    default = type(value)()
    parts = [
        f"{field.name}={_expression(getattr(value, field.name), used, indent=indent + 4, names=names)}"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != getattr(default, field.name)
    ]
    flat = f"{kind}({', '.join(parts)})"
    if len(flat) + indent <= 100 and "\n" not in flat:
        return flat
    inner = "".join(f"{' ' * (indent + 4)}{part},\n" for part in parts)
    return f"{kind}(\n{inner}{' ' * indent})"
