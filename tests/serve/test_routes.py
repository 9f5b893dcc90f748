"""The routes: every answer equals that of `model.predict`, in the form that the clients of each route expect."""

import base64
import json
import shlex
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from pairjax.inference.classifier import PairClassifier
from pairjax.serve.app import ENDPOINTS, GETTERS, Server
from tests.finetune.test_recompiles import compilations
from tests.serve.served import NLI, PAIRS, TEXTS

ROOT = Path(__file__).resolve().parents[2]
Models = dict[str, PairClassifier]


def post(client: TestClient, path: str, body: Any, **more: Any) -> Any:
    response = client.post(path, json=body, **more)
    assert response.status_code == 200, response.text
    return response.json()


def shares(model: PairClassifier, pairs: list[tuple[str, str]]) -> list[dict[str, float]]:
    return [prediction.probabilities for prediction in model.predict(pairs)]


def same(scores: list[dict[str, Any]], expected: dict[str, float]) -> None:
    assert [item["score"] for item in scores] == sorted((item["score"] for item in scores), reverse=True)
    assert {item["label"]: item["score"] for item in scores} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["nli", "bi"])
def test_predict_equals_the_model(name: str, client: TestClient, models: Models) -> None:
    expected = shares(models[name], PAIRS)
    for scores, row in zip(post(client, "/predict", {"inputs": PAIRS, "model": name}), expected, strict=True):
        same(scores, row)
    same(post(client, "/predict", {"inputs": list(PAIRS[1]), "model": name}), expected[1])
    [scores] = post(client, "/predict", {"inputs": [{"text": PAIRS[2][0], "text_pair": PAIRS[2][1]}], "model": name})
    same(scores, expected[2])


def test_raw_scores_are_logits(client: TestClient, models: Models) -> None:
    scores = post(client, "/predict", {"inputs": list(PAIRS[3]), "raw_scores": True})
    [logits] = models["nli"].outputs([PAIRS[3][0]], [PAIRS[3][1]])
    same(scores, dict(zip(NLI.labels, logits.tolist(), strict=True)))


def test_the_hub_gets_a_list_for_each_pair(client: TestClient, models: Models) -> None:
    expected = shares(models["nli"], PAIRS[:2])
    text, text_pair = PAIRS[0]
    for inputs in ([text, text_pair], {"text": text, "text_pair": text_pair}, [{"text": text, "text_pair": text_pair}]):
        for path in ("/", "/pipeline/text-classification"):
            [scores] = post(client, path, {"inputs": inputs})
            same(scores, expected[0])
    both = post(client, "/", {"inputs": PAIRS[:2], "parameters": {"top_k": 1}})
    assert [[item["label"] for item in row] for row in both] == [[max(row, key=row.__getitem__)] for row in expected]
    [raw] = post(client, "/", {"inputs": [PAIRS[0]], "parameters": {"function_to_apply": "none"}})
    assert sum(item["score"] for item in raw) != pytest.approx(1.0)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
@pytest.mark.parametrize(("name", "label"), [("nli", None), ("nli", "neutral"), ("bi", None)])
def test_rerank_sorts_by_the_probability_of_a_class(
    path: str, name: str, label: str | None, client: TestClient, models: Models
) -> None:
    chosen = label or {"nli": "entailment", "bi": "yes"}[name]
    expected = [row[chosen] for row in shares(models[name], [("no dog", text) for text in TEXTS])]
    texts, score = ("texts", "score") if path == "/rerank" else ("documents", "relevance_score")
    answer = post(
        client, path, {"query": "no dog", texts: list(TEXTS), "model": name} | ({"label": label} if label else {})
    )
    ranks = answer if path == "/rerank" else answer["results"]
    assert {rank["index"]: rank[score] for rank in ranks} == pytest.approx(dict(enumerate(expected)), abs=1e-6)
    scores = [rank[score] for rank in ranks]
    assert scores == sorted(scores, reverse=True)


def test_rerank_returns_texts_and_the_best_ones(client: TestClient) -> None:
    body = {"query": "no dog", "documents": [{"text": text} for text in TEXTS], "top_n": 2, "return_documents": True}
    answer = post(client, "/v1/rerank", body)
    assert [rank["document"]["text"] for rank in answer["results"]] == [
        TEXTS[rank["index"]] for rank in answer["results"]
    ]
    assert len(answer["results"]) == 2
    assert answer["meta"]["api_version"] == {"version": "1"}
    ranks = post(client, "/rerank", {"query": "all", "texts": list(TEXTS), "return_text": True, "raw_scores": True})
    assert all(rank["text"] == TEXTS[rank["index"]] for rank in ranks)


def test_vectors_in_every_form(client: TestClient, models: Models) -> None:
    vectors = models["bi"].embed(TEXTS)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    query = {"params": {"model": "bi"}}
    np.testing.assert_allclose(post(client, "/embed", {"inputs": list(TEXTS)}, **query), unit, atol=1e-6)
    plain = post(client, "/embed", {"inputs": TEXTS[0], "normalize": False, "model": "bi"})
    np.testing.assert_allclose(plain, vectors[:1], atol=1e-6)
    np.testing.assert_allclose(post(client, "/", {"inputs": TEXTS[0]}, **query), unit[:1], atol=1e-6)
    source = {"inputs": {"source_sentence": TEXTS[0], "sentences": list(TEXTS[1:])}}
    for path in ("/similarity", "/"):
        np.testing.assert_allclose(post(client, path, source, **query), unit[1:] @ unit[0], atol=1e-6)
    answer = post(client, "/v1/embeddings", {"input": list(TEXTS), "model": "bi"})
    np.testing.assert_allclose([row["embedding"] for row in answer["data"]], unit, atol=1e-6)
    assert answer["usage"]["prompt_tokens"] > 2 * len(TEXTS)
    packed = post(client, "/v1/embeddings", {"input": TEXTS[1], "model": "bi", "encoding_format": "base64"})
    decoded = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(decoded, unit[1], atol=1e-6)


