"""metrics.jsonl ends as if the run had never stopped; what is shown is cheap and suits the place it is shown in."""

import errno
import io
import json
import re
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from pairjax.base.config import RunConfig
from pairjax.base.errors import UserError
from pairjax.run import tracking
from pairjax.run.folder import RunFolder
from pairjax.run.tracking import Tracker, check_tracking


class Clock:
    """A monotonic clock that moves when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(tracking, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def tracker_in(folder: Path, *, terminal: bool = False, **options: Any) -> tuple[Tracker, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    run = RunFolder(folder, identity="", lock=None, resumed=False, notes=())
    config = RunConfig(**options)
    tracker = Tracker(run, config, total_steps=100, steps_per_epoch=40, metric="dev/accuracy", console=console)
    return tracker, out


def lines_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_each_line_is_one_object_and_is_there_at_once(tmp_path: Path) -> None:
    tracker, _ = tracker_in(tmp_path)
    with tracker:
        tracker.log(1, {"epoch": 0.025, "loss": np.float32(0.5), "note": "é"})
        assert lines_in(tmp_path) == [{"step": 1, "epoch": 0.025, "loss": 0.5, "note": "é"}]
        tracker.log(2, {"loss": float("nan"), "grad_norm": float("inf")})
        assert lines_in(tmp_path)[1] == {"step": 2, "loss": None, "grad_norm": None}


def test_a_resumed_run_ends_with_the_lines_of_one_never_stopped(tmp_path: Path) -> None:
    with tracker_in(tmp_path)[0] as tracker:
        for step in range(1, 6):
            tracker.log(step, {"loss": step / 10})
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    # The kill came while the sixth line was being written.
    (tmp_path / "metrics.jsonl").write_bytes(whole + b'{"step": 6, "lo\xc3')
    with tracker_in(tmp_path)[0] as tracker:
        tracker.cut_back(3)
        assert [line["step"] for line in lines_in(tmp_path)] == [1, 2, 3]
        for step in (4, 5):
            tracker.log(step, {"loss": step / 10})
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole


def test_a_line_cut_just_before_its_end_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}')
    tracker, _ = tracker_in(tmp_path)
    tracker.cut_back(2)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_a_run_from_the_beginning_starts_with_no_lines(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n')
    tracker_in(tmp_path)[0].cut_back(0)
    assert lines_in(tmp_path) == []
    (tmp_path / "metrics.jsonl").unlink()
    tracker_in(tmp_path)[0].cut_back(0)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    tracker, _ = tracker_in(tmp_path)
    monkeypatch.setattr("builtins.open", lambda *_, **__: Full())
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be written: the disk is full"):
        tracker.log(1, {"loss": 0.5})


def test_without_a_terminal_a_line_comes_now_and_then(tmp_path: Path, clock: Clock) -> None:
    tracker, out = tracker_in(tmp_path)
    with tracker:
        for step in range(1, 100):
            clock.now += 1.0
            tracker.step(step, loss=2.0, count=32)
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == "step 1/100  epoch 0.0/3  loss 2.0000"
    assert lines[1] == "step 31/100  epoch 0.8/3  loss 2.0000  32.0 pairs/s  1:09 left"
    assert "\x1b" not in out.getvalue()


def test_an_evaluation_is_shown_and_is_no_part_of_the_rate(tmp_path: Path, clock: Clock) -> None:
    tracker, out = tracker_in(tmp_path)
    with tracker:
        for step in range(1, 41):
            clock.now += 0.5
            tracker.step(step, loss=1.0, count=32)
        clock.now += 500.0
        tracker.log(40, {"epoch": 1.0, "dev/accuracy": 0.91, "dev/nll": 0.25})
        out.truncate(0)
        tracker.step(41, loss=1.0, count=32)
    assert re.search(r"64\.0 pairs/s  0:30 left  dev/accuracy 0\.9100", out.getvalue())


def test_an_evaluation_line_names_its_scores(tmp_path: Path) -> None:
    tracker, out = tracker_in(tmp_path)
    with tracker:
        tracker.log(40, {"loss": 1.0})
        assert out.getvalue() == ""
        tracker.log(40, {"epoch": 1.0, "dev/accuracy": 0.9125, "dev/nll": 0.25})
    assert out.getvalue() == "step 40/100  epoch 1.0/3  dev/accuracy 0.9125  dev/nll 0.25\n"


def test_the_bar_is_drawn_at_most_four_times_a_second(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    update = Progress.update
    monkeypatch.setattr(
        Progress, "update", lambda self, *args, **fields: (drawn.append(1), update(self, *args, **fields))
    )
    tracker, out = tracker_in(tmp_path, terminal=True)
    with tracker:
        for step in range(1, 100):
            clock.now += 0.01
            tracker.step(step, loss=0.25, count=32)
        assert len(drawn) == 4
        tracker.say("[bold] a line above the bar")
        clock.now += 0.01
        tracker.step(100, loss=0.25, count=32)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "100/100  loss 0.2500  3,200 pairs/s  0:00 left" in shown
    assert "epoch 2.5/3" in shown
    assert "[bold] a line above the bar" in shown


def test_the_bar_can_be_switched_off(tmp_path: Path) -> None:
    tracker, out = tracker_in(tmp_path, terminal=True, progress=False)
    with tracker:
        tracker.step(1, loss=1.0, count=32)
    assert out.getvalue() == "step 1/100  epoch 0.0/3  loss 1.0000\n"


def events_in(folder: Path) -> list[Any]:
    """All TensorBoard events, file by file; a record is its length (8), a checksum (4), the event, a checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for file in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            events.append(Event.FromString(data[at + 12 : at + 12 + size]))
            at += size + 16
    return events


