"""The format stablehlo: the program and its runner give the model's outputs without pairjax."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

from pairjax.base.data_config import Truncation
from pairjax.base.errors import UserError
from pairjax.base.model_config import HeadConfig, ModelConfig
from pairjax.base.types import TaskSpec
from pairjax.data.encode import encode_pairs
from pairjax.data.tokenizer import load_tokenizer
from pairjax.evaluation.calibration import Calibration
from pairjax.export import stablehlo_runner
from pairjax.export.check import check_pairs
from pairjax.inference.load import load
from tests.inference.tiny_model import write_tiny_model
from tests.tiny import write_tiny_encoder


def test_a_cross_encoder(tmp_path: Path) -> None:
    calibration = Calibration(temperature=2.0, threshold=0.4)
    folder = write_tiny_model(
        tmp_path, config=ModelConfig(), layers=1, hidden=16, max_length=120, calibration=calibration, sharpness=9
    )
    model = load(folder)
    result = model.export("stablehlo", tmp_path / "e", fold_temperature=True)
    assert result.difference is not None
    assert result.difference < 1e-5
    manifest = json.loads((tmp_path / "e" / "pairjax_export.json").read_text())
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert manifest["jax"] in (tmp_path / "e" / "README.md").read_text()
    assert (tmp_path / "e" / "model.stablehlo").stat().st_size < 200_000
    assert (tmp_path / "e" / "run.py").read_text() == Path(stablehlo_runner.__file__).read_text()
    # Another number of pairs, and another length of rows.
    pairs = [("the man", "a dog"), ("no", "all")]
    logits = stablehlo_runner.outputs(pairs, tmp_path / "e")
    np.testing.assert_allclose(logits, model.outputs(*zip(*pairs, strict=True)) / 2, atol=1e-5)


def _product():
    from flax import linen as nn

    class Product(nn.Module):
        def __call__(self, u, v):
            return u * v

    return Product()


def test_a_bi_encoder_with_the_users_own_combiner(tmp_path: Path) -> None:
    task = TaskSpec("regression", center=3.0, scale=2.0)
    config = ModelConfig(kind="bi", combiner=_product)
    folder = write_tiny_model(tmp_path, config=config, layers=1, hidden=16, max_length=120, task=task)
    with pytest.raises(UserError, match="own Python code; use --to stablehlo"):
        load(folder, combiner=_product).export("onnx", tmp_path / "e")
    result = load(folder, combiner=_product).export("stablehlo", tmp_path / "e")
    assert result.difference is not None
    assert result.difference < 1e-5


def test_refusals(tmp_path: Path) -> None:
    task = TaskSpec("regression", scale=2.0)
    config = ModelConfig(head=HeadConfig(relu_logits=True))
    folder = write_tiny_model(tmp_path, config=config, layers=1, hidden=16, task=task)
    with pytest.raises(UserError, match="cannot be folded below a ReLU or a cosine; use --to onnx"):
        load(folder).export("stablehlo", tmp_path / "e")
    with pytest.raises(UserError, match="no int8 weights; use --to onnx"):
        load(folder).export("stablehlo", tmp_path / "e", int8=True)


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("kind", ["cross", "bi"])
@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second", "head_tail"])
def test_the_runner_makes_the_same_tokens(family: str, kind: str, truncation: Truncation, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tiny_encoder(tmp_path, family=family, layers=1), family=family)
    pairs = [(a[:length], b[: 90 - length]) for length in (3, 44, 45, 46, 87) for a, b in check_pairs()[:8]]
    joint, opening, max_length = kind == "cross", tokenizer.opening(kind), 63 if kind == "cross" else 60
    if truncation == "only_first":
        pairs = [(a * 3, b[:20]) for a, b in pairs]
    if truncation == "only_second":
        pairs = [(a[:20], b * 3) for a, b in pairs]
    settings = {
        "joint": joint,
        "cls_id": tokenizer.cls_id,
        "sep_id": tokenizer.sep_id,
        "pad_id": tokenizer.pad_id,
        "opening": list(opening),
        "segments": int(joint and tokenizer.segments),
        "budget": max_length - (3 + len(opening) if joint else 2),
        "truncation": truncation,
    }
    rows = stablehlo_runner.rows(pairs, settings, tokenizer.backend)
    first, second = zip(*pairs, strict=True)
    encoded = encode_pairs(first, second, tokenizer, kind=kind, max_length=max_length, truncation=truncation)
    assert encoded.truncated > 0 or not joint
    for row, (begin, end) in enumerate(zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)):
        assert rows[0][row, : end - begin].tolist() == encoded.tokens[begin:end].tolist()
        assert (rows[4][row, : end - begin] == 0).sum() == encoded.first_length[row]
        assert rows[3][row].sum() == end - begin


def test_the_runner_is_short_and_needs_three_packages() -> None:
    text = Path(stablehlo_runner.__file__).read_text()
    assert len(text.splitlines()) <= 60
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= {
        *("json", "sys", "pathlib", "numpy"),
        *("jax", "safetensors", "tokenizers"),
    }
