"""The exceptions whose messages users see."""

from collections.abc import Mapping


class UserError(Exception):
    """An error in the user's input, in one line: where and what is wrong, what was expected, and how to fix it.

    The command line prints it without a traceback and exits with code 2.

    Args:
        what: What is wrong, after its place ("data/train.tsv, line 7: the row has 2 fields").
        got: What was found.
        expected: What would have been correct.
        fix: How to fix it, as an imperative.
    """

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        parts = [what.rstrip(".;")]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        if fix is not None:
            parts.append(fix.rstrip("."))
        super().__init__(" ".join("; ".join(parts).split()))


class DivergedError(UserError):
    """A loss or output that is NaN or infinite: the input may be correct, and other settings may work."""


class UncuttableError(UserError):
    """Pairs that the strategy for truncation cannot cut to the maximum length.

    Args:
        reasons: What is wrong with each such pair, by its index.

    Attributes:
        reasons: The same.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(next(iter(reasons.values())))
        self.reasons = reasons


class TruncationWarning(UserWarning):
    """Texts from Python were longer than the model's maximum length and were cut."""
