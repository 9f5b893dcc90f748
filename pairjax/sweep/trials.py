"""Reads and writes trials, one folder each, named by a hash of everything that determines its scores.

A sweep that was stopped, or a larger one in the same folder, therefore trains only the runs that are missing.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from pairjax.base.config import Config
from pairjax.base.errors import UserError
from pairjax.base.types import EncoderSpec, PairData
from pairjax.data.subsets import take_pairs
from pairjax.finetune.prepare import plain_config
from pairjax.storage.files import read_json, storage_error, to_json, write_json
from pairjax.storage.hashes import hash_json, hash_pairs
from pairjax.sweep.search import DEV

FORMAT, FITTED_FORMAT = 1, 2
"""Formats of a trial's identity. The second one is that of trials that fit something on the train labels: scores of
format 1 were fitted on held-out labels too if the folds trained together."""
FILE = "trial.json"
APART = ("run", "evaluation", "mesh")
"""Sections of a config that do not affect a trial's scores."""
TRACED = {
    "optim.learning_rate": "learning_rate",
    "optim.weight_decay": "weight_decay",
    "loss.label_smoothing": "label_smoothing",
    "model.dropout.hidden": "hidden",
    "model.dropout.attention": "attention",
    "model.dropout.interaction": "interaction",
    "model.dropout.head": "head",
}
"""Fields that the compiled step takes as data, by their names among the hypers. Trials that differ only in them share
one program."""


@dataclass(frozen=True)
class Trial:
    """One config of a sweep.

    Attributes:
        values: What the search set, by dotted field (`optim.learning_rate`).
        config: The complete config.
    """

    values: Mapping[str, Any]
    config: Config


class TrialRun(NamedTuple):
    """One run of a trial.

    Attributes:
        held: The folds that the run does not see.
        steps: Number of updates.
        seed: Training seed.
    """

    held: tuple[int, ...]
    steps: int
    seed: int

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        folds = "dev" if self.held == (DEV,) else "without-" + "-".join(map(str, self.held))
        return f"seed-{self.seed}-{folds}-steps-{self.steps}"


@dataclass(frozen=True)
class RunScores:
    """The result of a run.

    Attributes:
        scores: The score on each held-out fold; NaN if the metric is undefined or the run diverged.
        diverged: Whether loss or outputs became infinite or NaN.
        by: `features` for a head on cached vectors, `population` for a small model that trained with others, `training`
            for a run by itself.
    """

    scores: tuple[float, ...]
    diverged: bool
    by: str


@dataclass(frozen=True)
class SweepData:
    """The pairs of a sweep, cut into folds.

    Attributes:
        data: The train split, and dev if there are no folds.
        fold: int64 [train]; the fold of each train pair, -2 everywhere if there are no folds.
    """

    data: PairData
    fold: Int64[np.ndarray, " pairs"]

    def rows(self, held: Sequence[int]) -> Int64[np.ndarray, " pairs"]:
        """Returns the numbers of the train pairs that a run without these folds learns from."""
        return np.flatnonzero(~np.isin(self.fold, held))

    def without(self, held: Sequence[int]) -> PairData:
        """Returns the data of such a run: its first held-out fold is dev, its second, if any, is test."""
        train = self.data.splits["train"]
        splits = {"train": take_pairs(train, self.rows(held))}
        for name, fold in zip(("dev", "test"), held, strict=False):
            splits[name] = self.data.splits["dev"] if fold == DEV else take_pairs(train, self.rows_of(fold))
        source = dict(self.data.source) | {"held_out_folds": [] if held == (DEV,) else list(held)}
        return dataclasses.replace(self.data, splits=splits, source=source, notes=())

    def rows_of(self, fold: int) -> Int64[np.ndarray, " pairs"]:
        """Returns the numbers of the train pairs in a fold."""
        return np.flatnonzero(self.fold == fold)

    def key(self) -> str:
        """Returns the SHA-256 of pairs, labels and folds."""
        digest = hash_pairs(self.data)
        digest.update(self.fold.tobytes())
        return digest.hexdigest()


def plain_trial(config: Config) -> dict[str, Any]:
    """Returns the part of a config that determines its scores, except seed and length, as plain data."""
    plain = {name: value for name, value in plain_config(config).items() if name not in APART}
    plain["train"] = {name: value for name, value in plain["train"].items() if name != "seed"}
    return plain


def shape_key(config: Config, *, steps: int) -> str:
    """Returns a key that is equal for configs whose runs of `steps` updates share one compiled program."""
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
        path: The folder; created when the first score is saved.
        trial: The trial.
        results: Scores by run.
    """

    path: Path
    trial: Trial
    results: dict[TrialRun, RunScores] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Name of the folder."""
        return self.path.name

    def save(self, results: Mapping[TrialRun, RunScores]) -> None:
        """Adds scores and writes the file, completely or not at all."""
        self.results |= results
        runs = [
            {**run._asdict(), "scores": list(result.scores), "diverged": result.diverged, "by": result.by}
            for run, result in sorted(self.results.items())
        ]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(f"{self.path} cannot be made", error) or error from error
        record = {"values": dict(self.trial.values), "config": plain_trial(self.trial.config), "runs": runs}
        write_json(self.path / FILE, record)


Missing = tuple[TrialFolder, Sequence[TrialRun]]
"""A trial and the runs that it lacks."""


@dataclass(frozen=True)
class SweepInputs:
    """What all trials of a sweep share.

    Attributes:
        data: Pairs and folds.
        specs: The architecture of each encoder, by the name that configs give it.
        metric: Name of the metric that scores the runs.
        folder: The sweep's folder.
        log: Takes progress lines.
    """

    data: SweepData
    specs: Mapping[str, EncoderSpec]
    metric: str
    folder: Path
    log: Callable[[str], None]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def open_trial(
    root: Path, trial: Trial, *, data_key: str, encoder: str, fitted: bool
) -> tuple[TrialFolder, str | None]:
    """Opens a trial's folder and reads the scores in it.

    Args:
        root: The folder of all trials.
        trial: The trial.
        data_key: Key of the sweep's data (`SweepData.key`).
        encoder: Key of the trial's encoder (`encoder_content`).
        fitted: Whether the trial fits something on the train labels (`needs_parts`).

    Returns:
        The folder, and a note if its file cannot be read.
    """
    plain = json.loads(to_json([FITTED_FORMAT if fitted else FORMAT, data_key, plain_trial(trial.config)]))
    # The key of the data has the folds and the dev split that this option changes.
    plain[-1]["data"].pop("group_texts", None)
    # Trials without a prefix keep the name that they had before the option existed.
    plain[-1]["data"] = {key: value for key, value in plain[-1]["data"].items() if value or "prefix" not in key}
    plain[-1]["model"]["encoder"] = encoder
    name = hash_json(plain)[:16]
    folder = TrialFolder(root / name, trial)
    if not (folder.path / FILE).is_file():
        return folder, None
    try:
        for line in read_json(folder.path / FILE, required=("runs",))["runs"]:
            run = TrialRun(tuple(line["held"]), int(line["steps"]), int(line["seed"]))
            scores = tuple(map(_number, line["scores"]))
            folder.results[run] = RunScores(scores, bool(line["diverged"]), str(line["by"]))
    except (UserError, ValueError, KeyError, TypeError) as error:
        folder.results.clear()
        return folder, f"{folder.path / FILE} cannot be read ({type(error).__name__}): the trial starts again"
    return folder, None


def format_value(value: Any) -> str:
    """Formats the value of a field for tables and lines."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.4g}"
        case tuple():
            return " ".join(map(str, value)) or "()"
        case _:
            return str(value)
