"""The description of the routes at /openapi.json (OpenAPI 3.1)."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from pairjax.serve.models import ServedModel

STRING, NUMBER, INTEGER, TRUTH = ({"type": name} for name in ("string", "number", "integer", "boolean"))
STRINGS = {"type": "array", "items": STRING, "minItems": 1}
VECTORS = {"type": "array", "items": {"type": "array", "items": NUMBER}}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    """Returns the schema of an object; `required` lists fields, separated by spaces."""
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return schema | ({"required": required.split()} if required else {})


def _list(items: Any) -> dict[str, Any]:
    """Returns the schema of a list."""
    return {"type": "array", "items": items}


PAIR = {
    "oneOf": [
        {"type": "array", "items": STRING, "minItems": 2, "maxItems": 2},
        _object("text text_pair", text=STRING, text_pair=STRING),
    ]
}
PAIRS = {"oneOf": [PAIR, _list(PAIR)], "description": "A pair or a list of pairs; two strings are one pair."}
MODEL = {"type": "string", "description": "Name of a model; by default the first one."}
LABEL = {"type": "string", "description": "Class whose probability ranks; by default the positive one."}
TRUNCATE = {"type": ["boolean", "null"], "description": "false refuses texts that the model would cut."}
CLASSES = _list(_object("label score", label=STRING, score=NUMBER))
ANSWER = _object(label=STRING, probabilities=_object(), label_at_threshold=STRING, score=NUMBER)
RESULT = _object(**ANSWER["properties"], truncated=TRUTH, abstained=TRUTH, swapped=ANSWER)
SOURCE = _object("source_sentence sentences", source_sentence=STRING, sentences=STRINGS)
RANK = _object("query texts", query=STRING, texts=STRINGS, raw_scores=TRUTH, return_text=TRUTH, label=LABEL)
COHERE = _object("query documents", query=STRING, documents=STRINGS, top_n=INTEGER, return_documents=TRUTH, label=LABEL)
RELEVANCE = _list(_object("index relevance_score", index=INTEGER, relevance_score=NUMBER))
HUB = _object("inputs", inputs=PAIRS, parameters=_object(top_k=INTEGER, function_to_apply=STRING))
TOKEN = _object(side=INTEGER, start=INTEGER, end=INTEGER, text=STRING, contribution=NUMBER)
EXPLANATION = _object(
    sentence1=STRING,
    sentence2=STRING,
    label=STRING,
    logit=NUMBER,
    baseline=NUMBER,
    residual=NUMBER,
    tokens=_list(TOKEN),
)

POSTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "/": ("Classes of each pair, as the hub's clients expect", HUB, _list(CLASSES)),
    "/pipeline/text-classification": ("The same as POST /", HUB, _list(CLASSES)),
    "/predict": (
        "Classes of a pair or of each pair (TEI)",
        _object("inputs", inputs=PAIRS, raw_scores=TRUTH, truncate=TRUNCATE),
        {"oneOf": [CLASSES, _list(CLASSES)]},
    ),
    "/rerank": (
        "Texts by relevance to a query (TEI)",
        RANK,
        _list(_object("index score", index=INTEGER, score=NUMBER)),
    ),
    "/embed": (
        "Vectors of texts, from a bi-encoder (TEI)",
        _object("inputs", inputs={"oneOf": [STRING, STRINGS]}, normalize=TRUTH, truncate=TRUNCATE),
        VECTORS,
    ),
    "/similarity": ("Cosines, from a bi-encoder (TEI)", _object("inputs", inputs=SOURCE), _list(NUMBER)),
    "/v1/rerank": ("Documents by relevance (Cohere)", COHERE, _object("id results", id=STRING, results=RELEVANCE)),
    "/v2/rerank": ("Documents by relevance (Cohere)", COHERE, _object("id results", id=STRING, results=RELEVANCE)),
    "/v1/embeddings": (
        "Vectors of texts, from a bi-encoder (OpenAI)",
        _object("input", input={"oneOf": [STRING, STRINGS]}, encoding_format={"enum": ["float", "base64"]}),
        _object(
            "data", data=_list(_object("index embedding", index=INTEGER, embedding={"oneOf": [STRING, _list(NUMBER)]}))
        ),
    ),
    "/v1/classify": (
        "Label, calibrated probabilities and more for each pair",
        _object("pairs", pairs=PAIRS, swap=TRUTH, min_confidence=NUMBER, truncate=TRUNCATE),
        _object("model results", model=STRING, results=_list(RESULT)),
    ),
    "/v1/explain": (
        "Contribution of each token to the logit of a class, by integrated gradients",
        _object("pairs", pairs=PAIRS, label=STRING),
        _object("model results", model=STRING, results=_list(EXPLANATION)),
    ),
}
GETS = {
    "/": "A page to try pairs on",
    "/card": "The model card, in Markdown",
    "/health": "200 if requests are answered, 503 while the server starts or ends",
    "/info": "The model and the limits (TEI)",
    "/metrics": "Prometheus metrics",
    "/v1/models": "Names of the models (OpenAI)",
    "/openapi.json": "This description",
}
ERROR = _object("error error_type", error=STRING, error_type=STRING)
ERRORS = {
    "400": "An empty batch, or no JSON",
    "401": "No key, or another one",
    "404": "No such model",
    "413": "The body or the batch is too large",
    "422": "A field is wrong",
    "424": "The model cannot do this",
    "429": "Too many requests; see Retry-After",
    "503": "Not ready, about to end, or out of time; see Retry-After",
}


def _content(schema: Any) -> dict[str, Any]:
    """Returns a schema as the content of a message."""
    return {"application/json": {"schema": schema}}


def openapi(models: Mapping[str, ServedModel]) -> dict[str, Any]:
    """Returns the description of the routes.

    Args:
        models: The models, by name.
    """
    name = MODEL | {"enum": list(models)} if len(models) > 1 else MODEL
    errors = {code: {"description": text, "content": _content(ERROR)} for code, text in ERRORS.items()}
    paths: dict[str, Any] = {}
    for path, (summary, asked, answer) in POSTS.items():
        body = asked | {"properties": asked["properties"] | {"model": name}}
        responses = {"200": {"description": "The answer", "content": _content(answer)}} | errors
        paths[path] = {
            "post": {
                "summary": summary,
                "requestBody": {"required": True, "content": _content(body)},
                "responses": responses,
            }
        }
    for path, summary in GETS.items():
        paths.setdefault(path, {})["get"] = {"summary": summary, "responses": {"200": {"description": "The answer"}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "pairjax", "version": version("pairjax"), "description": "Classification of pairs of texts."},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }
