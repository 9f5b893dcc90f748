"""A signal lets the loop save before it ends, in one process and in several."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pairjax.base.errors import UserError
from pairjax.run.distributed import StopSignal, initialize, is_main, process_count, process_index

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run_python(code: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=inherited | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | environment,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_flag_and_ends_nothing(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.requested(1)
        assert stop.name is None
        os.kill(os.getpid(), number)
        assert stop.requested(2)
        assert stop.requested(3)
        assert stop.name == number.name
    assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_at_once_and_a_second_sigterm_does_not() -> None:
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested(1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_handlers_are_put_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), StopSignal():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_is_caught() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def poll() -> None:
        with StopSignal() as stop:
            seen.append((stop.requested(1), signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=poll)
    thread.start()
    thread.join()
    assert seen == [(False, True)]


def test_a_loop_in_a_process_of_its_own_saves_and_ends_on_sigterm() -> None:
    code = """
        import time
        from pairjax.run.distributed import StopSignal
        with StopSignal() as stop:
            print("ready", flush=True)
            step = 0
            while not stop.requested(step):
                step += 1
                time.sleep(0.01)
            print("saved after", stop.name, flush=True)
    """
    loop = run_python(code)
    assert loop.stdout is not None
    assert loop.stdout.readline() == "ready\n"
    loop.send_signal(signal.SIGTERM)
    out, _ = loop.communicate(timeout=30)
    assert out == "saved after SIGTERM\n"
    assert loop.returncode == 0


def test_one_process_is_the_main_one() -> None:
    assert is_main()
    assert (process_index(), process_count()) == (0, 1)
    assert not initialize({})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "JAX_COORDINATOR_ADDRESS is set but .* is no number; got JAX_NUM_PROCESSES=None JAX_PROCESS_ID=None"),
        ({"JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"}, "expected a whole number in each"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID is out of range; got 2; expected 0 to 1"),
    ],
    ids=["missing", "no number", "out of range"],
)
def test_an_environment_that_makes_no_sense_is_an_error(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        initialize({"JAX_COORDINATOR_ADDRESS": "localhost:1", **environment})


def test_two_processes_stop_at_one_step_and_write_one_checkpoint(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from pairjax.run.distributed import StopSignal, initialize, is_main, process_count, process_index
        assert initialize(timeout=60)
        import jax, numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        from pairjax.run.checkpoint import Checkpointer
        assert process_count() == 2 and is_main() == (process_index() == 0)
        mesh = Mesh(np.asarray(jax.devices()), ("data",))
        spread = NamedSharding(mesh, PartitionSpec("data"))
        def make(start):
            return {"w": jax.make_array_from_callback((8,), spread, lambda at: np.arange(start, start + 8.0)[at])}
        folder = Path(sys.argv[1])
        with StopSignal() as stop, Checkpointer(folder, keep=1) as checkpoints:
            print("ready", flush=True)
            step = 0
            while not stop.requested(step):
                step += 1
                time.sleep(0.02)
            for at in (1, 2, 3, 4):
                assert checkpoints.save(at, make(float(at)), host={"stopped": step}, metric=0.5 if at == 2 else 0.1)
            checkpoints.wait()
            if is_main():
                (folder / "4" / "host" / "metadata").write_text("{}")
            assert checkpoints.restore(make(0.0)).step == 2
            # Both leave the damaged step behind.
            assert checkpoints.save(4, make(5.0), host={"stopped": step})
            checkpoints.wait()
            restored = checkpoints.restore(make(0.0))
            shards = {shard.index[0].start: shard.data.tolist() for shard in restored.state["w"].addressable_shards}
            print(restored.step, restored.host["stopped"] == step, checkpoints.best_step(), shards, flush=True)
    """
    address = f"127.0.0.1:{free_port()}"
    both = [
        run_python(
            code, str(tmp_path), JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(index)
        )
        for index in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        # Gloo greets on standard output first.
        assert "ready\n" in iter(process.stdout.readline, "")
    time.sleep(0.1)
    both[1].send_signal(signal.SIGTERM)
    message = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], message
    assert [out for out, _ in message] == [
        "4 True 2 {0: [5.0, 6.0, 7.0, 8.0]}\n",
        "4 True 2 {4: [9.0, 10.0, 11.0, 12.0]}\n",
    ]
    assert {child.name for child in tmp_path.iterdir()} == {"2", "4", "digests"}
