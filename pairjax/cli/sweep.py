"""`pairjax sweep [EXPERIMENT.py] --grid FIELD=V,V --random FIELD=log:LOW:HIGH`: search any fields of a config."""

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import tyro

from pairjax.base.config import Config
from pairjax.base.errors import UserError
from pairjax.cli.options import default_config, parse, split_experiment, without_source
from pairjax.cli.space import Dimension, grid_points, read_space, sample_points, set_fields

if TYPE_CHECKING:
    from rich.console import Console

    from pairjax.sweep.sweep import SweepDesign, SweepResult

DESCRIPTION = """Search fields of a config: pairjax sweep [experiments/X.py] --grid FIELD=V,V ... [options].

Trials are compared on stratified folds of the train split; dev and test are not read. Pairs that share texts are in one
fold, unless --data.no-group-texts is given. The score of the chosen config
comes from folds that had no part in the choice (nested). Bi-encoders with --optim.freeze encoder train from cached
features, all folds, seeds and rates as one program. Small encoders with the padded layout train together too; other
trials train one after another. The same command resumes a sweep that was stopped, and a larger search in the same
folder trains only the new trials. Runs keep their last parameters and never stop early, because the fold that scores a
run may not choose its step."""
DRAWS = 16
"""Trials of a random search, unless --trials is given."""
MARK, LOCK = "sweep.json", ".lock"
TOP = 20
"""Trials that are printed; all are in the table's file."""


@dataclass(frozen=True)
class SweepOptions(Config):
    """A search, and the config that it varies."""

    grid: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """FIELD=V,V,... Repeat for more fields. Spaces separate the parts of one value: "model.head.hidden=64,64 32"."""
    random: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """FIELD=uniform:LOW:HIGH, FIELD=log:LOW:HIGH or FIELD=choice:V,V. Repeat for more fields."""
    method: Literal["grid", "random", "halving"] | None = None
    """grid: every point of the grid. random: random points of grid and ranges. halving: successive halving of either,
    with short runs of all trials and ever longer runs of the best. Default: random if --random is given, else grid."""
    trials: int | None = None
    """Number of random points (default: 16; for a grid, all points)."""
    folds: int = 5
    """Number of folds of the train split; 0 compares on dev instead."""
    nested: bool = True
    """Score the choice on folds that had no part in it. With k folds this trains k (k - 1) / 2 more models a trial."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds; a trial's score is the mean over them."""
    search_seed: int = 0
    """Seeds the random points and the folds."""
    factor: int = 3
    """Factor of halving: each rung keeps one trial in this many and trains it this many times as long."""
    dir: str | None = None
    """Folder of the sweep (default: runs/sweep_NAME)."""
    features: str | None = None
    """Folder that `pairjax features` made from the same data, read instead of encoding the texts again; for frozen
    bi-encoders."""

    def check(self) -> None:
        super().check()
        if self.trials is not None and self.trials < 1:
            raise UserError("--trials is too small", got=self.trials, expected="at least 1")
        if self.search_seed < 0 or any(seed < 0 for seed in self.seeds):
            raise UserError(
                "a seed is negative", got=" ".join(map(str, (*self.seeds, self.search_seed))), expected="0 or more"
            )


def _points(options: SweepOptions, space: Sequence[Dimension]) -> tuple[str, list[dict[str, Any]], list[str]]:
    """Returns the method, the values of each trial, and notes.

    Raises:
        UserError: Options do not fit the method.
    """
    method = options.method or ("random" if options.random else "grid")
    if method == "grid" and options.random:
        raise UserError("--method grid does not support --random", fix="use --method random or halving")
    if method == "grid" and options.trials is not None:
        raise UserError(
            "--method grid tries every point and does not support --trials",
            got=f"--trials {options.trials}",
            fix="use --method random",
        )
    if method == "grid" or (method == "halving" and not options.random and options.trials is None):
        return method, grid_points(space), []
    count = options.trials or DRAWS
    points = sample_points(space, count=count, seed=options.search_seed)
    notes = [] if len(points) == count else [f"the space holds only {len(points)} of the {count} trials requested"]
    return method, points, notes


