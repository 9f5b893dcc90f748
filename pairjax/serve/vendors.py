"""The routes of Cohere (/v1/rerank, /v2/rerank) and OpenAI (/v1/embeddings, /v1/models), for their clients.

https://docs.cohere.com/reference/rerank, https://platform.openai.com/docs/api-reference/embeddings
"""

import base64
import uuid
from typing import Any

from pairjax.serve.call import Call
from pairjax.serve.tei import check_dimensions, relevance


async def _rerank(call: Call, version: str, *, return_documents: bool) -> Any:
    """Answers Cohere's rerank of either version."""
    query, documents = call.text("query"), call.texts("documents")
    scores = await relevance(call, query, documents)
    top = call.count("top_n") or len(documents)
    ranks = sorted(range(len(documents)), key=lambda index: -scores[index])[:top]
    results = [
        {"index": index, "relevance_score": scores[index]}
        | ({"document": {"text": documents[index]}} if return_documents else {})
        for index in ranks
    ]
    meta = {"api_version": {"version": version}, "billed_units": {"search_units": 1}}
    return {"id": str(uuid.uuid4()), "results": results, "meta": meta}


async def cohere_v1(call: Call) -> Any:
    """Answers /v1/rerank."""
    return await _rerank(call, "1", return_documents=call.flag("return_documents"))


async def cohere_v2(call: Call) -> Any:
    """Answers /v2/rerank."""
    return await _rerank(call, "2", return_documents=call.flag("return_documents"))


async def embeddings(call: Call) -> Any:
    """Answers OpenAI's /v1/embeddings; vectors have the length 1."""
    call.needs_vectors("/v1/embeddings")
    check_dimensions(call)
    texts = call.texts("input")
    packed = call.choice("encoding_format", ("float", "base64")) == "base64"
    vectors = await call.model.vectors(texts, call.times)
    rows = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors] if packed else vectors.tolist()
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": call.model.name,
        "usage": {"prompt_tokens": call.times.tokens, "total_tokens": call.times.tokens},
    }


def list_models(names: list[str]) -> Any:
    """Answers OpenAI's /v1/models."""
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": "pairjax"} for name in names],
    }
