"""Provides the phrases of a report (`words/en.toml`, `words/pt.toml`) and writes numbers in its language."""

import math
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal

Code = Literal["en", "pt"]
Score = Mapping[str, float | None]
"""{"value", "low", "high"} as in result.json; None if undefined."""
NONE = "–"
"""Written for an undefined number."""
MINUS = "−"


def flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flattens nested tables to dotted keys."""
    phrases: dict[str, str] = {}
    for key, value in node.items():
        phrases |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return phrases


def read_words(code: Code) -> dict[str, str]:
    """Reads the phrases of a language, by dotted key."""
    return flatten(tomllib.loads((files("pairjax.report") / "words" / f"{code}.toml").read_text("utf-8")))


class Language:
    """Phrases and number formats of a language.

    Args:
        code: "en", or "pt" for Brazilian Portuguese.

    Attributes:
        code: The language's code.
    """

    def __init__(self, code: Code) -> None:
        self.code = code
        self._words = read_words(code)

    def phrase(self, key: str, **values: object) -> str:
        """Returns a phrase with its placeholders filled in; a missing key is an error."""
        return self._words[key].format(**values)

    def name(self, group: str, key: str) -> str:
        """Returns the language's name of a metric, a split and so on; the key itself if there is none."""
        return self._words.get(f"{group}.{key}", key)

    def local(self, text: str) -> str:
        """Converts a number in English notation to the language's."""
        if self.code == "pt":
            text = text.translate(str.maketrans(",.", ".,"))
        return text.replace("-", MINUS) if text[:1] == "-" else text

    def count(self, value: int | float) -> str:
        """Writes a whole number: `12,345`."""
        return self.local(f"{value:,.0f}")

    def number(self, value: int | float | None, digits: int = 3) -> str:
        """Writes a number with fixed decimal places; a dash if it is undefined."""
        return NONE if value is None or not math.isfinite(value) else self.local(f"{value:,.{digits}f}")

    def signed(self, value: int | float | None, digits: int = 2) -> str:
        """Writes a number with its sign, also if it is positive."""
        if value is None or not math.isfinite(value):
            return NONE
        return ("+" if value > 0 else "") + self.number(value, digits)

    def short(self, value: int | float) -> str:
        """Writes a number with as few digits as possible, for rates and ticks."""
        return self.local(f"{value:.6g}")

    def percent(self, share: float, digits: int = 1) -> str:
        """Writes a share in percent."""
        return self.number(100.0 * share, digits) + (" %" if self.code == "en" else "%")

    def score(self, score: Score | None, *, digits: int = 3) -> str:
        """Writes a value with its interval: `0.607 [0.570, 0.643]`."""
        if score is None or score["value"] is None:
            return NONE
        value, interval = self.number(score["value"], digits), self.interval(score, digits=digits)
        return f"{value} {interval}" if interval else value

    def interval(self, score: Score | None, *, digits: int = 3, signed: bool = False) -> str:
        """Writes an interval: `[0.570, 0.643]`; empty if there is none."""
        if score is None or score.get("low") is None or score.get("high") is None:
            return ""
        write = self.signed if signed else self.number
        separator = (";" if self.code == "pt" else ",") + "\N{NO-BREAK SPACE}"
        return f"[{write(score['low'], digits)}{separator}{write(score['high'], digits)}]"

    def p_value(self, value: int | float | None) -> str:
        """Writes a p value: `0.042` or `< 0.001`."""
        if value is None or not math.isfinite(value):
            return NONE
        return f"< {self.local('0.001')}" if value < 0.001 else self.number(value, 3)

    def listed(self, parts: list[str]) -> str:
        """Joins phrases: `a, b and c`."""
        if len(parts) < 2:
            return "".join(parts)
        return f"{', '.join(parts[:-1])} {self.phrase('and')} {parts[-1]}"
