"""`pairjax report RUN... [--output FILE] [--language en|pt]`: runs and claims as one HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pairjax.base.errors import UserError
from pairjax.cli.options import parse


@dataclass(frozen=True)
class ReportOptions:
    """Write a report on runs (of train or pretrain, finished or not) and claims (runs/claims/ID): summary in words,
    scores with intervals, curves, confusion, reliability, slices, errors with their texts, comparisons with tests,
    verdicts, provenance. One HTML file that needs nothing else, for screens light and dark, and for print."""

    folders: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of runs or claims. Runs that answered the same pairs are compared."""
    output: str | None = None
    """HTML file to write; default: report.html in the folder, or here where there are several."""
    language: Literal["en", "pt"] = "en"
    """English or Portuguese."""
    figures: str | None = None
    """Write figures for a README (combiners.svg, pretraining.svg) to this folder instead of a report."""


def main(args: Sequence[str]) -> int:
    options = parse(ReportOptions, args, prog="pairjax report", description=ReportOptions.__doc__ or "")
    if not options.folders:
        raise UserError("no folder to report on", expected="pairjax report RUN...")
    output = Path(options.output) if options.output is not None else None
    if output is not None and not output.parent.is_dir():
        raise UserError(f"{output}: its folder does not exist", fix="create it first")
    if output is not None and output.is_dir():
        raise UserError(f"{output} is a folder", expected="an HTML file", fix=f"use --output {output / 'report.html'}")

    from pairjax.report.figures import write_figures
    from pairjax.report.folder import read_folder
    from pairjax.report.language import Language
    from pairjax.report.page import write_report

    paths = [Path(name) for name in dict.fromkeys(options.folders)]
    found = [read_folder(path) for path in paths]
    language = Language(options.language)
    if options.figures is not None:
        written = write_figures(Path(options.figures), found, language=language)
        if not written:
            raise UserError(
                "these folders give no figure",
                expected="a claim's folder with combiners.json beside it, or pretraining runs with evaluations",
            )
        for path in written:
            print(path)
        return 0
    file = output or (paths[0] / "report.html" if len(paths) == 1 else Path("report.html"))
    write_report(found, file, language=language)
    print(file)
    return 0
