"""A model that onnxruntime computes: from a folder that `pairjax export` wrote, or from a pairjax model on the fly."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, SupportsIndex

import numpy as np
from jaxtyping import Float

from pairjax.base.errors import UserError
from pairjax.data.encode import EncodedPairs
from pairjax.data.tokenizer import PairTokenizer
from pairjax.graphs.encoder import encoder_reason
from pairjax.graphs.files import ENCODER, PAIR_HEAD, files_to_run, write_graphs
from pairjax.graphs.pair import PairGraphs
from pairjax.graphs.session import Session
from pairjax.inference.classifier import PairClassifier, check_process, row_layout
from pairjax.inference.export_folder import read_export
from pairjax.inference.fold import can_fold, folded_params
from pairjax.inference.inputs import read_count
from pairjax.inference.model_folder import Artifact
from pairjax.inference.onnx_engine import OnnxSides, pair_logits
from pairjax.models.build import resolve
from pairjax.weights import read_encoder_spec

GRAPHS = "onnx"
"""The folder of the graphs in an exported folder, as transformers.js and TEI expect it."""


class OnnxClassifier(PairClassifier):
    """A model that onnxruntime computes on the CPU, with the same tokens, labels, calibration and threshold.

    Args:
        artifact: What is known of the model; its parameters may be missing.
        tokenizer: The encoder's tokeniser.
        files: The graphs, by their names.
        source: How the model is built again after it was pickled: a function and its arguments.
    """

    def __init__(
        self, artifact: Artifact, tokenizer: PairTokenizer, files: Mapping[str, Path], *, source: tuple[Any, ...]
    ) -> None:
        check_process(PairClassifier._process)
        PairClassifier._process = os.getpid()
        self.artifact, self.task, self.tokenizer = artifact, artifact.task, tokenizer
        self._layout, self._source = row_layout(artifact), source
        sessions = {name: Session(path) for name, path in files.items()}
        self._sides = None
        if PAIR_HEAD in sessions:
            size = (artifact.spec.hidden_size, *artifact.model.project.sizes)[-1]
            self._sides = OnnxSides(sessions[ENCODER], sessions[PAIR_HEAD], size=size)
        else:
            [self._pairs] = sessions.values()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles where the model came from."""
        return self._source

    def encoded_outputs(
        self, encoded: EncodedPairs, *, batch_size: SupportsIndex = 64
    ) -> Float[np.ndarray, "pairs outputs"]:
        """Returns the model's outputs for the result of `encode`; see `PairClassifier.encoded_outputs`."""
        batch_size = read_count(batch_size, "batch_size")
        check_process(self._process)
        if not len(encoded):
            return np.zeros((0, self.task.outputs), np.float32)
        if self._sides is not None:
            return self._sides.logits(encoded, batch_size=batch_size)
        return pair_logits(self._pairs, encoded, outputs=self.task.outputs, batch_size=batch_size)

    def warm_up(self, *, batch_size: SupportsIndex = 64, rows: Sequence[int] | None = None) -> int:
        """Returns 0: graphs are not compiled for a shape."""
        return 0

    @cached_property
    def attributions(self) -> NoReturn:
        """Refuses explanations: they need gradients."""
        raise UserError(
            f"{self.artifact.folder}: a model that onnxruntime computes has no gradients, which explanations need",
            fix="load the pairjax model with JAX",
        )

    def in_float32(self) -> NoReturn:
        """Refuses an export: the parameters are in graphs already."""
        raise UserError(
            f"{self.artifact.folder}: a model that onnxruntime computes cannot be exported",
            fix="export the pairjax model",
        )


def onnx_reason(artifact: Artifact) -> str | None:
    """Returns why a model cannot be written as ONNX graphs; None if it can."""
    if artifact.own_combiner:
        return "the combiner is the user's own Python code"
    if artifact.task.head != "softmax":
        return f"its {artifact.task.head} head is not written as a graph yet"
    return encoder_reason(artifact.spec)


def pair_graphs(artifact: Artifact, tokenizer: PairTokenizer, *, fold_temperature: bool) -> PairGraphs:
    """Returns the graphs of a model, whose outputs are in the units of the data.

    Args:
        artifact: The model.
        tokenizer: The encoder's tokeniser.
        fold_temperature: Whether the logits are divided by the temperature.
    """
    task, config = artifact.task, resolve(artifact.model, artifact.spec)
    # Units that cannot be folded are nodes of the graph.
    unfolded = not can_fold(artifact)
    return PairGraphs(
        config=config,
        spec=artifact.spec,
        params=artifact.params if unfolded else folded_params(artifact, fold_temperature=fold_temperature),
        outputs=task.outputs,
        sep_id=tokenizer.sep_id,
        scale=task.scale if unfolded else 1.0,
        center=task.center if unfolded else 0.0,
    )


def convert(artifact: Artifact, tokenizer: PairTokenizer, *, int8: bool) -> OnnxClassifier:
    """Writes a model's graphs into a temporary folder and loads them.

    Args:
        artifact: The model.
        tokenizer: The encoder's tokeniser.
        int8: Whether the weights become int8.

    Raises:
        UserError: The model cannot be written as graphs, or a package is missing.
    """
    reason = onnx_reason(artifact)
    if reason is not None:
        raise UserError(f"{artifact.folder}: onnxruntime cannot compute this model: {reason}", fix="use --runtime jax")
    graphs = pair_graphs(artifact, tokenizer, fold_temperature=False)
    with tempfile.TemporaryDirectory(prefix="pairjax-onnx-") as name:
        write_graphs(graphs, Path(name), int8=int8, metadata={})
        files = files_to_run(Path(name), cross=graphs.config.kind == "cross", separate=graphs.separate, int8=int8)
        return OnnxClassifier(artifact, tokenizer, files, source=(_convert_again, (artifact, tokenizer, int8)))


def _convert_again(artifact: Artifact, tokenizer: PairTokenizer, int8: bool) -> OnnxClassifier:
    """Builds a model that was pickled."""
    return convert(artifact, tokenizer, int8=int8)


def load_export(path: str | Path, int8: bool = False) -> OnnxClassifier:
    """Loads a folder that `pairjax export --to onnx` wrote.

    Args:
        path: The folder.
        int8: Whether the files with int8 weights are read.

    Raises:
        UserError: The folder is of another format, damaged, or has no such files; or a package is missing.
    """
    exported = read_export(path, target="onnx")
    folder, facts = exported.folder, exported.facts
    spec = read_encoder_spec(folder)
    artifact = Artifact(
        folder=folder,
        encoder_folder=folder,
        task=facts.task,
        model=facts.model,
        max_length=facts.max_length,
        truncation=facts.truncation,
        prefixes=facts.prefixes,
        calibration=facts.calibration,
        spec=spec,
        params={},
        own_combiner=False,
    )
    model = resolve(facts.model, spec)
    separate = model.kind == "bi" and model.interact.kind == "none" and model.over == "sides"
    files = files_to_run(folder / GRAPHS, cross=model.kind == "cross", separate=separate, int8=int8)
    for file in files.values():
        if file.relative_to(folder).as_posix() not in exported.entries["files"]:
            raise UserError(
                f"{folder}: the folder has no {file.name}",
                fix="export the model again with --int8, or leave --int8 out" if int8 else "export the model again",
            )
    return OnnxClassifier(artifact, artifact.read_tokenizer(), files, source=(load_export, (folder, int8)))
