"""A run's folder is never overwritten, shared or half-made, and says where it came from."""

import copy
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairjax.base.config import RunConfig
from pairjax.base.errors import UserError
from pairjax.run.folder import RunFolder, check_run, open_run
from pairjax.storage.files import write_json
from pairjax.storage.provenance import provenance

ROOT = Path(__file__).resolve().parents[2]
RESOLVED: dict[str, Any] = {
    "data": {"path": "d", "download": False},
    "model": {"encoder": "e", "combine": {"features": ("u", "v")}, "dropout": {}},
    "optim": {"learning_rate": 5e-5},
    "evaluation": {"bootstrap": 1000},
    "run": {"dir": None, "resume": False},
}
ORIGIN = {"started": "2026-01-01T00:00:00+00:00"}


def open_at(path: Path, resolved: dict[str, Any] = RESOLVED, **options: Any) -> RunFolder:
    return open_run(RunConfig(dir=str(path), **options), resolved, default_name="x", origin=ORIGIN)


def changed(**fields: Any) -> dict[str, Any]:
    """RESOLVED with some `part__field` set."""
    resolved = copy.deepcopy(RESOLVED)
    for name, value in fields.items():
        part, field = name.split("__")
        resolved[part][field] = value
    return resolved


def test_a_new_run_has_its_config_and_origin(tmp_path: Path) -> None:
    with open_at(tmp_path / "deep" / "run") as run:
        saved = json.loads(run.config_file.read_text())
        assert saved["config"] == json.loads(json.dumps(RESOLVED))
        assert saved["provenance"] == ORIGIN
        assert saved["resumes"] == []
        assert not run.resumed
        assert not run.finished
        assert run.predictions_file("dev").name == "predictions.dev.jsonl"
        assert {child.name for child in run.path.iterdir()} == {"config.json", ".lock"}
        write_json(run.result_file, {})
        assert run.finished


def test_the_folder_is_named_after_the_run_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_run(RunConfig(), RESOLVED, default_name="sick") == Path("runs/sick")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_exists_is_left_alone_unless_told(tmp_path: Path) -> None:
    open_at(tmp_path / "run").close()
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(UserError, match=r"run: the run folder exists and is not empty; .*--run\.resume"):
        open_at(tmp_path / "run", changed(optim__learning_rate=1.0))
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    with open_at(tmp_path) as run:
        assert run.config_file.exists()


def test_overwriting_deletes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    for name in ("checkpoints/10/state", "model", "tensorboard"):
        (tmp_path / "run" / name).mkdir(parents=True)
    for name in ("metrics.jsonl", "result.json", "predictions.dev.jsonl", "report.html", "model/a", "notes.txt"):
        (tmp_path / "run" / name).write_text("old")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("precious")
    (tmp_path / "run" / "config.json").write_text(
        json.dumps({"pairjax": "0", "config": {}, "provenance": {}, "resumes": []})
    )
    (tmp_path / "run" / "tensorboard").rmdir()
    (tmp_path / "run" / "tensorboard").symlink_to(tmp_path / "kept")
    with open_at(tmp_path / "run", overwrite=True) as run:
        assert {child.name for child in run.path.iterdir()} == {"config.json", ".lock", "notes.txt"}
        assert json.loads(run.config_file.read_text())["provenance"] == ORIGIN
    assert (tmp_path / "kept" / "file").read_text() == "precious"


