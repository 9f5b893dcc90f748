"""One run in 1, 2 and 4 processes, through the command line: the same numbers, one writer, and one end for all."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.run.processes import (
    finish,
    free_port,
    resume_after_sigterm,
    run_alone,
    run_in_processes,
    spawn,
    spawn_all,
    wait_for,
    write_inputs,
)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_inputs(tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def alone(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_alone(*options, folder=tmp_path_factory.mktemp("alone"))


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def check_numbers(actual: Path, expected: Path) -> None:
    """Every logged number within 1e-5 relative, parameters within 1e-5 absolute."""
    for one, other in zip(metrics(actual), metrics(expected), strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    tensors = [load_file(run / "model/encoder/model.safetensors") for run in (actual, expected)]
    for name, value in tensors[1].items():
        np.testing.assert_allclose(tensors[0][name], value, rtol=0, atol=1e-5, err_msg=name)


def check_same(actual: Path, expected: Path) -> None:
    """The same numbers, and every example seen as often."""
    check_numbers(actual, expected)
    results = [json.loads((run / "result.json").read_text()) for run in (actual, expected)]
    assert results[0]["train"]["examples"] == results[1]["train"]["examples"] == 63
    assert results[0]["metrics"]["dev"]["accuracy"] == results[1]["metrics"]["dev"]["accuracy"]


def test_two_processes_give_the_run_of_one(options: list[str], alone: Path, tmp_path: Path) -> None:
    first, second = run_in_processes(2, *options, run=tmp_path / "run")
    check_same(tmp_path / "run", alone)
    # The second writes nothing, tables included.
    assert "accuracy" in first
    assert "accuracy" not in second


@pytest.mark.slow
@pytest.mark.parametrize(("count", "devices", "mesh"), [(4, 1, ()), (2, 2, ("--mesh.fsdp=2", "--mesh.tensor=2"))])
def test_other_numbers_of_processes_and_meshes_give_the_run_of_one(
    options: list[str], alone: Path, tmp_path: Path, count: int, devices: int, mesh: tuple[str, ...]
) -> None:
    run_in_processes(count, *options, *mesh, run=tmp_path / "run", devices=devices)
    check_same(tmp_path / "run", alone)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_dies_the_others_end_and_say_which_and_a_restart_resumes(
    options: list[str], alone: Path, tmp_path: Path, victim: int
) -> None:
    run = tmp_path / "run"
    both = spawn_all(2, *options, f"--run.dir={run}", "--run.save-every=1")
    wait_for(both[0], run / "metrics.jsonl", 5)
    both[victim].kill()
    began = time.monotonic()
    code, message = finish(both[1 - victim], timeout=60)
    assert time.monotonic() - began < 200
    both[victim].communicate()
    assert code == 75, message
    assert f"process {victim} (host " in message
    # On another number of processes: the elastic restart.
    code, message = finish(spawn(*options, f"--run.dir={run}", "--run.resume"))
    assert code == 0, message
    assert "resumed at step" in message
    check_same(run, alone)


@pytest.mark.slow
def test_sigterm_on_one_saves_on_all_and_one_process_goes_on(options: list[str], alone: Path, tmp_path: Path) -> None:
    resume_after_sigterm(*options, run=tmp_path / "run", lines=3)
    check_same(tmp_path / "run", alone)


def test_processes_that_disagree_say_in_what(options: list[str], tmp_path: Path) -> None:
    run = f"--run.dir={tmp_path / 'run'}"
    environment = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    first = spawn(*options, run, JAX_PROCESS_ID="0", **environment)
    second = spawn(*options, run, "--optim.learning-rate=1e-3", JAX_PROCESS_ID="1", **environment)
    ended = [finish(first), finish(second)]
    assert [code for code, _ in ended] == [2, 2], ended
    for _, message in ended:
        assert "optim.learning_rate is 0.001 here and 5e-05 there" in message
    assert not (tmp_path / "run").exists()


def test_a_coordinator_that_is_not_there_is_named_in_time(options: list[str], tmp_path: Path) -> None:
    began = time.monotonic()
    process = spawn(
        *options,
        f"--run.dir={tmp_path / 'run'}",
        JAX_COORDINATOR_ADDRESS="127.0.0.1:9",
        JAX_NUM_PROCESSES="2",
        JAX_PROCESS_ID="1",
        PAIRJAX_CONNECT_TIMEOUT="2",
    )
    code, message = finish(process)
    assert code == 2
    assert "process 1 of 2 did not reach the others at 127.0.0.1:9 within 2 s" in message
    assert time.monotonic() - began < 200
