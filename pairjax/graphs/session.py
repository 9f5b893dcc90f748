"""Runs ONNX files with onnxruntime, and writes copies with int8 weights."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pairjax.base.errors import UserError

INSTALL = "run: pip install 'pairjax[onnx]'"


@contextmanager
def _installed() -> Iterator[None]:
    """Turns the error of a package that is not installed into one line."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            "ONNX files need the packages onnx and onnxruntime", got=f"no module {error.name}", fix=INSTALL
        ) from None


class Session:
    """An ONNX file that is open for computation; several threads may share it.

    Args:
        path: The file. It is read whole, so it may be removed afterwards.

    Attributes:
        inputs: Names of the inputs.
        outputs: Names of the outputs.

    Raises:
        UserError: onnxruntime is not installed, or cannot read the file.
    """

    def __init__(self, path: Path) -> None:
        with _installed():
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # All processors that this process may use, hyper-threads included: onnxruntime counts cores of the machine.
        options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a class of its own for each kind of fault.
            raise UserError(f"{path}: onnxruntime cannot read it", got=str(error)[:200]) from None
        self._session: Any = session
        self.inputs = tuple(value.name for value in session.get_inputs())
        self.outputs = tuple(value.name for value in session.get_outputs())

    def run(self, output: str, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Computes an output.

        Args:
            output: Name of the output.
            feed: Arrays by input; those that the file does not have are left out.
        """
        [value] = self._session.run([output], {name: feed[name] for name in self.inputs})
        return np.asarray(value)


def quantise(source: Path, target: Path) -> None:
    """Writes a copy of an ONNX file whose matrices are int8, with one scale per column.

    Inputs of the products are quantised when the file runs ("dynamic quantisation"), so no calibration data is needed.

    Args:
        source: The file in float32.
        target: The file to write.
    """
    with _installed():
        import onnxruntime.quantization as quantization
    external = source.with_name(f"{source.name}_data").exists()
    with _quiet():
        quantization.quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            # Without VNNI, products of 8 bits may overflow 16-bit sums. 7 bits cannot.
            reduce_range=True,
            weight_type=quantization.QuantType.QInt8,
            use_external_data_format=external,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the advice to optimise the graph first, which the quantiser gives for every file."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
