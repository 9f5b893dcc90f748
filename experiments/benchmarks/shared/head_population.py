"""The population of heads that both sides train: its arrays and its least cost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Heads:
    """The arrays from which both sides train the same heads.

    Attributes:
        features: float32 [N, 2 D]; |u - v| and u * v of each train pair.
        label: int64 [N]; class indices.
        dev: float32 [M, 2 D]; features of the pairs that each head classifies after training.
        order: int64 [seeds, steps, B]; indices of the pairs of each step, -1 for none.
        kernel: float32 [seeds, 2 D, C]; initial kernel for each seed.
        bias: float32 [seeds, C]; initial bias for each seed.
        rates: float64 [rates]; learning rates.
        decay: float64 []; weight decay of the kernel.
    """

    features: np.ndarray
    label: np.ndarray
    dev: np.ndarray
    order: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    rates: np.ndarray
    decay: np.ndarray

    @classmethod
    def read(cls, path: Path) -> "Heads":
        """Reads the arrays of an npz file."""
        with np.load(path) as file:
            return cls(**{name: file[name] for name in file.files})

    @property
    def count(self) -> int:
        """Number of heads: seeds x learning rates."""
        return len(self.kernel) * len(self.rates)


def heads_cost(heads: Heads, count: int) -> dict[str, Any]:
    """Returns the least arithmetic and memory traffic, in bytes, of training `count` heads.

    A step multiplies its batch with the kernel, and the transposed batch with the gradient of the outputs: 4 B (2 D) C
    operations. AdamW reads kernel, gradient and two moments and writes all of them but the gradient: 28 bytes a
    parameter. The vectors of a batch are read once for all heads of a seed.
    """
    steps, batch_size = heads.order.shape[1:]
    width, classes = heads.kernel.shape[1:]
    parameters = (width + 1) * classes
    bytes_per_step = 28 * parameters + 4 * batch_size * width / len(heads.rates)
    return {
        "flops": 4.0 * batch_size * width * classes * steps * count,
        "bytes": float(bytes_per_step * steps * count),
    }
