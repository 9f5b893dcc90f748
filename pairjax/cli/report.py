"""`pairjax report RUN... [--output FILE] [--language en|pt]`: shows runs and claims on one HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from pairjax.base.errors import UserError
from pairjax.cli.options import parse


@dataclass(frozen=True)
class ReportOptions:
    """Write a report on runs (of train or pretrain, finished or not) and claims (runs/claims/ID): a summary in words,
    scores with intervals, curves, confusion matrix, reliability, slices, the worst errors with their texts, tests
    between runs, verdicts and provenance. The HTML file needs no other file and adapts to light and dark screens and
    to print."""

    folders: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of runs or claims. Runs that were scored on the same pairs are compared."""
    output: str | None = None
    """HTML file to write; default: report.html in the folder, or in the current folder if several are given."""
    language: Literal["en", "pt"] = "en"
    """Language of the report: English or Portuguese."""
    figures: str | None = None
    """Write the figures of a README (combiners.svg, pretraining.svg) to this folder, and no report."""


def main(args: Sequence[str]) -> int:
    """Writes a report or figures and returns the exit code."""
    options = parse(ReportOptions, args, prog="pairjax report", description=ReportOptions.__doc__ or "")
    if not options.folders:
        raise UserError("no folder to report on", expected="pairjax report RUN...")
    from pairjax.report.figures import write_figures
    from pairjax.report.folder import read_folder
    from pairjax.report.language import Language
    from pairjax.report.page import write_report
    from pairjax.storage.files import expand_path
    from pairjax.storage.outputs import check_output, check_output_folder

    paths = list(dict.fromkeys(expand_path(name) for name in options.folders))
    # An --output that cannot be written is found before the work.
    output = None if options.output is None else check_output(options.output, kind="an HTML file")
    figures = None if options.figures is None else check_output_folder(options.figures, option="--figures")
    records = [read_folder(path) for path in paths]
    language = Language(options.language)
    if figures is not None:
        written = write_figures(figures, records, language=language)
        if not written:
            raise UserError(
                "no figure can be drawn from these folders",
                expected="a claim's folder with combiners.json beside it, or pretraining runs with evaluations",
            )
        for path in written:
            print(path)
        return 0
    file = output or check_output(paths[0] / "report.html" if len(paths) == 1 else "report.html", kind="an HTML file")
    write_report(records, file, language=language)
    print(file)
    return 0
