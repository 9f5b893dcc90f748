"""Bad requests, limits and overload: one line in TEI's form that names the field, and never a status of 500."""

import asyncio
import json
import threading
import time
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from pairjax.inference.classifier import PairClassifier
from pairjax.serve import app as app_module
from pairjax.serve.app import Server, build_app
from pairjax.serve.batcher import Batcher
from pairjax.serve.errors import RequestError
from tests.serve.served import PAIRS, serving

PAIR = ["the man", "a dog"]


def refusal(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    answer = response.json()
    assert answer.keys() == {"error", "error_type"}
    assert "\n" not in answer["error"]
    return answer["error"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/predict", {}, 422, "`inputs` is missing"),
        ("/predict", {"inputs": "one text"}, 422, "`inputs` is one text, and the model reads pairs"),
        ("/predict", {"inputs": ["a", "b", "c"]}, 422, "`inputs[0]`: got 'a'; expected a pair"),
        ("/predict", {"inputs": [["a"]]}, 422, "`inputs[0]`: got list; expected a pair"),
        ("/predict", {"inputs": [["a", 3]]}, 422, "`inputs[0]`: got list"),
        ("/predict", {"inputs": []}, 400, "`inputs` cannot be empty"),
        ("/predict", {"inputs": [PAIR] * 41}, 413, "`inputs`: batch size 41 > maximum allowed batch size 40"),
        ("/predict", {"inputs": ["the man", " "]}, 422, "second text 1: the text is empty"),
        ("/predict", {"inputs": PAIR, "raw_scores": "yes"}, 422, "`raw_scores`: got 'yes'; expected true or false"),
        ("/predict", {"inputs": PAIR, "truncation_direction": "Left"}, 422, "`truncation_direction`"),
        ("/predict", {"inputs": ["the " * 60, "a"], "truncate": False}, 422, "longer than 24 tokens"),
        ("/predict", {"inputs": PAIR, "model": "none"}, 404, "`model`: got 'none'; expected one of nli, bi"),
        ("/rerank", {"texts": ["a"]}, 422, "`query` is missing; expected a string"),
        ("/rerank", {"query": "a", "texts": ["b", None]}, 422, "`texts[1]` is missing; expected a string"),
        ("/rerank", {"query": "a", "texts": ["b"], "label": "x"}, 422, "`label`: got 'x'; expected one of entailment"),
        ("/v2/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, 422, "`top_n`: got 0; expected a positive"),
        ("/embed", {"inputs": "a"}, 424, "the model nli reads both texts together"),
        ("/v1/embeddings", {"input": "a"}, 424, "it answers /predict, /rerank, /v1/classify"),
        ("/embed", {"inputs": "a", "model": "bi", "dimensions": 3}, 422, "`dimensions`: got 3; expected 16"),
        ("/embed", {"inputs": [[1, 2]], "model": "bi"}, 422, "`inputs[0]`: got list; expected a string"),
        ("/similarity", {"inputs": "a", "model": "bi"}, 422, "expected an object with `source_sentence`"),
        ("/", {"inputs": PAIR, "parameters": {"function_to_apply": "sigmoid"}}, 422, "`function_to_apply`"),
        ("/", {"inputs": PAIR, "parameters": 3}, 422, "`parameters`: got 3; expected an object"),
        ("/v1/classify", {"pairs": [PAIR], "min_confidence": 2}, 422, "`min_confidence`: got 2"),
        ("/v1/explain", {"pairs": [PAIR] * 9}, 413, "`pairs`: got 9; at most 8 are explained"),
        ("/v1/explain", {"pairs": PAIR, "label": "x"}, 422, "`label`: got 'x'; expected one of entailment"),
        ("/v1/classify", {"pairs": [{"text": "a"}]}, 422, "`pairs[0]`: got dict; expected a pair"),
    ],
)
def test_wrong_fields_are_named(path: str, body: Any, status: int, message: str, client: TestClient) -> None:
    assert message in refusal(client.post(path, json=body), status)


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b'{"inputs": ["a"', 400, "the body is not JSON"),
        (b"", 400, "the body is not JSON"),
        (b"\xff\xfe", 400, "the body is not JSON"),
        (b"[" * 100_000, 413, "larger than 20000 bytes"),
        (b"[" * 15_000, 400, "the body is not JSON: nested too deeply"),
        (b'{"a": ' + b"9" * 6000 + b"}", 400, "the body is not JSON"),
        (b"[1]", 422, "the body: got list; expected a JSON object"),
        (b'{"inputs": ["\\ud800", "b"]}', 422, "not Unicode text"),
    ],
)
def test_bodies_that_are_no_request(content: bytes, status: int, message: str, client: TestClient) -> None:
    assert message in refusal(client.post("/predict", content=content), status)


def test_nul_and_control_characters_are_text(client: TestClient) -> None:
    response = client.post("/predict", json={"inputs": ["the \0 man", "\x1b[2J a\u202e dog"]})
    assert response.status_code == 200


def test_unknown_routes_and_wrong_methods(client: TestClient) -> None:
    assert "expected one of /" in refusal(client.post("/generate", json={}), 404)
    assert "this route answers POST" in refusal(client.get("/predict"), 405)
    assert "this route answers GET" in refusal(client.delete("/health"), 405)


