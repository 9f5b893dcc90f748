"""The examples in the package's docstrings run and print what they show."""

import ast
import doctest
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.inference.tiny_model import write_tiny_model

PACKAGE = Path(__file__).resolve().parents[1] / "pairjax"
FIRST_FUNCTIONS = {
    "load",
    "predict",
    "embed",
    "load_pairs",
    "encode_pairs",
    "plan_epoch",
    "make_batch",
    "pool",
    "pair_features",
    "cross_entropy",
}
"""The functions that a user meets first."""


def examples() -> Iterator[tuple[str, doctest.DocTest]]:
    """Yields the name of each documented object with examples, and its examples.

    Docstrings are read from the source, because `doctest` skips the functions that the tests' type checks wrap.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if ">>>" not in source:
            continue
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                docstring, name = ast.get_docstring(node) or "", getattr(node, "name", module)
                if ">>>" in docstring:
                    line = getattr(node, "lineno", 1)
                    yield name, doctest.DocTestParser().get_doctest(docstring, {}, module, str(path), line)


EXAMPLES = list(examples())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what examples may name: a trained bi-encoder in runs/pairs/model."""
    root = tmp_path_factory.mktemp("examples")
    write_tiny_model(root / "runs" / "pairs")
    return root


@pytest.mark.parametrize("test", [pytest.param(test, id=f"{test.name}.{name}") for name, test in EXAMPLES])
def test_examples_print_what_they_show(test: doctest.DocTest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    test.globs = dict(vars(import_module(test.name)))
    output: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test, out=output.append)
    assert not output, "".join(output)


def test_the_functions_that_a_user_meets_first_have_an_example() -> None:
    assert {name for name, _ in EXAMPLES} >= FIRST_FUNCTIONS
