"""The format `stablehlo`: one program for CPU, CUDA and TPU that needs JAX and nothing of pairjax.

model.stablehlo    the program of `jax.export`, for any number of pairs and any length of rows
model.safetensors  its first argument: the parameters by path
run.py, run.json   a runner that tokenises, and its settings
tokenizer.json, tokenizer_config.json, config.json, README.md, pairjax_export.json
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import export
from jaxtyping import Array

from pairjax.base.export_config import ExportConfig
from pairjax.base.params import flatten, unflatten
from pairjax.base.types import Batch
from pairjax.export import stablehlo_runner
from pairjax.export.formats import PREFIXES, Format, Request, Written, calibration_notes, expected_outputs
from pairjax.inference.fold import can_fold, folded_params
from pairjax.inference.model_folder import Artifact
from pairjax.models.build import PairModelFns

PLATFORMS = ("cpu", "cuda", "tpu")
PROMISE = (
    "JAX reads the program with the version that wrote it and, by its documentation, with versions that are released "
    "up to 6 months later; after that, export the model again"
)


def _refuse(artifact: Artifact, config: ExportConfig) -> str | None:
    """Returns why a model cannot be written; None if it can."""
    if config.int8:
        return "its programs have no int8 weights"
    if any(artifact.prefixes or ()):
        return PREFIXES
    if not can_fold(artifact):
        return "the units of a regression cannot be folded below a ReLU or a cosine"
    return None


def _notes(artifact: Artifact, config: ExportConfig) -> list[str]:
    """Returns what the program leaves out, and JAX's promise."""
    return [f"written by JAX {jax.__version__}: {PROMISE}", *calibration_notes(artifact, config)]


def _use(artifact: Artifact, config: ExportConfig) -> list[str]:
    """Returns an example of use."""
    logits = "scores in the units of the data" if artifact.task.kind == "regression" else "logits"
    return [
        "With jax, flatbuffers, safetensors and tokenizers, and without pairjax:",
        "",
        "```python",
        "import run",
        "",
        f'run.outputs([("A man is asleep.", "Nobody is awake.")])  # {logits}',
        "```",
    ]


def export_program(fns: PairModelFns, params: dict[str, np.ndarray]) -> export.Exported:
    """Returns the program from parameters by path and rows of one pair each to outputs, float32 [batch, outputs].

    A row's arrays are token, segment, position, pair and side ids, int32 [batch, length], as in `Batch`.

    Args:
        fns: The model.
        params: The parameters by path; only their shapes are read.
    """

    def outputs(flat: dict[str, Array], ids: Array, segments: Array, positions: Array, pairs: Array, sides: Array):  # type: ignore[no-untyped-def]
        batch = Batch(
            input_ids=ids,
            token_type_ids=segments,
            position_ids=positions,
            pair_ids=pairs,
            side_ids=sides,
            label=None,
            weight=jnp.ones((ids.shape[0], 1), jnp.float32),
            example_id=None,
        )
        return fns.apply(unflatten(flat), batch)[:, 0]

    batch, length = export.symbolic_shape("batch, length")
    tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32)
    shapes = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in params.items()}
    return export.export(jax.jit(outputs), platforms=PLATFORMS)(shapes, *[tokens] * 5)


def _write(request: Request, folder: Path) -> Written:
    """Writes the folder."""
    model, artifact = request.model, request.model.artifact
    folded = folded_params(artifact, fold_temperature=request.config.fold_temperature)
    params = {path: np.ascontiguousarray(np.asarray(leaf, np.float32)) for path, leaf in flatten(folded).items()}
    program = export_program(model.functions, params)
    (folder / "model.stablehlo").write_bytes(program.serialize())
    safetensors.numpy.save_file(params, folder / "model.safetensors")
    shutil.copyfile(Path(stablehlo_runner.__file__), folder / "run.py")
    shutil.copyfile(artifact.encoder_folder / "config.json", folder / "config.json")
    tokenizer, joint = model.tokenizer, artifact.model.kind == "cross"
    tokenizer.save(folder)
    opening = tokenizer.opening(artifact.model.kind)
    settings = {
        "joint": joint,
        "cls_id": tokenizer.cls_id,
        "sep_id": tokenizer.sep_id,
        "pad_id": tokenizer.pad_id,
        "opening": list(opening),
        "segments": int(joint and tokenizer.segments),
        "budget": artifact.max_length - (3 + len(opening) if joint else 2),
        "truncation": artifact.truncation,
        "labels": list(artifact.task.labels),
    }
    (folder / "run.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    entries = {
        "jax": jax.__version__,
        "calling_convention": program.calling_convention_version,
        "platforms": list(program.platforms),
        "compatibility": PROMISE,
    }
    return Written(entries)


def _difference(request: Request, folder: Path, pairs: Sequence[tuple[str, str]]) -> float:
    """Runs the program by the folder's own runner, on this machine's platform."""
    model = request.model
    encoded = model.encode([first for first, _ in pairs], [second for _, second in pairs])
    found = stablehlo_runner.outputs(list(pairs), folder)
    return float(np.abs(found - expected_outputs(request, encoded)).max()) / model.task.scale


FORMAT = Format(
    name="stablehlo",
    library="jax",
    needs=("flatbuffers",),
    extra="stablehlo",
    runtime=(),
    refuse=_refuse,
    notes=_notes,
    pipeline_tag=lambda artifact: "text-classification",
    use=_use,
    write=_write,
    difference=_difference,
)
