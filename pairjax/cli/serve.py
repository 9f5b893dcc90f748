"""`pairjax serve MODEL [MODEL ...]`: answers HTTP requests with trained models."""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from pairjax.base.config import MeshConfig
from pairjax.base.errors import UserError
from pairjax.base.serve_config import ServeConfig
from pairjax.cli.options import parse

NEEDED = ("starlette", "uvicorn", "prometheus_client")


@dataclass(frozen=True)
class ServeOptions:
    """Serve models over HTTP: the routes of text-embeddings-inference, Cohere and OpenAI, and /v1/classify."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Model folders, or run folders that hold a model. NAME=FOLDER gives a model another name than its folder's.
    Requests select a model by its name; the first one is the default."""
    server: Annotated[ServeConfig, tyro.conf.arg(name="")] = field(default_factory=ServeConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)


def check_extra() -> None:
    """Raises UserError if a package of the extra `serve` is not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join(name.replace("_", "-") for name in missing)
        raise UserError(f"pairjax serve needs {names}", fix="install the extra: pip install 'pairjax[serve]'")


def main(args: Sequence[str]) -> int:
    """Serves models until a signal and returns the exit code."""
    options = parse(ServeOptions, args, prog="pairjax serve", description=ServeOptions.__doc__ or "")
    if not options.models:
        raise UserError("no model to serve", expected="pairjax serve MODEL, such as pairjax serve runs/quickstart")
    check_extra()
    config = options.server
    if config.api_key is None and os.environ.get("PAIRJAX_API_KEY"):
        config = replace(config, api_key=os.environ["PAIRJAX_API_KEY"])

    from pairjax.serve.run import serve

    return serve(options.models, config, mesh=options.mesh)
