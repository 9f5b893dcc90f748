"""Answer the pairs of a file in shards, on any number of machines, and merge the shards' files.

Shard i of n answers the rows i, i + n, i + 2 n, ... (counted from 1). Its file `NAME-i-of-n.jsonl` appears when it is
complete; its first line says which input and which model it belongs to.
"""

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError
from pairjax.inference.model_folder import find_artifact
from pairjax.storage.files import whole_file
from pairjax.storage.hashes import hash_file, hash_files, hash_json

KEY = "pairjax_shard"
MOST = 100_000
"""Largest number of shards."""


@dataclass(frozen=True)
class Shard:
    """One of several shards.

    Attributes:
        number: Number of the shard, from 1.
        count: Number of all shards.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Reads a shard such as 2/8.

        Raises:
            UserError: The text is not i/n with i from 1 to n.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]) <= MOST:
            raise UserError(f"--shard {text}", expected="i/n with i from 1 to n, such as 2/8")
        return cls(int(match[1]), int(match[2]))

    def file_of(self, output: Path) -> Path:
        """Returns the shard's file, beside the merged output."""
        width = len(str(self.count))
        return output.with_name(f"{output.stem}-{self.number:0{width}}-of-{self.count}{output.suffix}")


def describe_work(source: Path, model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what all shards of one piece of work have in common.

    Args:
        source: The input, a file or a folder of files.
        model: The model folder, or a run folder.
        settings: The options that change answers.
    """
    digest = hash_json(hash_files(source)) if source.is_dir() else hash_file(source)
    return {"input": digest, "model": hash_file(find_artifact(model) / "pairjax.json"), **settings}


def header_line(shard: Shard, work: Mapping[str, Any]) -> str:
    """Returns the first line of a shard's file."""
    return json.dumps({KEY: {"number": shard.number, "count": shard.count, **work}}) + "\n"


def is_complete(path: Path, header: str) -> bool:
    """Returns whether a shard's file exists.

    Args:
        path: The file.
        header: Its first line, from `header_line`.

    Raises:
        UserError: The file belongs to another input, model or shard.
    """
    if not path.exists():
        return False
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    try:
        found = dict(json.loads(first)[KEY])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not a file of pairjax predict --shard", fix="choose another --output") from None
    expected = json.loads(header)[KEY]
    if found != expected:
        names = " and ".join(name for name in expected if found.get(name) != expected[name])
        raise UserError(f"{path}: written for another {names}", fix="delete it, or choose another --output")
    return True


def merge_shards(output: Path, count: int, work: Mapping[str, Any]) -> int:
    """Merges the files of all shards in the order of the input, and returns the number of answers.

    Args:
        output: The file to write; the shards' files are beside it.
        count: Number of shards.
        work: From `describe_work`.

    Raises:
        UserError: A shard is missing or damaged, or belongs to another input or model.
    """
    shards = [Shard(number, count) for number in range(1, count + 1)]
    paths = [shard.file_of(output) for shard in shards]
    missing = [
        shard for shard, path in zip(shards, paths, strict=True) if not is_complete(path, header_line(shard, work))
    ]
    if missing:
        rest = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        names = ", ".join(f"{shard.number}/{shard.count}" for shard in missing[:5])
        raise UserError(f"{output}: {len(missing)} of {count} shards are missing", got=f"no {names}{rest}")
    rows, ended = 0, False
    with ExitStack() as stack:
        out = stack.enter_context(whole_file(output, fix="free some space, or choose another --output"))
        files = [stack.enter_context(path.open(encoding="utf-8")) for path in paths]
        for file in files:
            file.readline()
        while not ended:
            for path, file in zip(paths, files, strict=True):
                line = file.readline()
                if line and (ended or not line.endswith("\n")):
                    raise UserError(f"{path}: damaged", fix="delete it, and predict the shard again")
                ended = ended or not line
                out.write(line)
                rows += bool(line)
    return rows
