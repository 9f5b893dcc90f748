"""The routes of Hugging Face's text-embeddings-inference: /predict, /rerank, /embed, /similarity, and the hub's form.

https://github.com/huggingface/text-embeddings-inference/blob/main/docs/openapi.json
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pairjax.serve.call import Call
from pairjax.serve.errors import RequestError
from pairjax.serve.models import Outputs, Pair

SCORE = "score"
"""Label of a regression's output."""


def scores_of(call: Call, outputs: Outputs, *, raw: bool) -> list[list[dict[str, Any]]]:
    """Returns label and score of every class, sorted by score, for each pair.

    Args:
        call: The request.
        outputs: The outputs for its pairs.
        raw: Whether scores are logits; otherwise they are calibrated probabilities.
    """
    answers = []
    for row, prediction in zip(outputs.logits.tolist(), outputs.predictions, strict=True):
        if call.model.task.kind == "regression":
            answers.append([{"score": row[0], "label": SCORE}])
            continue
        named = dict(zip(call.model.task.labels, row, strict=True)) if raw else prediction.probabilities
        ranked = sorted(named.items(), key=lambda item: -item[1])
        answers.append([{"score": score, "label": label} for label, score in ranked])
    return answers


async def answer_pairs(call: Call, pairs: Sequence[Pair], *, truncate: bool | None = None) -> Outputs:
    """Computes the outputs for pairs, and notes their labels for the metrics."""
    outputs = await call.model.outputs(pairs, call.times, truncate=truncate)
    for prediction in outputs.predictions:
        if prediction.label is not None:
            call.labels.append((prediction.label, prediction.probabilities[prediction.label]))
    return outputs


async def predict(call: Call) -> Any:
    """Answers /predict: one pair gives a flat list, a batch a list of lists."""
    if isinstance(call.body.get("inputs"), str):
        raise RequestError("Validation", '`inputs` is one text, and the model reads pairs: send ["first", "second"]')
    pairs, single = call.pairs("inputs")
    outputs = await answer_pairs(call, pairs, truncate=call.truncate)
    scores = scores_of(call, outputs, raw=call.flag("raw_scores"))
    return scores[0] if single else scores


async def relevance(call: Call, query: str, texts: Sequence[str], *, raw: bool = False) -> list[float]:
    """Returns the score of each text: the probability (or logit) of one class, or a regression's score.

    The class is the field `label`, or by default the positive one.
    """
    labels = call.model.task.labels
    label = call.choice("label", labels) if labels else None
    label = label or call.model.default_label
    if labels and label is None:
        raise RequestError(
            "Validation", f"`label` is missing: name the class whose probability ranks, one of {', '.join(labels)}"
        )
    outputs = await answer_pairs(call, [(query, text) for text in texts], truncate=call.truncate)
    if label is None:
        return outputs.logits[:, 0].tolist()
    if raw:
        return outputs.logits[:, labels.index(label)].tolist()
    return [prediction.probabilities[label] for prediction in outputs.predictions]


async def rerank(call: Call) -> Any:
    """Answers /rerank: the texts by descending score."""
    query, texts = call.text("query"), call.texts("texts")
    scores = await relevance(call, query, texts, raw=call.flag("raw_scores"))
    return_text = call.flag("return_text")
    ranks = sorted(range(len(texts)), key=lambda index: -scores[index])
    return [
        {"index": index, "score": scores[index]} | ({"text": texts[index]} if return_text else {}) for index in ranks
    ]


async def embed(call: Call) -> Any:
    """Answers /embed: a vector for each text."""
    call.needs_vectors("/embed")
    call.refuse("prompt_name")
    check_dimensions(call)
    texts, normalise = call.texts("inputs"), call.flag("normalize", default=True)
    vectors = await call.model.vectors(texts, call.times, truncate=call.truncate, normalise=normalise)
    return vectors.tolist()


def check_dimensions(call: Call) -> None:
    """Refuses a field `dimensions` that is not the size of the model's vectors."""
    size, wanted = call.model.model.artifact.spec.hidden_size, call.count("dimensions")
    if wanted not in (None, size):
        raise RequestError("Validation", f"`dimensions`: got {wanted}; expected {size}, as the model has")


async def similarity(call: Call) -> Any:
    """Answers /similarity: the cosine of the source sentence with each of the others."""
    call.needs_vectors("/similarity")
    inputs = call.body.get("inputs")
    if not isinstance(inputs, dict) or not isinstance(inputs.get("source_sentence"), str):
        raise RequestError("Validation", "`inputs`: expected an object with `source_sentence` and `sentences`")
    sentences = call.read_texts("inputs.sentences", inputs.get("sentences"))
    vectors = await call.model.vectors([inputs["source_sentence"], *sentences], call.times)
    return np.clip(vectors[1:] @ vectors[0], -1.0, 1.0).tolist()


async def hub(call: Call) -> Any:
    """Answers POST / and /pipeline/text-classification, as the hub's clients expect: a list for each pair.

    A bi-encoder also answers `source_sentence` with similarities, and single texts with vectors.
    """
    inputs = call.body.get("inputs")
    if isinstance(inputs, dict) and "source_sentence" in inputs:
        return await similarity(call)
    is_pair = isinstance(inputs, list) and len(inputs) == 2
    if call.model.model.can_embed and (
        isinstance(inputs, str)
        or (isinstance(inputs, list) and not is_pair and inputs and all(isinstance(item, str) for item in inputs))
    ):
        return await embed(call)
    if isinstance(inputs, str):
        raise RequestError("Validation", '`inputs` is one text, and the model reads pairs: send ["first", "second"]')
    pairs, _ = call.pairs("inputs")
    parameters = call.parameters()
    function = call.choice("function_to_apply", ("none", "softmax", "sigmoid"), parameters)
    if function == "sigmoid":
        raise RequestError(
            "Validation", "`function_to_apply`: the classes exclude each other; expected softmax or none"
        )
    top = call.count("top_k", parameters)
    outputs = await answer_pairs(call, pairs)
    return [row[:top] for row in scores_of(call, outputs, raw=function == "none")]
