"""Decodes the lines of text files, strictly, and guesses the encoding of a file that is not UTF-8."""

import codecs
from collections.abc import Iterable, Iterator

from pairjax.base.errors import UserError
from pairjax.data.table import OnError, keep_error, raise_error

UTF16_MARKS = {b"\xff\xfe": "utf-16le", b"\xfe\xff": "utf-16be"}
"""What a UTF-16 file begins with, and the name that iconv has for its encoding."""
MOST_FOREIGN = 0.3
"""Largest share of bytes above 127 in a line that is taken for Windows-1252, in which most letters are ASCII."""


def decode_lines(
    stream: Iterable[bytes], place: str, *, on_error: OnError = raise_error, encoding: str = "utf-8"
) -> Iterator[str]:
    """Yields lines as text with their line ends and without a byte-order mark.

    With `keep_error`, bytes that are not UTF-8 become lone surrogates and a NUL becomes U+DC00. No valid UTF-8 text
    contains these, so `clean_text` rejects them.

    Args:
        stream: The lines.
        place: Name of the file, for messages.
        on_error: `raise_error` or `keep_error`.
        encoding: Name of the encoding.

    Raises:
        UserError: A byte is not UTF-8, or is a NUL. The message names the line and the byte, from 1. Or the whole file
            is UTF-16, or its lines end with carriage returns alone; this is an error with `keep_error` too.
    """
    if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        yield from _decode_foreign(stream, place, encoding, on_error)
        return
    for number, raw in enumerate(stream, 1):
        if number == 1:
            _check_encoding(raw, place)
        if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
        if on_error is keep_error:
            yield raw.decode("utf-8", "surrogateescape").replace("\0", "\udc00")
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            looks, fix = "", "give its encoding with --data.encoding, or save the file as UTF-8"
            if guess := guess_encoding(raw):
                looks = f", looks like {guess}"
                fix = f"give --data.encoding {guess} (predict: --encoding), or convert it: iconv -f {guess} -t utf-8"
            raise UserError(
                f"{place}, line {number}: not UTF-8 at byte {error.start + 1} of the line",
                got=f"0x{raw[error.start]:02x}{looks}",
                fix=fix,
            ) from None
        if "\0" in text:
            raise UserError(
                f"{place}, line {number}: a NUL byte", expected="text in UTF-8", fix="save the file as UTF-8"
            )
        yield text


def guess_encoding(raw: bytes) -> str | None:
    """Returns the encoding that a line that is not UTF-8 looks like, or None if it cannot be guessed."""
    if sum(byte > 127 for byte in raw) > MOST_FOREIGN * len(raw):
        return None
    try:
        raw.decode("windows-1252")
    except UnicodeDecodeError:
        return None
    return "windows-1252"


def _decode_foreign(stream: Iterable[bytes], place: str, encoding: str, on_error: OnError) -> Iterator[str]:
    """Yields the lines of a file in another encoding than UTF-8; they end with line feeds."""
    decoder = codecs.getincrementaldecoder(encoding)("replace" if on_error is keep_error else "strict")
    number, tail = 0, ""
    try:
        for raw in stream:
            *lines, tail = (tail + decoder.decode(raw)).split("\n")
            for line in lines:
                number += 1
                yield _checked(line, place, number, encoding, on_error) + "\n"
        tail += decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise UserError(
            f"{place}, line {number + 1}: not {encoding} ({getattr(error, 'reason', error)})",
            fix="give the file's own encoding with --data.encoding",
        ) from None
    if tail:
        yield _checked(tail, place, number + 1, encoding, on_error)


def _checked(line: str, place: str, number: int, encoding: str, on_error: OnError) -> str:
    """Returns a line without the mark of UTF-16; raises UserError if it has a NUL, so the encoding is wrong."""
    line = line.removeprefix("\ufeff") if number == 1 else line
    if "\0" in line:
        if on_error is keep_error:
            return line.replace("\0", "\udc00")
        raise UserError(f"{place}, line {number}: a NUL, so the file is not {encoding}", fix="check --data.encoding")
    return line


def _check_encoding(raw: bytes, place: str) -> None:
    """Checks that a file's first line is not of UTF-16 or of a file with the line ends of old Macs."""
    encoding = UTF16_MARKS.get(raw[:2])
    marked = encoding is not None
    if encoding is None and b"\0" in raw:
        # Without a mark, the zero byte of each ASCII letter shows the order.
        encoding = "utf-16le" if raw[1:2] == b"\0" else "utf-16be" if raw[:1] == b"\0" else None
    if encoding is not None:
        raise UserError(
            f"{place}: the file is UTF-16",
            expected="UTF-8",
            fix=f"give --data.encoding {'utf-16' if marked else encoding} (predict: --encoding), or save it as UTF-8 "
            f"(iconv -f {encoding} -t utf-8; in Excel: CSV UTF-8)",
        )
    if b"\r" in raw.rstrip(b"\r\n"):
        raise UserError(
            f"{place}: the lines end with carriage returns, as on old Macs",
            expected="line feeds",
            fix="convert them (tr '\\r' '\\n' < OLD > NEW)",
        )
