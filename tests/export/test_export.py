"""The steps that all formats share: checks, staging, the comparison of outputs, manifest and card."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

import pairjax
from pairjax.base.errors import UserError
from pairjax.export import formats
from pairjax.export.card import export_card, split_card
from pairjax.export.check import check_pairs
from pairjax.export.formats import Format, Written
from pairjax.export.model import export_model
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.export_folder import MANIFEST, is_export, read_export
from tests.inference.tiny_model import write_tiny_model

NOTHING = Format(
    name="nothing",
    library="pairjax",
    needs=(),
    extra=None,
    runtime=(),
    refuse=lambda artifact, config: "it has int8" if config.int8 else None,
    notes=lambda artifact, config: ["the threshold is left out"],
    pipeline_tag=lambda artifact: "text-classification",
    use=lambda artifact, config: ["Open it."],
    write=lambda request, folder: Written({"answer": (folder / "a.bin").write_bytes(b"abc")}, ("three bytes",)),
    difference=lambda request, folder, pairs: 1e-6,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PairClassifier:
    return pairjax.load(write_tiny_model(tmp_path_factory.mktemp("model"), layers=1))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch):
    """Makes formats known by their names."""

    def add(*known_formats: Format) -> None:
        names = {target.name: target for target in known_formats}
        monkeypatch.setattr(formats, "MODULES", dict.fromkeys(names, "tests"))
        monkeypatch.setattr(formats, "import_module", lambda module: None)
        monkeypatch.setattr(formats, "find_format", lambda name: names[name])
        monkeypatch.setattr("pairjax.export.model.find_format", lambda name: names[name])

    return add


def test_an_export_is_checked_and_sealed(model: PairClassifier, known, tmp_path: Path) -> None:
    known(NOTHING)
    result = model.export("nothing", tmp_path / "e")
    assert result.difference == 1e-6
    assert result.lines()[:2] == ["the threshold is left out", "three bytes"]
    exported = read_export(tmp_path / "e", target="nothing")
    assert exported.facts.task == model.task
    assert exported.entries["check"] == {"pairs": 64, "largest_difference": 1e-6}
    assert exported.entries["answer"] == 3
    card = (tmp_path / "e" / "README.md").read_text()
    assert "Open it." in card
    assert "- three bytes" in card
    assert "largest difference" in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e"]


def test_damage_is_detected(model: PairClassifier, known, tmp_path: Path) -> None:
    known(NOTHING)
    folder = model.export("nothing", tmp_path / "e").folder
    assert is_export(folder)
    assert not is_export(tmp_path)
    with pytest.raises(UserError, match="not exported for onnx; got a folder in the format 'nothing'"):
        read_export(folder, target="onnx")
    (folder / "a.bin").write_bytes(b"abd")
    with pytest.raises(UserError, match=r"a\.bin: differs from what was saved"):
        read_export(folder, target="nothing")
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"yes"', '"no!"'))
    with pytest.raises(UserError, match="its seal"):
        read_export(folder, target="nothing")
    (folder / MANIFEST).write_text(json.dumps({"format": 99}))
    with pytest.raises(UserError, match="written by a newer pairjax"):
        read_export(folder, target="nothing")


@pytest.mark.parametrize("difference", [1e-3, float("nan")])
def test_wrong_files_leave_nothing(difference: float, model: PairClassifier, known, tmp_path: Path) -> None:
    known(dataclasses.replace(NOTHING, difference=lambda request, folder, pairs: difference))
    with pytest.raises(UserError, match="do not give this model's outputs"):
        model.export("nothing", tmp_path / "e")
    assert list(tmp_path.iterdir()) == []


def test_without_the_runtime_the_export_says_so(model: PairClassifier, known, tmp_path: Path) -> None:
    known(dataclasses.replace(NOTHING, runtime=("no_such_module",)))
    result = model.export("nothing", tmp_path / "e")
    assert result.difference is None
    assert "not checked" in result.lines()[-2]


def test_refusals(model: PairClassifier, known, tmp_path: Path) -> None:
    known(NOTHING, dataclasses.replace(NOTHING, name="able", refuse=lambda artifact, config: None))
    with pytest.raises(UserError, match="nothing cannot express this model: it has int8; use --to able"):
        model.export("nothing", tmp_path / "e", int8=True)
    known(dataclasses.replace(NOTHING, needs=("no_such_module",), extra="onnx"))
    with pytest.raises(UserError, match=re.escape("no_such_module; run: pip install 'pairjax[onnx]'")):
        model.export("nothing", tmp_path / "e")
    (tmp_path / "e").mkdir()
    with pytest.raises(UserError, match="exists; remove it"):
        model.export("nothing", tmp_path / "e")
    (tmp_path / "f").write_text("")
    with pytest.raises(UserError, match="is no folder"):
        model.export("nothing", tmp_path / "f" / "g")


def test_an_unknown_format_is_refused(model: PairClassifier, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--to pickle: no such format; expected one of"):
        model.export("pickle", tmp_path / "e")


def test_a_full_disk_leaves_nothing(model: PairClassifier, known, tmp_path: Path) -> None:
    def full(request, folder):
        (folder / "half").write_text("a")
        raise OSError(28, "No space left on device")

    known(dataclasses.replace(NOTHING, write=full))
    with pytest.raises(UserError, match="cannot be written: the disk is full"):
        model.export("nothing", tmp_path / "e")
    assert list(tmp_path.iterdir()) == []


def test_the_card_keeps_what_the_model_states() -> None:
    card = (
        '---\nlibrary_name: "pairjax"\ntags: ["pairjax", "jax", "cross-encoder"]\nbase_model: "package:x"\n'
        'data_license: "MIT"\n---\n\n# name\n\nClassifies.\n\n## Use\n\nold\n\n## Scores\n\n| accuracy | 0.9 |\n'
    )
    text = export_card(card, name="n", library="onnx", pipeline_tag="text-ranking", use=["new"], notes=["a *b*"])
    front, sections = split_card(text)
    assert front == {
        "library_name": "onnx",
        "tags": ["pairjax", "cross-encoder"],
        "data_license": "MIT",
        "pipeline_tag": "text-ranking",
    }
    assert sections == {
        "": "# name\n\nClassifies.",
        "Use": "new",
        "Export": r"- a \*b\*",
        "Scores": "| accuracy | 0.9 |",
    }


def test_an_empty_card_gets_a_title() -> None:
    text = export_card("", name="m", library="onnx", pipeline_tag="text-classification", use=["new"], notes=[])
    assert split_card(text)[1][""] == "# m"


def test_check_pairs_have_many_lengths() -> None:
    pairs = check_pairs()
    assert len(pairs) == len(set(pairs)) == 64
    assert len({len(a.split()) + len(b.split()) for a, b in pairs}) > 20


def test_bfloat16_is_exported_in_float32(known, tmp_path: Path) -> None:
    from pairjax.base.export_config import ExportConfig
    from pairjax.base.model_config import ModelConfig

    dtypes = []

    def write(request, folder):
        dtypes.append(request.model.artifact.model.dtype)
        return Written({})

    known(dataclasses.replace(NOTHING, write=write))
    narrow = pairjax.load(write_tiny_model(tmp_path / "m", config=ModelConfig(dtype="bfloat16"), layers=1))
    export_model(narrow, "nothing", tmp_path / "e", config=ExportConfig())
    assert dtypes == ["float32"]
