"""The answers of /info and /health, as TEI gives them."""

from importlib.metadata import version
from typing import Any

from pairjax.base.serve_config import ServeConfig
from pairjax.serve.models import ServedModel


def health_of(*, ready: bool, draining: bool) -> tuple[int, dict[str, str]]:
    """Returns the status and the body of /health: 200 only if requests are answered."""
    if ready and not draining:
        return 200, {"status": "ready"}
    return 503, {"status": "draining" if draining else "compiling", "error": "unhealthy", "error_type": "Unhealthy"}


def info_of(model: ServedModel, names: list[str], config: ServeConfig) -> dict[str, Any]:
    """Returns the body of /info.

    Args:
        model: The model.
        names: Names of all models.
        config: The server's configuration.
    """
    artifact, task = model.model.artifact, model.task
    labels = task.labels or ("score",)
    classes = {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    model_type: dict[str, Any] = {"classifier" if task.kind == "classification" else "reranker": classes}
    if model.model.can_embed:
        model_type["embedding"] = {"pooling": artifact.model.pooling}
    return {
        "model_id": model.name,
        "model_sha": None,
        "model_dtype": artifact.model.dtype,
        "served_model_name": model.name,
        "model_type": model_type,
        "max_concurrent_requests": config.max_concurrent_requests,
        "max_input_length": artifact.max_length,
        "max_batch_tokens": config.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": config.max_client_batch_size,
        "auto_truncate": True,
        "tokenization_workers": 2,
        "version": version("pairjax"),
        "models": names,
        "task": task.kind,
        "kind": artifact.model.kind,
        "default_label": model.default_label,
        "temperature": artifact.calibration.temperature,
        "threshold": artifact.calibration.threshold,
        "min_confidence": config.min_confidence,
    }
