"""The model card of an exported folder: that of the model, with the format's own front matter, use and limits."""

import json
import re
from collections.abc import Sequence
from typing import Any

from pairjax.inference.card import escaped

HUB_ID = r"[\w.-]+/[\w.-]+"


def split_card(card: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Splits the card of a model folder into front matter and sections.

    Args:
        card: Text of README.md, as `pairjax.inference.card.model_card` writes it; other text has no front matter.

    Returns:
        The front matter by key, and the text of each section by its title; that before the first section has the
        title "".
    """
    front: dict[str, Any] = {}
    lines = card.splitlines()
    if lines[:1] == ["---"] and "---" in lines[1:]:
        end = lines.index("---", 1)
        for line in lines[1:end]:
            key, _, value = line.partition(": ")
            try:
                front[key] = json.loads(value)
            except ValueError:
                continue
        lines = lines[end + 1 :]
    sections: dict[str, list[str]] = {"": []}
    title = ""
    for line in lines:
        if line.startswith("## "):
            title = line.removeprefix("## ")
            sections[title] = []
        else:
            sections[title].append(line)
    return front, {name: "\n".join(text).strip() for name, text in sections.items()}


def export_card(
    card: str, *, name: str, library: str, pipeline_tag: str, use: Sequence[str], notes: Sequence[str]
) -> str:
    """Returns the card of an exported folder as Markdown with the hub's front matter.

    Data, licence, scores with intervals, recipe and provenance are those of the model's card.

    Args:
        card: The model's card.
        name: Title of the card if the model's has none.
        library: The hub's name of the library that opens the folder.
        pipeline_tag: The hub's name of the task.
        use: Lines of Markdown that show how to use the folder.
        notes: Lines on what the folder leaves out, and on its check.
    """
    front, sections = split_card(card)
    tags = [tag for tag in front.get("tags", ["sentence-pairs"]) if tag != "jax"]
    front |= {"library_name": library, "pipeline_tag": pipeline_tag, "tags": list(dict.fromkeys(["pairjax", *tags]))}
    if not re.fullmatch(HUB_ID, str(front.get("base_model", ""))):
        front.pop("base_model", None)
    opening = sections.pop("") or f"# {escaped(name)}"
    sections.pop("Use", None)
    body = ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()), "---", ""]
    body += [opening, "", "## Use", "", *use, "", "## Export", "", *(f"- {escaped(note)}" for note in notes), ""]
    for title, text in sections.items():
        body += [f"## {title}", "", text, ""]
    return "\n".join(body).rstrip() + "\n"
