"""The labelled data sets that studies use."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Int

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import PairData, TaskSpec
from pairjax.data.sources import load_pairs


def make_wrong(
    label: np.ndarray, index: Int[np.ndarray, " wrong"], task: TaskSpec, generator: np.random.Generator
) -> np.ndarray:
    """Returns labels of which some are wrong: a random other class, or scores permuted among the chosen pairs.

    Args:
        label: The labels; they are not changed.
        index: Indices of the labels to make wrong.
        task: The task.
        generator: Draws the wrong labels.
    """
    label = label.copy()
    if task.kind == "regression":
        label[index] = label[generator.permutation(index)]
    else:
        label[index] = (label[index] + generator.integers(1, task.outputs, len(index))) % task.outputs
    return label


def data_folder() -> Path:
    """Returns the folder with the real data sets.

    Raises:
        UserError: PAIRJAX_DATA is not set to a folder.
    """
    folder = os.environ.get("PAIRJAX_DATA", "")
    if not folder or not Path(folder).is_dir():
        raise UserError(
            "PAIRJAX_DATA is not set to a folder with the real data sets",
            got=folder or "nothing",
            expected="a folder with mrpc/, sick/, stsb/, assin2/",
            fix="set it, for example PAIRJAX_DATA=../shared/data, or use --quick with rule-made pairs",
        )
    return Path(folder)


def real_pairs(name: str) -> PairData:
    """Reads a data set of PAIRJAX_DATA by the name of its folder."""
    return load_pairs(DataConfig(path=str(data_folder() / name)))
