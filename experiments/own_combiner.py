"""Your own combiner: a Flax module of (u, v) that replaces the built-in features.

Command: pairjax train experiments/own_combiner.py
Data: built-in rule-made paraphrases, no file needed; --data.path DIR for other pairs.
A model folder contains no code, so load it with pairjax.load(folder, combiner=Bilinear).
"""

from flax import linen as nn
from jaxtyping import Array, Float

from pairjax import Config, DataConfig, ModelConfig, RunConfig, TrainConfig


class Bilinear(nn.Module):
    """z_e = sum_r (P u)_er (Q v)_er: a low-rank bilinear form for each output e."""

    size: int = 64
    rank: int = 4

    @nn.compact
    def __call__(self, u: Float[Array, "rows slots dim"], v: Float[Array, "rows slots dim"]) -> Array:
        left = nn.DenseGeneral((self.size, self.rank), name="left")(u)
        right = nn.DenseGeneral((self.size, self.rank), name="right")(v)
        return (left * right).sum(axis=-1)


config = Config(
    data=DataConfig(rules="paraphrase"),
    model=ModelConfig(kind="bi", combiner=Bilinear),
    train=TrainConfig(epochs=1),
    run=RunConfig(dir="runs/own_combiner"),
)
