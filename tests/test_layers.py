"""Who may import whom, read from the source of every module, imports inside functions included."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pairjax"
LAYERS = (
    *("base", "storage", "evaluation", "data", "weights", "imports", "models", "graphs", "step", "run", "report"),
    *("inference", "export", "serve", "population", "finetune", "pretrain", "plan", "sweep", "studies", "cli"),
)
"""From the bottom up: each imports itself and those before it."""

MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY_IN_DATA = {"grain", "transformers", "tensorflow_datasets", "tokenizers", "pyarrow", "sklearn", "array_record"}
HEAVY_IN_DATA |= {"sentencex"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = [name_of(path) for path in MODULES]


def layer_of(name: str) -> str | None:
    """The layer of a module of pairjax; None for the package's own front, which stands above all."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else None


ENTRANCES = {("pairjax.inference.classifier", "pairjax.export.model")}
"""A module with a method that only calls a layer above, so that users reach it from an object that they have."""


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports(path: Path, *, everywhere: bool = True) -> list[str]:
    """Dotted names that a module imports; `from a import b` gives both a and a.b.

    Args:
        path: The module.
        everywhere: Also inside functions, or only what runs on import; `if TYPE_CHECKING` never runs.
    """
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if not everywhere and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if not everywhere and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path.name}, line {child.lineno}: a relative import"
                found.append(str(child.module))
                found.extend(f"{child.module}.{alias.name}" for alias in child.names)
            visit(child)

    visit(parse(path))
    return found


def imports_of(package: str, path: Path, *, everywhere: bool = True) -> list[str]:
    """Those of a module's imports that are a package or lie in it."""
    return [name for name in imports(path, everywhere=everywhere) if (name + ".").startswith(package + ".")]


def reads(path: Path, dotted: str) -> bool:
    """Whether the module imports a dotted name or spells it as an expression."""
    return bool(imports_of(dotted, path)) or any(
        ast.unparse(node) == dotted for node in ast.walk(parse(path)) if isinstance(node, ast.Attribute)
    )


def _is_entrance(importer: str, imported: str) -> bool:
    """Whether an import is that of an entrance: the module, or a name in it."""
    return any(importer == lower and (imported + ".").startswith(upper + ".") for lower, upper in ENTRANCES)


def inside(layer: str) -> Iterator[Path]:
    found = [path for path, name in zip(MODULES, NAMES, strict=True) if layer_of(name) == layer]
    assert found, f"no module in {layer}"
    yield from found


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_each_layer_imports_only_itself_and_those_below(path: Path) -> None:
    layer = layer_of(name_of(path))
    if layer is None:
        return
    assert layer in LAYERS, f"{name_of(path)} is in no layer"
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    wrong = [
        name
        for name in imports_of("pairjax", path)
        if layer_of(name) is not None and layer_of(name) not in allowed and not _is_entrance(name_of(path), name)
    ]
    assert not wrong
    # The package's own front stands on finetune/, so only the command line may use it.
    assert "pairjax" not in imports(path) or layer == "cli"


def test_data_and_models_do_not_know_each_other() -> None:
    assert [name for path in inside("data") for name in imports_of("pairjax.models", path)] == []
    assert [name for path in inside("models") for name in imports_of("pairjax.data", path)] == []


def test_a_run_knows_neither_pairs_nor_models() -> None:
    for path in inside("run"):
        for layer in ("data", "weights", "models", "evaluation"):
            assert imports_of(f"pairjax.{layer}", path) == [], name_of(path)


def test_fine_tuning_and_pretraining_have_the_same_four_files() -> None:
    four = {"prepare", "job", "finish", "train"}
    files = {layer: {path.stem for path in inside(layer)} - {"__init__"} for layer in ("finetune", "pretrain")}
    assert files["finetune"] == four
    assert files["pretrain"] == four | {"baselines", "held_out"}


def test_data_returns_numpy_and_knows_no_jax() -> None:
    for path in inside("data"):
        for package in ("jax", "flax", "optax", "orbax", "torch", "pairjax.weights"):
            assert imports_of(package, path) == [], name_of(path)


def test_importing_data_loads_nothing_heavy() -> None:
    for path in inside("data"):
        heavy = [name for name in imports(path, everywhere=False) if name.split(".")[0] in HEAVY_IN_DATA]
        assert heavy == [], name_of(path)


