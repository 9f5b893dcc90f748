"""Projects token vectors onto their principal components."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pairjax.base.errors import UserError


@dataclass(frozen=True)
class Projection:
    """A fixed linear map of token vectors to fewer numbers, `scale * (x - center) @ axes`; fitted without labels.

    The map commutes with a mean over tokens, so pooled vectors can be mapped after pooling.

    Attributes:
        center: float32 [D]; the mean of the tokens.
        axes: float32 [D, width]; their leading principal components.
        scale: Makes the variance of the mapped tokens 1 on average over the axes.
        kept: Share of the tokens' variance that the axes explain.
        fitted: SHA-256 of the tokens and of the width. Keys use it instead of the axes, whose last bits depend on the
            threads of the linear algebra.
    """

    center: Float[np.ndarray, " dim"]
    axes: Float[np.ndarray, "dim width"]
    scale: float
    kept: float
    fitted: str

    def __call__(self, vectors: Float[np.ndarray, "*rows dim"]) -> Float[np.ndarray, "*rows width"]:
        """Maps vectors to float32 [..., width]."""
        return (self.scale * (vectors.astype(np.float32) - self.center) @ self.axes).astype(np.float32)


def fit_projection(tokens: Float[np.ndarray, "tokens dim"], width: int) -> Projection:
    """Fits a projection onto the leading principal components of some tokens.

    Args:
        tokens: [tokens, D]; the token vectors.
        width: Number of components.

    Raises:
        UserError: `width` is not between 1 and D.
    """
    if not 1 <= width <= tokens.shape[1]:
        raise UserError("the width of projected tokens is out of range", got=width, expected=f"1 to {tokens.shape[1]}")
    doubles = np.asarray(tokens, np.float64)
    center = doubles.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(doubles - center, rowvar=False, bias=True))
    order = np.argsort(values)[::-1][:width]
    axes, variance = vectors[:, order], values[order]
    # The sign of an eigenvector is arbitrary and differs between libraries: make its largest entry positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(width)])
    scale = 1.0 / math.sqrt(max(float(variance.mean()), 1e-12))
    kept = float(variance.sum() / max(values.sum(), 1e-12))
    fitted = hashlib.sha256(np.ascontiguousarray(tokens).tobytes() + str(width).encode()).hexdigest()
    return Projection(center.astype(np.float32), axes.astype(np.float32), scale, kept, fitted)
