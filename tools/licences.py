"""Writes LICENCES.md, the licences of all locked dependencies: `make licences`.

The licences come from the metadata of the installed packages. Exits with 1 if an installed package names no licence.
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

`make licences` writes this file from the metadata of each package; nobody has read the licence texts. If a package
names an SPDX expression, it is given here, otherwise the package's own words or its classifiers. {count} packages;
{dev} of them only for development.

| package | version | licence | for |
|---|---|---|---|
"""


def locked(lock: Path) -> dict[str, str]:
    """Returns the locked version of each package, by name; the versions if Pythons get different ones."""
    versions: dict[str, list[str]] = {}
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for name, version in pinned:
        versions.setdefault(name, []).append(version)
    return {name: ", ".join(several) for name, several in versions.items()}


def licence_of(name: str) -> str:
    """Returns the licence that the installed package names, on one line."""
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return NOT_HERE
    expression = metadata.get("License-Expression")
    if expression:
        return expression
    classifiers = [
        value.rpartition(" :: ")[2]
        for value in metadata.get_all("Classifier", [])
        if value.startswith("License :: ") and value != "License :: OSI Approved"
    ]
    if classifiers:
        return ", ".join(classifiers)
    # Some packages put the full licence text here. Its first line names the licence.
    first_line = next((line.strip() for line in metadata.get("License", "").splitlines() if line.strip()), "")
    return first_line[:80] if first_line and first_line != "UNKNOWN" else UNKNOWN


def table(root: Path = ROOT) -> dict[str, tuple[str, str, str]]:
    """Returns (version, licence, use) by package, sorted by name."""
    rows: dict[str, tuple[str, str, str]] = {}
    for lock, use in zip(LOCKS, ("run", "run", "development"), strict=True):
        for name, version in locked(root / lock).items():
            rows.setdefault(name, (version, licence_of(name), use))
    return dict(sorted(rows.items()))


def text(rows: dict[str, tuple[str, str, str]]) -> str:
    """Returns the text of LICENCES.md."""
    dev = sum(use == "development" for _, _, use in rows.values())
    lines = [
        f"| {name} | {version} | {licence.replace('|', '/')} | {use} |"
        for name, (version, licence, use) in rows.items()
    ]
    return HEAD.format(count=len(rows), dev=dev) + "\n".join(lines) + "\n"


def main() -> int:
    """Writes LICENCES.md and returns the exit code."""
    rows = table()
    (ROOT / "LICENCES.md").write_text(text(rows), encoding="utf-8")
    unknown = [name for name, (_, licence, _) in rows.items() if licence == UNKNOWN]
    print(f"LICENCES.md: {len(rows)} packages" + (f"; no licence named by {', '.join(unknown)}" if unknown else ""))
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
