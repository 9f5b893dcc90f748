"""The words and numbers of a report in its language: `words/en.toml`, `words/pt.toml`."""

import math
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal

Code = Literal["en", "pt"]
Score = Mapping[str, float | None]
"""{"value", "low", "high"}, null where undefined, as in result.json."""
NONE = "–"
MINUS = "−"


def flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested tables to dotted keys."""
    found: dict[str, str] = {}
    for key, value in node.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def read_words(code: Code) -> dict[str, str]:
    """All phrases of a language by dotted key."""
    return flatten(tomllib.loads((files("pairjax.report") / "words" / f"{code}.toml").read_text("utf-8")))


class Language:
    """Phrases, and numbers as the language writes them.

    Attributes:
        code: "en" or "pt" (Brazilian: decimal comma).
    """

    def __init__(self, code: Code) -> None:
        self.code = code
        self._words = read_words(code)

    def say(self, key: str, **values: object) -> str:
        """A phrase with its places filled in; a key that the language lacks is an error."""
        return self._words[key].format(**values)

    def name(self, group: str, key: str) -> str:
        """The language's name for something of the data (a metric, a split); its own name where there is none."""
        return self._words.get(f"{group}.{key}", key)

    def local(self, text: str) -> str:
        """A number written in English, with the language's marks."""
        if self.code == "pt":
            text = text.translate(str.maketrans(",.", ".,"))
        return text.replace("-", MINUS) if text[:1] == "-" else text

    def count(self, value: int | float) -> str:
        return self.local(f"{value:,.0f}")

    def number(self, value: int | float | None, digits: int = 3) -> str:
        """Fixed digits; a dash where undefined."""
        return NONE if value is None or not math.isfinite(value) else self.local(f"{value:,.{digits}f}")

    def signed(self, value: int | float | None, digits: int = 2) -> str:
        """With its sign, plus too."""
        if value is None or not math.isfinite(value):
            return NONE
        return ("+" if value > 0 else "") + self.number(value, digits)

    def short(self, value: int | float) -> str:
        """As few digits as say it: rates, ticks."""
        return self.local(f"{value:.6g}")

    def percent(self, share: float, digits: int = 1) -> str:
        return self.number(100.0 * share, digits) + (" %" if self.code == "en" else "%")

    def score(self, score: Score | None, *, digits: int = 3) -> str:
        """`0.607 [0.570, 0.643]`."""
        if score is None or score["value"] is None:
            return NONE
        value, interval = self.number(score["value"], digits), self.interval(score, digits=digits)
        return f"{value} {interval}" if interval else value

    def interval(self, score: Score | None, *, digits: int = 3, signed: bool = False) -> str:
        """`[0.570, 0.643]`; empty where there is none."""
        if score is None or score.get("low") is None or score.get("high") is None:
            return ""
        write = self.signed if signed else self.number
        between = (";" if self.code == "pt" else ",") + "\N{NO-BREAK SPACE}"
        return f"[{write(score['low'], digits)}{between}{write(score['high'], digits)}]"

    def p_value(self, value: int | float | None) -> str:
        if value is None or not math.isfinite(value):
            return NONE
        return f"< {self.local('0.001')}" if value < 0.001 else self.number(value, 3)

    def listed(self, parts: list[str]) -> str:
        """`a, b and c`."""
        if len(parts) < 2:
            return "".join(parts)
        return f"{', '.join(parts[:-1])} {self.say('and')} {parts[-1]}"
