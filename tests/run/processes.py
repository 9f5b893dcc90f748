"""The command line in several processes on this machine, for tests."""

import os
import socket
import subprocess
import sys
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
