"""The model object: threads share it, it can be pickled, other processes can use it, the hub's cache can hold it."""

import copy
import hashlib
import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import pairjax
from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.inference import classifier
from pairjax.inference.classifier import PairClassifier
from tests.inference.tiny_model import write_tiny_model

PAIRS = [("the man", "no woman"), ("a dog", "the dog is not a man")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("bi"), layers=1)


@pytest.fixture(scope="module")
def model(folder: Path) -> PairClassifier:
    return pairjax.load(folder)


def test_threads_embed_while_the_cache_is_full(model: PairClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [[f"the {'man ' * (i % 5)} {letter}" for i in range(40)] for letter in "abcd"]
    expected = [model.embed(part) for part in texts]
    monkeypatch.setattr(model._sides, "_capacity", 8)
    with ThreadPoolExecutor(max_workers=4) as pool:
        futures = [pool.submit(model.embed, part, batch_size=16) for part in texts * 4]
    for future, vectors in zip(futures, expected * 4, strict=True):
        np.testing.assert_allclose(future.result(), vectors, atol=1e-5)


@pytest.mark.parametrize("kind", ["bi", "cross"])
def test_a_pickled_model_needs_no_folder(kind, tmp_path: Path) -> None:
    model = pairjax.load(write_tiny_model(tmp_path / "m", config=ModelConfig(kind=kind), layers=1))
    expected = model.predict(PAIRS)
    data = pickle.dumps(model)
    shutil.rmtree(tmp_path / "m")
    assert pickle.loads(data).predict(PAIRS) == expected
    assert copy.deepcopy(model).predict(PAIRS) == expected


def test_a_spawned_process_uses_the_model(model: PairClassifier) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        [answers] = pool.map(model.predict, [PAIRS])
    assert [answer.label for answer in answers] == [answer.label for answer in model.predict(PAIRS)]


def test_a_forked_process_is_refused(model: PairClassifier, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(model)
    monkeypatch.setattr(classifier.os, "getpid", lambda: -1)
    for call in (
        lambda: model.predict(PAIRS),
        lambda: model.embed("the man"),
        lambda: model.predict_stream(PAIRS),
        lambda: pairjax.load(folder),
        lambda: pickle.loads(data),
    ):
        with pytest.raises(UserError, match="this process was forked after a model was loaded"):
            call()


def hub_cache(model: Path, cache: Path) -> Path:
    """Lays a model folder out as the hub's cache does: every file is a link to a blob."""
    (cache / "blobs").mkdir(parents=True)
    snapshot = cache / "snapshots" / "abc"
    for path in (path for path in model.rglob("*") if path.is_file()):
        blob = cache / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        link = snapshot / path.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_a_model_loads_from_the_hubs_cache(model: PairClassifier, folder: Path, tmp_path: Path) -> None:
    snapshot = hub_cache(folder, tmp_path / "cache")
    assert pairjax.load(snapshot).predict(PAIRS) == model.predict(PAIRS)
    blob = (snapshot / "head.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(UserError, match=r"head\.safetensors: differs from what was saved \(SHA-256\)"):
        pairjax.load(snapshot)
    blob.unlink()
    with pytest.raises(UserError, match=r"head\.safetensors: missing from the model"):
        pairjax.load(snapshot)


def test_load_knows_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert pairjax.load("~/model").task == pairjax.load(Path("~/model")).task
