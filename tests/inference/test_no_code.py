"""A folder may name Python code of its own (`auto_map`); no command runs it, and none asks on standard input."""

import contextlib
import json
from pathlib import Path

import pytest

import pairjax
from pairjax.base.config import Config
from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.data.tokenizer import load_tokenizer
from pairjax.finetune.prepare import prepare
from pairjax.weights import copy_tokeniser, load_encoder, read_encoder_spec
from tests.cli.conftest import write_pairs
from tests.inference.tiny_model import write_tiny_model
from tests.tiny import write_tiny_encoder

AUTO_MAP = {"AutoTokenizer": ["code.Own", "code.Own"], "AutoConfig": "code.OwnConfig"}


@pytest.fixture(autouse=True)
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the folder's code writes; any question on standard input would be answered with yes."""
    path = tmp_path / "trace"

    def answer(prompt: str = "") -> str:
        path.write_text(f"asked: {prompt}")
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return path


def add_code(folder: Path, trace: Path, *, plain: bool, model_type: str | None = None) -> Path:
    """Adds code and its names to a folder; `plain` replaces tokenizer.json by vocab.txt, which transformers reads."""
    lines = (
        f"open({str(trace)!r}, 'w').write('ran')",
        "from transformers import BertConfig as OwnConfig, BertTokenizer as Own",
    )
    (folder / "code.py").write_text("\n".join(lines) + "\n")
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text()) | {"auto_map": AUTO_MAP}
        settings |= {"tokenizer_class": "Own"} if name.startswith("tokenizer") else {}
        settings |= {"model_type": model_type} if model_type and name == "config.json" else {}
        (folder / name).write_text(json.dumps(settings))
    if plain:
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")
        (folder / "tokenizer.json").unlink()
    return folder


@pytest.mark.parametrize("model_type", [None, "own"])
def test_a_tokeniser_that_is_code_is_refused_and_one_that_is_a_file_is_read(
    tmp_path: Path, trace: Path, model_type: str | None
) -> None:
    plain = add_code(write_tiny_encoder(tmp_path / "plain"), trace, plain=True, model_type=model_type)
    with pytest.raises(UserError, match=r"code from its folder, which pairjax never runs; got auto_map"):
        load_tokenizer(plain, family="bert")
    whole = add_code(write_tiny_encoder(tmp_path / "whole"), trace, plain=False)
    tokenizer = load_tokenizer(whole, family="bert")
    assert "auto_map" not in tokenizer.settings
    load_encoder(whole, read_encoder_spec(whole))
    (tmp_path / "copy").mkdir()
    copy_tokeniser(whole, tmp_path / "copy")
    assert "auto_map" not in json.loads((tmp_path / "copy" / "tokenizer_config.json").read_text())
    assert not trace.exists()


def test_train_runs_no_code_of_the_encoders_folder(tmp_path: Path, trace: Path) -> None:
    data = tmp_path / "pairs"
    data.mkdir()
    write_pairs(data / "train.tsv", start=0, rows=8)
    write_pairs(data / "dev.tsv", start=8, rows=4)
    for plain in (False, True):
        folder = add_code(write_tiny_encoder(tmp_path / f"encoder-{plain}"), trace, plain=plain)
        config = Config(DataConfig(path=str(data), max_length=32), ModelConfig(encoder=str(folder)))
        if plain:
            with pytest.raises(UserError, match="never runs"):
                prepare(config)
        else:
            prepare(config)
    assert not trace.exists()


def test_predict_runs_no_code_of_the_models_folder(tmp_path: Path, trace: Path) -> None:
    model = write_tiny_model(tmp_path)
    add_code(model / "encoder", trace, plain=False)
    # It may be refused, if the files are not those that the manifest lists.
    with contextlib.suppress(UserError):
        pairjax.load(model).predict([("a", "b")])
    assert not trace.exists()
