"""Files and folders are written whole or not at all; JSON files that cannot be read are named; hashes are stable."""

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from pairjax.base.errors import UserError
from pairjax.storage import files
from pairjax.storage.arrays import cached_arrays, read_arrays, write_arrays
from pairjax.storage.files import read_json, whole_file, whole_folder, write_json
from pairjax.storage.hashes import file_fault, hash_file, hash_files, hash_json


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "scores.txt"
    with whole_file(path) as file:
        file.write("0.9\n")
        assert not path.exists()
    assert path.read_text() == "0.9\n"

    def stop() -> None:
        with whole_file(path, "wb") as file:
            file.write(b"0.1")
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        stop()
    assert path.read_text() == "0.9\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_refused_write_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(UserError, match=r"a\.json cannot be written: the disk is full; free some space, then go on"):
        write_json(tmp_path / "a.json", {})
    with (
        pytest.raises(UserError, match="the disk is full; choose another --output"),
        whole_file(tmp_path / "a", fix="choose another --output"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_only_when_it_is_complete_and_replaces_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "below" / "model"
    for content in ("old", "new"):
        with whole_folder(folder) as partial:
            (partial / content).write_text(content)
            assert not (folder / content).exists()
    assert [path.name for path in folder.iterdir()] == ["new"]

    def stop() -> None:
        with whole_folder(folder) as partial:
            (partial / "third").write_text("")
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        stop()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(folder.parent.iterdir()) == [folder]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_the_folder_of_another_process_is_kept_without_replace(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with whole_folder(folder, replace=False) as partial:
        (partial / "ours").write_text("")
        folder.mkdir()
        (folder / "theirs").write_text("")
    assert [path.name for path in folder.iterdir()] == ["theirs"]
    with pytest.raises(OSError, match="disk"), whole_folder(tmp_path / "new", replace=False):
        raise OSError("disk")
    assert list(tmp_path.iterdir()) == [folder]


def test_partial_folders_of_dead_processes_are_removed_after_a_day(tmp_path: Path) -> None:
    stale, recent, other = (tmp_path / name for name in (".model-a", ".model-b", ".mode-a"))
    for folder in (stale, recent, other):
        folder.mkdir()
    day_ago = time.time() - files.STALE_SECONDS - 60
    for folder in (stale, other):
        os.utime(folder, (day_ago, day_ago))
    with whole_folder(tmp_path / "model"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mode-a", ".model-b", "model"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.json: no such file; expected a verdict; run it again"),
        ("{", "a.json: cannot be read as JSON; got Expecting property name"),
        ("[" * 100_000, "a.json: cannot be read as JSON"),
        (b"\xff", "a.json: cannot be read as JSON; got 'utf-8'"),
        ("[]", "a.json: not a verdict; got list; expected a JSON object; run it again"),
        ('{"id": 1}', "a.json: not a verdict; got nothing named effect, p; run it again"),
    ],
)
def test_a_json_file_that_cannot_be_read_is_named(content: str | bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        read_json(path, kind="a verdict", required=("id", "effect", "p"), fix="run it again")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"scores": np.array([0.5, np.nan]), "n": np.int64(3)})
    assert read_json(tmp_path / "a.json", required=("n",)) == {"scores": [0.5, None], "n": 3}


def test_hashes_are_those_of_hashlib(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert hash_file(tmp_path / "sub" / "a") == digest
    assert hash_files(tmp_path) == {"sub/a": (3, digest)}
    assert file_fault(tmp_path, "sub/a", (3, digest)) is None
    assert file_fault(tmp_path, "sub/a", (4, digest)) == "sub/a: 3 bytes where 4 were saved"
    assert file_fault(tmp_path, "sub/a", (3, "0")) == "sub/a: damaged (its SHA-256 differs)"
    assert file_fault(tmp_path, "b", (3, digest)) == "b: missing"
    assert hash_json({"b": 1, "a": 2}) == hashlib.sha256(json.dumps({"a": 2, "b": 1}).encode()).hexdigest()


def test_arrays_are_computed_once_for_each_identity(tmp_path: Path) -> None:
    def make() -> dict[str, np.ndarray]:
        return {"scores": np.arange(3)}

    assert cached_arrays(tmp_path / "cells", "a" * 64, make)[1] is False
    arrays, read = cached_arrays(tmp_path / "cells", "a" * 64, make)
    assert read
    assert arrays["scores"].tolist() == [0, 1, 2]
    path = tmp_path / "b.npz"
    write_arrays(path, "b", arrays)
    assert read_arrays(path, "c") is None
    path.write_bytes(path.read_bytes()[:-30])
    assert read_arrays(path, "b") is None
