"""Fine-tune pretrained text encoders to classify pairs of sequences, in JAX and Flax.

Train a model on the pairs in a folder; the run is written to `runs/pairs`:

    import pairjax

    result = pairjax.train(pairjax.Config(data=pairjax.DataConfig(path="pairs/")))

Load the trained model and classify pairs:

>>> import pairjax
>>> model = pairjax.load("runs/pairs/model")
>>> [prediction] = model.predict([("A man sleeps.", "Nobody is awake.")])
>>> prediction.label in model.task.labels
True

Each name is imported when it is first used, so `import pairjax` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairjax.base.config import Config, EvalConfig, MeshConfig, RunConfig, TrainConfig
    from pairjax.base.data_config import DataConfig
    from pairjax.base.errors import TruncationWarning, UserError
    from pairjax.base.model_config import CombineConfig, DropoutConfig, HeadConfig, InteractConfig, ModelConfig
    from pairjax.base.optim_config import AverageConfig, LoraConfig, LossConfig, OptimConfig
    from pairjax.base.pretrain_config import CorpusConfig, PretrainConfig, PretrainEvalConfig, PretrainModelConfig
    from pairjax.finetune.train import train
    from pairjax.inference.classifier import PairClassifier
    from pairjax.inference.load import load
    from pairjax.pretrain.train import pretrain

_CONFIGS = ["Config", "EvalConfig", "MeshConfig", "RunConfig", "TrainConfig"]
_MODEL_CONFIGS = ["CombineConfig", "DropoutConfig", "HeadConfig", "InteractConfig", "ModelConfig"]
_OPTIM_CONFIGS = ["AverageConfig", "LoraConfig", "LossConfig", "OptimConfig"]
_PRETRAIN_CONFIGS = ["CorpusConfig", "PretrainConfig", "PretrainEvalConfig", "PretrainModelConfig"]
_MODULES = {
    **dict.fromkeys(_CONFIGS, "pairjax.base.config"),
    "DataConfig": "pairjax.base.data_config",
    **dict.fromkeys(_MODEL_CONFIGS, "pairjax.base.model_config"),
    **dict.fromkeys(_OPTIM_CONFIGS, "pairjax.base.optim_config"),
    **dict.fromkeys(_PRETRAIN_CONFIGS, "pairjax.base.pretrain_config"),
    **dict.fromkeys(["TruncationWarning", "UserError"], "pairjax.base.errors"),
    "train": "pairjax.finetune.train",
    "pretrain": "pairjax.pretrain.train",
    "load": "pairjax.inference.load",
    "PairClassifier": "pairjax.inference.classifier",
}

__all__ = [
    "AverageConfig",
    "CombineConfig",
    "Config",
    "CorpusConfig",
    "DataConfig",
    "DropoutConfig",
    "EvalConfig",
    "HeadConfig",
    "InteractConfig",
    "LoraConfig",
    "LossConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimConfig",
    "PairClassifier",
    "PretrainConfig",
    "PretrainEvalConfig",
    "PretrainModelConfig",
    "RunConfig",
    "TrainConfig",
    "TruncationWarning",
    "UserError",
    "load",
    "pretrain",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'pairjax' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
