"""What a sweep compiles, and that its two ways to train are one."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from pairjax import Config
from pairjax.cli.space import set_fields
from pairjax.sweep.search import DEV
from pairjax.sweep.single import train_run
from pairjax.sweep.trials import Missing, TrialRun, shape_key
from tests.sweep.sweeps import RATES, sweep_of, tiny_config, trials_of

COUNTED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny_config(tmp_path_factory.mktemp("sweep"))


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Programs compiled or read from the cache of compiled ones, as they come."""
    seen: list[str] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == COUNTED:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


STILL = {f"model.dropout.{name}": 0.0 for name in ("hidden", "attention", "interaction", "head")}


@pytest.mark.parametrize(("trainer", "freeze"), [("features", "encoder"), ("population", "none")])
def test_a_population_scores_as_the_ordinary_trainer_does(
    config: Config, tmp_path: Path, trainer: str, freeze: str
) -> None:
    config = set_fields(config, STILL | {"optim.freeze": freeze})
    sweep = sweep_of(trials_of(config, *RATES), tmp_path, nested=False)
    assert all(sweep.trainer_of(number).name == trainer for number in range(3))
    result = sweep.run()
    trial = sweep.trials[2]
    assert result.rows[0].score.mean > 0.8
    run = TrialRun((1,), 20, 0)
    alone = train_run(trial.trial.config, sweep.inputs.data, run, folder=tmp_path / "alone", metric="accuracy")
    assert trial.results[run].by == trainer
    assert alone.by == "training"
    assert alone.scores == trial.results[run].scores
    assert not (tmp_path / "alone" / "model").exists()


@pytest.mark.parametrize(("trainer", "freeze"), [("features", "encoder"), ("population", "none")])
@pytest.mark.parametrize("fitted", ["balanced class weights", "center and scale"])
def test_what_is_fitted_comes_from_the_training_part_of_a_fold(
    config: Config, tmp_path: Path, trainer: str, freeze: str, fitted: str
) -> None:
    fields: dict[str, Any] = STILL | {"optim.freeze": freeze, "train.max_steps": 6}
    header, *rows = Path(str(config.data.path), "train.tsv").read_text().splitlines()
    folder = tmp_path / "pairs"
    folder.mkdir()
    # Large groups of pairs that share a text make the folds' labels differ.
    lines, same = [], 0
    for i, row in enumerate(rows):
        first, second, label = row.split("\t")
        if fitted == "center and scale":
            lines.append(f"the dog\t{second} {i}\t{(i % 3) * 40 + i / 7:.3f}")
            lines[-1] = lines[-1].replace("dog", ("dog", "cat", "bird")[i % 3], 1)
        else:
            same += label == "same"
            lines.append(f"{'the dog' if label == 'same' and same <= 14 else first}\t{second}\t{label}")
            fields["loss.class_weights"] = "balanced"
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("\n".join([header, *lines]) + "\n")
    config = set_fields(config, fields)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(folder)))
    metric = "mse" if fitted == "center and scale" else "nll"
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, metric=metric))
    sweep = sweep_of(trials_of(config, *RATES), tmp_path / "sweep", nested=False)
    sweep.run()
    trial, train = sweep.trials[2], sweep.inputs.data.data.splits["train"]
    assert train.label is not None
    means = [train.label[sweep.inputs.data.fold == fold].mean() for fold in range(3)]
    assert np.ptp(means) > 0.1
    for fold in (0, 2):
        run = TrialRun((fold,), 6, 0)
        alone = train_run(trial.trial.config, sweep.inputs.data, run, folder=tmp_path / f"{fold}", metric=metric)
        assert trial.results[run].by == trainer
        assert trial.results[run].scores == pytest.approx(alone.scores, rel=1e-5)


def test_traced_numbers_share_one_program_and_a_static_field_takes_another(config: Config, tmp_path: Path) -> None:
    def count(name: str, *points: dict[str, Any]) -> int:
        sweep = sweep_of(trials_of(config, *points), tmp_path / name)
        jax.clear_caches()
        with compilations() as seen:
            sweep.run()
        return len(seen)

    two = count("two", *RATES[:2])
    traced = {"optim.weight_decay": 0.5, "loss.label_smoothing": 0.1, "model.dropout.head": 0.4}
    many = [rate | {name: value} for rate in RATES for name, value in traced.items()]
    assert count("many", *many) == two
    static: list[dict[str, Any]] = [{"model.combine.features": ("u", "v")}, {"model.combine.features": ("u*v",)}]
    shapes = {shape_key(trial.config, steps=20) for trial in trials_of(config, *static, *many)}
    assert len(shapes) == 3
    assert count("static", *static) > two


@pytest.mark.slow
def test_whole_runs_of_one_shape_take_the_step_from_the_cache_of_compiled_programs(
    config: Config, tmp_path: Path
) -> None:
    hits: list[str] = []

    def listen(event: str, **_: Any) -> None:
        if event in ("/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"):
            hits.append(event.rpartition("_")[2])

    # A cache of its own: in one that is warm already, numbers baked into the program would be found too.
    kept = jax.config.jax_compilation_cache_dir
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "xla"))
    config = set_fields(config, {"optim.freeze": "none", "train.max_steps": 2, "data.layout": "bucketed"})
    points = [
        {"optim.learning_rate": 1e-3, "model.dropout.hidden": 0.1},
        {"optim.learning_rate": 3e-3, "model.dropout.hidden": 0.3},
    ]
    sweep = sweep_of(trials_of(config, *points), tmp_path, folds=0)
    trainer, run = sweep.trainer_of(0), TrialRun((DEV,), 2, 0)
    assert trainer.name == "training"
    missing: list[Missing] = [(trial, [run]) for trial in sweep.trials]
    try:
        trainer.run(missing[:1])
        jax.monitoring.register_event_listener(listen)
        trainer.run(missing[1:])
    finally:
        jax.monitoring.unregister_event_listener(listen)
        jax.config.update("jax_compilation_cache_dir", kept)
        compilation_cache.reset_cache()
    assert hits.count("hits") > 0
    assert hits.count("misses") == 0
    first, second = (trial.results[run] for trial in sweep.trials)
    assert all(0 <= score <= 1 for score in (*first.scores, *second.scores))
    assert sweep.run().found == 2
