"""Fine-tuning runs as units of a claim: each run has a folder named by its content, and is measured once."""

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

MeasureRun = Callable[[Path], Mapping[str, np.ndarray]]
"""Takes the folder of a finished run, with its model, and returns the arrays to keep."""


def unit_identity(config: Config, what: str) -> str:
    """Returns the SHA-256 of everything that determines a unit's result, except versions and machine.

    Args:
        config: The run's config. The identity contains the name of the data folder but not its path, so name that
            folder by its content. It contains the weights of an encoder's folder.
        what: Identifies the measurements and their version.
    """
    plain = plain_config(config)
    plain.pop("run")
    plain["model"]["encoder"] = encoder_content(config.model.encoder)
    if config.data.path is not None:
        plain["data"]["path"] = Path(config.data.path).name
    return hash_json([FORMAT, what, plain])


def run_unit(config: Config, folder: Path, *, measure: MeasureRun, what: str) -> dict[str, np.ndarray]:
    """Fine-tunes and measures a model, or reads the measurements if they exist. An interrupted run continues.

    The weights are deleted after the measurement; config, metrics and result stay.

    Args:
        config: The run's config; its `run` section is replaced.
        folder: The folder of all units.
        measure: Measures the finished run.
        what: Identifies the measurements and their version.

    Raises:
        BudgetSpentError: A signal stopped the run.
    """
    identity = unit_identity(config, what)
    unit = folder / identity[:20]
    arrays = read_arrays(unit / MEASURED, identity)
    if arrays is not None:
        return arrays
    if not ((unit / "result.json").is_file() and (unit / "model").is_dir()):
        begun = any((unit / "checkpoints" / "digests").glob("*.json"))
        run = RunConfig(
            dir=str(unit),
            resume=begun,
            overwrite=not begun,
            keep_checkpoints=1,
            progress=False,
            compilation_cache=compilation_cache(),
        )
        if train(replace(config, run=run), console=Console(quiet=True)).result is None:
            raise BudgetSpentError
    arrays = {name: np.asarray(value) for name, value in measure(unit).items()}
    write_arrays(unit / MEASURED, identity, arrays)
    for name in ("checkpoints", "model"):
        shutil.rmtree(unit / name, ignore_errors=True)
    return arrays
