"""`pairjax push`, and models that are read from the hub, against a stand-in that huggingface_hub really talks to."""

import threading
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants, hf_api

import pairjax
from pairjax.base.model_config import ModelConfig
from pairjax.cli.main import main
from tests.export.hub_server import TOKEN, Hub
from tests.inference.tiny_model import write_tiny_model

TEXTS = (["a man"], ["a woman"])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("push"), config=ModelConfig(), layers=1, hidden=8, sharpness=20.0)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The stand-in, with the client's address, token and cache set to it."""
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace("https://huggingface.co", server.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    # The stand-in does not know Xet, so files come inside the commit.
    monkeypatch.setattr(hf_api, "is_xet_available", lambda: False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_is_pushed_and_read_again(hub, model, capsys):
    assert main(["push", str(model), "org/name"]) == 0
    assert capsys.readouterr().out.startswith(f"{hub.address}/org/name/commit/")
    files = {path.relative_to(model).as_posix(): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    assert hub.repositories["org/name"] == files
    with pytest.raises(pairjax.UserError, match="neither a folder nor an id in the hub's cache; add --download"):
        pairjax.load("org/name")
    again = pairjax.load("org/name", download=True)
    np.testing.assert_array_equal(again.outputs(*TEXTS), pairjax.load(model).outputs(*TEXTS))
    pairjax.load("org/name")  # from the cache
    assert not any(TOKEN in request for request in hub.requests)


def test_a_format_is_pushed_as_a_pull_request_to_a_repository_that_exists(hub, model, capsys):
    command = ["push", str(model), "org/name", "--format", "transformers", "--pull-request"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "org/name: the hub refused the model; got RepositoryNotFoundError: " in error
    assert error.count("\n") == 1
    hub.repositories["org/name"] = {}
    assert main(command) == 0
    assert capsys.readouterr().out == f"{hub.address}/org/name/discussions/1\n"
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= hub.pull_requests["org/name"].keys()
    assert hub.repositories["org/name"] == {}


def test_the_hubs_refusal_is_quoted_without_the_token(hub, model, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrongTokenOfTheUser")
    assert main(["push", str(model), "org/name"]) == 2
    error = capsys.readouterr().err
    assert "Invalid credentials in Authorization header" in error
    assert "hf_wrong" not in error
    assert error.count("\n") == 1
    assert main(["push", str(model), "not an id"]) == 2
    assert "not an id: not the id of a repository; expected org/name" in capsys.readouterr().err


def test_what_is_no_model_of_pairjax_is_not_pushed_as_one(hub, model, capsys):
    source = Path(model).parent / "source"
    assert main(["push", str(source), "org/name"]) == 2
    assert "not a model folder of pairjax; name a format with --format" in capsys.readouterr().err
    assert hub.requests == []


def test_the_client_is_the_real_one():
    assert huggingface_hub.HfApi.__module__ == "huggingface_hub.hf_api"
