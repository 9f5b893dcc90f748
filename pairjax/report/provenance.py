"""Builds the part of a report that says where a result comes from."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pairjax.report.blocks import Facts
from pairjax.report.folder import RunRecord
from pairjax.report.language import Language


def command_line(words: Sequence[str]) -> str:
    """Writes the command as typed, whatever the path of the program was."""
    name = PurePath(words[0]).name if words else ""
    return shlex.join(["pairjax" if name in ("__main__.py", "main.py", "pairjax") else name, *words[1:]])


def provenance_rows(origin: Mapping[str, Any], *, language: Language) -> list[tuple[str, str]]:
    """Lists command, start, device, commit and versions."""
    phrase = language.phrase
    rows = [
        (phrase("provenance.command"), command_line(origin.get("command") or [])),
        (phrase("provenance.started"), str(origin.get("started", ""))),
        (
            phrase("provenance.device"),
            f"{origin.get('device_count', '?')} × {origin.get('device_kind', '?')}, {origin.get('platform', '')}",
        ),
    ]
    git = origin.get("git")
    if git:
        dirty = phrase("provenance.dirty") if git.get("dirty") else ""
        rows.append((phrase("provenance.commit"), f"{git['commit']}{dirty}"))
    versions = {"python": origin.get("python"), **(origin.get("versions") or {})}
    rows.append(
        (phrase("provenance.versions"), ", ".join(f"{name} {number}" for name, number in versions.items() if number))
    )
    return rows


def data_rows(data: Any, *, language: Language) -> list[tuple[str, str]]:
    """Lists the data's name, licence and hashes; for pretraining, the sources of each split."""
    phrase = language.phrase
    if not isinstance(data, Mapping):
        return []
    if all(isinstance(value, list) for value in data.values()):
        return [
            (
                f"{phrase('provenance.data')}: {language.name('split', split)}",
                f"{source['name']} (SHA-256 {source['sha256'][:16]}…)",
            )
            for split, sources in data.items()
            for source in sources
            if isinstance(source, Mapping)
        ]
    rows = [(phrase("provenance.data"), str(data.get("name", "?")))]
    if data.get("licence"):
        rows.append((phrase("provenance.licence"), str(data["licence"])))
    rows += [(f"SHA-256: {name}", str(digest)) for name, digest in (data.get("files") or {}).items()]
    return rows


def provenance_block(run: RunRecord, *, language: Language) -> Facts:
    """Builds a run's provenance; its full config and its notes on the data open on demand."""
    phrase, result = language.phrase, run.result or {}
    origin = {**run.origin, **(result.get("provenance") or {})}
    rows = provenance_rows(run.origin, language=language)
    rows += data_rows(origin.get("data"), language=language)
    rows.append((phrase("provenance.seed"), str(run.config["train"].get("seed", "?"))))
    if run.resumes:
        rows.append((phrase("provenance.resumes"), language.count(run.resumes)))
    train = result.get("train")
    if train:
        rate = train.get("pairs_per_second", train.get("tokens_per_second"))
        unit = phrase("provenance.pairs" if "pairs_per_second" in train else "provenance.tokens")
        rows.append(
            (
                phrase("provenance.time"),
                phrase(
                    "provenance.time_value",
                    seconds=language.count(train["seconds"]),
                    compiling=language.count(train["compile_seconds"]),
                    rate=language.number(rate, 1),
                    unit=unit,
                ),
            )
        )
    folded = [(phrase("provenance.config"), json.dumps(run.config, indent=2, ensure_ascii=False))]
    if result.get("notes"):
        folded.insert(0, (phrase("provenance.notes"), "\n".join(str(note) for note in result["notes"])))
    return Facts(phrase("provenance.title"), rows, folded)
