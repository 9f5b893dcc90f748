"""Calls a running server with clients of other projects, unchanged, and compares their answers with /v1/classify.

    pairjax serve nli=runs/quickstart bi=runs/bi --port 8080
    python tests/torture/clients.py http://127.0.0.1:8080 --classifier nli --embedder bi

The clients (cohere, openai, huggingface_hub, llama-index-postprocessor-tei-rerank) need not be in pairjax's
environment; one that is not installed is skipped and named.
"""

import argparse
import base64
import importlib.util
import json
import math
import os
import urllib.request
from collections.abc import Callable
from typing import Any

QUERY = "A man is playing a guitar."
TEXTS = ["A person is playing an instrument.", "Nobody is playing a guitar.", "Two dogs run on the beach."]


def ask(address: str, path: str, body: Any) -> Any:
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def same(found: list[float], expected: list[float]) -> None:
    assert len(found) == len(expected)
    assert all(math.isclose(a, b, abs_tol=1e-5) for a, b in zip(found, expected, strict=True)), (found, expected)


def hub(address: str, names: argparse.Namespace, scores: list[float], vectors: list[list[float]]) -> None:
    from huggingface_hub import InferenceClient

    client = InferenceClient(model=f"{address}/?model={names.classifier}")
    for text, score in zip(TEXTS, scores, strict=True):
        answers = client.text_classification([QUERY, text])  # type: ignore[arg-type]
        same([answer.score for answer in answers if answer.label == names.label], [score])
    client = InferenceClient(model=f"{address}/?model={names.embedder}")
    expected = [sum(a * b for a, b in zip(vectors[0], vector, strict=True)) for vector in vectors]
    same(client.sentence_similarity(TEXTS[0], TEXTS), expected)
    same(client.feature_extraction(TEXTS[1], normalize=True)[0].tolist(), vectors[1])


def cohere(address: str, names: argparse.Namespace, scores: list[float], vectors: list[list[float]]) -> None:
    import cohere

    for client in (cohere.Client("key", base_url=address), cohere.ClientV2("key", base_url=address)):
        answer = client.rerank(model=names.classifier, query=QUERY, documents=TEXTS, top_n=2)
        best = sorted(range(len(TEXTS)), key=lambda index: -scores[index])[:2]
        assert [result.index for result in answer.results] == best
        same([result.relevance_score for result in answer.results], [scores[index] for index in best])


def openai(address: str, names: argparse.Namespace, scores: list[float], vectors: list[list[float]]) -> None:
    import openai

    client = openai.OpenAI(api_key="key", base_url=f"{address}/v1")
    for more in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        answer = client.embeddings.create(model=names.embedder, input=TEXTS, **more)
        for row, vector in zip(answer.data, vectors, strict=True):
            found = row.embedding
            if isinstance(found, str):
                found = memoryview(base64.b64decode(found)).cast("f").tolist()
            same(found, vector)
    assert {model.id for model in client.models.list()} >= {names.classifier, names.embedder}
    try:
        client.embeddings.create(model="no-such-model", input="a")
    except openai.NotFoundError:
        return
    raise AssertionError("a model that does not exist was accepted")


def llama_index(address: str, names: argparse.Namespace, scores: list[float], vectors: list[list[float]]) -> None:
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    client = TextEmbeddingInference(base_url=address, top_n=3)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    ranked = client.postprocess_nodes(nodes, QueryBundle(QUERY))
    found = {node.node.get_content(): node.score for node in ranked}
    same([found[text] for text in TEXTS], scores)


CLIENTS: dict[str, Callable[..., None]] = {
    "huggingface_hub": hub,
    "cohere": cohere,
    "openai": openai,
    "llama_index.postprocessor.tei_rerank": llama_index,
}


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--classifier", default="nli", help="name of a classifier, the server's first model")
    parser.add_argument("--embedder", default="bi", help="name of a bi-encoder")
    parser.add_argument("--label", default="entailment", help="the class that ranks")
    names = parser.parse_args()
    os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")
    pairs = [[QUERY, text] for text in TEXTS]
    results = ask(names.address, "/v1/classify", {"pairs": pairs, "model": names.classifier})["results"]
    scores = [result["probabilities"][names.label] for result in results]
    vectors = ask(names.address, "/embed", {"inputs": TEXTS, "model": names.embedder})
    for module, check in CLIENTS.items():
        if is_installed(module):
            check(names.address, names, scores, vectors)
        print(f"{module}: {'works' if is_installed(module) else 'not installed, skipped'}")


if __name__ == "__main__":
    main()