def test_classify_says_all_that_the_model_knows(client: TestClient, models: Models) -> None:
    long = ("the man " * 40, "a dog")
    pairs = [PAIRS[1], long]
    body = {"pairs": pairs, "swap": True, "min_confidence": 0.9999, "model": "nli"}
    answer = post(client, "/v1/classify", body)
    assert answer["model"] == "nli"
    expected = shares(models["nli"], [PAIRS[1], PAIRS[1][::-1]])
    result = answer["results"][0]
    assert result["probabilities"] == pytest.approx(expected[0], abs=1e-6)
    assert result["label"] == max(expected[0], key=expected[0].__getitem__)
    assert result["swapped"]["probabilities"] == pytest.approx(expected[1], abs=1e-6)
    assert [row["truncated"] for row in answer["results"]] == [False, True]
    assert result["abstained"] is (max(expected[0].values()) < 0.9999)
    assert "swapped" not in post(client, "/v1/classify", {"pairs": pairs})["results"][0]


@pytest.mark.parametrize("label", [None, "neutral"])
def test_explanations_are_those_of_the_model(label: str | None, client: TestClient, models: Models) -> None:
    body = {"pairs": PAIRS[1:3]} | ({"label": label} if label else {})
    results = post(client, "/v1/explain", body)["results"]
    for result, explanation in zip(results, models["nli"].explain(PAIRS[1:3], label=label), strict=True):
        assert result["label"] == explanation.label
        assert [token["text"] for token in result["tokens"]] == [token.text for token in explanation.tokens]
        shares = [token["contribution"] for token in result["tokens"]]
        assert shares == pytest.approx([token.contribution for token in explanation.tokens], abs=1e-5)


def test_many_clients_at_once_get_their_own_answers(client: TestClient, models: Models, server: Server) -> None:
    expected, answers = shares(models["nli"], PAIRS), dict[int, Any]()

    def ask(start: int) -> None:
        for index in range(start, len(PAIRS), 8):
            answers[index] = post(client, "/predict", {"inputs": list(PAIRS[index])})

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, row in enumerate(expected):
        same(answers[index], row)
    assert all(model.waiting == 0 for model in server.models.values())
    assert server.active == 0


def test_nothing_compiles_once_the_server_is_ready(client: TestClient, models: Models) -> None:
    models["bi"].forget()
    with compilations() as names:
        for count in (1, 2, 3, 5, 9, 20):
            for words in (1, 4, 9, 30):
                pairs = [("the " * words + str(i), "a dog") for i in range(count)]
                post(client, "/predict", {"inputs": pairs})
                post(client, "/predict", {"inputs": pairs, "model": "bi"})
                post(client, "/v1/explain", {"pairs": pairs[:1], "model": "bi" if count % 2 else "nli"})
                post(client, "/embed", {"inputs": [first for first, _ in pairs], "model": "bi"})
    assert names == []


def test_info_health_models_and_openapi(client: TestClient) -> None:
    assert client.get("/health").status_code == 200
    info = client.get("/info").json()
    assert info["model_type"] == {
        "classifier": {
            "id2label": {"0": "entailment", "1": "neutral", "2": "contradiction"},
            "label2id": {"entailment": 0, "neutral": 1, "contradiction": 2},
        }
    }
    assert info["models"] == ["nli", "bi"]
    assert client.get("/info", params={"model": "bi"}).json()["model_type"]["embedding"] == {"pooling": "mean"}
    assert [row["id"] for row in client.get("/v1/models").json()["data"]] == ["nli", "bi"]
    paths = client.get("/openapi.json").json()["paths"]
    assert {path for path, methods in paths.items() if "post" in methods} == set(ENDPOINTS)
    assert {path for path, methods in paths.items() if "get" in methods} == set(GETTERS)


def test_metrics_count_answers(client: TestClient) -> None:
    label = post(client, "/predict", {"inputs": list(PAIRS[0])})[0]["label"]
    text = client.get("/metrics").text
    for name in (
        'pairjax_requests_total{route="/predict",status="200"}',
        f'pairjax_answers_total{{label="{label}",model="nli"}}',
        'pairjax_confidence_total{model="nli"}',
        'pairjax_compute_seconds_count{model="nli"}',
        'pairjax_batch_rows_sum{model="nli"}',
        'pairjax_truncated_total{model="nli"}',
        "pairjax_waiting_rows 0.0",
    ):
        assert name in text, name


def test_times_are_in_headers(client: TestClient) -> None:
    response = client.post("/predict", json={"inputs": list(PAIRS[0])}, headers={"x-request-id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    assert int(response.headers["x-compute-tokens"]) >= 5
    assert int(response.headers["x-compute-characters"]) == len("".join(PAIRS[0]))
    assert response.headers.keys() >= {"x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"}


CURLS = [
    (page, line)
    for page in ("README.md", "docs/serving.md")
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines()
    if line.startswith("curl ")
]


@pytest.mark.parametrize(("page", "line"), CURLS, ids=[f"{page} {i}" for i, (page, _) in enumerate(CURLS)])
def test_the_curl_lines_of_the_pages_work(page: str, line: str, client: TestClient) -> None:
    words = shlex.split(line)
    path = words[1].removeprefix("localhost:8080")
    if "-d" in words:
        post(client, path, json.loads(words[words.index("-d") + 1]))
    else:
        assert client.get(path).status_code == 200


def test_the_readme_has_three_curl_lines() -> None:
    assert len([page for page, _ in CURLS if page == "README.md"]) == 3
