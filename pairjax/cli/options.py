"""Parses typed options of the command line, with an experiment file's `config` as the default."""

import dataclasses
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import tyro

from pairjax.base.config import DataConfig
from pairjax.base.errors import UserError

T = TypeVar("T")
SOURCES = ("--data.path", "--data.train", "--data.tfds", "--data.rules")


def load_experiment(path: str, *, defines: str = "config") -> ModuleType:
    """Imports an experiment file.

    Args:
        path: The file.
        defines: Name that the file must define.

    Returns:
        The file's module.

    Raises:
        UserError: The file is missing, cannot be imported, or does not define the name.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{path}: no such experiment file", fix="see the folder experiments/ for examples")
    spec = importlib.util.spec_from_file_location(f"pairjax_experiment_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file", expected="experiments/NAME.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be imported ({type(error).__name__}: {error})") from error
    if not hasattr(module, defines):
        raise UserError(f"{path}: defines no {defines}", expected=f"{defines} = {defines.capitalize()}(...)")
    return module


def split_experiment(args: Sequence[str]) -> tuple[str | None, list[str]]:
    """Returns the experiment file, or None if the first argument is an option, and the remaining arguments."""
    if args and not args[0].startswith("-"):
        return args[0], list(args[1:])
    return None, list(args)


def without_source(data: DataConfig, args: Sequence[str]) -> DataConfig:
    """Removes the source from the default data config if the command line names another one."""
    if not any(arg.split("=")[0] in SOURCES for arg in args):
        return data
    return dataclasses.replace(data, path=None, train=None, dev=None, test=None, tfds=None, rules=None)


def parse(kind: type[T], args: Sequence[str], *, prog: str, description: str, default: T | None = None) -> T:
    """Parses options into a config.

    Args:
        kind: The config's class.
        args: The options.
        prog: Name of the command, for `--help`.
        description: Text that `--help` shows first.
        default: Values of the options that are not given; by default, those of the class.

    Raises:
        UserError: Two options contradict each other.
        SystemExit: With code 2 for a misspelt option, with 0 after `--help`.
    """
    text = inspect.cleandoc(description)
    if default is None:
        return tyro.cli(kind, args=list(args), prog=prog, description=text)
    return tyro.cli(kind, args=list(args), prog=prog, description=text, default=default)
