"""Pretraining in 1 and 2 processes, and upon other meshes, through the command line: one run, one writer."""

import json
from pathlib import Path

import pytest

from tests.data.texts import write_documents
from tests.run.processes import finish, free_port, resume_after_sigterm, run_alone, run_in_processes, spawn
from tests.run.test_processes import check_numbers
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
    return run_alone(*options, folder=tmp_path_factory.mktemp("alone"))


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
    first, second = run_in_processes(2, *options, run=tmp_path / "run")
    check_same(tmp_path / "run", alone)
    # The second writes nothing, tables included.
    assert "perplexity" in first
    assert "perplexity" not in second


@pytest.mark.parametrize(
    ("count", "devices", "mesh"),
    [(1, 8, ("--mesh.fsdp=2", "--mesh.tensor=2")), (2, 2, ("--mesh.fsdp=2", "--mesh.tensor=2")), (4, 1, ())],
)
def test_other_numbers_of_processes_and_meshes_give_the_run_of_one(
    options: list[str], alone: Path, tmp_path: Path, count: int, devices: int, mesh: tuple[str, ...]
) -> None:
    run_in_processes(count, *options, *mesh, run=tmp_path / "run", devices=devices)
    check_same(tmp_path / "run", alone)


def test_sigterm_on_one_saves_on_all_and_one_process_goes_on(options: list[str], alone: Path, tmp_path: Path) -> None:
    message = resume_after_sigterm(*options, run=tmp_path / "run", lines=2)
    assert "resumed at step" in message
    check_same(tmp_path / "run", alone)


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
