"""`pairjax serve` as a process: unchanged clients, a signal under load, and errors in one line."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import InferenceClient

from pairjax.base.errors import UserError
from pairjax.base.serve_config import ServeConfig
from pairjax.cli import serve as command
from pairjax.cli.main import main
from pairjax.inference.classifier import PairClassifier
from pairjax.serve.run import check_key, name_models, open_port
from tests.serve.served import PAIRS, TEXTS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 240


def start_server(*models: str) -> tuple[subprocess.Popen[str], str]:
    """Starts a server on a free port, waits until it is ready, and returns its process and address."""
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment = os.environ | {"XLA_FLAGS": flags, "XDG_CACHE_HOME": str(ROOT / ".cache"), "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pairjax", "serve", *models, "--port", "0", "--batch-size", "4"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stderr is not None
    address = ""
    for line in process.stderr:
        event = json.loads(line) if line.startswith("{") else {}
        address = event.get("address", address)
        if event.get("event") == "ready":
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, address
    raise AssertionError(f"the server ended with {process.wait()}")


@pytest.fixture(scope="module")
def served(folders: dict[str, Path]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process, address = start_server(f"nli={folders['nli']}", f"bi={folders['bi']}")
    yield process, address
    process.kill()
    process.wait()


def ask(address: str, path: str, body: Any) -> Any:
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return json.loads(response.read())


def test_the_hubs_client(served: Any, models: dict[str, PairClassifier]) -> None:
    _, address = served
    [expected] = models["nli"].predict([PAIRS[1]])
    answers = InferenceClient(model=address).text_classification(list(PAIRS[1]))  # type: ignore[arg-type]
    assert {answer.label: answer.score for answer in answers} == pytest.approx(expected.probabilities, abs=1e-5)
    [best] = InferenceClient(model=address).text_classification(list(PAIRS[1]), top_k=1)  # type: ignore[arg-type]
    assert best.label == expected.label
    vectors = models["bi"].embed(TEXTS[:2])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    client = InferenceClient(model=f"{address}/similarity?model=bi")
    assert client.sentence_similarity(TEXTS[0], [TEXTS[1]]) == pytest.approx([float(unit[0] @ unit[1])], abs=1e-5)
    client = InferenceClient(model=f"{address}/embed?model=bi")
    np.testing.assert_allclose(client.feature_extraction(TEXTS[0], normalize=True)[0], unit[0], atol=1e-5)


def test_a_signal_ends_the_server_when_all_requests_are_answered(
    served: Any, models: dict[str, PairClassifier]
) -> None:
    process, address = served
    expected = [prediction.label for prediction in models["nli"].predict(PAIRS)]
    answers, failures = list[Any](), list[Exception]()

    def work() -> None:
        try:
            answers.append(ask(address, "/v1/classify", {"pairs": PAIRS * 8}))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while "pairjax_active_requests 4.0" not in urllib.request.urlopen(f"{address}/metrics").read().decode():
        if len(answers) == 4:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert process.wait(timeout=PATIENCE) == 0
    assert failures == []
    assert [[row["label"] for row in answer["results"]] for answer in answers] == [expected * 8] * 4


def test_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == 2
    assert "no model to serve; expected pairjax serve MODEL" in capsys.readouterr().err
    assert main(["serve", "no-such-folder"]) == 2
    assert "no-such-folder: no such folder" in capsys.readouterr().err


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "NEEDED", ("starlette", "no_such_package"))
    assert main(["serve", "model"]) == 2
    assert (
        "pairjax serve needs no-such-package; install the extra: pip install 'pairjax[serve]'"
        in capsys.readouterr().err
    )


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: the port is in use; stop the other program"):
            open_port(ServeConfig(port=port))
    with pytest.raises(UserError, match="no such address"):
        open_port(ServeConfig(host="no.such.host.invalid"))
    with pytest.raises(UserError, match="not an address of this machine"):
        open_port(ServeConfig(host="192.0.2.1"))


def test_names_of_models(folders: dict[str, Path]) -> None:
    nli, bi = folders["nli"], folders["bi"]
    assert list(name_models([str(nli), str(bi.parent), f"other={bi}"])) == ["nli", "bi", "other"]
    with pytest.raises(UserError, match="two models have one name; got nli; name them: first="):
        name_models([str(nli), str(nli)])


def test_other_machines_need_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    check_key(ServeConfig(host="0.0.0.0", api_key="secret"))
    check_key(ServeConfig(host="localhost"))
    check_key(ServeConfig(host="::1"))
    assert capsys.readouterr().err == ""
    check_key(ServeConfig(host="0.0.0.0"))
    assert "warning: --host 0.0.0.0 without --api-key" in capsys.readouterr().err
    with pytest.raises(UserError, match="set PAIRJAX_API_KEY"):
        check_key(ServeConfig(host="0.0.0.0", require_key=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": 70000}, "--port is out of range"),
        ({"batch_size": 0}, "--batch-size is too small"),
        ({"timeout": 0}, "--timeout is too small"),
        ({"min_confidence": 1.5}, "--min-confidence is not a probability"),
        ({"api_key": " "}, "--api-key is empty"),
        ({"max_wait_ms": -1}, "--max-wait-ms is out of range"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ServeConfig(**settings)
