"""Logs a run while it trains: metrics.jsonl, a progress bar or plain lines, and optionally TensorBoard and W&B.

`metrics.jsonl` has one JSON object per line, `{"step": ..., name: value, ...}`, flushed as it is written. A resumed run
cuts it back to the restored step, so it ends as if the run had never stopped.
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
"""Seconds between two updates of the progress bar."""
PLAIN_EVERY = 30.0
"""Seconds between two lines if there is no terminal."""
WINDOW = 50
"""Number of steps over which throughput is measured."""
SMOOTHING = 20
"""Number of steps over which the displayed loss is averaged, with exponential weights."""
SHOWN_SCORES = ("dev/nll", "dev/mse", "dev/mlm_perplexity", "dev/mlm_accuracy", "dev/segment_accuracy")
"""Scores to print after an evaluation, besides the metric that selects the best; metrics.jsonl has all scores."""


def check_tracking(config: RunConfig) -> None:
    """Checks that the packages that the options need are installed; imports nothing.

    Raises:
        UserError: A package is missing.
    """
    if config.wandb is not None and importlib.util.find_spec("wandb") is None:
        raise UserError("--run.wandb needs the package wandb", fix="pip install 'pairjax[wandb]'")


class Tracker:
    """Writes and displays the metrics of one run; a context manager. Processes other than the first do nothing.

    Args:
        run: The run's folder.
        config: Whether to use the progress bar, TensorBoard and W&B.
        total_steps: Number of updates of the run.
        steps_per_epoch: Updates of an epoch, to display the epoch.
        metric: The score that the progress bar displays, such as "dev/accuracy"; None for none.
        unit: The unit of throughput.
        settings: The whole config, for W&B.
        console: The terminal; by default standard error, so the standard output of a command stays clean.

    Raises:
        UserError: W&B is requested and not installed, or metrics.jsonl cannot be written.
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
        """Drops the lines of metrics.jsonl after `step`, and a line that a kill left incomplete.

        Call it before anything is logged.

        Args:
            step: The restored step, or 0 if the run starts from the beginning.
        """
        self._from = step
        path = self._run.metrics_file
        if not self._main or not path.exists():
            return
        lines = path.read_bytes().splitlines(keepends=True)
        valid = [line for line in lines if _line_step(line) <= step]
        if len(valid) < len(lines):
            write_text(path, b"".join(valid).decode())

    def step(self, step: int, *, loss: float, count: int) -> None:
        """Records an update.

        Args:
            step: Updates done.
            loss: Mean loss of the batch; a moving average of it is displayed.
            count: Number of pairs (or of another unit) in the batch.
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
        """Adds a line to metrics.jsonl, TensorBoard and W&B; also prints values named `dev/...`.

        Args:
            step: Updates done.
            values: Values by name.

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
            # The throughput of training does not include the time of an evaluation.
            self._measure()
            self._recent.clear()
            self._dev = scores.get(self._metric or "", self._dev)
            text = "  ".join(f"{name} {scores[name]:.4g}" for name in (self._metric, *SHOWN_SCORES) if name in scores)
            self.say(f"step {step}/{self._total}  epoch {self._epoch(step)}  {text}")

    def say(self, line: str) -> None:
        """Prints a line, above the progress bar if there is one."""
        if self._main:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Removes the progress bar and closes the files."""
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
        """Opens the outputs that the options name. Called at the first line, when the first step is known."""
        self._file = open(self._run.metrics_file, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the run
        if self._config.tensorboard:
            from tensorboardX import SummaryWriter

            # TensorBoard hides what an earlier part of the run wrote from this step on. Its file names have a
            # resolution of one second; the suffix prevents a quick restart from overwriting the first part.
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
        """Measures throughput over the last steps."""
        if len(self._recent) < 2:
            return
        (began, first, _), (ended, last, _) = self._recent[0], self._recent[-1]
        seconds = max(ended - began, 1e-9)
        # The first entry marks the start of the window: its own count was done before.
        self._rate = (sum(count for _, _, count in self._recent) - self._recent[0][2]) / seconds
        self._steps_rate = (last - first) / seconds

    def _epoch(self, step: int) -> str:
        """Formats the epoch, such as `1.5/3`."""
        epochs = math.ceil(self._total / self._per_epoch)
        return f"{min(step / self._per_epoch, epochs):.1f}/{epochs}"

    def _numbers(self, step: int) -> list[str]:
        """Formats loss, throughput, remaining time and dev score."""
        parts = [f"loss {self._loss:.4f}"]
        if not math.isnan(self._rate):
            remaining = (self._total - step) / max(self._steps_rate, 1e-9)
            parts += [
                f"{self._rate:{',.0f' if self._rate >= 1000 else '.1f'}} {self._unit}/s",
                f"{_duration(remaining)} left",
            ]
        if not math.isnan(self._dev):
            parts.append(f"{self._metric} {self._dev:.4f}")
        return parts


def _line_step(line: bytes) -> float:
    """Returns the step of a line; infinity if the line is incomplete."""
    try:
        entry = json.loads(line)
        return float(entry["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def _duration(seconds: float) -> str:
    """Formats seconds as `0:42`, `12:05` or `3:10:00`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
