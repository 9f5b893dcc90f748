"""Builds an ONNX graph node by node: each method adds a node and returns the name of its output."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

OPSET = 17
"""Version of the operators: the first with LayerNormalization, and old enough for transformers.js and Vespa."""
IR_VERSION = 8
"""Version of the file format that came with that opset."""
EXTERNAL_BYTES = 1_900_000_000
"""Size of the weights from which they are stored beside the file: protobuf holds at most 2 GB."""

Shape = Sequence[int | str]
"""Sizes of an array; a name is a size that is known when the graph runs."""


class GraphBuilder:
    """An ONNX graph under construction.

    Names of values are unique; a constant or weight that is added twice is stored once.
    """

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._weight_bytes = 0
        self._scope: list[str] = []
        self._count = 0

    def input(self, name: str, dtype: str, shape: Shape) -> str:
        """Adds an input of the graph.

        Args:
            name: Its name.
            dtype: `int64` or `float32`.
            shape: Its sizes.
        """
        from onnx import TensorProto, helper

        kind = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}[dtype]
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, value: str, name: str, shape: Shape) -> None:
        """Makes a float32 value an output of the graph, under another name."""
        from onnx import TensorProto, helper

        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"output/{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def weight(self, name: str, value: Any) -> str:
        """Adds an array of parameters under its path; returns its name."""
        from onnx import numpy_helper

        if name not in self._initializers:
            array = np.ascontiguousarray(np.asarray(value, np.float32))
            self._weight_bytes += array.nbytes
            self._initializers[name] = numpy_helper.from_array(array, name)
        return name

    def constant(self, value: Any, dtype: str = "float32") -> str:
        """Adds a constant; returns its name.

        Args:
            value: A number, or a list of numbers.
            dtype: `float32`, `int64` or `bool`.
        """
        from onnx import numpy_helper

        array = np.asarray(value, dtype)
        name = (
            f"constant/{dtype}/" + "_".join(map(str, np.ravel(array).tolist())) + ("" if array.ndim == 0 else "/list")
        )
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(array, name)
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output; returns the name of the output."""
        [output] = self.nodes(kind, inputs, 1, **attributes)
        return output

    def nodes(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Adds a node; returns the names of its outputs."""
        from onnx import helper

        self._count += 1
        name = "/".join([*self._scope, f"{kind}_{self._count}"])
        names = [name if outputs == 1 else f"{name}:{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names

    def add(self, a: str, b: str) -> str:
        """Adds two values."""
        return self.node("Add", a, b)

    def multiply(self, a: str, b: str) -> str:
        """Multiplies two values element by element."""
        return self.node("Mul", a, b)

    def cast(self, value: str, dtype: str) -> str:
        """Converts a value to `int64`, `float32` or `bool`."""
        from onnx import TensorProto

        kinds = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT, "bool": TensorProto.BOOL}
        return self.node("Cast", value, to=kinds[dtype])

    def axis(self, value: str, *axes: int) -> str:
        """Inserts axes of size 1."""
        return self.node("Unsqueeze", value, self.constant(list(axes), "int64"))

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """Reshapes a value; 0 keeps the size of an axis, and -1 is derived."""
        return self.node("Reshape", value, self.constant(list(shape), "int64"))

    def build(self, name: str, *, metadata: Mapping[str, str]) -> Any:
        """Returns the graph as an `onnx.ModelProto`.

        Args:
            name: Name of the graph.
            metadata: Properties of the model, which runtimes show.
        """
        from onnx import helper

        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, list(self._initializers.values()))
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="pairjax"
        )
        helper.set_model_props(model, dict(metadata))
        return model

    def save(self, path: Path, name: str, *, metadata: Mapping[str, str]) -> None:
        """Writes the graph to a file; weights beyond 2 GB go to `FILE_data` beside it.

        Args:
            path: The file.
            name: Name of the graph.
            metadata: Properties of the model.
        """
        import onnx

        model = self.build(name, metadata=metadata)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._weight_bytes < EXTERNAL_BYTES:
            onnx.save(model, str(path))
        else:
            onnx.save(
                model,
                str(path),
                save_as_external_data=True,
                all_tensors_to_one_file=True,
                location=f"{path.name}_data",
                size_threshold=1024,
            )
        # A file is checked by its name, because a model of more than 2 GB cannot be checked in memory.
        onnx.checker.check_model(str(path), full_check=True)
