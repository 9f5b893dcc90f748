"""LICENCES.md lists every locked dependency, at its locked version, with a licence."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", ROOT / "tools" / "licences.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_list_is_that_of_the_locks(tool: ModuleType) -> None:
    lines = (ROOT / "LICENCES.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    listed = {(name, version) for name, version, *_ in cells}
    locked = {(name, version) for lock in tool.LOCKS for name, version in tool.locked(ROOT / lock).items()}
    assert listed == locked, "run make licences"
    assert all(licence not in ("", tool.UNKNOWN) for _, _, licence, _ in cells)


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: x\n", "MIT OR Apache-2.0"),
        ("Classifier: License :: OSI Approved\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        ("License: BSD\n", "BSD"),
        ("License: UNKNOWN\n", "(none named)"),
        ("", "(none named)"),
    ],
)
def test_the_licence_is_what_the_package_says(
    tool: ModuleType, metadata: str, licence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made_up-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: made-up\nVersion: 1.0\n{metadata}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert tool.licence_of("made-up") == licence


def test_a_package_of_another_platform_is_said_to_be_one(tool: ModuleType) -> None:
    assert tool.licence_of("no-such-package") == tool.NOT_HERE
