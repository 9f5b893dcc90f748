"""Normalises one text of a pair to NFC and rejects what is not Unicode text."""

import unicodedata

from pairjax.base.errors import UserError

LONG_TEXT = 1000
"""Length in characters from which a text is searched for long runs of combining marks."""
MOST_MARKS = 30
"""Most combining marks in a row before a joiner is inserted."""


def clean_text(text: object, *, place: str, column: str) -> str:
    """Returns the text in NFC, or '' if it has nothing but white space.

    Args:
        text: A value of the column; None counts as an empty text.
        place: Where the value is, for messages.
        column: Name of the column, for messages.

    Raises:
        UserError: The value is not a string, or the string is not Unicode text (it has a lone surrogate).
    """
    if text is None:
        return ""
    if not isinstance(text, str):
        got = f"{type(text).__name__} {text!r:.40}"
        raise UserError(f"{place}: {column} is not text", got=got, expected="a string")
    if text.isascii():
        return text if text.strip() else ""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{place}: {column} is not Unicode text", got=_describe_surrogate(text[error.start], error.start)
        ) from None
    return unicodedata.normalize("NFC", _stream_safe(text)) if text.strip() else ""


def _stream_safe(text: str) -> str:
    """Inserts a joiner (U+034F) after each 30 combining marks in a row: the Stream-Safe Text Format, UAX #15, 13.

    The time of `unicodedata.normalize` grows with the square of such a run: a megabyte of marks would take minutes.
    """
    if len(text) < LONG_TEXT:
        return text
    parts, start, run = [], 0, 0
    for at, sign in enumerate(text):
        run = run + 1 if unicodedata.combining(sign) else 0
        if run > MOST_MARKS:
            parts += [text[start:at], "\u034f"]
            start, run = at, 1
    return "".join([*parts, text[start:]])


def _describe_surrogate(sign: str, at: int) -> str:
    """Describes a character that UTF-8 cannot encode; `decode_lines` gives U+DCxx for a byte that is not UTF-8."""
    code = ord(sign)
    byte = f" (or a byte 0x{code - 0xDC00:02x} that is not UTF-8)" if 0xDC00 <= code <= 0xDCFF else ""
    return f"a lone surrogate{byte} at {at}"
