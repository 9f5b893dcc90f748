"""Records of a claim: written once, appended by more seeds, read without training, and checked by digests."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairjax.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "experiments" / "claims" / "records"

CLAIM = '''"""A claim that keeps records."""

import numpy as np

from pairjax.evaluation.counts import mean
from pairjax.evaluation.intervals import two_way_bootstrap
from pairjax.studies.claim import Claim, Hypothesis, Outcome
from pairjax.studies.rules import Part

SMALLEST = 5.0
PAIRS = 60


def work(seed):
    print(f"worked on {seed}")
    return {"predicted": (np.random.default_rng(seed).random(PAIRS) < 0.8).astype(np.int8)}


def run(claim):
    data = claim.unit("data", lambda: {"label": np.ones(PAIRS, np.int8), "cluster": np.arange(PAIRS) // 2})
    right = [
        claim.unit(f"seed {seed}", lambda seed=seed: work(seed))["predicted"] == data["label"]
        for seed in range(claim.seeds)
    ]
    statistics = [lambda counts, r=r: {"value": 100 * mean(r.astype(float), counts) - 50} for r in right]
    effect = two_way_bootstrap(
        statistics, PAIRS, resamples=200, seed=0, clusters=data["cluster"], level=claim.claim.level
    )["value"]
    table = [["seed", "accuracy"], *([str(i), f"{r.mean():.3f}"] for i, r in enumerate(right))]
    return Outcome([Hypothesis("H", effect, SMALLEST, True, "accuracy above a half")], {"Accuracy": table})


part = Part("H", SMALLEST, 30.0, 5.0, 5.0, "a pilot")
claim = Claim(id="toy", statement="s", seeds=3, looks=(5,), parts=(part,), run=run)
'''


def git(folder: Path, *words: str) -> None:
    subprocess.run(("git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words), check=True)


def row(folder: Path) -> dict[str, Any]:
    """Returns a verdict without what differs from run to run."""
    content = json.loads((folder / "verdict.json").read_text())
    return {key: value for key, value in content.items() if key not in ("minutes", "command", "provenance")}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A repository with a registered claim that has run with three seeds."""
    (tmp_path / "toy.py").write_text(CLAIM)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "toy.py")
    git(tmp_path, "commit", "-qm", "a claim")
    assert claim(tmp_path, "first") == 0
    return tmp_path


def claim(folder: Path, results: str, *options: str) -> int:
    base = ["claim", str(folder / "toy.py"), "--dir", str(folder / results), "--compilation-cache", ""]
    return main([*base, *options])


def test_records_give_the_same_verdict_and_tables_without_training(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = toy / "records" / "toy"
    assert sorted(path.name for path in records.iterdir()) == ["manifest.json", "units-3.npz", "verdict.json"]
    part = json.loads((records / "manifest.json").read_text())["looks"][0]
    assert sorted(part["seconds"]) == ["data", "seed 0", "seed 1", "seed 2"]
    capsys.readouterr()
    assert claim(toy, "again", "--from-records") == 0
    output = capsys.readouterr()
    assert "worked on" not in output.out
    assert "toy: supported (3 seeds" in output.out
    assert row(toy / "again" / "toy") == row(toy / "first" / "toy") == row(records)
    first, again = ((toy / name / "toy" / "table.md").read_text() for name in ("first", "again"))
    assert first == again
    # A checkout whose file is not in git, or was not committed since, still recomputes the registered design.
    (toy / "toy.py").write_text(CLAIM + "# a comment\n")
    assert claim(toy, "edited", "--from-records") == 0
    assert row(toy / "edited" / "toy")["verdict"] == "supported"


def test_more_seeds_append_and_do_not_train_the_old_ones_again(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = toy / "records" / "toy"
    before = (records / "units-3.npz").read_bytes()
    capsys.readouterr()
    # Another folder of results: the records hold everything.
    assert claim(toy, "elsewhere", "--seeds", "5") == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "worked" in line] == ["worked on 3", "worked on 4"]
    assert (records / "units-3.npz").read_bytes() == before
    assert not row(toy / "elsewhere" / "toy")["registered_after_result"]
    assert claim(toy, "again", "--from-records") == 0
    assert row(toy / "again" / "toy") == row(records)
    assert row(records)["seeds"] == 5
    assert claim(toy, "early", "--from-records", "--seeds", "3") == 0
    assert row(toy / "early" / "toy") == row(toy / "first" / "toy")


def test_records_that_cannot_be_used_are_one_line(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = toy / "records" / "toy" / "units-3.npz"
    manifest = file.with_name("manifest.json")
    intact, described = file.read_bytes(), manifest.read_text()

    def message(*options: str) -> str:
        capsys.readouterr()
        assert claim(toy, "broken", "--from-records", *options) == 2
        return " ".join(capsys.readouterr().err.split())

    assert "no record of 'seed 3'" in message("--seeds", "5")
    for damaged in (intact[:-10], intact[:40] + b"x" + intact[41:], None):
        file.unlink() if damaged is None else file.write_bytes(damaged)
        assert "units-3.npz: the record was changed or is incomplete" in message()
    file.write_bytes(intact)
    (toy / "toy.py").write_text(CLAIM.replace("SMALLEST = 5.0", "SMALLEST = 4.0"))
    assert "these are records of another design" in message()
    (toy / "toy.py").write_text(CLAIM)
    plain = json.loads(described)
    manifest.write_text(json.dumps(plain | {"registration": plain["registration"] | {"commit": None}}))
    assert "the claim was not registered" in message()
    manifest.write_text(json.dumps(plain | {"format": 9}))
    assert "unknown format" in message()
    manifest.unlink()
    assert "there are no records" in message()
    assert "exclude each other" in message("--quick")
    (toy / "toy.py").write_text(CLAIM.replace("seeds=3, looks=(5,)", "seeds=3, round=1"))
    assert "toy keeps no records" in message()


def test_the_committed_records_give_the_committed_verdicts(tmp_path: Path) -> None:
    """Recomputes every claim that has records; round 1 has none."""
    for recorded in sorted(RECORDS.glob("*/verdict.json")):
        name = recorded.parent.name
        file = ROOT / "experiments" / "claims" / f"{name}.py"
        assert main(["claim", str(file), "--from-records", "--dir", str(tmp_path), "--compilation-cache", ""]) == 0
        assert row(tmp_path / name) == row(recorded.parent)


def test_records_hold_arrays_of_any_name(tmp_path: Path) -> None:
    from pairjax.studies.records import Records

    records = Records(tmp_path / "r", "d")
    arrays = {"a": np.arange(3, dtype=np.int8), "b": np.ones((2, 2), np.float16)}
    records.unit("sick: cls/subset 3", lambda: arrays)
    records.write(seeds=3, registration={"commit": "x"}, verdict={})
    again = Records(tmp_path / "r", "d", only_read=True).unit("sick: cls/subset 3", dict)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype
