"""Nothing compiles once every row length was seen: fine-tuning, pretraining and prediction, as their users run them."""

import dataclasses
import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import pytest
from rich.console import Console

import pairjax
from pairjax import (
    Config,
    CorpusConfig,
    DataConfig,
    EvalConfig,
    ModelConfig,
    PretrainConfig,
    PretrainEvalConfig,
    PretrainModelConfig,
    RunConfig,
    TrainConfig,
)
from pairjax.finetune.job import build_job
from pairjax.finetune.prepare import prepare
from pairjax.pretrain.job import build_pretraining_job
from pairjax.pretrain.prepare import prepare_pretraining
from pairjax.run.loop import Job
from pairjax.step import shared
from tests.data.texts import write_documents
from tests.tiny import write_tiny_encoder


@pytest.fixture(autouse=True)
def no_program_is_shared_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets the programs of the tests before."""
    monkeypatch.setattr(shared, "_functions", OrderedDict())


COMPILED = "/jax/core/compile/backend_compile_duration"
"""JAX records it for a program read from the cache on disk too: the tests' cache hides no compilation."""
EPOCHS = 2


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Names of the programs that are compiled meanwhile."""
    names: list[str] = []

    def hear(event: str, seconds: float, **more: Any) -> None:
        if event == COMPILED:
            names.append(more["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(hear)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(hear)


def by_epoch(job: Job) -> tuple[list[list[str]], list[set[int]]]:
    """What each epoch compiles, in its steps and in its evaluation, and the row lengths that it has."""
    made: list[list[str]] = []
    lengths: list[set[int]] = []
    state = job.state
    with compilations() as names:
        for index, batch in job.batches(0):
            if index % job.steps_per_epoch == 0:
                lengths.append(set())
            lengths[-1].add(batch.input_ids.shape[1])
            state, metrics = job.step(state, batch)
            assert np.isfinite(metrics["loss_sum"]).all()
            if (index + 1) % job.steps_per_epoch == 0:
                job.evaluate(state)
                made.append(names.copy())
                names.clear()
    assert len(made) == EPOCHS
    return made, lengths


def write_split(path: Path, *, start: int, rows: int) -> None:
    """Pairs of 1 to 20 words a side, so that row lengths differ."""
    lines = ["sentence1\tsentence2\tlabel"]
    for i in range(start, start + rows):
        text = " ".join(["man", "dog", "woman"][(i + place) % 3] for place in range(1 + i * 7 % 20))
        lines.append(f"{text}\t{text if i % 2 else 'no ' + text}\t{'same' if i % 2 else 'other'}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("recompiles")
    write_split(folder / "train.tsv", start=0, rows=76)
    write_split(folder / "dev.tsv", start=80, rows=24)
    return Config(
        data=DataConfig(path=str(folder), max_length=64, buckets=3),
        model=ModelConfig(encoder=str(write_tiny_encoder(folder / "encoder"))),
        train=TrainConfig(batch_size=8, epochs=EPOCHS),
        evaluation=EvalConfig(batch_size=8, bootstrap=100, swap=False, fit=False),
        run=RunConfig(compilation_cache="", progress=False),
    )


@pytest.mark.parametrize("kind", ["bucketed", "packed"])
def test_fine_tuning_compiles_its_step_once_a_row_length(
    config: Config, kind: Literal["bucketed", "packed"], tmp_path: Path
) -> None:
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, layout=kind))
    prepared = prepare(config)
    (first, second), (seen, again) = by_epoch(build_job(config, prepared))
    layout = prepared.layout
    assert seen == again == ({layout.row} if kind == "packed" else set(layout.ladder))
    assert len(seen) == (1 if kind == "packed" else 3)
    assert first.count("jit(step)") == len(seen)
    assert second == []


def test_pretraining_compiles_its_step_once(tmp_path: Path) -> None:
    write_documents(tmp_path / "a.txt", documents=12)
    config = PretrainConfig(
        data=CorpusConfig(
            corpus=str(tmp_path / "a.txt"), dev_fraction=0.25, max_length=48, cache=str(tmp_path / "cache")
        ),
        model=PretrainModelConfig(encoder=str(write_tiny_encoder(tmp_path / "encoder"))),
        train=TrainConfig(batch_size=8, epochs=EPOCHS),
        evaluation=PretrainEvalConfig(examples=8, during=8, batch_size=8, bootstrap=100, baselines=False),
        run=RunConfig(compilation_cache="", progress=False),
    )
    job = build_pretraining_job(config, prepare_pretraining(config))
    assert job.steps_per_epoch > 1
    (first, second), (seen, again) = by_epoch(job)
    assert seen == again == {48}
    assert first.count("jit(step)") == 1
    assert second == []


def test_a_second_run_with_the_same_settings_compiles_no_step(config: Config) -> None:
    def names(config: Config) -> list[str]:
        """Names of the programs that two updates and an evaluation compile."""
        job = build_job(config, prepare(config))
        state = job.state
        with compilations() as names:
            for _, batch in itertools.islice(job.batches(0), 2):
                state, _ = job.step(state, batch)
            job.evaluate(state)
        return [name for name in names if name in ("jit(step)", "jit(evaluate)")]

    config = dataclasses.replace(config, data=dataclasses.replace(config.data, layout="padded"))
    optim = dataclasses.replace(config.optim, learning_rate=1e-3, weight_decay=0.5)
    loss = dataclasses.replace(config.loss, label_smoothing=0.1)
    train = dataclasses.replace(config.train, seed=7)
    assert names(config) == ["jit(step)", "jit(evaluate)"]
    assert names(dataclasses.replace(config, optim=optim, train=train, loss=loss)) == []
    # These are arguments of the step; the schedule, the loss, the frozen part and the model are not.
    for changed in (
        dataclasses.replace(config, train=dataclasses.replace(train, max_steps=3)),
        dataclasses.replace(config, loss=dataclasses.replace(config.loss, class_weights="balanced")),
        dataclasses.replace(config, optim=dataclasses.replace(optim, freeze="encoder")),
        dataclasses.replace(config, model=dataclasses.replace(config.model, pooling="mean")),
    ):
        assert "jit(step)" in names(changed)


def sentences(word: str) -> list[str]:
    return [" ".join([word] * count) for count in range(1, 29)]


@pytest.mark.parametrize("kind", ["cross", "bi"])
def test_prediction_compiles_nothing_for_other_texts_of_the_same_lengths(
    config: Config, kind: str, tmp_path: Path
) -> None:
    model = dataclasses.replace(config.model, kind=kind)
    run = dataclasses.replace(config.run, dir=str(tmp_path / "run"))
    train = dataclasses.replace(config.train, max_steps=1)
    done = pairjax.train(dataclasses.replace(config, model=model, run=run, train=train), console=Console(quiet=True))

    def outputs(first: Sequence[str], second: Sequence[str]) -> list[str]:
        with compilations() as names:
            actual = loaded.outputs(first, second, batch_size=8)
        assert np.isfinite(actual).all()
        return names

    loaded = pairjax.load(done.dir)
    programs = {"cross": {"jit(evaluate)"}, "bi": {"jit(vectors)", "jit(head_pooled)"}}
    assert set(outputs(sentences("man"), sentences("dog"))) == programs[kind]
    assert outputs(sentences("woman"), sentences("all")) == []
