"""Opens files of pairs, plain or compressed (.gz, .bz2, .zst), and refuses decompression bombs."""

import bz2
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError

MAGIC = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".zst": b"\x28\xb5\x2f\xfd"}
"""First bytes of a compressed file, by suffix."""
UNKNOWN = (".xz", ".lzma", ".lz4", ".zip", ".7z", ".tar", ".tgz", ".rar", ".br", ".z", ".zstd", ".gzip", ".bz", ".lz")
"""Suffixes of archives and of compression that cannot be read."""
MAX_RATIO = 200
"""Largest ratio of decompressed to compressed bytes. Text compresses 3 to 20 times; gzip can reach 1,030 times."""
FREE_BYTES = 32 * 2**20
"""Decompressed bytes from which the ratio is checked."""
BLOCK = 2**18


def split_suffixes(path: Path) -> tuple[str, str]:
    """Returns the suffix of a file's format and that of its compression, in lower case; "" for none.

    Raises:
        UserError: The file has the suffix of an archive or of another compression.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-1] if suffixes else ""
    if last in UNKNOWN:
        raise UserError(
            f"{path}: {last} cannot be read", expected=f"a plain file, or {', '.join(MAGIC)}", fix="decompress it"
        )
    if last in MAGIC:
        return (suffixes[-2] if len(suffixes) > 1 else ""), last
    return last, ""


def open_stream(path: Path) -> io.BufferedReader:
    """Opens a file and decompresses it while it is read.

    Raises:
        UserError: The file is missing, is a folder, may not be read, or is not compressed as its suffix says. While it
            is read: it is damaged or truncated, or it expands more than `MAX_RATIO` times.
    """
    raw = open_raw(path)
    compression = split_suffixes(path)[1]
    if not path.is_file():
        return raw  # A pipe cannot be read twice.
    head = raw.read(4)
    raw.seek(0)
    if not compression:
        for suffix, magic in MAGIC.items():
            if head.startswith(magic) and not head.startswith(b"BZh "):
                raw.close()
                raise UserError(f"{path}: the file is compressed", fix=f"name it {path.name}{suffix}")
        return raw
    if not head.startswith(MAGIC[compression]):
        raw.close()
        got = "an empty file" if not head else f"bytes {head.hex(' ')}"
        raise UserError(f"{path}: not a {compression} file", got=got, fix="write or copy it again")
    return io.BufferedReader(_Expanded(path, raw, compression), BLOCK)


def open_raw(path: Path) -> io.BufferedReader:
    """Opens a file as it is on disk.

    Raises:
        UserError: The file is missing, is a folder, or may not be read.
    """
    if path.is_dir():
        raise UserError(f"{path}: a folder", expected="a file", fix="give a folder with --data.path")
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({os.strerror(error.errno or 0)})") from None


class _Expanded(io.RawIOBase):
    """The decompressed bytes of a file, counted against the bytes that were read.

    Args:
        path: The file, for messages.
        raw: The open file.
        compression: One of the keys of `MAGIC`.
    """

    def __init__(self, path: Path, raw: io.BufferedReader, compression: str) -> None:
        self._path, self._raw, self._count = path, raw, 0
        self._size = max(path.stat().st_size, 1)
        with self._checked():
            self._stream = _decompressor(raw, compression)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._checked():
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._count += len(data)
        if self._count > FREE_BYTES and self._count > MAX_RATIO * min(self._raw.tell(), self._size):
            raise UserError(
                f"{self._path}: a decompression bomb",
                got=f"{self._count / 2**20:,.0f} MiB from {min(self._raw.tell(), self._size) / 2**20:,.2f} MiB",
                expected=f"at most {MAX_RATIO} times as much",
                fix="decompress it yourself if you trust it",
            )
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._raw.close()
        super().close()

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """Turns the errors of all decompressors into one."""
        try:
            yield
        except EOFError:
            raise UserError(f"{self._path}: the archive is truncated", fix="copy or download it again") from None
        except (OSError, ValueError, zlib.error) as error:
            what = "the archive is truncated" if "runcated" in str(error) else f"a damaged archive ({error})"
            raise UserError(f"{self._path}: {what}", fix="copy or download it again") from None


def _decompressor(raw: io.BufferedReader, compression: str) -> Any:
    """Returns a stream of decompressed bytes."""
    if compression == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if compression == ".bz2":
        return bz2.BZ2File(raw)
    import pyarrow

    return pyarrow.CompressedInputStream(raw, "zstd")