def test_a_failing_model_is_no_500(client: TestClient, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(encoded: Any) -> Any:
        raise FloatingPointError("secret text")

    monkeypatch.setattr(server.models["nli"]._pairs, "_compute", fail)
    assert refusal(client.post("/predict", json={"inputs": PAIR}), 424) == "the model failed: FloatingPointError"


def test_models_that_cannot_be_compiled_end_the_server(models: dict[str, PairClassifier]) -> None:
    server, ended = app_module.build_server({"bi": models["bi"]}, app_module.ServeConfig()), list[bool]()
    server.when_failed = lambda: ended.append(True)

    def fail() -> int:
        raise MemoryError("no memory")

    server.models["bi"].warm_up = fail  # type: ignore[method-assign]
    asyncio.run(server.warm_up())
    assert ended == [True]
    assert isinstance(server.failed, MemoryError)
    assert not server.ready


def test_the_key_is_needed_everywhere_but_for_health(models: dict[str, PairClassifier]) -> None:
    with serving({"bi": models["bi"]}, batch_size=4, api_key="secret", cors_origins=("https://a.example",)) as (
        client,
        _,
    ):
        assert client.get("/health").status_code == 200
        for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "secret"}):
            response = client.post("/predict", json={"inputs": PAIR}, headers=headers)
            assert "Authorization: Bearer KEY" in refusal(response, 401)
            assert client.get("/metrics", headers=headers).status_code == 401
        response = client.post(
            "/predict", json={"inputs": PAIR}, headers={"authorization": "Bearer secret", "origin": "https://a.example"}
        )
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        other = client.get("/health", headers={"origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers


def test_before_and_after_the_shapes_are_compiled(server: Server, client: TestClient) -> None:
    server.ready = False
    try:
        response = client.post("/predict", json={"inputs": PAIR})
        assert "compiling its models" in refusal(response, 503)
        assert response.headers["retry-after"] == "5"
        assert client.get("/health").json()["status"] == "compiling"
        assert client.get("/health").status_code == 503
    finally:
        server.ready = True


def test_too_many_requests_are_refused(server: Server, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "active", 512)
    response = client.post("/predict", json={"inputs": PAIR})
    assert "try again later" in refusal(response, 429)
    assert response.headers["retry-after"] == "1"


def test_a_slow_model_gives_up_in_time(server: Server, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    inner = server.models["nli"]._pairs._compute

    def wait(encoded: Any) -> Any:
        release.wait(30)
        return inner(encoded)

    monkeypatch.setattr(server.models["nli"]._pairs, "_compute", wait)
    monkeypatch.setattr(server, "config", app_module.ServeConfig(timeout=0.2))
    assert "no answer within 0.2 seconds" in refusal(client.post("/predict", json={"inputs": PAIR}), 503)
    release.set()


def test_texts_are_logged_only_when_asked(
    models: dict[str, PairClassifier], capsys: pytest.CaptureFixture[str]
) -> None:
    for asked in (False, True):
        with serving({"bi": models["bi"]}, batch_size=4, access_log=True, log_texts=asked) as (client, _):
            capsys.readouterr()
            client.post("/predict", json={"inputs": ["the man", "private"]}, headers={"x-request-id": "bad\tid"})
            client.post("/predict", json={"inputs": [["the man", 1, "private"]]})
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        good, bad = (line for line in lines if line["event"] == "request")
        assert good["status"] == 200
        assert good["rows"] == 1
        assert good["request_id"] != "bad\tid"
        assert bad["failure"] == "Validation"
        assert ("private" in json.dumps(good)) is asked


def in_loop(server: Server, work: Any) -> Any:
    """Runs a coroutine with an HTTP client in an event loop of its own, on an application without its lifespan."""

    async def run() -> Any:
        transport = httpx2.ASGITransport(app=build_app(server), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://server") as client:
            return await work(client)

    return asyncio.run(run())


def test_slow_bodies_are_given_up(models: dict[str, PairClassifier]) -> None:
    server = app_module.build_server({"bi": models["bi"]}, app_module.ServeConfig(body_timeout=0.1, access_log=False))
    server.ready = True

    async def drip() -> Any:
        yield b'{"inputs": '
        await asyncio.sleep(5)

    start = time.monotonic()
    response = in_loop(server, lambda client: client.post("/predict", content=drip()))
    assert "did not arrive within 0.1 seconds" in refusal(response, 408)
    assert time.monotonic() - start < 5
    assert server.active == 0


def test_rows_of_cancelled_requests_are_not_computed(models: dict[str, PairClassifier]) -> None:
    model, computed, release = models["nli"], [], threading.Event()

    def compute(rows: Any) -> Any:
        release.wait(30)
        computed.append(len(rows))
        return model.encoded_outputs(rows, batch_size=4)

    async def run() -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as device:
            batcher = Batcher(compute, device, max_tokens=64, max_rows=4, wait=0.0)
            encoded = model.encode(*zip(*PAIRS[:2], strict=True))
            first = batcher.queue(encoded)
            while batcher.waiting:
                await asyncio.sleep(0.001)
            second, third = batcher.queue(encoded), batcher.queue(encoded)
            with pytest.raises(RequestError, match="4 pairs wait already"):
                batcher.queue(encoded)
            second.future.cancel()
            assert batcher.waiting == 2
            release.set()
            await asyncio.gather(first.future, third.future)
            await batcher.close()

    asyncio.run(run())
    assert computed == [2, 2]
