"""A model folder with a tiny, untrained model."""

from collections.abc import Sequence
from pathlib import Path

import jax

from pairjax.base.data_config import Truncation
from pairjax.base.model_config import CombineConfig, ModelConfig
from pairjax.base.types import TaskSpec
from pairjax.evaluation.calibration import Calibration
from pairjax.inference.model_folder import save_artifact
from pairjax.models.build import build_pair_model, initial_params
from pairjax.weights import load_encoder, read_encoder_spec
from tests.tiny import WORDS, write_tiny_encoder

BI_ENCODER = ModelConfig(kind="bi", combine=CombineConfig(features=("u", "v", "|u-v|", "u*v")))


def write_tiny_model(
    folder: Path,
    *,
    config: ModelConfig = BI_ENCODER,
    task: TaskSpec | None = None,
    max_length: int = 32,
    layers: int = 1,
    hidden: int = 32,
    sharpness: float = 1.0,
    truncation: Truncation = "longest_first",
    family: str = "bert",
    calibration: Calibration | None = None,
    vocabulary: Sequence[str] = WORDS,
    prefixes: tuple[str, str] = ("", ""),
) -> Path:
    """Writes a model folder at `folder/model` and the encoder that it starts from at `folder/source`.

    Args:
        folder: Made if it is missing.
        config: The model's configuration.
        task: The task; by default two classes, "no" and "yes".
        max_length: Longest row in tokens.
        layers: Layers of the encoder.
        hidden: Width of the encoder.
        sharpness: Multiplies the classifier's weights, so that its outputs differ between texts.
        truncation: How longer rows are cut.
        family: Family of the encoder.
        calibration: Temperature and threshold.
        vocabulary: Words that are one token each.
        prefixes: Text before each first text, and before each second text.

    Returns:
        The model folder.
    """
    source = write_tiny_encoder(folder / "source", family=family, layers=layers, hidden=hidden, vocabulary=vocabulary)
    spec = read_encoder_spec(source)
    task = task or TaskSpec("classification", ("no", "yes"), positive="yes")
    fns = build_pair_model(config, spec, task.outputs)
    loaded = load_encoder(source, spec)
    params, _ = initial_params(fns, jax.random.key(0), encoder=loaded.params, pooler=loaded.pooler)
    if "head" in params:
        params["head"] = jax.tree.map(lambda leaf: leaf * sharpness, params["head"])
    save_artifact(
        folder / "model",
        task=task,
        model=fns.config,
        max_length=max_length,
        truncation=truncation,
        prefixes=prefixes,
        calibration=calibration or Calibration(),
        spec=spec,
        params=params,
        encoder_source=source,
        card="",
    )
    return folder / "model"
