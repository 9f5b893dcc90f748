"""Fold the units of a regression and the temperature into the last layer, for files that other tools read."""

import numpy as np

from pairjax.base.params import flatten, unflatten
from pairjax.base.types import Params
from pairjax.inference.model_folder import Artifact


def can_fold(artifact: Artifact) -> bool:
    """Returns whether the units of the outputs can be folded into a last layer, or there are none."""
    task, head = artifact.task, artifact.model.head
    units = task.kind == "regression" and (task.scale, task.center) != (1.0, 0.0)
    return not units or (head.kind != "cosine" and not head.relu_logits)


def folded_params(artifact: Artifact, *, fold_temperature: bool) -> Params:
    """Returns the parameters with the units of a regression, and if asked for the temperature, in the last layer.

    A regression's layer `W x + b` becomes `scale W x + scale b + center`; with a temperature T, `W x / T + b / T`. A
    ReLU after the last layer commutes with a division by T, but not with the units of a regression.

    Args:
        artifact: The model.
        fold_temperature: Whether the last layer is divided by the temperature.

    Raises:
        ValueError: There is no last layer, or a ReLU follows it (`can_fold`).
    """
    task = artifact.task
    factor = 1.0 / artifact.calibration.temperature if fold_temperature else 1.0
    shift = 0.0
    if task.kind == "regression":
        factor, shift = task.scale, task.center
    if (factor, shift) == (1.0, 0.0):
        return artifact.params
    if not can_fold(artifact):
        raise ValueError("the units of a regression cannot be folded below a ReLU or a cosine")
    flat = flatten(artifact.params)
    kernel, bias = (np.asarray(flat[f"head/logits/{name}"], np.float64) for name in ("kernel", "bias"))
    flat["head/logits/kernel"] = (kernel * factor).astype(np.float32)
    flat["head/logits/bias"] = (bias * factor + shift).astype(np.float32)
    return unflatten(flat)
