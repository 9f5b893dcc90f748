"""A run that stands still says so, on what, and goes on."""

import dataclasses
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from pairjax import Config, DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from pairjax.finetune import job
from pairjax.finetune.train import train
from pairjax.run import session, watchdog
from pairjax.run.watchdog import Watchdog
from pairjax.step import programs
from tests.cli.conftest import write_pairs
from tests.tiny import write_tiny_encoder


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: self.now))


def test_a_phase_is_told_when_it_is_late_and_each_time_it_has_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = Clock(monkeypatch), list[str]()
    watch = Watchdog(said.append, bounds=dict.fromkeys(watchdog.BOUNDS, 10.0))
    with watch.phase("data", step=3):
        message = []
        for clock.now in (0.0, 9.0, 10.0, 11.0, 19.0, 20.0, 39.0, 45.0):
            line = watch._line(clock.now)
            if line is not None:
                message.append((clock.now, line))
    starved = "step 3: no batch for {} s: the data pipeline starves the device"
    assert message == [(10.0, starved.format(10)), (20.0, starved.format(20)), (45.0, starved.format(45))]
    assert said == ["step 3: went on after 45 s"]
    assert watch._line(1000.0) is None
    with watch.phase("step", step=4):
        clock.now += 5
    assert said == ["step 3: went on after 45 s"]
    assert watch.summary() == (
        "the loop took 50 s: 10.0 % in steps, 0.0 % compiling, 90.0 % waiting for data, 0.0 % evaluating, 0.0 % saving"
    )


def test_every_phase_has_its_bound_line_and_name() -> None:
    assert watchdog.BOUNDS.keys() == watchdog.LINES.keys() == watchdog.NAMES.keys()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("watchdog")
    (folder / "pairs").mkdir()
    write_pairs(folder / "pairs" / "train.tsv", start=0, rows=21)
    write_pairs(folder / "pairs" / "dev.tsv", start=40, rows=9)
    return Config(
        data=DataConfig(path=str(folder / "pairs"), max_length=48, buckets=1),
        model=ModelConfig(encoder=str(write_tiny_encoder(folder / "encoder", layers=1, hidden=8))),
        train=TrainConfig(batch_size=4, max_steps=4, eval_every=2),
        evaluation=EvalConfig(bootstrap=100, swap=False),
        run=RunConfig(compilation_cache="", progress=False),
    )


class WaitingLog(io.StringIO):
    """A log that lets go, once it holds a line, whatever waits for it."""

    def __init__(self, awaited: str) -> None:
        super().__init__()
        self._awaited, self.seen = awaited, threading.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        if self._awaited in self.getvalue():
            self.seen.set()
        return count


def run(config: Config, folder: Path, log: WaitingLog, monkeypatch: pytest.MonkeyPatch, **bounds: float) -> str:
    quick = dict(watchdog.BOUNDS) | bounds
    monkeypatch.setattr(session, "Watchdog", lambda say: Watchdog(say, bounds=quick, tick=0.02))
    chosen = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=str(folder)))
    assert train(chosen, console=Console(file=log, width=400)).exit_code == 0
    return log.getvalue()


def test_a_pipeline_that_starves_the_device_is_told_and_the_run_goes_on(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, real = WaitingLog("step 3: no batch for "), job.train_batches

    def slow(*args: Any, **options: Any) -> Iterator[tuple[int, Any]]:
        for step, batch in real(*args, **options):
            if step == 2:
                assert log.seen.wait(60)
            yield step, batch

    monkeypatch.setattr(job, "train_batches", slow)
    message = run(config, tmp_path / "r", log, monkeypatch, data=0.1)
    assert "the data pipeline starves the device" in message
    assert "step 3: went on after" in message
    assert (tmp_path / "r" / "result.json").exists()


def test_a_step_that_hangs_is_told_and_the_run_goes_on(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, real, count = WaitingLog("step 3: not finished after "), programs.make_train_step, 0

    def make(*args: Any, **options: Any) -> Any:
        step = real(*args, **options)

        def hanging(*inputs: Any) -> Any:
            nonlocal count
            count += 1
            if count == 3:
                assert log.seen.wait(60)
            return step(*inputs)

        return hanging

    monkeypatch.setattr(programs, "make_train_step", make)
    monkeypatch.setattr(programs, "share", lambda key, build: build())
    message = run(config, tmp_path / "r", log, monkeypatch, step=0.1)
    assert "a device hangs, or waits for another process" in message
    assert "step 3: went on after" in message
    assert "the loop took" in message
