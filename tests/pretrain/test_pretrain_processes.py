"""Pretraining in 1 and 2 processes, and upon other meshes, through the command line: one run, one writer."""

import json
import signal
from pathlib import Path

import pytest

from tests.data.texts import write_documents
from tests.run.processes import finish, free_port, spawn, spawn_all
from tests.run.test_processes import check_numbers, wait_for
from tests.tiny import write_tiny_encoder

pytestmark = pytest.mark.slow
STEPS = 6
BATCH = 6


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("processes")
    encoder = write_tiny_encoder(folder / "encoder")
    write_documents(folder / "a.txt", documents=20)
    write_documents(folder / "b.txt", documents=10, start=50)
    given = {
        "data.corpus": folder / "*.txt",
        "data.dev-fraction": 0.2,
        "data.max-length": 48,
        "data.cache": folder / "cache",
        "model.encoder": encoder,
        # Not a multiple of the processes' rows on every mesh below: some rows are empty.
        "train.batch-size": BATCH,
        "train.max-steps": STEPS,
        "train.eval-every": 3,
        "evaluation.examples": 14,
        "evaluation.during": 6,
        "evaluation.batch-size": 5,
        "evaluation.bootstrap": 100,
        "run.compilation-cache": folder / "xla",
    }
    return ["pretrain", *(f"--{name}={value}" for name, value in given.items()), "--evaluation.no-baselines"]


@pytest.fixture(scope="module")
def alone(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    code, message = finish(spawn(*options, f"--run.dir={run}"))
    assert code == 0, message
    return run


def check_same(actual: Path, expected: Path) -> None:
    """Every logged number within 1e-5 relative, parameters within 1e-5 absolute, as many tokens and masks."""
    check_numbers(actual, expected)
    results = [json.loads((run / "result.json").read_text()) for run in (actual, expected)]
    for name in ("tokens", "steps"):
        assert results[0]["train"][name] == results[1]["train"][name]
    assert results[0]["scored"] == results[1]["scored"]
    assert results[0]["scored"]["dev"]["examples"] == 14
    for name, score in results[1]["metrics"]["dev"].items():
        assert results[0]["metrics"]["dev"][name] == pytest.approx(score, rel=1e-5)


def test_two_processes_give_the_run_of_one(options: list[str], alone: Path, tmp_path: Path) -> None:
    both = spawn_all(2, *options, f"--run.dir={tmp_path / 'run'}")
    ended = [finish(process) for process in both]
    assert [code for code, _ in ended] == [0, 0], ended
    check_same(tmp_path / "run", alone)
    # The second writes nothing, tables included.
    assert "perplexity" in ended[0][1]
    assert "perplexity" not in ended[1][1]


@pytest.mark.parametrize(
    ("count", "devices", "mesh"),
    [(1, 8, ("--mesh.fsdp=2", "--mesh.tensor=2")), (2, 2, ("--mesh.fsdp=2", "--mesh.tensor=2")), (4, 1, ())],
)
def test_other_numbers_of_processes_and_meshes_give_the_run_of_one(
    options: list[str], alone: Path, tmp_path: Path, count: int, devices: int, mesh: tuple[str, ...]
) -> None:
    all_of_them = spawn_all(count, *options, *mesh, f"--run.dir={tmp_path / 'run'}", devices=devices)
    assert [code for code, _ in map(finish, all_of_them)] == [0] * count
    check_same(tmp_path / "run", alone)


def test_sigterm_on_one_saves_on_all_and_one_process_goes_on(options: list[str], alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    both = spawn_all(2, *options, f"--run.dir={run}")
    wait_for(both[0], run / "metrics.jsonl", 2)
    both[1].send_signal(signal.SIGTERM)
    ended = [finish(process) for process in both]
    assert [code for code, _ in ended] == [143, 143], ended
    code, message = finish(spawn(*options, f"--run.dir={run}", "--run.resume", devices=8))
    assert code == 0, message
    assert "resumed at step" in message
    check_same(run, alone)


def test_processes_with_other_text_say_so(options: list[str], tmp_path: Path) -> None:
    write_documents(tmp_path / "a.txt", documents=20)
    environment = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    run = f"--run.dir={tmp_path / 'run'}"
    first = spawn(*options, run, JAX_PROCESS_ID="0", **environment)
    second = spawn(*options, run, f"--data.corpus={tmp_path / 'a.txt'}", JAX_PROCESS_ID="1", **environment)
    ended = [finish(first), finish(second)]
    assert [code for code, _ in ended] == [2, 2], ended
    assert "differ in what they train" in ended[1][1]
    assert not (tmp_path / "run").exists()
