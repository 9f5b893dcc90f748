"""The files of a model's graphs: their names, and which of them prediction reads."""

from collections.abc import Mapping
from pathlib import Path

from pairjax.graphs.pair import PairGraphs
from pairjax.graphs.session import quantise

ENCODER, PAIR_HEAD, PAIR_MODEL = "model", "pair_head", "pair_model"
"""Names of a bi-encoder's graphs. A cross-encoder has one graph, which other tools expect under the name `model`."""
QUANTISED = "_quantized"
"""Follows the name of a file with int8 weights, as transformers.js expects it."""


def files_to_run(folder: Path, *, cross: bool, separate: bool, int8: bool) -> Mapping[str, Path]:
    """Returns the files that prediction reads, by the name of their graph.

    Args:
        folder: The folder of the graphs.
        cross: Whether the model is a cross-encoder.
        separate: Whether each text is read alone and has a vector.
        int8: Whether int8 weights are read. The pair head, which is small, has none.
    """
    kind = QUANTISED if int8 else ""
    if separate:
        return {ENCODER: folder / f"{ENCODER}{kind}.onnx", PAIR_HEAD: folder / f"{PAIR_HEAD}.onnx"}
    name = ENCODER if cross else PAIR_MODEL
    return {name: folder / f"{name}{kind}.onnx"}


def write_graphs(graphs: PairGraphs, folder: Path, *, int8: bool, metadata: Mapping[str, str]) -> None:
    """Writes a model's graphs.

    Args:
        graphs: The model.
        folder: The folder to write to; it is made if it is missing.
        int8: Whether files with int8 weights are written too.
        metadata: Properties of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if graphs.config.kind == "cross":
        built = {ENCODER: graphs.pair_model()}
    else:
        built = {PAIR_MODEL: graphs.pair_model()}
        if graphs.separate:
            built |= {ENCODER: graphs.encoder(), PAIR_HEAD: graphs.pair_head()}
    for name, graph in built.items():
        path = folder / f"{name}.onnx"
        graph.save(path, name, metadata=metadata)
        if int8 and name != PAIR_HEAD:
            quantise(path, folder / f"{name}{QUANTISED}.onnx")
