"""Configuration of `pairjax export` and `model.export`."""

from dataclasses import dataclass

from pairjax.base.fields import CheckedConfig


@dataclass(frozen=True)
class ExportConfig(CheckedConfig):
    """How a model is exported. A format refuses the options that it does not have."""

    int8: bool = False
    """Also write a file with int8 weights (onnx), and print how often its labels agree with those in float32."""
    fold_temperature: bool = False
    """Divide the last layer by the temperature fitted on dev, so that a plain softmax of the file's logits is
    calibrated. The manifest keeps the temperature."""
