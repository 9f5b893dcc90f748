"""A report put together: which sections, in which order, as one HTML file that needs nothing beside it."""

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


def named_apart(found: Sequence[RunRecord | ClaimFolder]) -> list[RunRecord | ClaimFolder]:
    """Runs whose folders have the same name are named by their whole paths."""
    names = [one.name for one in found if isinstance(one, RunRecord)]
    return [
        replace(one, name=str(one.path)) if isinstance(one, RunRecord) and names.count(one.name) > 1 else one
        for one in found
    ]


def build_page(found: Sequence[RunRecord | ClaimFolder], *, language: Language) -> Page:
    """All sections: verdicts first, then what several runs say together, then each folder."""
    found = named_apart(found)
    claims = [one for one in found if isinstance(one, ClaimFolder)]
    pairs = [one for one in found if isinstance(one, RunRecord) and one.kind == "pairs"]
    pretrained = [one for one in found if isinstance(one, RunRecord) and one.kind == "pretraining"]
    sections: list[Section] = []
    if claims:
        sections.append(verdict_section(claims, id="verdicts", language=language))
    if len(pairs) > 1:
        sections.append(overview_section(pairs, id="overview", language=language))
        compared = comparison_section(pairs, id="comparison", language=language)
        sections += [compared] if compared is not None else []
    if len(pretrained) > 1:
        drawings = pretraining_curves(pretrained, language=language)
        sections.append(Section("pretraining", language.say("pretraining.title"), drawings))
    for number, one in enumerate(found, 1):
        name = f"part-{number}"
        if isinstance(one, ClaimFolder):
            sections.append(claim_section(one, id=name, language=language))
        elif one.kind == "pairs":
            sections.append(pair_section(one, id=name, language=language))
        else:
            sections.append(pretraining_section(one, id=name, language=language))
    names = [one.row["id"] if isinstance(one, ClaimFolder) else one.name for one in found]
    return Page(
        language, language.say("page.title", names=", ".join(names[:3]) + (", …" if names[3:] else "")), sections
    )


def render(page: Page) -> str:
    """The HTML; every text is escaped, and a policy forbids scripts and anything from elsewhere."""
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


def write_report(found: Sequence[RunRecord | ClaimFolder], output: Path, *, language: Language) -> None:
    """Writes the page, whole or not at all."""
    write_text(output, render(build_page(found, language=language)))
