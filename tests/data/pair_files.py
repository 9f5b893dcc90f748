"""Small files of pairs for the tests of readers, sources and streams."""

from pathlib import Path

import pytest

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec
from pairjax.data.sources import load_pairs

HEADER = "sentence1\tsentence2\tlabel\n"
ROWS = [("one a", "one b", "yes"), ("two a", "two b", "no"), ("three a", "three b", "yes")]
TSV = HEADER + "".join("\t".join(row) + "\n" for row in ROWS)
TASK = TaskSpec("classification", ("no", "yes"), positive="yes")


def write(folder: Path, **files: str | bytes) -> Path:
    """Writes files by name, with `__` for the dot of the suffix, and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def message(config: DataConfig) -> str:
    """Returns the one-line error that loading gives."""
    with pytest.raises(UserError) as caught:
        load_pairs(config)
    text = str(caught.value)
    assert "\n" not in text
    return text


def rows_of(pairs: Pairs) -> list[tuple[str, str]]:
    """Returns the pairs of texts."""
    return list(zip(pairs.first, pairs.second, strict=True))
