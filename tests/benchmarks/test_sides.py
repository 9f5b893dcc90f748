"""Tests which parts of the benchmarks may import which, from the source of every module."""

import ast
from pathlib import Path

import pytest

from experiments.benchmarks import suite
from experiments.benchmarks.cases import ALONE, CASES, FIRST_STEP
from experiments.benchmarks.pairjax_side.main import WORKERS as PAIRJAX_WORKERS
from experiments.benchmarks.torch_side.main import WORKERS as TORCH_WORKERS
from tests.test_layers import imports, imports_of

HOME = Path(suite.__file__).parent
PACKAGE = "experiments.benchmarks"
TORCH_TOOLS = ("torch", "transformers", "sentence_transformers", "datasets", "accelerate")
MODULES = sorted(HOME.rglob("*.py"))


def modules_in(folder: str) -> list[Path]:
    paths = sorted((HOME / folder).rglob("*.py"))
    assert paths, f"no module in {folder}"
    return paths


def name_of(path: Path) -> str:
    return str(path.relative_to(HOME))


@pytest.mark.parametrize("path", modules_in("shared"), ids=name_of)
def test_shared_imports_neither_pairjax_nor_torch_nor_the_rest_of_the_benchmarks(path: Path) -> None:
    for package in ("pairjax", "jax", "flax", *TORCH_TOOLS):
        assert imports_of(package, path) == []
    assert set(imports_of(PACKAGE, path)) == set(imports_of(f"{PACKAGE}.shared", path))


@pytest.mark.parametrize("path", modules_in("torch_side"), ids=name_of)
def test_the_torch_side_imports_only_shared_of_this_repository(path: Path) -> None:
    for package in ("pairjax", "jax", "flax"):
        assert imports_of(package, path) == []
    allowed = {name for part in ("shared", "torch_side") for name in imports_of(f"{PACKAGE}.{part}", path)}
    assert set(imports_of("experiments", path)) == allowed


@pytest.mark.parametrize(
    "path", [*modules_in("pairjax_side"), *modules_in("alone"), *modules_in("workload")], ids=name_of
)
def test_pairjaxs_side_imports_neither_torch_nor_its_side(path: Path) -> None:
    for package in (f"{PACKAGE}.torch_side", *TORCH_TOOLS):
        assert imports_of(package, path) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_is_imported_by_its_full_name_and_sys_path_is_left_alone(path: Path) -> None:
    stems = {module.stem for module in MODULES} | {folder.name for folder in HOME.iterdir() if folder.is_dir()}
    assert [name for name in imports(path) if name.split(".")[0] in stems] == []
    attributes = [ast.unparse(node) for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    assert "sys.path" not in attributes


def test_every_worker_of_a_case_is_a_class_of_its_side() -> None:
    assert {case.pairjax_worker for case in CASES.values()} | {FIRST_STEP} == set(PAIRJAX_WORKERS)
    assert {case.torch_worker for case in CASES.values()} | {FIRST_STEP} == set(TORCH_WORKERS)
    for side, workers in (("pairjax_side", PAIRJAX_WORKERS), ("torch_side", TORCH_WORKERS)):
        for worker in workers.values():
            module, kind = worker.split(".")
            tree = ast.parse((HOME / side / f"{module}.py").read_text("utf-8"))
            assert kind in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    for module in ALONE.values():
        assert (HOME.parents[1] / f"{module.replace('.', '/')}.py").is_file()
