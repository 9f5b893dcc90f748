"""`pairjax sweep`: its options, what it refuses, and one run whose best config trains again."""

import json
import math
import shlex
from pathlib import Path

import numpy as np
import pytest

from pairjax.base.config import Config
from pairjax.base.errors import UserError
from pairjax.cli.main import main
from pairjax.cli.options import load_experiment
from pairjax.cli.space import grid_points, read_space, sample_points, set_fields
from pairjax.run.folder import take_lock


def test_values_are_typed_by_the_fields_own_annotations() -> None:
    space = read_space(
        [
            "optim.learning-rate=1e-5,3e-5",
            "train.batch-size=16",
            "model.pooling=mean,None",
            "model.head.hidden=,64,64 32",
            "model.combine.features=|u-v| u*v",
            "--model.remat=true,false",
            "optim.schedule=cosine",
        ],
        [],
    )
    values = {dimension.field: dimension.values for dimension in space}
    assert values == {
        "optim.learning_rate": (1e-5, 3e-5),
        "train.batch_size": (16,),
        "model.pooling": ("mean", None),
        "model.head.hidden": ((), (64,), (64, 32)),
        "model.combine.features": (("|u-v|", "u*v"),),
        "model.remat": (True, False),
        "optim.schedule": ("cosine",),
    }
    points = grid_points(space)
    assert len(points) == 2 * 2 * 3 * 2
    assert len({str(point) for point in points}) == len(points)
    config = set_fields(Config(), {"model.kind": "bi", **points[-1]})
    assert config.model.head.hidden == (64, 32)
    assert config.model.combine.features == ("|u-v|", "u*v")
    assert config.optim.learning_rate == 3e-5


def test_draws_are_seeded_and_follow_their_distributions() -> None:
    space = read_space(
        ["optim.schedule=linear,cosine"],
        [
            "optim.weight-decay=log:1e-4:1",
            "model.dropout.head=uniform:0.1:0.5",
            "train.batch-size=log:4:64",
            "train.epochs=uniform:1:3",
            "optim.b1=choice:0.8,0.9",
        ],
    )
    points = sample_points(space, count=600, seed=3)
    assert points == sample_points(space, count=600, seed=3)
    assert points != sample_points(space, count=600, seed=4)
    decay = np.log10([point["optim.weight_decay"] for point in points])
    assert decay.min() >= -4
    assert decay.max() <= 0
    assert np.histogram(decay, bins=4, range=(-4, 0))[0] == pytest.approx([150] * 4, rel=0.25)
    head = [point["model.dropout.head"] for point in points]
    assert np.mean(head) == pytest.approx(0.3, abs=0.02)
    sizes = [point["train.batch_size"] for point in points]
    assert all(isinstance(size, int) and 4 <= size <= 64 for size in sizes)
    assert np.median(sizes) == pytest.approx(16, abs=2)
    assert {point["train.epochs"] for point in points} == {1, 2, 3}
    assert {point["optim.b1"] for point in points} == {0.8, 0.9}
    assert {point["optim.schedule"] for point in points} == {"linear", "cosine"}


def test_a_small_space_is_drawn_once_each() -> None:
    space = read_space(["optim.b1=0.8,0.9"], ["optim.b2=choice:0.9,0.99"])
    assert len(sample_points(space, count=50, seed=0)) == 4


