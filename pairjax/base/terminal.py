"""Print tables, warnings and suggested commands on a terminal."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

Score = Mapping[str, float | None]
"""{"value", "low", "high"}; None if undefined."""
LOG_WIDTH = 160
"""Width of tables in a log, in columns."""


def table_console() -> Console:
    """Returns a console on standard error for wide tables: as wide as the terminal, or `LOG_WIDTH` columns in a log."""
    console = Console(stderr=True)
    return console if console.is_terminal else Console(stderr=True, width=LOG_WIDTH)


def format_score(score: Score | None) -> str:
    """Returns a score as `0.912 [0.889, 0.931]`, or - if it is undefined."""
    if score is None or score["value"] is None:
        return "-"
    if score.get("low") is None or score.get("high") is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def shorten(text: str, limit: int) -> str:
    """Returns one line of at most `limit` characters, without its middle: similar names often differ at the end."""
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def plain_table(title: str, columns: Sequence[str], *, left: int = 1) -> Table:
    """Builds an empty table.

    Args:
        title: Title of the table.
        columns: Names of the columns.
        left: Number of leading columns that hold text and are aligned left; the others hold numbers.
    """
    table = Table(
        title=escape(title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        min_width=len(title),
    )
    for number, name in enumerate(columns):
        table.add_column(escape(name), justify="left" if number < left else "right", overflow="fold")
    return table


def print_warning(console: Console, line: str) -> None:
    """Prints a warning in a box, which stands out without colour too."""
    console.print(Panel(Text(line.removeprefix("WARNING: ")), title="WARNING", style="bold red", box=box.HEAVY))


def print_next(console: Console, commands: Sequence[tuple[str, str]]) -> None:
    """Prints suggested commands, each on one line, so that it can be copied.

    Args:
        console: The console.
        commands: (purpose, command) of each.
    """
    console.print(Rule("Next", align="left", style="bold"))
    for purpose, command in commands:
        console.print(Text(f"# {purpose}", style="dim"), soft_wrap=True)
        console.print(Text(f"  {command}"), soft_wrap=True)
