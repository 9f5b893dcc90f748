"""Puts a report together: selects and orders its sections, and writes one HTML file that needs no other file."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pairjax.report.blocks import Page, Section
from pairjax.report.claims import claim_section, verdict_section
from pairjax.report.compare import comparison_section, overview_section
from pairjax.report.figures import DARK, LIGHT, colour_rules
from pairjax.report.folder import ClaimFolder, RunRecord
from pairjax.report.language import Language
from pairjax.report.pairs import pair_section
from pairjax.report.pretraining import pretraining_curves, pretraining_section
from pairjax.storage.files import write_text


def with_unique_names(records: Sequence[RunRecord | ClaimFolder]) -> list[RunRecord | ClaimFolder]:
    """Names runs by their full paths if their folders have the same name."""
    names = [record.name for record in records if isinstance(record, RunRecord)]
    return [
        replace(record, name=str(record.path))
        if isinstance(record, RunRecord) and names.count(record.name) > 1
        else record
        for record in records
    ]


def build_page(records: Sequence[RunRecord | ClaimFolder], *, language: Language) -> Page:
    """Builds all sections: verdicts, comparisons of runs, then one section per folder."""
    records = with_unique_names(records)
    claims = [record for record in records if isinstance(record, ClaimFolder)]
    runs = [record for record in records if isinstance(record, RunRecord)]
    pairs = [run for run in runs if run.kind == "pairs"]
    pretrained = [run for run in runs if run.kind == "pretraining"]
    sections: list[Section] = []
    if claims:
        sections.append(verdict_section(claims, id="verdicts", language=language))
    if len(pairs) > 1:
        sections.append(overview_section(pairs, id="overview", language=language))
        compared = comparison_section(pairs, id="comparison", language=language)
        sections += [compared] if compared is not None else []
    if len(pretrained) > 1:
        drawings = pretraining_curves(pretrained, language=language)
        sections.append(Section("pretraining", language.phrase("pretraining.title"), drawings))
    for number, record in enumerate(records, 1):
        id = f"part-{number}"
        if isinstance(record, ClaimFolder):
            sections.append(claim_section(record, id=id, language=language))
        elif record.kind == "pairs":
            sections.append(pair_section(record, id=id, language=language))
        else:
            sections.append(pretraining_section(record, id=id, language=language))
    names = [record.row["id"] if isinstance(record, ClaimFolder) else record.name for record in records]
    title = language.phrase("page.title", names=", ".join(names[:3]) + (", …" if names[3:] else ""))
    return Page(language, title, sections)


def render(page: Page) -> str:
    """Renders a page as HTML; all texts are escaped, and a policy forbids scripts and external content."""
    environment = Environment(
        loader=PackageLoader("pairjax.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (files("pairjax.report") / "templates" / "style.css").read_text("utf-8")
    colours = (
        f":root {{ {colour_rules(LIGHT)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {colour_rules(DARK)} }} }}\n"
    )
    return environment.get_template("page.html.j2").render(
        page=page,
        language=page.language,
        style=Markup(colours + style),
        safe=Markup,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def write_report(records: Sequence[RunRecord | ClaimFolder], output: Path, *, language: Language) -> None:
    """Writes the report of some folders; the file appears complete or not at all."""
    write_text(
        output, render(build_page(records, language=language)), fix="free some space, or choose another --output"
    )
