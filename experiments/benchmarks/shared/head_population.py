"""The population of heads that both sides train: its arrays, and what it costs at least."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Heads:
    """What both sides read.

    Attributes:
        features: float32 [N, 2 D], |u - v| and u * v of each train pair.
        label: int64 [N].
        dev: float32 [M, 2 D], of the pairs that each head answers at the end.
        order: int64 [seeds, steps, B], rows of each step, -1 for none.
        kernel: float32 [seeds, 2 D, C], where each seed's heads begin.
        bias: float32 [seeds, C].
        rates: float64 [rates].
        decay: Of the kernel.
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
        """The file's arrays."""
        with np.load(path) as file:
            return cls(**{name: file[name] for name in file.files})

    @property
    def count(self) -> int:
        """Heads in all."""
        return len(self.kernel) * len(self.rates)


def heads_cost(heads: Heads, count: int) -> dict[str, Any]:
    """What training `count` heads needs: arithmetic, and bytes that move.

    A step multiplies its rows with the kernel, and their transpose with the gradient of the outputs: 4 B (2 D) C
    operations. AdamW reads kernel, gradient and two moments, and writes all but the gradient: 28 bytes a number. The
    vectors of a batch are read once for all heads of a seed.
    """
    steps, rows = heads.order.shape[1:]
    width, classes = heads.kernel.shape[1:]
    numbers = (width + 1) * classes
    each = 28 * numbers + 4 * rows * width / len(heads.rates)
    return {
        "flops": 4.0 * rows * width * classes * steps * count,
        "bytes": float(each * steps * count),
    }
