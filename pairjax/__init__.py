"""Fine-tune pretrained text encoders to classify pairs of sequences, in JAX and Flax.

    import pairjax
    result = pairjax.train(pairjax.Config(data=pairjax.DataConfig(path="pairs/")))
    model = pairjax.load("runs/pairs/model")
    model.predict([("A man sleeps.", "Nobody is awake.")])

Names are imported when they are first used, so that `import pairjax` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairjax.base.config import (
        CombineConfig,
        Config,
        DataConfig,
        DropoutConfig,
        EvalConfig,
        HeadConfig,
        InteractConfig,
        LossConfig,
        MeshConfig,
        ModelConfig,
        OptimConfig,
        RunConfig,
        TrainConfig,
    )
    from pairjax.base.errors import UserError
    from pairjax.training.finetune import train
    from pairjax.training.predict import PairClassifier, load

_CONFIGS = [
    "CombineConfig",
    "Config",
    "DataConfig",
    "DropoutConfig",
    "EvalConfig",
    "HeadConfig",
    "InteractConfig",
    "LossConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimConfig",
    "RunConfig",
    "TrainConfig",
]
_HOMES = {
    **dict.fromkeys(_CONFIGS, "pairjax.base.config"),
    "UserError": "pairjax.base.errors",
    "train": "pairjax.training.finetune",
    "load": "pairjax.training.predict",
    "PairClassifier": "pairjax.training.predict",
}

__all__ = [
    "CombineConfig",
    "Config",
    "DataConfig",
    "DropoutConfig",
    "EvalConfig",
    "HeadConfig",
    "InteractConfig",
    "LossConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimConfig",
    "PairClassifier",
    "RunConfig",
    "TrainConfig",
    "UserError",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pairjax' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
