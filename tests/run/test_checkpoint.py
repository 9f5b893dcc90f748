"""A checkpoint is bit for bit what was saved, or it is named as damaged and passed over."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pairjax.base.errors import UserError
from pairjax.run.checkpoint import Checkpointer


class Toy(NamedTuple):
    params: dict[str, Any]
    moments: Any
    key: jax.Array
    step: jax.Array


OPTIMISER = optax.adamw(1e-2)


def start() -> Toy:
    params = {
        "encoder": {"kernel": jax.random.normal(jax.random.key(1), (8, 4)), "half": jnp.ones(3, jnp.bfloat16) / 3},
        "head": {"bias": jnp.arange(4, dtype=jnp.float32)},
    }
    return Toy(params, OPTIMISER.init(params), jax.random.key(7), jnp.int32(0))


@jax.jit
def advance(state: Toy) -> Toy:
    """An update whose gradient is drawn from the state's own key."""
    key, draw = jax.random.split(state.key)
    grads = jax.tree.map(lambda leaf: jax.random.normal(draw, leaf.shape, leaf.dtype), state.params)
    updates, moments = OPTIMISER.update(grads, state.moments, state.params)
    return Toy(optax.apply_updates(state.params, updates), moments, key, state.step + 1)


def bits(state: Toy) -> list[bytes]:
    plain = state._replace(key=jax.random.key_data(state.key))
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(plain)]


def save_steps(folder: Path, scores: dict[int, int | float | None], **options: Any) -> dict[int, list[bytes]]:
    """Saves one state for each step, and returns what each held."""
    held, state = {}, start()
    with Checkpointer(folder, **options) as checkpoints:
        for step, score in scores.items():
            state = advance(state)
            held[step] = bits(state)
            assert checkpoints.save(step, state, host={"at": step}, metric=score)
    return held


def steps_in(folder: Path) -> set[str]:
    """Everything in a checkpoint folder but the digests."""
    return {child.name for child in folder.iterdir()} - {"digests"}


