"""Load a trained model: a pairjax folder with JAX or onnxruntime, or an exported ONNX folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pairjax.base.config import MeshConfig
from pairjax.base.errors import UserError
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.export_folder import needs_runtime
from pairjax.inference.model_folder import load_artifact
from pairjax.inference.onnx_classifier import convert, load_export

Runtime: TypeAlias = Literal["jax", "onnx"]
"""What computes a model: JAX, or onnxruntime on the CPU."""


def load(
    path: str | Path,
    *,
    combiner: Callable[..., Any] | None = None,
    mesh: MeshConfig | None = None,
    labels: Sequence[str] = (),
    download: bool = False,
    runtime: Runtime | None = None,
    int8: bool = False,
) -> PairClassifier:
    """Loads a trained model, of pairjax or of another library.

    >>> model = load("runs/pairs/model")
    >>> [prediction] = model.predict([("A man sleeps.", "Nobody is awake.")])
    >>> list(prediction.probabilities) == list(model.task.labels)
    True

    Args:
        path: A model folder; a run folder, whose `model/` is loaded; a folder that `pairjax export --to onnx` wrote; a
            folder of transformers or sentence-transformers; or a hub id. `~` is the home folder.
        combiner: The combiner that the model was trained with, if it was the user's own.
        mesh: Sizes of the device mesh; by default every device holds a copy of the parameters.
        labels: Names of the classes of a model that does not name them itself, in the order of its outputs.
        download: Whether to download a hub id that is not in the hub's cache.
        runtime: What computes the model: `jax`, or `onnx` for onnxruntime on the CPU. By default `onnx` for an exported
            folder, else `jax`.
        int8: Whether the weights are int8; needs onnxruntime.

    Raises:
        UserError: There is no model, it is damaged or not supported, or it needs a combiner; or the runtime cannot
            compute it, or is not installed.
    """
    exported = needs_runtime(path)
    runtime = runtime or ("onnx" if exported else "jax")
    if runtime == "jax":
        if int8 or exported:
            what = "int8 weights are computed" if int8 else f"{path}: an exported folder is computed"
            raise UserError(f"{what} by onnxruntime, not by JAX", fix="use the runtime onnx")
        return PairClassifier(load_artifact(path, labels=labels, download=download), combiner=combiner, mesh=mesh)
    if combiner is not None or mesh not in (None, MeshConfig()):
        raise UserError("a combiner and a device mesh are for JAX", got="the runtime onnx", fix="leave them out")
    if exported:
        return load_export(path, int8)
    artifact = load_artifact(path, labels=labels, download=download)
    return convert(artifact, artifact.read_tokenizer(), int8=int8)
