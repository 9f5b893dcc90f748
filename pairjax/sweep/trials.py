"""Trials of a sweep on disk: one folder each, named by a hash of what decides its scores, so that a sweep that stopped,
or a larger one in the same folder, trains only what is not there."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from pairjax.base.config import Config
from pairjax.base.errors import UserError
from pairjax.base.types import PairData
from pairjax.data.subsets import take_pairs
from pairjax.finetune.prepare import plain_config
from pairjax.storage.files import read_json, storage_error, to_json, write_json
from pairjax.storage.hashes import hash_json, hash_pairs
from pairjax.sweep.search import DEV

FORMAT = 1
FILE = "trial.json"
APART = ("run", "evaluation", "mesh")
"""Sections that have no part in a trial's scores."""
TRACED = {
    "optim.learning_rate": "learning_rate",
    "optim.weight_decay": "weight_decay",
    "loss.label_smoothing": "label_smoothing",
    "model.dropout.hidden": "hidden",
    "model.dropout.attention": "attention",
    "model.dropout.interaction": "interaction",
    "model.dropout.head": "head",
}
"""Fields that are data to the compiled step, by their names among the hypers: trials that differ in them alone share
one program."""


@dataclass(frozen=True)
class Trial:
    """One config of a sweep.

    Attributes:
        values: What the search set, by dotted field (`optim.learning_rate`).
        config: The whole.
    """

    values: Mapping[str, Any]
    config: Config


class TrialRun(NamedTuple):
    """Which of a trial's runs: the folds that it has not seen, its updates, its seed."""

    held: tuple[int, ...]
    steps: int
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        folds = "dev" if self.held == (DEV,) else "without-" + "-".join(map(str, self.held))
        return f"seed-{self.seed}-{folds}-steps-{self.steps}"


@dataclass(frozen=True)
class Scored:
    """What a run left.

    Attributes:
        scores: On each of its held folds; NaN where the metric is undefined or the run diverged.
        diverged: Whether its loss or outputs left the finite numbers.
        by: `features` for a head on cached vectors, `population` for a small model that trained with others, `training`
            for a run of its own.
    """

    scores: tuple[float, ...]
    diverged: bool
    by: str


@dataclass(frozen=True)
class SweepData:
    """The pairs of a sweep, cut into folds.

    Attributes:
        data: train, and dev where there are no folds.
        fold: int64 [train], the fold of each pair of train; all -2 without folds.
    """

    data: PairData
    fold: Int64[np.ndarray, " pairs"]

    def rows(self, held: Sequence[int]) -> Int64[np.ndarray, " pairs"]:
        """Rows of train that a run without these folds learns from."""
        return np.flatnonzero(~np.isin(self.fold, held))

    def without(self, held: Sequence[int]) -> PairData:
        """The data of such a run: its folds as dev and, where there are two, test."""
        train = self.data.splits["train"]
        splits = {"train": take_pairs(train, self.rows(held))}
        for name, fold in zip(("dev", "test"), held, strict=False):
            splits[name] = self.data.splits["dev"] if fold == DEV else take_pairs(train, self.rows_of(fold))
        source = dict(self.data.source) | {"held_out_folds": [] if held == (DEV,) else list(held)}
        return dataclasses.replace(self.data, splits=splits, source=source, notes=())

    def rows_of(self, fold: int) -> Int64[np.ndarray, " pairs"]:
        """Rows of train in a fold."""
        return np.flatnonzero(self.fold == fold)

    def key(self) -> str:
        """SHA-256 of pairs, labels and folds."""
        digest = hash_pairs(self.data)
        digest.update(self.fold.tobytes())
        return digest.hexdigest()


def plain_trial(config: Config) -> dict[str, Any]:
    """What of a config decides its scores, but for seed and length, as plain data."""
    plain = {name: value for name, value in plain_config(config).items() if name not in APART}
    plain["train"] = {name: value for name, value in plain["train"].items() if name != "seed"}
    return plain


def shape_key(config: Config, *, steps: int) -> str:
    """Equal for configs whose runs of so many updates are one compiled program."""
    plain = plain_trial(config)
    for name in TRACED:
        *sections, last = name.split(".")
        node = plain
        for section in sections:
            node = node[section]
        del node[last]
    plain["train"] = {"batch_size": config.train.batch_size, "steps": steps}
    return json.dumps(json.loads(to_json(plain)), sort_keys=True)


@dataclass
class TrialFolder:
    """A trial's folder and the scores in it.

    Attributes:
        path: The folder; made when the first score is kept.
        trial: The trial.
        found: Scores by run.
    """

    path: Path
    trial: Trial
    found: dict[TrialRun, Scored] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.path.name

    def keep(self, scored: Mapping[TrialRun, Scored]) -> None:
        """Add scores to the file, whole or not at all."""
        self.found |= scored
        runs = [
            {**run._asdict(), "scores": list(one.scores), "diverged": one.diverged, "by": one.by}
            for run, one in sorted(self.found.items())
        ]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(f"{self.path} cannot be made", error) or error from error
        record = {"values": dict(self.trial.values), "config": plain_trial(self.trial.config), "runs": runs}
        write_json(self.path / FILE, record)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def open_trial(root: Path, trial: Trial, *, data_key: str, encoder: str) -> tuple[TrialFolder, str | None]:
    """A trial's folder below `root`, with the scores that are there; and a note where its file cannot be read.

    Args:
        root: Of all trials.
        trial: The trial.
        data_key: Of the sweep's data (`SweepData.key`).
        encoder: Of the trial's encoder (`encoder_content`).
    """
    plain = json.loads(to_json([FORMAT, data_key, plain_trial(trial.config)]))
    plain[-1]["model"]["encoder"] = encoder
    name = hash_json(plain)[:16]
    folder = TrialFolder(root / name, trial)
    if not (folder.path / FILE).is_file():
        return folder, None
    try:
        for row in read_json(folder.path / FILE, required=("runs",))["runs"]:
            run = TrialRun(tuple(row["held"]), int(row["steps"]), int(row["seed"]))
            folder.found[run] = Scored(tuple(map(_number, row["scores"])), bool(row["diverged"]), str(row["by"]))
    except (UserError, ValueError, KeyError, TypeError) as error:
        folder.found.clear()
        return folder, f"{folder.path / FILE} cannot be read ({type(error).__name__}): the trial starts anew"
    return folder, None
