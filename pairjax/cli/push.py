"""`pairjax push MODEL ORG/NAME [--format FORMAT] [--pull-request]`: uploads a model to the Hugging Face hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from pairjax.cli.options import parse


@dataclass(frozen=True)
class PushOptions:
    """Upload a trained model to the Hugging Face hub, with its card. The token is HF_TOKEN or that of hf auth login."""

    model: Annotated[str, tyro.conf.Positional]
    """Model folder, or a run folder that holds a model."""
    repository: Annotated[str, tyro.conf.Positional]
    """Repository, as ORG/NAME; it is created if it does not exist."""
    format: str | None = None
    """Format to export to first, as pairjax export --to names it. By default the model folder is uploaded as it is."""
    pull_request: bool = False
    """Open a pull request in an existing repository instead of a commit."""
    private: bool = False
    """Make a repository that is created private."""


def main(args: Sequence[str]) -> int:
    """Uploads a model and returns the exit code."""
    options = parse(PushOptions, args, prog="pairjax push", description=PushOptions.__doc__ or "")

    from pairjax.export.push import push_model

    address = push_model(
        options.model,
        options.repository,
        to=options.format,
        pull_request=options.pull_request,
        private=options.private,
    )
    print(address)
    return 0
