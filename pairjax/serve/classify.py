"""Our own routes: /v1/classify, with all that a pair classifier knows of its answer, and /v1/explain."""

from typing import Any

from pairjax.inference.predictions import Prediction
from pairjax.serve.call import Call
from pairjax.serve.errors import RequestError
from pairjax.serve.tei import answer_pairs


def _answer(prediction: Prediction) -> dict[str, Any]:
    """Returns the fields of a prediction that apply to its task, not rounded."""
    if prediction.score is not None:
        return {"score": prediction.score}
    answer: dict[str, Any] = {"label": prediction.label, "probabilities": prediction.probabilities}
    if prediction.label_at_threshold is not None:
        answer["label_at_threshold"] = prediction.label_at_threshold
    return answer


def _min_confidence(call: Call) -> float:
    """Returns the field `min_confidence`, or the server's."""
    value = call.body.get("min_confidence")
    if value is None:
        return call.config.min_confidence
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise RequestError("Validation", f"`min_confidence`: got {ascii(value)[:40]}; expected a number from 0 to 1")
    return float(value)


async def classify(call: Call) -> Any:
    """Answers /v1/classify; `swap` adds the answer to each pair with its texts exchanged."""
    pairs, _ = call.pairs("pairs")
    swap, least, truncate = call.flag("swap"), _min_confidence(call), call.truncate
    asked = [*pairs, *((second, first) for first, second in pairs)] if swap else pairs
    outputs = await answer_pairs(call, asked, truncate=truncate)
    del call.labels[len(pairs) :]  # The metrics count each pair once.
    results = []
    for index in range(len(pairs)):
        prediction = outputs.predictions[index]
        result = _answer(prediction) | {"truncated": outputs.truncated[index]}
        if prediction.label is not None:
            result["abstained"] = prediction.probabilities[prediction.label] < least
        if swap:
            result["swapped"] = _answer(outputs.predictions[len(pairs) + index])
        results.append(result)
    return {"model": call.model.name, "results": results}


async def explain(call: Call) -> Any:
    """Answers /v1/explain: the contribution of each token to the logit of a class, by integrated gradients."""
    pairs, _ = call.pairs("pairs")
    if len(pairs) > call.config.max_explained:
        raise RequestError("TooLarge", f"`pairs`: got {len(pairs)}; at most {call.config.max_explained} are explained")
    label = call.choice("label", call.model.task.labels)
    explanations = await call.model.explain(pairs, call.times, label=label)
    return {"model": call.model.name, "results": [explanation.to_json() for explanation in explanations]}
