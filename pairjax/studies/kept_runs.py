"""Whole fine-tuning runs as units of a claim: each in a folder named by what decides it, measured once and kept."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from pairjax.base.config import Config, RunConfig
from pairjax.finetune.prepare import plain_config
from pairjax.finetune.train import train
from pairjax.step.compilation import compilation_cache
from pairjax.storage.arrays import read_arrays, write_arrays
from pairjax.storage.hashes import hash_json
from pairjax.studies.claim import BudgetSpentError
from pairjax.weights import encoder_content

FORMAT = 1
MEASURED = "measured.npz"

Look = Callable[[Path], Mapping[str, np.ndarray]]
"""From a finished run's folder, its model there, to what is to be kept of it."""


def unit_identity(config: Config, what: str) -> str:
    """SHA-256 of all that decides a unit's result, but for versions and machine.

    Args:
        config: Of the run; of a data folder its name counts, not where it lies, so name it by its content; an encoder's
            folder counts by its weights.
        what: Names what is measured, and its version.
    """
    plain = plain_config(config)
    plain.pop("run")
    plain["model"]["encoder"] = encoder_content(config.model.encoder)
    if config.data.path is not None:
        plain["data"]["path"] = Path(config.data.path).name
    return hash_json([FORMAT, what, plain])


def run_unit(config: Config, folder: Path, *, look: Look, what: str) -> dict[str, np.ndarray]:
    """Fine-tune and measure, or read what was measured before; a run that was cut off goes on.

    The weights are deleted once they are measured: config, metrics and result stay.

    Args:
        config: What to run; its `run` is replaced.
        folder: Of all units.
        look: Measures the finished run.
        what: Names that, and its version.

    Raises:
        BudgetSpentError: A signal stopped the run.
    """
    identity = unit_identity(config, what)
    place = folder / identity[:20]
    found = read_arrays(place / MEASURED, identity)
    if found is not None:
        return found
    if not ((place / "result.json").is_file() and (place / "model").is_dir()):
        begun = any((place / "checkpoints" / "digests").glob("*.json"))
        run = RunConfig(
            dir=str(place),
            resume=begun,
            overwrite=not begun,
            keep_checkpoints=1,
            progress=False,
            compilation_cache=compilation_cache(),
        )
        if train(replace(config, run=run), console=Console(quiet=True)).result is None:
            raise BudgetSpentError
    measured = {name: np.asarray(value) for name, value in look(place).items()}
    write_arrays(place / MEASURED, identity, measured)
    for name in ("checkpoints", "model"):
        shutil.rmtree(place / name, ignore_errors=True)
    return measured
