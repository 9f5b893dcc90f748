"""The digest of a checkpoint, `digests/STEP.json`: SHA-256 of its files, and how it is written and read.

{"format": 1, "step": 30, "metric": 0.91, "identity": "...", "files": {"state/d/0a...": [bytes, SHA-256], ...},
 "seal": SHA-256 of all that}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pairjax.storage.bucket import AnyPath
from pairjax.storage.files import to_json
from pairjax.storage.hashes import hash_json

FORMAT = 1


@dataclass(frozen=True)
class Digest:
    """The content of `digests/STEP.json`.

    Attributes:
        step: The checkpoint's step.
        metric: The dev metric of the step, if it was evaluated.
        identity: The identity of the run.
        files: Size in bytes and SHA-256 of each file, by its path in the step's folder.
    """

    step: int
    metric: int | float | None
    identity: str
    files: Mapping[str, tuple[int, str]]


def digest_text(digest: Digest) -> str:
    """Returns the text of a digest's file, with its seal."""
    body = {
        "format": FORMAT,
        "step": digest.step,
        "metric": digest.metric,
        "identity": digest.identity,
        "files": {name: list(pair) for name, pair in digest.files.items()},
    }
    return to_json({**body, "seal": hash_json(body)}, indent=1) + "\n"


def read_digest(path: AnyPath) -> Digest | str | None:
    """Reads a digest.

    Returns:
        The digest; or what is wrong with its file; or None if there is no file.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        seal = body.pop("seal")
        if seal != hash_json(body):
            return "damaged (its SHA-256 differs)"
        if body["format"] != FORMAT:
            return f"written by another version of pairjax (format {body['format']}, not {FORMAT})"
        files = {name: (int(size), str(digest)) for name, (size, digest) in body["files"].items()}
        return Digest(body["step"], body["metric"], body["identity"], files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"damaged ({error})"