def test_training_on_from_a_checkpoint_equals_never_having_stopped(tmp_path: Path) -> None:
    straight = start()
    for _ in range(6):
        straight = advance(straight)
    first = start()
    for _ in range(3):
        first = advance(first)
    host = {"best": 0.1 + 0.2, "stale": 2, "nested": {"list": [1, 2.5, None]}}
    with Checkpointer(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(3, first, host=host, metric=0.5)
    with Checkpointer(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == 3
        restored = checkpoints.restore(start())
    assert bits(restored.state) == bits(first)
    assert restored.host == host
    assert restored.step == 3
    assert restored.notes == ()
    second = restored.state
    assert jax.tree.structure(second) == jax.tree.structure(first)
    for _ in range(3):
        second = advance(second)
    assert bits(second) == bits(straight)


def test_what_is_saved_is_the_state_and_host_of_that_moment(tmp_path: Path) -> None:
    state, host = start(), {"stale": 0}
    before = bits(state)
    donating = jax.jit(lambda s: jax.tree.map(lambda leaf: leaf + 1, s), donate_argnums=0)
    with Checkpointer(tmp_path) as checkpoints:
        checkpoints.save(1, state, host=host)
        host["stale"] = 9
        donating(state._replace(key=jnp.int32(0)))
    with Checkpointer(tmp_path) as checkpoints:
        restored = checkpoints.restore(start())
    assert bits(restored.state) == before
    assert restored.host == {"stale": 0}


def test_the_last_k_and_the_best_are_kept(tmp_path: Path) -> None:
    scores = {1: 0.5, 2: 1, 3: 1.0, 4: 0.7, 5: None, 6: float("nan")}
    held = save_steps(tmp_path, scores, keep=2)
    assert steps_in(tmp_path) == {"2", "5", "6"}
    assert {path.stem for path in (tmp_path / "digests").iterdir()} == {"2", "5", "6"}
    with Checkpointer(tmp_path, keep=2) as checkpoints:
        assert checkpoints.best_step() == 2
        assert bits(checkpoints.restore(start(), step=checkpoints.best_step()).state) == held[2]
        assert checkpoints.latest_step() == 6
    shutil.rmtree(tmp_path)
    save_steps(tmp_path, scores, keep=1, metric_mode="min")
    assert steps_in(tmp_path) == {"1", "6"}


def test_an_old_checkpoint_goes_only_when_the_new_one_has_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    held = save_steps(tmp_path, {1: None}, keep=1)
    with Checkpointer(tmp_path, keep=1) as checkpoints:
        monkeypatch.setattr("pairjax.run.checkpoint.write_text", refuse)
        checkpoints.save(2, start(), host={})
        with pytest.raises(UserError, match=r"step 2 cannot be written \(step 1 kept\): the disk is full"):
            checkpoints.wait()
        monkeypatch.undo()
        assert bits(checkpoints.restore(start()).state) == held[1]
        assert checkpoints.save(2, advance(start()), host={})
    assert steps_in(tmp_path) == {"2"}


def test_a_step_that_is_finished_is_not_saved_again(tmp_path: Path) -> None:
    held = save_steps(tmp_path, {1: None, 2: 0.5})
    with Checkpointer(tmp_path) as checkpoints:
        assert not checkpoints.save(2, start(), host={}, metric=0.1)
        assert bits(checkpoints.restore(start()).state) == held[2]


def test_steps_of_a_future_that_was_left_go_with_the_next_save(tmp_path: Path) -> None:
    save_steps(tmp_path, {10: 0.1, 20: 0.2, 30: 0.9}, keep=3)
    with Checkpointer(tmp_path, keep=3) as checkpoints:
        state = checkpoints.restore(start(), step=10).state
        assert checkpoints.save(15, advance(state), host={})
        checkpoints.wait()
        assert checkpoints.latest_step() == 15
        assert checkpoints.best_step() == 10
    assert steps_in(tmp_path) == {"10", "15"}


def flip(path: Path, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 0x10
    path.write_bytes(bytes(data))


def largest(root: Path) -> Path:
    return max((path for path in root.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def reseal(path: Path, **changed: Any) -> None:
    from pairjax.storage.hashes import hash_json

    body = json.loads(path.read_text()) | changed
    body.pop("seal")
    path.write_text(json.dumps({**body, "seal": hash_json(body)}))


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "bit flipped in array data": (lambda c: flip(largest(c / "30" / "state")), r"30/state/.*damaged \(its SHA-256"),
    "bit flipped in metadata": (lambda c: flip(c / "30" / "state" / "_METADATA"), r"30/state/_METADATA: damaged"),
    "bit flipped in the step's metadata": (
        lambda c: flip(c / "30" / "_CHECKPOINT_METADATA"),
        "30/_CHECKPOINT_METADATA",
    ),
    "bit flipped in the host's JSON": (lambda c: flip(c / "30" / "host" / "metadata"), "30/host/metadata: damaged"),
    "bit flipped in the digest": (lambda c: flip(c / "digests" / "30.json"), r"digests/30\.json: damaged"),
    "metric changed in the digest": (
        lambda c: (c / "digests" / "30.json").write_text((c / "digests" / "30.json").read_text().replace("0.3", "0.8")),
        r"digests/30\.json: damaged",
    ),
    "digest cut off": (lambda c: cut(c / "digests" / "30.json"), r"digests/30\.json: damaged"),
    "digest that is no object": (lambda c: (c / "digests" / "30.json").write_text("[]"), r"digests/30\.json: damaged"),
    "digest missing": (lambda c: (c / "digests" / "30.json").unlink(), "30: its save was not finished"),
    "digest of another step": (
        lambda c: shutil.copy(c / "digests" / "20.json", c / "digests" / "30.json"),
        r"digests/30\.json: is that of step 20",
    ),
    "digest of a newer version": (
        lambda c: reseal(c / "digests" / "30.json", format=2),
        r"another version of pairjax \(format 2, not 1\)",
    ),
    "another run's": (
        lambda c: reseal(c / "digests" / "30.json", identity="other"),
        "30: is a checkpoint of another run",
    ),
    "file cut off": (lambda c: cut(largest(c / "30" / "state")), r"30/state/.*\d+ bytes where \d+ were saved"),
    "file missing": (lambda c: largest(c / "30" / "state").unlink(), "30/state/.*: missing"),
    "folder missing inside": (lambda c: shutil.rmtree(c / "30" / "state"), "30/state/.*: missing"),
    "step's metadata missing": (
        lambda c: (c / "30" / "_CHECKPOINT_METADATA").unlink(),
        "_CHECKPOINT_METADATA: missing",
    ),
    "empty step": (lambda c: (shutil.rmtree(c / "30"), (c / "30").mkdir()), "30/.*: missing"),
}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, list[bytes]]]:
    folder = tmp_path_factory.mktemp("three") / "checkpoints"
    return folder, save_steps(folder, {10: 0.1, 20: 0.2, 30: 0.3}, keep=3, identity="mine")


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_passed_over(
    name: str, three: tuple[Path, dict[int, list[bytes]]], tmp_path: Path
) -> None:
    damage, message = DAMAGES[name]
    folder = tmp_path / "checkpoints"
    shutil.copytree(three[0], folder)
    damage(folder)
    with Checkpointer(folder, identity="mine") as checkpoints:
        with pytest.raises(UserError, match=message):
            checkpoints.restore(start(), step=30)
        restored = checkpoints.restore(start())
        assert restored.step == 20
        assert bits(restored.state) == three[1][20]
        assert len(restored.notes) == 1
        assert re.search(message, restored.notes[0])
        assert restored.notes[0].endswith("went back to step 20")
        assert checkpoints.latest_step() == 20
        assert checkpoints.best_step() == 20
        # The step that was damaged is written anew when the run comes to it again.
        assert checkpoints.save(30, start(), host={}, metric=0.3)
        checkpoints.wait()
        assert checkpoints.restore(start()).step == 30


def test_no_whole_checkpoint_is_an_error_that_names_each(tmp_path: Path) -> None:
    save_steps(tmp_path, {1: None, 2: None})
    flip(largest(tmp_path / "1" / "state"))
    (tmp_path / "2" / "host" / "metadata").unlink()
    with Checkpointer(tmp_path) as checkpoints:
        with pytest.raises(
            UserError, match=r"no checkpoint can be restored: .*2/host/metadata: missing; .*1/state.*SHA"
        ):
            checkpoints.restore(start())
        with pytest.raises(UserError, match="7: there is no such checkpoint"):
            checkpoints.restore(start(), step=7)


def test_an_empty_folder_has_no_steps(tmp_path: Path) -> None:
    with Checkpointer(tmp_path / "new") as checkpoints:
        assert checkpoints.latest_step() is None
        assert checkpoints.best_step() is None
        with pytest.raises(UserError, match="holds no checkpoint"):
            checkpoints.restore(start())


def test_lost_digests_are_not_taken_for_a_run_without_checkpoints(tmp_path: Path) -> None:
    save_steps(tmp_path, {1: None, 2: None})
    shutil.rmtree(tmp_path / "digests")
    with Checkpointer(tmp_path) as checkpoints, pytest.raises(UserError, match="have no digests"):
        checkpoints.latest_step()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p["head"].update(bias=jnp.zeros(5)),
            r"of another model: params\.head\.bias; got float32\[4\]; expected float32\[5\]",
        ),
        (
            lambda p: p["encoder"].update(half=jnp.zeros(3, jnp.float32)),
            r"params\.encoder\.half; got bfloat16\[3\]; expected float32\[3\]",
        ),
        (lambda p: p["head"].update(extra=jnp.zeros(2)), r"params\.head\.extra; got nothing in the checkpoint"),
        (lambda p: p["head"].clear(), r"params\.head\.bias; got float32\[4\]; expected nothing of that path"),
    ],
    ids=["shape", "dtype", "new path", "lost path"],
)
def test_a_checkpoint_of_another_model_is_refused(
    change: Callable[[dict[str, Any]], None],
    message: str,
    three: tuple[Path, dict[int, list[bytes]]],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(three[0], folder)
    template = start()
    change(template.params)
    with Checkpointer(folder, identity="mine") as checkpoints, pytest.raises(UserError, match=message):
        checkpoints.restore(template)


@pytest.mark.mesh
def test_a_state_is_restored_onto_the_templates_shardings(tmp_path: Path) -> None:
    held = save_steps(tmp_path, {1: None})
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    spread, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    template = jax.tree.map(lambda leaf: jax.device_put(leaf, spread if leaf.shape[:1] == (8,) else whole), start())
    with Checkpointer(tmp_path) as checkpoints:
        restored = checkpoints.restore(template).state
        assert bits(restored) == held[1]
        assert jax.tree.leaves(
            jax.tree.map(lambda a, b: a.sharding.is_equivalent_to(b.sharding, a.ndim), restored, template)
        )
        kernel, key = restored.params["encoder"]["kernel"], restored.key
        assert len(kernel.sharding.device_set) == len(key.sharding.device_set) == 8
        assert not kernel.sharding.is_fully_replicated
        # And back from eight devices to one.
        checkpoints.save(2, restored, host={})
        assert bits(checkpoints.restore(start(), step=2).state) == held[1]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        # As TensorStore says it.
        ValueError("RESOURCE_EXHAUSTED: Failed to write 9 bytes: No space left on device [os_error_code='28']"),
    ],
    ids=["Python", "TensorStore"],
)
def test_a_full_disk_leaves_the_earlier_checkpoint_good(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = save_steps(tmp_path, {1: None})

    async def full(*_: Any, **__: Any) -> None:
        raise error

    with Checkpointer(tmp_path) as checkpoints:
        monkeypatch.setattr(ocp.StandardCheckpointHandler, "async_save", full)
        with pytest.raises(UserError, match=r"step 2 cannot be written \(step 1 kept\): the disk is full; free some"):
            checkpoints.save(2, start(), host={})
        monkeypatch.undo()
        assert checkpoints.latest_step() == 1
        assert bits(checkpoints.restore(start()).state) == held[1]
    assert steps_in(tmp_path) == {"1"}
    with Checkpointer(tmp_path) as checkpoints:
        assert checkpoints.save(2, start(), host={})
    assert steps_in(tmp_path) == {"1", "2"}


def test_an_error_on_the_way_out_does_not_hide_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pairjax.run.checkpoint.write_text", refuse)

    def diverge() -> None:
        with Checkpointer(tmp_path / "a") as checkpoints:
            checkpoints.save(1, start(), host={})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        diverge()
    with pytest.raises(UserError, match="the disk is full"), Checkpointer(tmp_path / "b") as checkpoints:
        checkpoints.save(1, start(), host={})


SAVING = textwrap.dedent("""
    import sys, jax, jax.numpy as jnp
    from pathlib import Path
    from pairjax.run.checkpoint import Checkpointer
    with Checkpointer(Path(sys.argv[1])) as checkpoints:
        for step in range(1, 1000):
            checkpoints.save(step, {"w": jnp.full(3_000_000, step, jnp.int32)}, host={"at": step})
            print(step, flush=True)
""")


@pytest.mark.parametrize(
    "delay", [0.004, pytest.param(0.0, marks=pytest.mark.slow), pytest.param(0.02, marks=pytest.mark.slow)]
)
def test_a_kill_during_a_save_leaves_the_last_finished_one(delay: float, tmp_path: Path) -> None:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    saver = subprocess.Popen(
        [sys.executable, "-c", SAVING, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert saver.stdout is not None
    for _ in range(3):
        last = int(saver.stdout.readline())
    time.sleep(delay)
    saver.send_signal(signal.SIGKILL)
    saver.communicate()
    with Checkpointer(tmp_path) as checkpoints:
        restored = checkpoints.restore({"w": jnp.zeros(3_000_000, jnp.int32)})
        assert restored.step >= last - 1
        assert restored.host == {"at": restored.step}
        assert np.unique(np.asarray(restored.state["w"])).tolist() == [restored.step]
        checkpoints.save(restored.step + 1, restored.state, host={})
    assert all(name.isdecimal() for name in steps_in(tmp_path))
