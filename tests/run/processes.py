"""The command line in several processes on this machine, for tests."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.conftest import write_pairs
from tests.tiny import write_tiny_encoder

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spawn(*arguments: str, devices: int = 1, **environment: str) -> "subprocess.Popen[str]":
    """One `pairjax ...` on `devices` simulated devices."""
    variables = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | environment
    variables["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "pairjax", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
    )


def spawn_all(count: int, *arguments: str, devices: int = 1, **environment: str) -> list["subprocess.Popen[str]"]:
    """The same command in `count` processes that find each other."""
    address = f"127.0.0.1:{free_port()}"
    return [
        spawn(
            *arguments,
            devices=devices,
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES=str(count),
            JAX_PROCESS_ID=str(index),
            **environment,
        )
        for index in range(count)
    ]


def finish(process: "subprocess.Popen[str]", timeout: float = 300) -> tuple[int, str]:
    """Exit code and standard error."""
    _, message = process.communicate(timeout=timeout)
    return process.returncode, message


def wait_for(process: "subprocess.Popen[str]", file: Path, count: int, timeout: float = 240) -> None:
    """Waits until metrics.jsonl has that many lines."""
    end = time.monotonic() + timeout
    while not (file.exists() and file.read_text().count("\n") >= count):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def run_alone(*options: str, folder: Path) -> Path:
    """Makes a run in one process and returns its folder."""
    code, message = finish(spawn(*options, f"--run.dir={folder / 'run'}"))
    assert code == 0, message
    return folder / "run"


def run_in_processes(count: int, *options: str, run: Path, devices: int = 1) -> list[str]:
    """Makes a run in `count` processes and returns the standard error of each."""
    ended = [finish(process) for process in spawn_all(count, *options, f"--run.dir={run}", devices=devices)]
    assert [code for code, _ in ended] == [0] * count, ended
    return [message for _, message in ended]


def resume_after_sigterm(*options: str, run: Path, lines: int) -> str:
    """Stops one of two processes after some lines of metrics.jsonl, and resumes the run in one process.

    Returns:
        The standard error of the resumed run.
    """
    both = spawn_all(2, *options, f"--run.dir={run}")
    wait_for(both[0], run / "metrics.jsonl", lines)
    both[1].send_signal(signal.SIGTERM)
    ended = [finish(process) for process in both]
    assert [code for code, _ in ended] == [143, 143], ended
    code, message = finish(spawn(*options, f"--run.dir={run}", "--run.resume", devices=8))
    assert code == 0, message
    return message


def write_inputs(folder: Path) -> list[str]:
    """A tiny encoder and 21 + 9 pairs; the options that train on them for three epochs of 6 steps."""
    write_tiny_encoder(folder / "encoder")
    pairs = folder / "pairs"
    pairs.mkdir()
    write_pairs(pairs / "train.tsv", start=0, rows=21)
    write_pairs(pairs / "dev.tsv", start=40, rows=9)
    options = {
        "data.path": pairs,
        "data.max-length": 64,
        "data.buckets": 1,
        "model.encoder": folder / "encoder",
        "train.batch-size": 4,
        "train.epochs": 3,
        "train.eval-every": 3,
        "train.keep": "last",
        "evaluation.bootstrap": 100,
        "run.compilation-cache": folder / "cache",
    }
    return ["train", *(f"--{name}={value}" for name, value in options.items()), "--evaluation.no-swap"]
