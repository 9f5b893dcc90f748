"""What a run tells while it trains: metrics.jsonl, a progress bar or plain lines, TensorBoard and W&B by option.

`metrics.jsonl` holds one JSON object a line, `{"step": ..., name: value, ...}`, flushed as it is written. A resumed run
cuts it back to the step that was restored, so that it ends as if the run had never stopped.
"""

import importlib
import importlib.util
import json
import math
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pairjax.base.config import RunConfig
from pairjax.base.errors import UserError
from pairjax.run.distributed import is_main
from pairjax.run.folder import RunFolder
from pairjax.storage.files import storage_error, to_json, write_text

REFRESH = 0.25
"""Seconds between two drawings of the bar; what is shown is computed no more often."""
PLAIN_EVERY = 30.0
"""Seconds between two lines where there is no terminal."""
WINDOW = 50
"""Steps over which the rate is taken."""
SMOOTHING = 20
"""Steps over which the shown loss is averaged, with exponential weights."""
TOLD = ("dev/nll", "dev/mse", "dev/mlm_perplexity", "dev/mlm_accuracy", "dev/segment_accuracy")
"""Shown after an evaluation beside the metric that chooses the best; metrics.jsonl has them all."""


def check_tracking(config: RunConfig) -> None:
    """Raises UserError where an option asks for a package that is not installed; imports nothing."""
    if config.wandb is not None and importlib.util.find_spec("wandb") is None:
        raise UserError("--run.wandb needs the package wandb", fix="pip install 'pairjax[wandb]'")


