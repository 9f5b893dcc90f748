"""The labelled sets that studies use."""

import os
from pathlib import Path

import numpy as np

from pairjax.base.config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import PairData, TaskSpec
from pairjax.data.sources import load_pairs


def make_wrong(label: np.ndarray, rows: np.ndarray, task: TaskSpec, generator: np.random.Generator) -> np.ndarray:
    """Labels with those of some rows made wrong: another class by lot, or scores dealt out anew among the rows."""
    label = label.copy()
    if task.kind == "regression":
        label[rows] = label[generator.permutation(rows)]
    else:
        label[rows] = (label[rows] + generator.integers(1, task.outputs, len(rows))) % task.outputs
    return label


def data_folder() -> Path:
    """The folder with the real sets.

    Raises:
        UserError: PAIRJAX_DATA names none.
    """
    folder = os.environ.get("PAIRJAX_DATA", "")
    if not folder or not Path(folder).is_dir():
        raise UserError(
            "PAIRJAX_DATA names no folder with the real sets",
            got=folder or "nothing",
            expected="a folder with mrpc/, sick/, stsb/, assin2/",
            fix="set it, as PAIRJAX_DATA=../shared/data, or use --quick on rule-made pairs",
        )
    return Path(folder)


def real_pairs(name: str) -> PairData:
    """A set of PAIRJAX_DATA by the name of its folder."""
    return load_pairs(DataConfig(path=str(data_folder() / name)))
