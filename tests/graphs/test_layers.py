"""ONNX nodes: activations against the Flax layers, and the storage of large weights beside the file."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from pairjax.graphs import builder
from pairjax.graphs.builder import GraphBuilder
from pairjax.graphs.layers import activation
from pairjax.graphs.session import Session, quantise
from pairjax.models.heads import ACTIVATIONS
from pairjax.models.layers import activate


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu", "tanh"])
def test_activations(name: str, tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output(activation(graph, graph.input("x", "float32", (64,)), name), "y", (64,))
    graph.save(tmp_path / "a.onnx", "a", metadata={})
    x = np.linspace(-6, 6, 64, dtype=np.float32)
    expected = ACTIVATIONS[name](jnp.asarray(x)) if name == "tanh" else activate(jnp.asarray(x), name)
    np.testing.assert_allclose(Session(tmp_path / "a.onnx").run("y", {"x": x}), expected, atol=1e-6)


def test_large_weights_are_stored_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "EXTERNAL_BYTES", 1000)
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    graph = GraphBuilder()
    product = graph.node("MatMul", graph.input("x", "float32", ("batch", 64)), graph.weight("kernel", weight))
    graph.output(product, "y", ("batch", 64))
    graph.save(tmp_path / "a.onnx", "a", metadata={})
    assert (tmp_path / "a.onnx").stat().st_size < 1000 < (tmp_path / "a.onnx_data").stat().st_size
    quantise(tmp_path / "a.onnx", tmp_path / "b.onnx")
    x = np.eye(64, dtype=np.float32)
    np.testing.assert_allclose(Session(tmp_path / "a.onnx").run("y", {"x": x}), weight, atol=1e-6)
    np.testing.assert_allclose(Session(tmp_path / "b.onnx").run("y", {"x": x}), weight, atol=0.1)