class Tracker:
    """Writes and shows the numbers of one run. A context manager; processes other than the first stay silent.

    Args:
        run: The run's folder.
        config: Which of bar, TensorBoard and W&B.
        total_steps: Updates in all.
        steps_per_epoch: For the epoch that is shown.
        metric: Which value of an evaluation the bar shows ("dev/accuracy"); None shows none.
        unit: What the rate counts.
        settings: The resolved config, for W&B.
        console: Default: standard error, so that what a command prints to standard output stays clean.

    Raises:
        UserError: W&B is asked for and not installed, or metrics.jsonl cannot be written.
    """

    def __init__(
        self,
        run: RunFolder,
        config: RunConfig,
        *,
        total_steps: int,
        steps_per_epoch: int,
        metric: str | None = None,
        unit: str = "pairs",
        settings: Mapping[str, Any] | None = None,
        console: Console | None = None,
    ) -> None:
        check_tracking(config)
        self._run, self._config = run, config
        self._total, self._per_epoch = total_steps, steps_per_epoch
        self._metric, self._unit, self._settings = metric, unit, settings
        self._main = is_main()
        self._console = console or Console(stderr=True)
        self._file: IO[str] | None = None
        self._board: Any = None
        self._wandb: Any = None
        self._from = 0
        self._recent: deque[tuple[float, int, int]] = deque(maxlen=WINDOW)
        self._rate = self._steps_rate = math.nan
        self._loss = self._dev = math.nan
        self._shown = -math.inf
        self._bar: Progress | None = None
        if self._main and config.progress and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=None),
                TextColumn("{task.completed}/{task.total}{task.fields[numbers]}"),
                console=self._console,
                auto_refresh=False,
                transient=True,
                expand=True,
            )
            self._task = self._bar.add_task("", total=total_steps, epoch="-", numbers="")

    def cut_back(self, step: int) -> None:
        """Drops all lines of metrics.jsonl after `step`, and one that a kill left half-written.

        Call it before anything is logged: with the step that was restored, or 0 for a run from the beginning.
        """
        self._from = step
        path = self._run.metrics_file
        if not self._main or not path.exists():
            return
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if _line_step(line) <= step]
        if len(kept) < len(lines):
            write_text(path, b"".join(kept).decode())

    def step(self, step: int, *, loss: float, count: int) -> None:
        """Notes that an update is done.

        Args:
            step: Updates done.
            loss: Mean loss of the batch; an average over about the last twenty is shown.
            count: Pairs in the batch, or whatever the unit is.
        """
        if not self._main:
            return
        now = time.monotonic()
        self._recent.append((now, step, count))
        self._loss = loss if math.isnan(self._loss) else self._loss + (loss - self._loss) / SMOOTHING
        last = step >= self._total
        if now - self._shown < (REFRESH if self._bar is not None else PLAIN_EVERY) and not last:
            return
        self._shown = now
        self._measure()
        if self._bar is not None:
            numbers = "".join(f"  {part}" for part in self._numbers(step))
            self._bar.update(self._task, completed=step, epoch=self._epoch(step), numbers=numbers)
            self._bar.refresh()
        else:
            self.say(f"step {step}/{self._total}  epoch {self._epoch(step)}  {'  '.join(self._numbers(step))}")

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds a line to metrics.jsonl and sends it on; values named `dev/...` are also shown.

        Raises:
            UserError: The line cannot be written (the disk is full).
        """
        if not self._main:
            return
        try:
            if self._file is None:
                self._open()
            assert self._file is not None
            self._file.write(to_json({"step": step, **values}) + "\n")
            self._file.flush()
        except OSError as error:
            raise storage_error(f"{self._run.metrics_file} cannot be written", error) or error from error
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)
        scores = {name: value for name, value in numbers.items() if name.startswith("dev/")}
        if scores:
            # The time of an evaluation is no part of the training's rate.
            self._measure()
            self._recent.clear()
            self._dev = scores.get(self._metric or "", self._dev)
            told = "  ".join(f"{name} {scores[name]:.4g}" for name in (self._metric, *TOLD) if name in scores)
            self.say(f"step {step}/{self._total}  epoch {self._epoch(step)}  {told}")

    def say(self, line: str) -> None:
        """Prints a line, above the bar where there is one."""
        if self._main:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Takes the bar away and closes the files."""
        if self._bar is not None:
            self._bar.stop()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def __enter__(self) -> "Tracker":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        """Opens what the options ask for, at the first line, when the step to go on from is known."""
        self._file = open(self._run.metrics_file, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the run
        if self._config.tensorboard:
            from tensorboardX import SummaryWriter

            # TensorBoard hides what an earlier part of the run wrote from this step on.
            # Its files are named by the second; the suffix keeps a quick restart from writing over the first part.
            self._board = SummaryWriter(
                str(self._run.tensorboard), purge_step=self._from + 1, filename_suffix=f".from{self._from}"
            )
        if self._config.wandb is not None:
            wandb = importlib.import_module("wandb")
            self._wandb = wandb.init(
                project=self._config.wandb,
                name=self._run.path.name,
                dir=str(self._run.path),
                config=dict(self._settings or {}),
            )

    def _measure(self) -> None:
        if len(self._recent) < 2:
            return
        (began, first, _), (ended, last, _) = self._recent[0], self._recent[-1]
        seconds = max(ended - began, 1e-9)
        # The first entry marks the window's start: what it counts was done before.
        self._rate = (sum(count for _, _, count in self._recent) - self._recent[0][2]) / seconds
        self._steps_rate = (last - first) / seconds

    def _epoch(self, step: int) -> str:
        epochs = math.ceil(self._total / self._per_epoch)
        return f"{min(step / self._per_epoch, epochs):.1f}/{epochs}"

    def _numbers(self, step: int) -> list[str]:
        parts = [f"loss {self._loss:.4f}"]
        if not math.isnan(self._rate):
            left = (self._total - step) / max(self._steps_rate, 1e-9)
            parts += [
                f"{self._rate:{',.0f' if self._rate >= 1000 else '.1f'}} {self._unit}/s",
                f"{_duration(left)} left",
            ]
        if not math.isnan(self._dev):
            parts.append(f"{self._metric} {self._dev:.4f}")
        return parts


def _line_step(line: bytes) -> float:
    """The step of a line; infinite for one that is not whole."""
    try:
        entry = json.loads(line)
        return float(entry["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def _duration(seconds: float) -> str:
    """`0:42`, `12:05`, `3:10:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
