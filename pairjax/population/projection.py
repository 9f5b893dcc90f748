"""A projection of token vectors onto their principal components."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pairjax.base.errors import UserError


@dataclass(frozen=True)
class Projection:
    """A fixed linear map of token vectors to fewer numbers, `scale * (x - center) @ axes`; it knows no label.

    A mean over tokens commutes with it, so pooled vectors may be mapped after they were pooled.

    Attributes:
        center: float32 [D], the mean of the tokens.
        axes: float32 [D, width], their leading principal components.
        scale: So that the mapped tokens have variance 1 on average over the axes.
        kept: Share of the tokens' variance.
        fitted: SHA-256 of the tokens that they are of, and of their number. The components' own last bits differ with
            the threads of the linear algebra, and what is kept under a key must not.
    """

    center: Float[np.ndarray, " dim"]
    axes: Float[np.ndarray, "dim width"]
    scale: float
    kept: float
    fitted: str

    def __call__(self, vectors: Float[np.ndarray, "*rows dim"]) -> Float[np.ndarray, "*rows width"]:
        return (self.scale * (vectors.astype(np.float32) - self.center) @ self.axes).astype(np.float32)


def fit_projection(tokens: Float[np.ndarray, "tokens dim"], width: int) -> Projection:
    """Principal components of some tokens.

    Raises:
        UserError: More components than the tokens have numbers.
    """
    if not 1 <= width <= tokens.shape[1]:
        raise UserError("no such width of projected tokens", got=width, expected=f"1 to {tokens.shape[1]}")
    wide = np.asarray(tokens, np.float64)
    center = wide.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(wide - center, rowvar=False, bias=True))
    order = np.argsort(values)[::-1][:width]
    axes, variance = vectors[:, order], values[order]
    # An eigenvector's sign is arbitrary, and differs between libraries: its largest entry is made positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(width)])
    scale = 1.0 / math.sqrt(max(float(variance.mean()), 1e-12))
    kept = float(variance.sum() / max(values.sum(), 1e-12))
    fitted = hashlib.sha256(np.ascontiguousarray(tokens).tobytes() + str(width).encode()).hexdigest()
    return Projection(center.astype(np.float32), axes.astype(np.float32), scale, kept, fitted)
