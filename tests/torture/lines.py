"""Lines through `pairjax predict`, a quarter of them odd: order kept, a row out for each row in, memory bounded.

    python -m tests.torture.lines --rows 1000000 --format tsv

The command runs as a process of its own, whose peak memory is what the kernel says. Each row's first text carries its
number, and a sample of the answers is compared with those that the same pairs get alone.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pairjax
from tests.torture.test_fuzz import write_tiny_artifact

MEGABYTE = 2**20
SAMPLE = 500
"""Number of rows whose answers are compared."""

ODD: dict[str, tuple[bytes, bool]] = {
    "empty": (b"", False),
    "white space": (b" \xc2\xa0\xe2\x80\x83 ", False),
    "controls": (b"a \x01\x02\x07\x08\x1b[31m\x7f\xc2\x85 man", True),
    "line separators": ("a\u2028man\u2029sleeps\v\f".encode(), True),
    "emoji": ("👩‍👩‍👧 🏳️‍🌈 🇧🇷 👍🏽".encode(), True),
    "right to left": ("\u202eשלום\u202c مرحبا \u2066abc\u2069".encode(), True),
    "combining marks": (("e" + "\u0301\u0316" * 400).encode(), True),
    "zero width": ("\u200b\u200d\ufeff\u2060".encode(), True),
    "quotes": (b'" "" \' \\" \\t', True),
    "one long word": (b"a" * 20_000, True),
    "NUL": (b"a man\0sleeps", False),
    "not UTF-8": (b"a man \xff\xfe\xc3 sleeps", False),
    "lone surrogate": (b"a \xed\xa0\x80 man", False),
    "cut character": (b"a man \xf0\x9f\x91", False),
    "field too many": (b"a man\tsleeps", False),
    "field too few": (b"", False),
}
"""Bytes of the second text, and whether it is one."""


def odd_kind(row: int) -> str | None:
    return list(ODD)[(row // 4) % len(ODD)] if row % 4 == 3 else None


def first_text(row: int) -> str:
    return f"the man {row} is not a dog" if row % 2 else f"no woman {row}"


def tsv_line(row: int, long: set[int]) -> bytes:
    first = first_text(row).encode()
    if row in long:
        return first + b"\t" + b"some dog is " * (MEGABYTE // 12)
    kind = odd_kind(row)
    if kind == "field too few":
        return first
    return first + b"\t" + (b"some woman sleeps" if kind is None else ODD[kind][0])


def jsonl_line(row: int, long: set[int]) -> bytes:
    """As JSON; what is no text in UTF-8 is escaped (a lone surrogate), and a NUL, escaped, is text."""
    value: dict[str, Any] = {"sentence1": first_text(row)}
    kind = None if row in long else odd_kind(row)
    if row in long:
        value["sentence2"] = "some dog is " * (MEGABYTE // 12)
    elif kind == "field too many":
        return json.dumps(value).encode()[:-1]
    elif kind != "field too few":
        text = b"some woman sleeps" if kind is None else ODD[kind][0]
        value["sentence2"] = text.decode("utf-8", "surrogateescape")
    return json.dumps(value).encode()


def write_lines(path: Path, rows: int, *, long: set[int]) -> None:
    """Writes the input; the rows in `long` have a megabyte each."""
    make = tsv_line if path.suffix == ".tsv" else jsonl_line
    with path.open("wb") as file:
        if path.suffix == ".tsv":
            file.write(b"sentence1\tsentence2\n")
        for row in range(rows):
            file.write(make(row, long) + b"\n")


def is_pair(row: int, long: set[int], suffix: str) -> bool:
    kind = odd_kind(row)
    if row in long or kind is None:
        return True
    return ODD[kind][1] or (kind == "NUL" and suffix == ".jsonl")


def check_output(path: Path, rows: int, *, long: set[int], suffix: str) -> Iterator[tuple[tuple[str, str], Any]]:
    """Checks the answers line by line, and yields some of them for comparison."""
    header = 1 if suffix == ".tsv" else 0
    sample = set(random.Random(rows).sample(range(rows), min(SAMPLE, rows // 2)))
    count = 0
    with path.open(encoding="utf-8", newline="\n") as file:
        for row, line in enumerate(file):
            count += 1
            said = json.loads(line)
            if not is_pair(row, long, suffix):
                assert said.keys() == {"line", "error"}, (row, line[:200])
                assert said["line"] == row + 1 + header, (row, line[:200])
                continue
            assert said["sentence1"] == first_text(row), (row, line[:200])
            assert unicodedata.is_normalized("NFC", said["sentence2"]), row
            if row in sample:
                yield (said["sentence1"], said["sentence2"]), said["probabilities"]
    assert count == rows, f"{count} rows out for {rows} in"


def run(folder: Path, rows: int, *, suffix: str, long_rows: int) -> dict[str, Any]:
    """Writes the lines, labels them, checks the answers; raises AssertionError where one is not as it must be.

    Args:
        folder: For the model, the input and the output.
        rows: Lines.
        suffix: `.tsv` or `.jsonl`.
        long_rows: How many of them have a megabyte.

    Returns:
        What was done, with the seconds it took and the process's peak memory in MB.
    """
    model = write_tiny_artifact(folder, sharpness=100.0)
    source, target = folder / f"lines{suffix}", folder / "answers.jsonl"
    long = {rows * (2 * part + 1) // (2 * long_rows) for part in range(long_rows)}
    write_lines(source, rows, long=long)
    began = time.monotonic()
    command = [sys.executable, "-m", "pairjax", "predict", str(model), str(source), "--output", str(target)]
    child = subprocess.Popen([*command, "--bad-rows", "mark"], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    told = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, told
    seconds = time.monotonic() - began
    sample = list(check_output(target, rows, long=long, suffix=suffix))
    alone = pairjax.load(model).predict([pair for pair, _ in sample])
    worst = max(
        abs(answer.probabilities[name] - value)
        for answer, (_, found) in zip(alone, sample, strict=True)
        for name, value in found.items()
    )
    distinct = len({tuple(found.values()) for _, found in sample})
    assert worst < 2e-6, f"an answer differs by {worst} from the pair's own"
    assert distinct > len(sample) // 4, "the answers are too alike to tell one from another"
    bad = sum(not is_pair(row, long, suffix) for row in range(rows))
    return {
        "rows": rows,
        "format": suffix[1:],
        "odd": sum(odd_kind(row) is not None for row in range(rows)),
        "marked": bad,
        "of a megabyte": len(long),
        "input MB": round(source.stat().st_size / MEGABYTE),
        "seconds": round(seconds),
        "peak MB": round(used.ru_maxrss / 1024),
        "compared": len(sample),
        "worst difference": worst,
        "told": told.splitlines()[-2:],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--format", choices=["tsv", "jsonl"], default="tsv")
    parser.add_argument("--long", type=int, default=64, help="rows of a megabyte")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pairjax-lines-") as folder:
        figures = run(Path(folder), asked.rows, suffix=f".{asked.format}", long_rows=asked.long)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
