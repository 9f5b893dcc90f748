"""Damage to a run's checkpoints and to a model folder: every kind is named, and damaged files are never loaded.

A damaged checkpoint is skipped with a note for the last good one, and the run ends as if it had never been stopped. If
no checkpoint is good, the run is refused. A few kinds run in CI; this runs all of them:

    pytest tests/torture/test_damage.py -m "slow or not slow"
"""

import builtins
import dataclasses
import errno
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pairjax
from pairjax import Config, UserError
from pairjax.run.distributed import StopSignal
from pairjax.storage.hashes import hash_json
from tests.torture.runs import outcome, start, tiny_config

NEWEST, GOOD = "6", "4"


def flip(path: Path, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 0x10
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def zero(path: Path) -> None:
    """Fills a file with zeros, as a disk does that wrote its length but not its blocks."""
    path.write_bytes(bytes(path.stat().st_size))


def arrays(step: Path) -> Path:
    """Returns the largest file of array data of a checkpoint."""
    return max((step / "state").glob("**/d/*"), key=lambda path: path.stat().st_size)


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def replace(target: Path, source: Path) -> None:
    """Replaces a file or folder with a copy of another."""
    if target.is_dir():
        shutil.rmtree(target)
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def change_json(path: Path, change: Callable[[dict[str, Any]], object], *, reseal: bool = False) -> None:
    value = json.loads(path.read_text())
    change(value)
    if reseal:
        value.pop("seal")
        value["seal"] = hash_json(value)
    path.write_text(json.dumps(value))


# ------------------------------------------------------------------------------------------------------------ runs


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny_config(tmp_path_factory.mktemp("damage"))


@dataclasses.dataclass(frozen=True)
class Runs:
    """An uninterrupted run, the same run stopped after step 6, and a run with another seed stopped there too."""

    config: Config
    whole: Path
    stopped: Path
    other: Path
    whole_other: Path


@pytest.fixture(scope="module")
def runs(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    another = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=1))
    start(config, folder / "whole")
    start(another, folder / "whole-other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopSignal, "requested", lambda self, done: done == int(NEWEST))
        start(config, folder / "stopped")
        start(another, folder / "other")
    return Runs(config, folder / "whole", folder / "stopped", folder / "other", folder / "whole-other")


IN_CI = (
    "bit flipped in array data",
    "two steps swapped",
    "step and digest of another run",
    "digest of an older version",
)
"""Each of the rest takes as long, and their like are in tests/run/test_checkpoint.py."""

Damage = Callable[[Path, Runs], object]
"""Of the `checkpoints` folder of a stopped run."""

CHECKPOINT: dict[str, tuple[Damage, str]] = {
    "bit flipped in array data": (lambda c, _: flip(arrays(c / NEWEST)), "damaged (its SHA-256 differs)"),
    "array data zeroed": (lambda c, _: zero(arrays(c / NEWEST)), "damaged (its SHA-256 differs)"),
    "array data cut": (lambda c, _: cut(arrays(c / NEWEST)), "bytes where"),
    "array data emptied": (lambda c, _: arrays(c / NEWEST).write_bytes(b""), "/: 0 bytes where"),
    "array data missing": (lambda c, _: arrays(c / NEWEST).unlink(), ": missing"),
    "bit flipped in array metadata": (lambda c, _: flip(c / NEWEST / "state/_METADATA"), "state/_METADATA: damaged"),
    "bit flipped in the manifest of arrays": (
        lambda c, _: flip(c / NEWEST / "state/manifest.ocdbt"),
        "state/manifest.ocdbt: damaged",
    ),
    "step's metadata missing": (
        lambda c, _: (c / NEWEST / "_CHECKPOINT_METADATA").unlink(),
        "_CHECKPOINT_METADATA: missing",
    ),
    "bit flipped in progress JSON": (lambda c, _: flip(c / NEWEST / "host/metadata"), "host/metadata: damaged"),
    "number changed in progress JSON": (
        lambda c, _: change_json(c / NEWEST / "host/metadata", lambda v: v.update(examples=v["examples"] + 1)),
        "host/metadata: ",
    ),
    "shape changed in JSON": (
        lambda c, _: change_json(c / NEWEST / "spec/metadata", lambda v: v.update(step="int32[1]")),
        "spec/metadata: ",
    ),
    "folder of arrays missing": (lambda c, _: shutil.rmtree(c / NEWEST / "state"), ": missing"),
    "step empty": (lambda c, _: (shutil.rmtree(c / NEWEST), (c / NEWEST).mkdir()), ": missing"),
    "step is a file": (
        lambda c, _: (shutil.rmtree(c / NEWEST), (c / NEWEST).write_text("")),
        "there is no such checkpoint",
    ),
    "arrays of the step before": (
        lambda c, _: replace(c / NEWEST / "state", c / GOOD / "state"),
        "state/",
    ),
    "two steps swapped": (lambda c, _: swap(c / NEWEST, c / "2"), "/6/"),
    "arrays of another run": (lambda c, r: replace(c / NEWEST, r.other / "checkpoints" / NEWEST), "/6/"),
    "step and digest of another run": (
        lambda c, r: [replace(c / name, r.other / "checkpoints" / name) for name in (NEWEST, f"digests/{NEWEST}.json")],
        "is a checkpoint of another run",
    ),
    "digest missing": (lambda c, _: (c / f"digests/{NEWEST}.json").unlink(), "its save was not finished"),
    "digest emptied": (lambda c, _: (c / f"digests/{NEWEST}.json").write_text(""), "digests/6.json: damaged"),
    "digest cut": (lambda c, _: cut(c / f"digests/{NEWEST}.json"), "digests/6.json: damaged"),
    "bit flipped in digest": (lambda c, _: flip(c / f"digests/{NEWEST}.json"), "digests/6.json: damaged"),
    "metric changed in digest": (
        lambda c, _: change_json(c / f"digests/{NEWEST}.json", lambda v: v.update(metric=0.99)),
        "digests/6.json: damaged",
    ),
    "digest of another step": (
        lambda c, _: replace(c / f"digests/{NEWEST}.json", c / f"digests/{GOOD}.json"),
        "is that of step 4",
    ),
    "digest of an older version": (
        lambda c, _: change_json(c / f"digests/{NEWEST}.json", lambda v: v.update(format=0), reseal=True),
        "written by another version of pairjax (format 0, not 1)",
    ),
    "digest of a newer version": (
        lambda c, _: change_json(c / f"digests/{NEWEST}.json", lambda v: v.update(format=2), reseal=True),
        "written by another version of pairjax (format 2, not 1)",
    ),
}


@pytest.mark.parametrize(
    "name", [name if name in IN_CI else pytest.param(name, marks=pytest.mark.slow) for name in CHECKPOINT]
)
def test_a_damaged_checkpoint_is_named_and_the_run_resumes_from_the_last_good_one(
    name: str, runs: Runs, tmp_path: Path
) -> None:
    damage, told = CHECKPOINT[name]
    run = Path(shutil.copytree(runs.stopped, tmp_path / "run"))
    damage(run / "checkpoints", runs)
    lines = start(runs.config, run, resume=True).splitlines()
    note = next(line for line in lines if "went back to step" in line)
    assert f"checkpoints/{NEWEST}" in note or f"digests/{NEWEST}" in note
    assert told.removeprefix("/") in note
    assert note.endswith(f"went back to step {GOOD}")
    assert f"resumed at step {GOOD} of 8" in lines
    assert outcome(run) == outcome(runs.whole)


def refuse_reading(monkeypatch: pytest.MonkeyPatch, forbidden: Path) -> None:
    """Refuses to read a path once, as for a user without permission (root may read everything)."""
    real, left = builtins.open, [forbidden]

    def guarded(file: Any, *rest: Any, **options: Any) -> Any:
        if left and isinstance(file, str | Path) and Path(file) == forbidden:
            left.pop()
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return real(file, *rest, **options)

    monkeypatch.setattr(builtins, "open", guarded)
    monkeypatch.setattr(io, "open", guarded)


def test_a_checkpoint_without_read_permission_is_named_and_skipped(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(runs.stopped, tmp_path / "run"))
    refuse_reading(monkeypatch, arrays(run / "checkpoints" / NEWEST))
    told = start(runs.config, run, resume=True)
    assert "Permission denied; went back to step 4" in told
    assert outcome(run) == outcome(runs.whole)


REFUSED: dict[str, tuple[Callable[[Path, Runs], object], str]] = {
    "every checkpoint damaged": (
        lambda r, _: [flip(arrays(r / "checkpoints" / step)) for step in ("2", "4", "6")],
        r"no checkpoint can be restored: .*/6/.*; .*/4/.*; .*/2/.*--run\.overwrite",
    ),
    "every digest missing": (
        lambda r, _: shutil.rmtree(r / "checkpoints/digests"),
        "its checkpoints have no digests, so none can be trusted",
    ),
    "config.json cut": (
        lambda r, _: cut(r / "config.json"),
        r"not a pairjax run; got .*config\.json: cannot be read as JSON",
    ),
    "config.json missing": (lambda r, _: (r / "config.json").unlink(), r"not a pairjax run; got no config\.json"),
    "config.json of another run": (
        lambda r, all_: replace(r / "config.json", all_.other / "config.json"),
        "another config: train.seed was 1 and is now 0",
    ),
    "all checkpoints of another run": (
        lambda r, all_: replace(r / "checkpoints", all_.other / "checkpoints"),
        "no checkpoint can be restored: .*6: is a checkpoint of another run; .*4: is a checkpoint of another run",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_run_without_a_sound_checkpoint_is_refused_and_unchanged(name: str, runs: Runs, tmp_path: Path) -> None:
    damage, told = REFUSED[name]
    run = Path(shutil.copytree(runs.stopped, tmp_path / "run"))
    damage(run, runs)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=told) as error:
        start(runs.config, run, resume=True)
    assert "\n" not in str(error.value)
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    # What is noted of the attempt is not what was trained.
    changed = {path.name for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed <= {"config.json", ".lock"}


# ---------------------------------------------------------------------------------------------------------- models

MODEL: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "bit flipped in head": (lambda m, _: flip(m / "head.safetensors", 0.9), "head.safetensors: differs from what was"),
    "bit flipped in weights": (lambda m, _: flip(m / "encoder/model.safetensors"), "model.safetensors: differs"),
    "bit flipped in weights' header": (lambda m, _: flip(m / "encoder/model.safetensors", 0.001), ": differs"),
    "weights cut": (lambda m, _: cut(m / "encoder/model.safetensors"), "model.safetensors: differs"),
    "weights zeroed": (lambda m, _: zero(m / "encoder/model.safetensors"), "model.safetensors: differs"),
    "weights missing": (lambda m, _: (m / "encoder/model.safetensors").unlink(), "model.safetensors: missing"),
    "bit flipped in tokeniser": (lambda m, _: flip(m / "encoder/tokenizer.json"), "tokenizer.json: differs"),
    "tokeniser missing": (lambda m, _: (m / "encoder/tokenizer.json").unlink(), "tokenizer.json: missing"),
    "case changed in tokeniser's settings": (
        lambda m, _: change_json(m / "encoder/tokenizer_config.json", lambda v: v.update(do_lower_case=False)),
        "tokenizer_config.json: differs",
    ),
    "head count changed in encoder's config": (
        lambda m, _: change_json(m / "encoder/config.json", lambda v: v.update(num_attention_heads=1)),
        "encoder/config.json: differs",
    ),
    "encoder's folder is a file": (
        lambda m, _: (shutil.rmtree(m / "encoder"), (m / "encoder").write_text("")),
        "encoder/config.json: missing",
    ),
    "manifest missing": (lambda m, _: (m / "pairjax.json").unlink(), "no model in this folder"),
    "manifest cut": (lambda m, _: cut(m / "pairjax.json"), "pairjax.json: cannot be read as JSON"),
    "manifest empty": (lambda m, _: (m / "pairjax.json").write_text(""), "pairjax.json: cannot be read as JSON"),
    "labels turned round in manifest": (
        lambda m, _: change_json(m / "pairjax.json", lambda v: v["task"]["labels"].reverse()),
        "pairjax.json: differs from what was saved",
    ),
    "temperature changed in manifest": (
        lambda m, _: change_json(m / "pairjax.json", lambda v: v["calibration"].update(temperature=2.0)),
        "pairjax.json: differs from what was saved",
    ),
    "manifest called an older version's": (
        lambda m, _: change_json(m / "pairjax.json", lambda v: v.update(format=1)),
        "pairjax.json: differs from what was saved",
    ),
    "manifest of a newer version": (
        lambda m, _: change_json(m / "pairjax.json", lambda v: v.update(format=4)),
        "written by a newer pairjax",
    ),
    "older version's manifest with a value that cannot be": (
        lambda m, _: change_json(
            m / "pairjax.json", lambda v: (v.pop("seal"), v.update(format=1, truncation="some of both"))
        ),
        "pairjax.json: damaged; got truncation",
    ),
    "head of another run": (lambda m, o: replace(m / "head.safetensors", o / "head.safetensors"), "head.*: differs"),
    "encoder of another run": (lambda m, o: replace(m / "encoder", o / "encoder"), "model.safetensors: differs"),
    "manifest of another run": (lambda m, o: replace(m / "pairjax.json", o / "pairjax.json"), ": differs"),
}


@pytest.mark.parametrize("name", MODEL)
def test_a_damaged_model_folder_is_named_and_never_loaded(name: str, runs: Runs, tmp_path: Path) -> None:
    damage, told = MODEL[name]
    model = Path(shutil.copytree(runs.whole / "model", tmp_path / "model"))
    pairjax.load(model)
    damage(model, runs.whole_other / "model")
    with pytest.raises(UserError, match=told) as error:
        pairjax.load(model)
    assert "\n" not in str(error.value)


def test_a_model_without_read_permission_is_named(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Path(shutil.copytree(runs.whole / "model", tmp_path / "model"))
    refuse_reading(monkeypatch, model / "head.safetensors")
    with pytest.raises(UserError, match=r"head\.safetensors: cannot be read \(Permission denied\)"):
        pairjax.load(model)


def test_a_damaged_model_is_rewritten_from_the_runs_checkpoints(runs: Runs, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs.whole, tmp_path / "run"))
    flip(run / "model" / "head.safetensors")
    with pytest.raises(UserError, match=r"head\.safetensors: differs"):
        pairjax.load(run)
    start(runs.config, run, resume=True)
    pairjax.load(run)
    assert outcome(run) == outcome(runs.whole)