def _check_folder(folder: Path) -> None:
    """Checks that a folder is new, empty or a sweep's.

    Raises:
        UserError: The folder holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: the sweep's folder is a file", fix="choose another --dir")
    files = [child for child in folder.iterdir() if child.name != LOCK] if folder.is_dir() else []
    if files and not (folder / MARK).exists():
        raise UserError(f"{folder}: not a sweep's folder", got=f"no {MARK}", fix="choose another --dir")


def main(args: Sequence[str]) -> int:
    """Runs `pairjax sweep` and returns its exit code."""
    path, rest = split_experiment(args)
    base, _, name = default_config(Config, path, command="pairjax sweep", name="pairs")
    sections = {field.name: getattr(base, field.name) for field in dataclasses.fields(Config)}
    default = SweepOptions(**sections | {"data": without_source(base.data, rest)})
    options = parse(SweepOptions, rest, default=default, prog="pairjax sweep", description=DESCRIPTION)
    space = read_space(options.grid, options.random)
    method, points, notes = _points(options, space)
    folder = Path(options.dir or f"runs/sweep_{name}")
    _check_folder(folder)

    from pairjax.base.terminal import table_console
    from pairjax.step.compilation import use_compilation_cache
    from pairjax.sweep.single import StoppedError
    from pairjax.sweep.sweep import SweepDesign, prepare_sweep, without_choice
    from pairjax.sweep.trials import Trial

    console = table_console()

    def log(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    design = SweepDesign(
        method=method,  # type: ignore[arg-type]
        folds=options.folds,
        nested=options.nested,
        seeds=options.seeds,
        factor=options.factor,
        fold_seed=options.search_seed,
    )
    sections = {field.name: getattr(options, field.name) for field in dataclasses.fields(Config)}
    sections["run"] = dataclasses.replace(options.run, dir=str(folder / "best"), resume=False, overwrite=False)
    plain = without_choice(Config(**sections))
    trials = [Trial(values, set_fields(plain, values)) for values in points]
    use_compilation_cache(options.run.compilation_cache)
    cache = None if options.features is None else Path(options.features)
    sweep = prepare_sweep(trials, design, folder=folder, log=log, features=cache)
    for note in (*notes, *sweep.notes):
        log(note)
    command = shlex.join(["pairjax", "sweep", *args])
    with _lock_folder(folder, command, design):
        try:
            result = sweep.run()
        except StoppedError:
            log("stopped; the same command resumes the sweep")
            return 143
        experiment = None if path is None else Path(path)
        _finish(result, design, folder, experiment=experiment, command=command, console=console)
    return 0


def _lock_folder(folder: Path, command: str, design: "SweepDesign") -> IO[str]:
    """Creates and marks the folder; the open file that it returns holds the lock."""
    from pairjax.run.folder import take_lock
    from pairjax.storage.files import storage_error, write_json

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(f"{folder} cannot be made", error) or error from error
    lock, _ = take_lock(folder, what="sweep's folder", option="--dir")
    write_json(folder / MARK, {"command": command, "design": dataclasses.asdict(design)})
    return lock


def _finish(
    result: "SweepResult",
    design: "SweepDesign",
    folder: Path,
    *,
    experiment: Path | None,
    command: str,
    console: "Console",
) -> None:
    """Writes the sweep's files and prints its table."""
    import jax
    from rich.text import Text

    from pairjax.base.terminal import plain_table
    from pairjax.storage.provenance import provenance
    from pairjax.sweep.results import BEST, MARGINALS, TABLE, explain_scores, format_spread, write_sweep
    from pairjax.sweep.trials import format_value

    origin = provenance(device_kind=jax.devices()[0].device_kind, device_count=jax.device_count())
    write_sweep(result, design, folder, experiment=experiment, command=command, provenance=origin)
    fields = list(result.rows[0].trial.values)
    halving = design.method == "halving"
    columns = ["", *(name.rpartition(".")[2].replace("_", "-") for name in fields), result.metric]
    table = plain_table(f"{len(result.rows)} trials", columns + (["steps"] if halving else []), left=1)
    for rank, row in enumerate(result.rows[:TOP], 1):
        score = f"diverged ({row.diverged} of {row.runs} runs)" if row.diverged else format_spread(row.score)
        cells = [format_value(row.trial.values[name]) for name in fields]
        table.add_row(str(rank), *map(Text, cells), score, *([f"{row.steps:,}"] if halving else []))
    console.print(table, highlight=False)
    if len(result.rows) > TOP:
        console.print(f"and {len(result.rows) - TOP} more in {folder / TABLE}", highlight=False)
    for line in explain_scores(result, design):
        console.print(f"- {line}", highlight=False, markup=False, soft_wrap=True)
    summary = f"{result.trained:,} runs trained, {result.found:,} found, {result.seconds:.1f} s"
    files = f"{folder / TABLE}, {MARGINALS}"
    console.print(f"{summary}; {files}", highlight=False, markup=False, soft_wrap=True)
    print(f"pairjax train {shlex.quote(str(folder / BEST))}")
