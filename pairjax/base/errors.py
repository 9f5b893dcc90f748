"""The one exception that a user is meant to see."""


class UserError(Exception):
    """Bad input, told in one line: where, what was got, what was expected, how to fix it.

    The command line prints it without a traceback and exits with code 2.

    Args:
        what: What is wrong, led by the place ("data/train.tsv, line 7: the row has 2 fields").
        got: What was found there.
        expected: What would have been right.
        fix: What to do about it, an imperative.
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
    """Training left the finite numbers: nothing is wrong with the input, and other settings may do well."""
