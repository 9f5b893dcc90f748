"""One application with two tiny models for all tests of the server."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from pairjax.inference.classifier import PairClassifier
from pairjax.serve.app import Server
from tests.serve.served import folders, models, serving

__all__ = ["folders", "models"]


@pytest.fixture(scope="session")
def running(models: dict[str, PairClassifier]) -> Iterator[tuple[TestClient, Server]]:
    with serving(models, batch_size=4, max_client_batch_size=40, max_body_bytes=20_000) as both:
        yield both


@pytest.fixture(scope="session")
def client(running: tuple[TestClient, Server]) -> TestClient:
    return running[0]


@pytest.fixture(scope="session")
def server(running: tuple[TestClient, Server]) -> Server:
    return running[1]
