"""Compares the estimates of `pairjax plan` with compiled programs for meshes of four TPU v5e chips.

Command: python -m experiments.benchmarks.plan.against_compiler OUTPUT.json [fitted | unread | again]
Needs an importable libtpu, or the variable TPU_LIBRARY_PATH set to its libtpu.so.

The programs are cross-encoders with two classes, built from configurations alone, without weights:

- `fitted`: 128 pairs in rows of 128 slots. The rules for the memory that XLA keeps were derived from these programs.
- `unread`: chosen before any of them was compiled, to test how well the rules predict. Three of them have been used for
  the rules since.
- `again`: chosen after that.

Each figure is written to OUTPUT.json as soon as it is known, and figures already in the file are not compiled again. A
table goes to standard output.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal, NamedTuple

os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}

from pairjax.base.config import Config, TrainConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.model_config import ModelConfig
from pairjax.plan.advise import compile_for
from pairjax.plan.cost import Estimator
from pairjax.plan.devices import tpu_target
from pairjax.plan.step import Planned, plan_step

MODELS = {
    "mini": (4, 256, 4),
    "minilm": (6, 384, 12),
    "medium": (8, 512, 8),
    "wide": (5, 640, 10),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}
"""Number of layers, width and number of heads of each model."""
MESHES = {"4x1x1": (4, 1, 1), "1x4x1": (1, 4, 1), "2x1x2": (2, 1, 2)}
BATCH, LENGTH = 128, 128


class Program(NamedTuple):
    """A program that is compiled on every mesh.

    Attributes:
        model: Name of the model, from `MODELS`.
        batch: Number of pairs a step.
        length: Number of slots a row.
        dtype: Type of the activations.
    """

    model: str
    batch: int = BATCH
    length: int = LENGTH
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def name(self) -> str:
        """The name in the table and in OUTPUT.json."""
        if self == Program(self.model):
            return self.model
        return f"{self.model}, {self.batch} x {self.length}" + (", bfloat16" if self.dtype == "bfloat16" else "")


SETS = {
    "fitted": [Program("mini"), Program("minilm"), Program("base"), Program("large")],
    "unread": [
        Program("medium"),
        Program("wide"),
        Program("mini", 512, 32),
        Program("minilm", 64, 256),
        Program("medium", 32, 512),
        Program("base", 64, 64),
        Program("minilm", dtype="bfloat16"),
        Program("base", dtype="bfloat16"),
    ],
    "again": [
        Program("minilm", 256, 64),
        Program("medium", 64, 64),
        Program("mini", 256, 96),
        Program("wide", 128, 64, "bfloat16"),
    ],
}


def plan_program(program: Program) -> Planned:
    """Plans a program's step from a configuration alone."""
    layers, width, heads = MODELS[program.model]
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
        run_config = Config(
            data=DataConfig(rules="entailment"),
            model=ModelConfig(encoder=folder, dtype=program.dtype),
            train=TrainConfig(batch_size=program.batch),
        )
        return plan_step(run_config, length=program.length)


def main(output: Path, programs: list[Program]) -> None:
    """Compiles the programs on every mesh, writes the figures and prints the table."""
    figures = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    target = tpu_target("v5e:2x2")
    print(
        "| program | mesh | memory, MB: estimate / compiled | apart | GFLOP: estimate / compiled | apart |\n"
        "|---|---|---|---|---|---|"
    )
    for program in programs:
        planned = plan_program(program)
        estimator = Estimator(planned, target.device, narrow=True)
        for name, sizes in MESHES.items():
            mesh = dict(zip(("data", "fsdp", "tensor"), sizes, strict=True))
            key = f"{program.name} {name}"
            if key not in figures:
                began = time.monotonic()
                compiled = compile_for(planned, target, mesh, program.batch)
                figures[key] = {
                    "arguments": compiled.arguments,
                    "temporaries": compiled.temporaries,
                    "memory": compiled.memory,
                    "flops": compiled.flops,
                    "collectives": {kind: (group.count, group.bytes) for kind, group in compiled.collectives.items()},
                    "moves": {kind: (group.count, group.bytes) for kind, group in compiled.moves.items()},
                    "compile_seconds": time.monotonic() - began,
                }
                output.write_text(json.dumps(figures, indent=1), encoding="utf-8")
            figure, estimate = figures[key], estimator(mesh, program.batch)
            print(
                f"| {program.name} | {name} | {estimate.memory / 1e6:.0f} / {figure['memory'] / 1e6:.0f} "
                f"| {estimate.memory / figure['memory'] - 1:+.1%} "
                f"| {estimate.flops / 1e9:.1f} / {figure['flops'] / 1e9:.1f} "
                f"| {estimate.flops / figure['flops'] - 1:+.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), SETS[sys.argv[2] if len(sys.argv) > 2 else "fitted"])
