"""Parses typed options of the command line, with an experiment file's `config` as the default."""

import dataclasses
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import tyro

from pairjax.base.config import Config
from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.fields import expand_home
from pairjax.base.pretrain_config import PretrainConfig
from pairjax.storage.files import read_json

T = TypeVar("T")
C = TypeVar("C", Config, PretrainConfig)
SOURCES = ("--data.path", "--data.train", "--data.hf", "--data.tfds", "--data.rules")


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
        # Not by the loader: its cache of bytecode misses a change within a second that keeps the file's size.
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f", line {lines[-1]}" if lines else ""
        reason = " ".join(str(error).split())
        raise UserError(f"{path}{where}: cannot be imported ({type(error).__name__}: {reason})") from error
    if not hasattr(module, defines):
        raise UserError(f"{path}: defines no {defines}", expected=f"{defines} = {defines.capitalize()}(...)")
    return module


def load_defaults(path: str) -> tuple[Config | PretrainConfig, str | None]:
    """Reads the config from which options start: an experiment file's, or that of a run.

    Args:
        path: An experiment file (.py), the config.json of a run, or the run's folder.

    Returns:
        The config, and the experiment file's docstring. A run's config neither resumes nor overwrites: these are
        choices of one start.

    Raises:
        UserError: The file is missing or holds no config.
    """
    file = Path(expand_home(path, "FILE"))
    file = file / "config.json" if (file / "config.json").is_file() else file
    if file.suffix != ".json":
        module = load_experiment(str(file))
        config, text = module.config, module.__doc__
        if not isinstance(config, Config | PretrainConfig):
            raise UserError(
                f"{path}: the config belongs to no run",
                got=f"a config of type {type(config).__name__}",
                expected="Config or PretrainConfig",
            )
        return config, text
    record = read_json(file, kind="the config of a run", fix="give an experiment file, or the config.json of a run")
    values = record.get("config")
    if not isinstance(values, dict) or not isinstance(values.get("data"), dict):
        raise UserError(
            f"{file}: not the config.json of a run", expected="a file with the key config, as a run folder holds it"
        )
    kind = PretrainConfig if "corpus" in values["data"] else Config
    try:
        saved = kind.from_dict(values)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    return dataclasses.replace(saved, run=dataclasses.replace(saved.run, resume=False, overwrite=False)), None


def default_config(kind: type[C], path: str | None, *, command: str, name: str) -> tuple[C, str | None, str]:
    """Returns the config from which options start, the text for `--help`, and the run's default name.

    Args:
        kind: The config that the command needs.
        path: An experiment file, the config.json of a run, its folder, or None for the defaults.
        command: The command, such as "pairjax train".
        name: The run's name without a file.

    Raises:
        UserError: The file is missing, or holds no config of this kind.
    """
    if path is None:
        return kind(), None, name
    config, text = load_defaults(path)
    if not isinstance(config, kind):
        raise UserError(
            f"{path}: {command} cannot run it",
            got=f"a config of type {type(config).__name__}",
            expected=kind.__name__,
            fix=f"use pairjax {'pretrain' if isinstance(config, PretrainConfig) else 'train'}",
        )
    file = Path(path).resolve()
    folder = file.parent if file.name == "config.json" else file
    return config, text, folder.stem if folder.suffix in (".py", ".json") else folder.name


def split_experiment(args: Sequence[str]) -> tuple[str | None, list[str]]:
    """Returns the experiment file, or None if the first argument is an option, and the remaining arguments."""
    if args and not args[0].startswith("-"):
        return args[0], list(args[1:])
    return None, list(args)


def without_source(data: DataConfig, args: Sequence[str]) -> DataConfig:
    """Removes the source from the default data config if the command line names another one."""
    if not any(arg.split("=")[0] in SOURCES for arg in args):
        return data
    return dataclasses.replace(data, path=None, train=None, dev=None, test=None, hf=None, tfds=None, rules=None)


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