def test_tensorboard_gets_the_numbers_and_is_told_what_was_cut(tmp_path: Path) -> None:
    with tracker_in(tmp_path, tensorboard=True)[0] as tracker:
        for step in (1, 2, 3):
            tracker.log(step, {"loss": step / 4, "note": "text"})
    with tracker_in(tmp_path, tensorboard=True)[0] as tracker:
        tracker.cut_back(2)
        tracker.log(3, {"loss": 0.5})
    events = events_in(tmp_path / "tensorboard")
    scalars = [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    assert scalars == [(1, "loss", 0.25), (2, "loss", 0.5), (3, "loss", 0.75), (3, "loss", 0.5)]
    assert [event.step for event in events if event.HasField("session_log")] == [1, 3]


def test_wandb_gets_the_numbers_and_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class FakeRun:
        def log(self, values: dict[str, float], *, step: int) -> None:
            sent.append((step, values))

        def finish(self) -> None:
            sent.append("finished")

    def init(**options: Any) -> FakeRun:
        sent.append(options)
        return FakeRun()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, __spec__=object()))
    with tracker_in(tmp_path, wandb="pairs")[0] as tracker:
        tracker.log(1, {"loss": 0.25, "note": "text"})
    assert sent[0]["project"] == "pairs"
    assert sent[1:] == [(1, {"loss": 0.25}), "finished"]


def test_an_extra_that_is_missing_names_its_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--run\.wandb needs the package wandb; pip install 'pairjax\[wandb\]'"):
        check_tracking(RunConfig(wandb="pairs"))
    check_tracking(RunConfig())


def test_processes_but_the_first_write_and_print_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "is_main", lambda: False)
    (tmp_path / "metrics.jsonl").write_text('{"step": 9}\n')
    tracker, out = tracker_in(tmp_path)
    with tracker:
        tracker.cut_back(0)
        tracker.step(1, loss=1.0, count=32)
        tracker.log(1, {"dev/accuracy": 1.0})
        tracker.say("a line")
    assert out.getvalue() == ""
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 9}\n'
