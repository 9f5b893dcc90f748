"""The licence of every locked dependency, from the metadata of the installed packages: `make licences`.

Reads requirements*.lock and writes LICENCES.md; exits 1 where a package that is installed names no licence.
"""

import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-encoder.lock", "requirements-dev.lock")
NOT_HERE = "(not installed on this platform)"
UNKNOWN = "(none named)"
HEAD = """# Licences of the locked dependencies

Written by `make licences` from the metadata that each package carries; nobody has read their texts. Where a package
names an SPDX expression that is given, else its own words or its classifiers. {count} packages; {dev} of them only for
development.

| package | version | licence | for |
|---|---|---|---|
"""


def locked(lock: Path) -> dict[str, str]:
    """Version by name."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(found)


def licence_of(name: str) -> str:
    """What the installed package says of its licence, on one line."""
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return NOT_HERE
    expression = metadata.get("License-Expression")
    if expression:
        return expression
    classified = [
        value.rpartition(" :: ")[2]
        for value in metadata.get_all("Classifier", [])
        if value.startswith("License :: ") and value != "License :: OSI Approved"
    ]
    if classified:
        return ", ".join(classified)
    # Some put the whole text of the licence here: its first line names it.
    words = next((line.strip() for line in metadata.get("License", "").splitlines() if line.strip()), "")
    return words[:80] if words and words != "UNKNOWN" else UNKNOWN


def table(root: Path = ROOT) -> dict[str, tuple[str, str, str]]:
    """(version, licence, what it is for) by package, in order."""
    rows: dict[str, tuple[str, str, str]] = {}
    for lock, use in zip(LOCKS, ("run", "run", "development"), strict=True):
        for name, version in locked(root / lock).items():
            rows.setdefault(name, (version, licence_of(name), use))
    return dict(sorted(rows.items()))


def text(rows: dict[str, tuple[str, str, str]]) -> str:
    """LICENCES.md."""
    dev = sum(use == "development" for _, _, use in rows.values())
    lines = [
        f"| {name} | {version} | {licence.replace('|', '/')} | {use} |"
        for name, (version, licence, use) in rows.items()
    ]
    return HEAD.format(count=len(rows), dev=dev) + "\n".join(lines) + "\n"


def main() -> int:
    rows = table()
    (ROOT / "LICENCES.md").write_text(text(rows), encoding="utf-8")
    unknown = [name for name, (_, licence, _) in rows.items() if licence == UNKNOWN]
    print(f"LICENCES.md: {len(rows)} packages" + (f"; no licence named by {', '.join(unknown)}" if unknown else ""))
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
