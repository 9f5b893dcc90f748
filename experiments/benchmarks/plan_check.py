"""The estimates of `pairjax plan` beside compiled figures, over four models and three meshes of four TPU v5e chips.

Command: python experiments/benchmarks/plan_check.py OUTPUT.json [MODEL ...]
Needs libtpu importable, or the variable TPU_LIBRARY_PATH set to its libtpu.so.

Cross-encoders of two classes, 128 pairs in rows of 128 slots, float32; only configurations, no weights. Each figure is
written as it is made, and what OUTPUT.json holds already is not compiled again. A table goes to standard output.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}

from pairjax.base.config import Config, DataConfig, ModelConfig, TrainConfig
from pairjax.plan.advise import compile_for
from pairjax.plan.cost import Estimator
from pairjax.plan.devices import tpu_target
from pairjax.plan.step import Planned, plan_step

MODELS = {"mini": (4, 256, 4), "minilm": (6, 384, 12), "base": (12, 768, 12), "large": (24, 1024, 16)}
"""Layers, width, heads."""
MESHES = {"4x1x1": (4, 1, 1), "1x4x1": (1, 4, 1), "2x1x2": (2, 1, 2)}
BATCH, LENGTH = 128, 128


def step_of(model: str, *, batch: int = BATCH, length: int = LENGTH) -> Planned:
    """A model's step, from a configuration alone."""
    layers, width, heads = MODELS[model]
    config = {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        experiment = Config(
            data=DataConfig(rules="entailment"),
            model=ModelConfig(encoder=folder),
            train=TrainConfig(batch_size=batch),
        )
        return plan_step(experiment, length=length)


def main(output: Path, models: list[str]) -> None:
    found = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    target = tpu_target("v5e:2x2")
    print(
        "| model | mesh | memory, MB: estimate / compiled | | GFLOP: estimate / compiled | |\n|---|---|---|---|---|---|"
    )
    for model in models:
        planned = step_of(model)
        estimator = Estimator(planned, target.device, narrow=True)
        for name, sizes in MESHES.items():
            mesh = dict(zip(("data", "fsdp", "tensor"), sizes, strict=True))
            key = f"{model} {name}"
            if key not in found:
                began = time.monotonic()
                made = compile_for(planned, target, mesh, BATCH)
                found[key] = {
                    "arguments": made.arguments,
                    "temporaries": made.temporaries,
                    "memory": made.memory,
                    "flops": made.flops,
                    "collectives": {kind: (one.count, one.bytes) for kind, one in made.collectives.items()},
                    "moves": {kind: (one.count, one.bytes) for kind, one in made.moves.items()},
                    "compile_seconds": time.monotonic() - began,
                }
                output.write_text(json.dumps(found, indent=1), encoding="utf-8")
            made, guess = found[key], estimator(mesh, BATCH)
            print(
                f"| {model} | {name} | {guess.memory / 1e6:.0f} / {made['memory'] / 1e6:.0f} "
                f"| {guess.memory / made['memory'] - 1:+.1%} | {guess.flops / 1e9:.1f} / {made['flops'] / 1e9:.1f} "
                f"| {guess.flops / made['flops'] - 1:+.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(MODELS))
