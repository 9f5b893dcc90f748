"""Full and read-only disks, a clock that runs backwards, two runs in one folder: one line each, and nothing is lost.

Cases that need a file system of their own mount a small tmpfs, and are left out where that is not allowed.
"""

import datetime
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pairjax import Config, UserError
from pairjax.run.checkpoint import Checkpointer
from pairjax.run.distributed import StopSignal
from pairjax.storage import provenance
from tests.torture.runs import options, outcome, start, tiny_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny_config(tmp_path_factory.mktemp("storage"))


@pytest.fixture(scope="module")
def whole(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    start(config, folder)
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yields a file system of 4 MB, which `remount` changes."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """Writes a file that leaves `leave` bytes free."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    free = shutil.disk_usage(disk).free
    ballast.write_bytes(bytes(max(0, free - leave)))
    return ballast


def at_save(step: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls `act` just before a step is saved, when the previous save is finished."""
    real = Checkpointer.save

    def save(self: Checkpointer, at: int, *args: Any, **named: Any) -> bool:
        if at == step:
            self.wait()
            act()
        return real(self, at, *args, **named)

    monkeypatch.setattr(Checkpointer, "save", save)


def command(config: Config, run: Path, *more: str, **environment: str) -> list[Any]:
    """Returns the arguments of `subprocess` for `pairjax train`."""
    line = [sys.executable, "-m", "pairjax", "train", *options(config), f"--run.dir={run}", *more]
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": os.environ["XLA_FLAGS"], "PYTHONPATH": str(ROOT)}
    return [line, os.environ | flags | environment]


# ------------------------------------------------------------------------------------------------------- full disks


def test_a_limit_on_file_sizes_during_a_save_leaves_the_earlier_checkpoint_intact(
    config: Config, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_save(4, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard)), monkeypatch)
    try:
        with pytest.raises(UserError) as error:
            start(config, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "the checkpoint of step 4 cannot be written (step 2 kept): the file is larger" in str(error.value)
    monkeypatch.undo()
    assert "resumed at step 2 of 8" in start(config, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(whole)


@pytest.mark.parametrize("leave", [0, 20_000, 60_000])
def test_a_disk_that_fills_during_a_save_leaves_the_earlier_checkpoint_intact(
    leave: int, config: Config, whole: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_save(4, lambda: fill(disk, leave=leave), monkeypatch)
    with pytest.raises(UserError) as error:
        start(config, disk / "run")
    assert "cannot be written" in str(error.value)
    assert "the disk is full; free some space, then go on with --run.resume" in str(error.value)
    monkeypatch.undo()
    (disk / "ballast").unlink()
    assert "resumed at step 2 of 8" in start(config, disk / "run", resume=True)
    assert outcome(disk / "run") == outcome(whole)


def test_a_full_disk_removes_no_checkpoint_however_often_the_run_is_tried(
    config: Config, whole: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_save(4, lambda: fill(disk, leave=20_000), monkeypatch)
    for tried in range(3):
        with pytest.raises(UserError, match="the disk is full"):
            start(config, disk / "run", resume=tried > 0)
        digests = [path.stem for path in (disk / "run" / "checkpoints" / "digests").glob("*.json")]
        assert digests == ["2"]
    monkeypatch.undo()
    (disk / "ballast").unlink()
    start(config, disk / "run", resume=True)
    assert outcome(disk / "run") == outcome(whole)


@pytest.mark.slow
@pytest.mark.parametrize("leave", [450_000, 600_000, 750_000, 900_000])
def test_a_full_disk_is_reported_in_one_line(leave: int, config: Config, whole: Path, disk: Path) -> None:
    ballast = fill(disk, leave=leave)
    line, environment = command(config, disk / "run", "--run.keep-checkpoints=8")
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("the disk is full; free some space, then go on with --run.resume") == 1
    ballast.unlink()
    done = subprocess.run([*line, "--run.resume"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert outcome(disk / "run").keys() == outcome(whole).keys()


def test_retention_never_removes_the_last_good_checkpoint_if_newer_ones_are_damaged(tmp_path: Path) -> None:
    import jax.numpy as jnp

    state = {"w": jnp.arange(1000.0)}
    with Checkpointer(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state, host={})
    # What follows is damaged as soon as it is written, as by a disk that lies.
    for step in (2, 3, 4):
        with Checkpointer(tmp_path, keep=5) as checkpoints:
            checkpoints.save(step, state, host={})
        for path in (tmp_path / str(step) / "state").rglob("*"):
            if path.is_file():
                path.write_bytes(bytes(path.stat().st_size))
    with Checkpointer(tmp_path, keep=1) as checkpoints:
        restored = checkpoints.restore(state)
        assert restored.step == 1
        assert len(restored.notes) == 3
        # The run goes on from 1; only what it saves anew may take the place of 1.
        assert checkpoints.save(2, state, host={})
        checkpoints.wait()
        assert checkpoints.latest_step() == 2
    with Checkpointer(tmp_path) as checkpoints:
        assert checkpoints.restore(state).step == 2


# ------------------------------------------------------------------------------------------- read-only, TMPDIR, clock


def test_a_read_only_folder_is_reported_before_anything_is_read(config: Config, disk: Path) -> None:
    start(config, disk / "run")
    before = outcome(disk / "run")
    remount(disk, "ro")
    for place, how in ((disk / "run", {"resume": True}), (disk / "run", {"overwrite": True}), (disk / "new", {})):
        with pytest.raises(UserError, match="the run folder cannot be written; got no permission in") as error:
            start(config, place, **how)
        assert "\n" not in str(error.value)
    remount(disk, "rw")
    assert outcome(disk / "run") == before


def test_a_folder_that_becomes_read_only_ends_the_run_with_one_line_and_loses_nothing(
    config: Config, whole: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Path(shutil.copytree(whole, disk / "run"))
    for name in ("model", "result.json", "metrics.jsonl", "checkpoints"):
        path = started / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def shut() -> None:
        # The log is open for writing, which a remount would not allow: the folder of checkpoints alone.
        subprocess.run(["mount", "--bind", disk / "run/checkpoints", disk / "run/checkpoints"], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", disk / "run/checkpoints"], check=True)

    at_save(4, shut, monkeypatch)
    try:
        with pytest.raises(UserError, match=r"step 4 cannot be written \(step 2 kept\): the file system is read-only"):
            start(config, disk / "run", resume=True)
    finally:
        subprocess.run(["umount", "--lazy", disk / "run/checkpoints"], check=True)
    monkeypatch.undo()
    assert "resumed at step 2 of 8" in start(config, disk / "run", resume=True)
    assert outcome(disk / "run") == outcome(whole)


@pytest.mark.slow
def test_a_full_tmpdir_has_no_effect(config: Config, whole: Path, disk: Path, tmp_path: Path) -> None:
    fill(disk, leave=0)
    line, environment = command(config, tmp_path / "run", TMPDIR=str(disk))
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "run").keys() == outcome(whole).keys()
    line[3:] = ["predict", str(tmp_path / "run"), config.data.path + "/dev.tsv", "--output", str(tmp_path / "o.jsonl")]
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 9
    assert [path.name for path in disk.iterdir()] == ["ballast"]


def test_a_clock_that_runs_backwards_has_no_effect(
    config: Config, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every reading of the clock is an hour earlier than the last one, and all files have a later date."""
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopSignal, "requested", lambda self, done: done == 6)
        start(config, run)
    later = time.time() + 400 * 86_400
    for path in run.rglob("*"):
        os.utime(path, (later, later))
    now, nanoseconds = time.time(), time.time_ns()
    looks = 0

    def back(start: Any, unit: int) -> Callable[[], Any]:
        def look() -> Any:
            nonlocal looks
            looks += 1
            return start - looks * 3600 * unit

        return look

    class Back(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:
            return datetime.datetime.fromtimestamp(now - 3600 * looks, tz)

    monkeypatch.setattr(time, "time", back(now, 1))
    monkeypatch.setattr(time, "time_ns", back(nanoseconds, 10**9))
    monkeypatch.setattr(provenance, "datetime", Back)
    told = start(config, run, resume=True)
    monkeypatch.undo()
    assert looks > 0
    assert "resumed at step 6 of 8" in told
    assert outcome(run) == outcome(whole)


# --------------------------------------------------------------------------------------------------------- two runs


@pytest.mark.parametrize("how", ["--run.overwrite", pytest.param("--run.resume", marks=pytest.mark.slow)])
def test_a_second_run_in_a_folder_in_use_is_refused_and_the_first_continues(
    how: str, config: Config, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[subprocess.CompletedProcess[str]] = []

    def second() -> None:
        line, environment = command(config, tmp_path / "run", how)
        told.append(subprocess.run(line, env=environment, capture_output=True, text=True))

    at_save(4, second, monkeypatch)
    start(config, tmp_path / "run")
    assert told[0].returncode == 2
    last = told[0].stderr.splitlines()[-1]
    assert f"run: the run folder is in use by process {os.getpid()} on " in last
    assert outcome(tmp_path / "run") == outcome(whole)


@pytest.mark.slow
def test_of_two_runs_started_together_in_one_folder_one_finishes_and_one_is_refused(
    config: Config, tmp_path: Path
) -> None:
    for trial in range(5):
        line, environment = command(config, tmp_path / str(trial))
        both = [subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        errors = [process.communicate()[1] for process in both]
        codes = sorted(process.returncode for process in both)
        assert codes == [0, 2], errors
        refused = errors[0] if both[0].returncode else errors[1]
        assert "Traceback" not in refused
        assert "in use by process" in refused or "exists and is not empty" in refused
        assert outcome(tmp_path / str(trial))
