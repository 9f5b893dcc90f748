"""A run whose folder is in a bucket: the real clients (Orbax, TensorStore, gcsfs) and a server on this machine."""

import dataclasses
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from pairjax import Config, UserError
from pairjax.finetune.train import TrainResult, train
from pairjax.run.folder import check_run
from tests.finetune.test_finetune import config as config
from tests.finetune.test_finetune import losses, start, stop_at, tensors
from tests.run.processes import finish, spawn_all, write_inputs
from tests.storage.bucket_server import Bucket, serve


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Bucket, dict[str, str]]]:
    with serve("kept") as (bucket, environment), pytest.MonkeyPatch.context() as patch:
        # The clients remember where they found it, so that a process has one.
        for name, value in environment.items():
            patch.setenv(name, value)
        yield bucket, environment


@pytest.fixture
def bucket(served: tuple[Bucket, dict[str, str]]) -> Bucket:
    served[0].objects.clear()
    return served[0]


def start_there(config: Config, name: str = "run", **run: object) -> TrainResult:
    run_config = dataclasses.replace(config.run, dir=f"gs://kept/{name}", **run)
    return train(dataclasses.replace(config, run=run_config), console=Console(quiet=True))


def files(bucket: Bucket, name: str = "run") -> set[str]:
    """What lies there, the checkpoints' own files aside."""
    return {path.removeprefix(f"{name}/") for path in bucket.objects if "/state/" not in path and "/host/" not in path}


def download(bucket: Bucket, folder: Path, name: str = "run") -> Path:
    for path, (data, _) in bucket.objects.items():
        if path.startswith(f"{name}/"):
            target = folder / path.removeprefix(f"{name}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return folder


def test_a_run_resumed_in_a_bucket_equals_an_uninterrupted_run_on_a_disk(
    config: Config, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, keep="last"))
    whole = start(config, tmp_path / "whole")
    stop_at(3, monkeypatch)
    stopped = start_there(config)
    assert (str(stopped.dir), stopped.exit_code) == ("gs://kept/run", 143)
    assert "result.json" not in files(bucket)
    assert {"config.json", "metrics.jsonl", "checkpoints/digests/3.json"} <= files(bucket)
    monkeypatch.undo()
    again = start_there(config, resume=True)
    assert again.exit_code == 0
    found = download(bucket, tmp_path / "found")
    for name, value in tensors(Path(str(whole.dir))).items():
        assert tensors(found)[name].tobytes() == value.tobytes(), name
    assert losses(found) == losses(tmp_path / "whole")
    written = {str(path.relative_to(whole.dir)) for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    missing = {path for path in written if not (found / path).exists() and not path.startswith("checkpoints/")}
    assert missing == {".lock"}
    assert len(json.loads((found / "config.json").read_text())["resumes"]) == 1
    # The last thing that is copied, so that a result means that all is there.
    assert max(bucket.objects, key=lambda name: bucket.objects[name][1]) == "run/result.json"
    assert list((tmp_path / "scratch").glob("pairjax-run-*")) == []


def test_existing_files_are_only_replaced_with_overwrite(config: Config, bucket: Bucket) -> None:
    bucket.objects["other/readme.txt"] = (b"no run", 1)
    with pytest.raises(UserError, match=r"gs://kept/other is not a pairjax run; got no config\.json"):
        start_there(config, "other", overwrite=True)
    with pytest.raises(UserError, match="gs://kept/new: there is no run to resume"):
        start_there(config, "new", resume=True)
    assert set(bucket.objects) == {"other/readme.txt"}
    start_there(config)
    before = dict(bucket.objects)
    with pytest.raises(UserError, match="gs://kept/run: the run folder exists and is not empty"):
        start_there(config)
    assert bucket.objects == before
    bucket.objects["run/notes.txt"] = (b"mine", 1)
    start_there(config, overwrite=True)
    assert bucket.objects["run/notes.txt"][0] == b"mine"
    kept = {name for name in before if bucket.objects.get(name) == before[name]}
    assert kept == {"other/readme.txt"}


def flip(bucket: Bucket) -> None:
    name = next(name for name in sorted(bucket.objects) if name.startswith("run/checkpoints/5/state/d/"))
    data, generation = bucket.objects[name]
    bucket.objects[name] = (data[:-1] + bytes([data[-1] ^ 1]), generation)


def unfinish(bucket: Bucket) -> None:
    """As a kill during the save leaves it."""
    for name in ("5/commit_success.txt", "5/_CHECKPOINT_METADATA", "5/state/manifest.ocdbt", "digests/5.json"):
        del bucket.objects[f"run/checkpoints/{name}"]


@pytest.mark.parametrize("damage", [flip, unfinish])
def test_an_incomplete_checkpoint_is_skipped_for_the_previous_one(
    config: Config, bucket: Bucket, damage: Callable[[Bucket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, save_every=2))
    stop_at(5, monkeypatch)
    start_there(config)
    monkeypatch.undo()
    damage(bucket)
    told = Console(record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    run = dataclasses.replace(config.run, dir="gs://kept/run", resume=True)
    assert train(dataclasses.replace(config, run=run), console=told).exit_code == 0
    assert "resumed at step 4 of 8" in told.export_text()
    # The best, the last two, and nothing of the one that was not whole.
    assert {name.split("/")[2] for name in bucket.objects if "/checkpoints/" in name} == {"2", "6", "8", "digests"}
    assert {name for name in files(bucket) if "digests" in name} == {f"checkpoints/digests/{n}.json" for n in (2, 6, 8)}


def test_an_unreachable_bucket_is_reported_in_one_line(
    config: Config, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for address, line in {
        "gs://nowhere/run": "gs://nowhere/run: the bucket does not exist",
        "gs://kept": "neither a path nor an address in a bucket; got gs://kept; expected a path, or gs://BUCKET/FOLDER",
        "s3://kept/run": "neither a path nor an address in a bucket; got s3://kept/run",
    }.items():
        with pytest.raises(UserError, match=line):
            check_run(dataclasses.replace(config.run, dir=address), {}, default_name="x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"gs://kept/run needs the package gcsfs; pip install 'pairjax\[gcs\]'"):
        check_run(dataclasses.replace(config.run, dir="gs://kept/run"), {}, default_name="x")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_write_one_checkpoint_to_a_bucket(
    served: tuple[Bucket, dict[str, str]], bucket: Bucket, tmp_path: Path
) -> None:
    command = [*write_inputs(tmp_path), "--run.dir=gs://kept/two"]
    for process in spawn_all(2, *command, **served[1]):
        code, told = finish(process)
        assert code == 0, told
    sealed = json.loads(bucket.objects["two/checkpoints/digests/18.json"][0])["files"]
    assert {f"state/array_metadatas/process_{index}" for index in (0, 1)} <= set(sealed)
    assert "model/head.safetensors" in files(bucket, "two")