@pytest.mark.parametrize("option", ["overwrite", "resume"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no config.json"),
        ('{"model_type": "bert"}', "of another program"),
        ("{", "cannot be read"),
        ("[]", "expected a JSON object"),
    ],
)
def test_a_folder_that_is_no_run_is_never_touched(
    option: str, content: str | None, message: str, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    before = sorted(child.name for child in tmp_path.iterdir())
    with pytest.raises(UserError, match=f"is not a pairjax run; got .*{message}"):
        check_run(RunConfig(dir=str(tmp_path), **{option: True}), RESOLVED, default_name="x")
    with pytest.raises(UserError, match=message):
        open_at(tmp_path, **{option: True})
    assert sorted({child.name for child in tmp_path.iterdir()} - {".lock"}) == before


def test_resuming_keeps_the_origin_and_notes_the_resumption(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    (tmp_path / "checkpoints" / "digests").mkdir(parents=True)
    (tmp_path / "checkpoints" / "digests" / "10.json").write_text("{}")
    later = {"started": "later"}
    config = RunConfig(dir=str(tmp_path), resume=True)
    allowed = changed(run__resume=True, evaluation__bootstrap=10, data__download=True)
    with open_run(config, allowed, default_name="x", origin=later) as run:
        assert run.resumed
        assert run.notes == ()
        saved = json.loads(run.config_file.read_text())
    assert saved["provenance"] == ORIGIN
    assert saved["resumes"] == [later]
    assert saved["config"]["evaluation"]["bootstrap"] == 10


def test_a_run_that_is_older_than_an_option_resumes_only_as_it_began(tmp_path: Path) -> None:
    with open_at(tmp_path) as run:
        identity = run.identity
    with pytest.raises(UserError, match=r"data\.group_texts was false and is now true"):
        open_at(tmp_path, changed(data__group_texts=True), resume=True)
    with open_at(tmp_path, changed(data__group_texts=False), resume=True) as run:
        assert run.identity == identity


def test_resuming_with_another_config_says_what_differs(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    before = (tmp_path / "config.json").read_bytes()
    other = changed(
        optim__learning_rate=1e-4, data__path="e", model__combine={"features": ["u"]}, evaluation__bootstrap=1
    )
    other["train"] = {"epochs": 3}
    with pytest.raises(UserError) as message:
        open_at(tmp_path, other, resume=True)
    assert "another config" in str(message.value)
    assert 'data.path was "d" and is now "e"' in str(message.value)
    assert 'model.combine.features was ["u", "v"] and is now ["u"]' in str(message.value)
    assert "optim.learning_rate was 5e-05 and is now 0.0001" in str(message.value)
    assert "train.epochs was not set and is now 3" in str(message.value)
    assert "bootstrap" not in str(message.value)
    assert (tmp_path / "config.json").read_bytes() == before


def test_resuming_a_run_without_a_checkpoint_starts_from_the_beginning(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    with open_at(tmp_path, resume=True) as run:
        assert run.resumed
        assert run.notes == (f"{tmp_path} has no finished checkpoint: the run starts from the beginning",)
    # Killed between making the folder and writing its config.
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / ".lock").touch()
    with open_at(tmp_path / "early", resume=True) as run:
        assert not run.resumed
        assert run.config_file.exists()
        assert len(run.notes) == 1


def test_resuming_what_is_not_there_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="new: there is no run to resume"):
        open_at(tmp_path / "new", resume=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_folders_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: the run folder is a file"):
        open_at(tmp_path / "file")
    with pytest.raises(UserError, match=r"below: the run folder cannot be created; got .*file, a file"):
        open_at(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written; got no permission"):
        open_at(tmp_path / "run")


HOLDING = textwrap.dedent("""
    import sys
    from pairjax.base.config import RunConfig
    from pairjax.run.folder import open_run
    run = open_run(RunConfig(dir=sys.argv[1]), {}, default_name="x", origin={})
    print("held", flush=True)
    sys.stdin.read()
""")


def test_a_run_in_use_names_its_process_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"the run folder is in use by process {holder.pid} on "):
        open_at(tmp_path, {}, overwrite=True)
    holder.kill()
    holder.communicate()
    open_at(tmp_path, {}, overwrite=True).close()
    open_at(tmp_path, {}, overwrite=True).close()


def test_the_identity_is_that_of_the_fixed_part_of_the_config(tmp_path: Path) -> None:
    def identity(name: str, resolved: dict[str, Any]) -> str:
        with open_at(tmp_path / name, resolved) as run:
            return run.identity

    first = identity("a", RESOLVED)
    assert identity("b", changed(run__dir="elsewhere", evaluation__bootstrap=5)) == first
    assert identity("c", changed(optim__learning_rate=1e-4)) != first


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "result.json"
    write_json(
        file, {"a": float("nan"), "b": np.float32(0.5), "c": [np.arange(2), float("inf")], "d": tmp_path, "é": 1}
    )
    assert json.loads(file.read_text()) == {"a": None, "b": 0.5, "c": [[0, 1], None], "d": str(tmp_path), "é": 1}

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"result\.json cannot be written: the disk is full; free some space"):
        write_json(file, {"a": 1})
    assert json.loads(file.read_text())["b"] == 0.5
    assert list(tmp_path.iterdir()) == [file]


def test_provenance_tells_versions_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(sys, "argv", ["pairjax", "train", "--train.seed", "3"])
    origin = provenance(device_kind="cpu", device_count=8)
    assert origin["versions"].keys() >= {"jax", "flax", "optax", "orbax-checkpoint", "grain", "transformers", "numpy"}
    assert origin["versions"]["numpy"] == np.__version__
    assert origin["command"] == ["pairjax", "train", "--train.seed", "3"]
    assert origin["device_count"] == 8
    assert "hf_secret" not in json.dumps(origin)


def test_provenance_names_the_commit_and_a_changed_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(("git", *who, *words), cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    file = tmp_path / "provenance.py"
    file.write_text("one")
    monkeypatch.setattr("pairjax.storage.provenance.__file__", str(file))
    assert provenance(device_kind="cpu", device_count=1)["git"] is None
    git("init", "-q")
    assert provenance(device_kind="cpu", device_count=1)["git"] is None
    git("add", ".")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD").strip()
    assert provenance(device_kind="cpu", device_count=1)["git"] == {"commit": commit, "dirty": False}
    file.write_text("two")
    assert provenance(device_kind="cpu", device_count=1)["git"] == {"commit": commit, "dirty": True}
    monkeypatch.setenv("PATH", "")
    assert provenance(device_kind="cpu", device_count=1)["git"] is None
