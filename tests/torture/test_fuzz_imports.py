"""Random changes of models of other libraries: each folder is read, or refused in one line.

The whole: `PAIRJAX_FUZZ_DEAR=2000 pytest tests/torture/test_fuzz_imports.py`.
"""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairjax.base.model_config import CombineConfig, HeadConfig
from pairjax.base.types import TaskSpec
from pairjax.imports.pair_head import PairHead, write_pair_head
from pairjax.imports.read import read_model
from tests.imports.foreign import TORCH, write_chain, write_classifier
from tests.torture.test_fuzz import DEAR, JSON, accepted_or_refused, changed_json, fuzz, mutated

VALUES = st.sampled_from([*TORCH.values(), "CrossEncoder", "mean", "../x", "torch.nn.X", ["mean", "cls"], {"0": "a"}])


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import numpy as np

    root = tmp_path_factory.mktemp("foreign")
    write_classifier(root / "classifier")
    for kind in ("CrossEncoder", "SentenceTransformer"):
        write_chain(root / kind, kind=kind)
    logits = {"kernel": np.ones((12, 2), np.float32), "bias": np.ones(2, np.float32)}
    task = TaskSpec("classification", ("no", "yes"), positive="yes")
    head = PairHead(task, CombineConfig(features=("u", "v")), HeadConfig(), {"head": {"logits": logits}})
    write_pair_head(root / "SentenceTransformer", head)
    return {path.name: path for path in root.iterdir()}


@fuzz(4 * DEAR)
@given(data=st.data())
def test_foreign_folders(originals: dict[str, Path], data: st.DataObject) -> None:
    """Changes the settings or the bytes of one file of a folder."""
    original = originals[data.draw(st.sampled_from(sorted(originals)))]
    copy = original.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(original, copy)
    # The encoder's weights have their own test (test_fuzz.py), and are most of the bytes.
    files = sorted(path for path in copy.rglob("*") if path.is_file() and path != copy / "model.safetensors")
    file = data.draw(st.sampled_from(files))
    before = file.read_bytes()
    if file.suffix == ".json" and data.draw(st.booleans()):
        value = json.loads(before)
        if isinstance(value, list):
            entry = value[data.draw(st.integers(0, len(value) - 1))]
            entry[data.draw(st.sampled_from(["type", "path", "idx"]))] = data.draw(st.one_of(JSON, VALUES))
            file.write_text(json.dumps(value))
        elif data.draw(st.booleans()) and value:
            value[data.draw(st.sampled_from(sorted(value)))] = data.draw(VALUES)
            file.write_text(json.dumps(value))
        else:
            file.write_bytes(data.draw(st.composite(lambda draw: changed_json(draw, value))()))
    else:
        file.write_bytes(data.draw(st.composite(lambda draw: mutated(draw, bytearray(before)))()))
    accepted_or_refused(lambda: read_model(copy, name="copy"))
    assert accepted_or_refused(lambda: read_model(original, name="original"))
