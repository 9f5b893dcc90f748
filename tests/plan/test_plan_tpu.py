"""The sharded step compiled ahead of time by real XLA:TPU: what it moves between chips, and what within one."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = os.environ.get("TPU_LIBRARY_PATH", "")
HERE = bool(LIBRARY) or importlib.util.find_spec("libtpu") is not None
pytestmark = [
    pytest.mark.tpu,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not HERE, reason="libtpu is not importable, and TPU_LIBRARY_PATH names none (extra: tpu)"),
]

LAYERS, WIDTH, ROWS, LENGTH = 2, 256, 32, 128
COMPILE = """
import dataclasses, json, sys, tempfile
import jax
from pathlib import Path
from pairjax.base.data_config import DataConfig
from pairjax.base.model_config import ModelConfig
from pairjax.base.config import Config, TrainConfig
from pairjax.plan.advise import compile_for
from pairjax.plan.devices import tpu_target
from pairjax.plan.step import plan_step
from tests.plan.test_plan import write_config

layers, width, rows, length, *mesh = map(int, sys.argv[1:])
with tempfile.TemporaryDirectory() as folder:
    encoder = write_config(Path(folder), layers=layers, width=width)
    config = Config(
        data=DataConfig(rules="entailment"), model=ModelConfig(encoder=encoder), train=TrainConfig(batch_size=rows)
    )
    planned = plan_step(config, length=length)
found = compile_for(planned, tpu_target("v5e:2x2"), dict(zip(("data", "fsdp", "tensor"), mesh)), rows)
sizes = [4 * leaf.size for leaf in jax.tree.leaves(planned.params)]
print(json.dumps({**dataclasses.asdict(found), "sizes": sizes}))
"""


@cache
def compiled(*mesh: int) -> dict:
    """Figures of the step on a slice of four v5e chips, in a process of its own: libtpu may end it."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "PYTHONPATH": str(ROOT),
    }
    numbers = map(str, (LAYERS, WIDTH, ROWS, LENGTH, *mesh))
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, *numbers], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def moved(found: dict, kind: str) -> float:
    return found["collectives"].get(kind, {"bytes": 0.0})["bytes"]


def test_data_parallelism_sums_the_gradients_and_gathers_nothing() -> None:
    found = compiled(4, 1, 1)
    assert set(found["collectives"]) == {"all-reduce"}
    assert 0 <= moved(found, "all-reduce") - sum(found["sizes"]) < 64
    assert found["gathered"] == []


def test_fsdp_gathers_parameters_and_no_activation() -> None:
    found = compiled(1, 4, 1)
    states = ROWS * LENGTH * WIDTH * 2
    assert found["gathered"]
    # Operands of products are gathered as bfloat16, where the compiler sees that it may.
    known = {float(size) for size in found["sizes"]} | {size / 2 for size in found["sizes"]}
    assert set(found["gathered"]) <= known
    assert moved(found, "all-to-all") < states
    # Each chip computes its own rows, as many operations as under data parallelism.
    assert found["flops"] == pytest.approx(compiled(4, 1, 1)["flops"], rel=0.05)


def test_tensor_parallelism_sums_activations_four_times_a_layer() -> None:
    found = compiled(2, 1, 2)
    assert moved(found, "all-gather") == 0
    assert moved(found, "all-to-all") == 0
    states = 4.0 * (ROWS // 2) * LENGTH * WIDTH
    split = sum(found["sizes"])
    # And the sum of the looked-up words, whose table is split by words.
    assert moved(found, "all-reduce") <= (4 * LAYERS + 1) * states + split


def test_copies_and_transposes_are_few() -> None:
    """Of the layers' activations only queries, keys and values are laid out anew, in bfloat16."""
    found = compiled(4, 1, 1)
    state = 2.0 * (ROWS // 4) * LENGTH * WIDTH
    assert found["moves"].get("transpose", {"bytes": 0.0})["bytes"] == 0
    assert found["moves"].get("copy", {"bytes": 0.0})["bytes"] <= 3 * LAYERS * state + sum(found["sizes"]) / 4