@pytest.mark.parametrize("name", ["config", "pretrain_config", "types", "errors", "params"])
def test_the_base_of_the_command_line_imports_no_heavy_package(name: str) -> None:
    allowed = {"numpy", "tyro", "pairjax", "collections", "dataclasses", "re", "typing"}
    assert {found.split(".")[0] for found in imports(PACKAGE / "base" / f"{name}.py")} <= allowed


@pytest.mark.parametrize(
    ("dotted", "home"),
    [
        ("orbax", "pairjax.run.checkpoint"),
        ("jax.distributed", "pairjax.run.distributed"),
        ("onnxruntime", "pairjax.graphs.session"),
    ],
)
def test_a_library_with_one_owner_is_used_nowhere_else(dotted: str, home: str) -> None:
    assert {name for path, name in zip(MODULES, NAMES, strict=True) if reads(path, dotted)} <= {home}


def test_arguments_are_parsed_in_the_command_line_alone() -> None:
    """base/model_config.py annotates its fields for tyro, and parses nothing."""
    users = {
        name
        for path, name in zip(MODULES, NAMES, strict=True)
        if any(imports_of(package, path) for package in ("tyro", "argparse")) and layer_of(name) != "cli"
    }
    assert users <= {"pairjax.base.model_config"}
    config = parse(PACKAGE / "base" / "model_config.py")
    parses = [ast.unparse(node.func) for node in ast.walk(config) if isinstance(node, ast.Call)]
    assert [name for name in parses if name.startswith("tyro.") and not name.startswith("tyro.conf.")] == []


def test_flax_stays_in_models() -> None:
    users = {layer_of(name) for path, name in zip(MODULES, NAMES, strict=True) if imports_of("flax", path)}
    assert users <= {"models"}


@pytest.mark.parametrize("layer", ["base", "storage", "evaluation", "report", "graphs"])
def test_what_reads_numbers_and_files_knows_no_jax(layer: str) -> None:
    for path in inside(layer):
        for package in ("jax", "flax", "optax", "orbax"):
            assert imports_of(package, path) == [], name_of(path)


LAWS = (
    ("run", ("data", "models", "weights", "evaluation")),
    ("report", ("data", "models", "weights", "step", "run")),
    ("inference", ("run",)),
    ("serve", ("run", "report")),
    ("population", ("run", "inference", "serve")),
    ("pretrain", ("finetune",)),
    ("studies", ("sweep",)),
)
"""A layer, and those below it that it may not import all the same."""


@pytest.mark.parametrize(("layer", "strangers"), LAWS, ids=[layer for layer, _ in LAWS])
def test_some_layers_may_not_import_all_that_lies_below(layer: str, strangers: tuple[str, ...]) -> None:
    for path in inside(layer):
        wrong = [name for stranger in strangers for name in imports_of(f"pairjax.{stranger}", path)]
        assert wrong == [], name_of(path)


def test_only_the_command_line_imports_studies() -> None:
    users = {layer_of(name) for path, name in zip(MODULES, NAMES, strict=True) if imports_of("pairjax.studies", path)}
    assert users <= {"studies", "cli"}


def test_what_all_studies_share_imports_no_study() -> None:
    """A study is a folder of studies/; the files beside the folders serve all of them."""
    folder = PACKAGE / "studies"
    studies = [path.name for path in folder.iterdir() if (path / "__init__.py").is_file()]
    assert {"attention", "combiners", "small_data", "transfer"} <= set(studies)
    for path in folder.glob("*.py"):
        wrong = [name for study in studies for name in imports_of(f"pairjax.studies.{study}", path)]
        assert wrong == [], name_of(path)


def test_nothing_is_pickled_and_torch_is_not_imported() -> None:
    for path in MODULES:
        for package in ("pickle", "torch", "tensorflow"):
            assert imports_of(package, path) == [], name_of(path)


def test_the_reader_of_imports_sees_what_it_should(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import os.path\nfrom jax import distributed\n\n"
        "def f():\n    import grain.python\n    return jax.distributed.x\n"
    )
    assert imports(module) == ["os.path", "jax", "jax.distributed", "grain.python"]
    assert imports(module, everywhere=False) == ["os.path", "jax", "jax.distributed"]
    assert imports_of("gra", module) == []
    assert reads(module, "jax.distributed")
    assert not reads(module, "orbax")
