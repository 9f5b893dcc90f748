"""Tiny models behind one application in this process, shared by the tests of the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from starlette.testclient import TestClient

from pairjax.base.model_config import ModelConfig
from pairjax.base.serve_config import ServeConfig
from pairjax.base.types import TaskSpec
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.load import load
from pairjax.serve.app import Server, build_app, build_server
from tests.inference.tiny_model import write_tiny_model

NLI = TaskSpec("classification", ("entailment", "neutral", "contradiction"))
TEXTS = ("the man", "a woman is not a dog", "no dog", "um homem", "all")
PAIRS = [(first, second) for first in TEXTS for second in TEXTS]


def write_models(folder: Path) -> dict[str, Path]:
    """Writes a cross-encoder with three classes and a bi-encoder with two."""
    small: dict[str, Any] = {"layers": 1, "hidden": 16, "sharpness": 20.0, "max_length": 24}
    cross = write_tiny_model(folder / "nli", config=ModelConfig(kind="cross"), task=NLI, **small)
    return {"nli": cross, "bi": write_tiny_model(folder / "bi", **small)}


@contextmanager
def serving(models: dict[str, PairClassifier], **settings: Any) -> Iterator[tuple[TestClient, Server]]:
    """Runs an application until the block ends; it is ready when the block begins."""
    server = build_server(models, ServeConfig(**({"access_log": False} | settings)))
    with TestClient(build_app(server), raise_server_exceptions=False) as client:
        while not server.ready and server.failed is None:
            client.get("/health")
        assert server.failed is None, server.failed
        yield client, server


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_models(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def models(folders: dict[str, Path]) -> dict[str, PairClassifier]:
    return {name: load(folder) for name, folder in folders.items()}