@pytest.mark.parametrize(
    ("grid", "random", "said"),
    [
        ([], [], "an empty grid: there is nothing to search"),
        (["optim.learning-rate="], [], "an empty grid; got no value"),
        (["optim.learning-rate"], [], "--grid names no values"),
        (["optim.learning-rat=1"], [], "no such field; got optim.learning-rat; perhaps you meant optim.learning-rate"),
        (["learning-rate=1"], [], "perhaps you meant optim.learning-rate"),
        (["optim.learning-rate=fast"], [], "got 'fast'; expected a number"),
        (["optim.learning-rate=1e-5,inf"], [], "not finite"),
        (["optim.learning-rate=1e-5,1e-5"], [], "twice; got 1e-05"),
        (["train.batch-size=1.5"], [], "got '1.5'; expected a whole number"),
        (["model.pooling=maen"], [], "expected one of cls, pooler, mean, max or None; perhaps you meant mean"),
        (["model.combine.features=u w"], [], "expected one of u, v, u-v, |u-v|, u*v, several separated by spaces"),
        (["model.remat=perhaps"], [], "expected true or false"),
        (["data.path=a,b"], [], "all trials read the same pairs"),
        (["train.seed=1,2"], [], "train.seed is varied by --seeds"),
        (["run.dir=a,b"], [], "run.dir does not affect training"),
        (["optim=1"], [], "no such field"),
        (["optim.b1=0.8"], ["optim.b1=choice:0.9"], "is in the space twice; got optim.b1"),
        ([], ["optim.b1=gauss:0:1"], "no such distribution; got gauss; expected uniform:LOW:HIGH"),
        ([], ["optim.b1=unifrom:0:1"], "perhaps you meant uniform"),
        ([], ["optim.b1=uniform:0"], "a range has two bounds"),
        ([], ["optim.b1=uniform:0.9:0.1"], "the bounds span no range"),
        ([], ["optim.weight-decay=log:0:1"], "expected 0 < LOW < HIGH"),
        ([], ["optim.schedule=uniform:0:1"], "a range needs a field that is a number"),
    ],
)
def test_a_wrong_space_is_one_line(grid: list[str], random: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        read_space(grid, random)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--grid", "optim.learning-rat=1e-5"], "perhaps you meant optim.learning-rate"),
        (["--grid", "optim.b1=0.8,0.9", "--trials", "3"], "does not support --trials"),
        (["--random", "optim.b1=uniform:0.8:0.9", "--method", "grid"], "--method grid does not support --random"),
        (["--grid", "optim.b1=0.8,1.5"], "--optim.b1 is out of range; got 1.5"),
        (
            ["--grid", "optim.b1=0.8,0.9", "--folds", "50"],
            "smallest class has pairs; got 50 folds; class 'other' has",
        ),
        (["--grid", "optim.b1=0.8,0.9", "--folds", "2"], "a nested score needs three folds"),
        (["--grid", "model.interact.heads=3", "--model.interact.kind", "cross"], "does not divide"),
        (["--grid", "optim.b1=0.8,0.9", "--dir", "{pairs}"], "not a sweep's folder"),
    ],
)
def test_bad_input_exits_2_with_one_line_and_writes_nothing(
    args: list[str],
    said: str,
    options: list[str],
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *options, *(arg.format(pairs=pairs) for arg in args)]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_option_exits_2_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["sweep", "--grid", "optim.b1=0.8", "--optim.learning-rat", "1"])
    assert caught.value.code == 2
    assert "learning-rate" in capsys.readouterr().err


def test_no_trial_finished_exits_2(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = ["--grid", "optim.learning-rate=1e38,2e38", "--optim.clip-norm", "0"]
    frozen = ["--model.kind", "bi", "--optim.freeze", "encoder"]
    assert main(["sweep", *options, *frozen, *space, "--folds", "3", "--dir", str(tmp_path / "s")]) == 2
    assert "no trial finished" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "s" / "result.json").exists()


def test_the_command_leaves_a_table_and_a_best_config_that_trains(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    frozen = ["--model.kind", "bi", "--optim.freeze", "encoder"]
    space = ["--random", "optim.learning-rate=log:1e-3:1e-1", "--grid", "model.combine.features=u v,|u-v| u*v"]
    args = ["sweep", *options, *frozen, *space, "--trials", "4", "--folds", "3", "--seeds", "0", "1"]
    assert main([*args, "--dir", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == f"pairjax train {folder}/best.py"
    assert "chose it, so they are too optimistic" in captured.err
    assert "nested, 3 folds" in captured.err
    result = json.loads((folder / "result.json").read_text())
    assert result["trials"] == 4
    assert result["best"]["score"]["runs"] == 3
    assert result["best"]["runs"] == 6
    assert math.isfinite(result["nested"]["value"])
    assert main([*args, "--dir", str(folder)]) == 0
    assert json.loads((folder / "result.json").read_text())["runs_trained"] == 0
    config = load_experiment(str(folder / "best.py")).config
    assert config.optim.learning_rate == result["best"]["values"]["optim.learning_rate"]
    assert list(config.model.combine.features) == result["best"]["values"]["model.combine.features"]
    capsys.readouterr()
    assert main(shlex.split(captured.out)[1:]) == 0
    assert (folder / "best" / "result.json").exists()


def test_a_sweep_in_use_by_another_process_is_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    lock, _ = take_lock(tmp_path)
    args = ["sweep", *options, "--grid", "optim.b1=0.8", "--folds", "3", "--dir", str(tmp_path)]
    assert main(args) == 2
    lock.close()
    assert "the sweep's folder is in use by process" in capsys.readouterr().err
    assert not (tmp_path / "trials").exists()
