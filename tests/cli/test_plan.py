"""`pairjax plan` through its real entry point, without libtpu."""

from pathlib import Path

import pytest

from pairjax.cli.main import main
from tests.plan.test_plan import write_config

EXPERIMENT = """from pairjax import Config, DataConfig, ModelConfig, TrainConfig

config = Config(
    data=DataConfig(rules="entailment"), model=ModelConfig(encoder={encoder!r}), train=TrainConfig(batch_size=16)
)
"""
PRETRAINING = """from pairjax import CorpusConfig, PretrainConfig

config = PretrainConfig(data=CorpusConfig(vocabulary=512, max_length=32))
"""


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    file = tmp_path / "experiment.py"
    file.write_text(EXPERIMENT.format(encoder=write_config(encoder)), encoding="utf-8")
    return str(file)


def told(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["plan", *args, "--no-compile"]) == 0
    return capsys.readouterr().out


def test_a_tpu_plan_says_that_it_is_an_estimate(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = told([experiment, "--tpu", "v5e:4x4", "--length", "32"], capsys)
    assert "v5e:4x4, 16 devices, mesh data=16 x fsdp=1 x tensor=1" in shown
    assert "ESTIMATED" in shown
    assert "COMPILED" not in shown
    for name in ("parameters", "moments", "temporaries", "memory", "GFLOP", "all-reduce", "step time", "largest batch"):
        assert name in shown
    assert "advice: " in shown


def test_options_of_the_experiment_hold(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--mesh.data", "2", "--mesh.tensor", "4", "--train.batch-size", "64", "--model.dtype", "bfloat16"]
    shown = told([experiment, "--gpu", "h100:8", "--length", "32", *options], capsys)
    assert "h100:8, 8 devices, mesh data=2 x fsdp=1 x tensor=4" in shown
    assert "64 examples in 64 rows of 32 slots, bfloat16" in shown


@pytest.mark.parametrize("count", [["--cpu"], ["--cpu", "2"]])
def test_a_cpu_plan_measures_the_machine(count: list[str], experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = told([experiment, *count, "--length", "16"], capsys)
    assert f"cpu:{len(count)}, {len(count)} devices" in shown
    assert "TFLOP/s" in shown


def test_pretraining_is_planned_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pretraining.py"
    file.write_text(PRETRAINING, encoding="utf-8")
    shown = told([str(file), "--tpu", "v6e:2x2"], capsys)
    assert "rows of 32 slots" in shown
    assert "a vocabulary of 512" in shown


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["experiment file"]),
        (["--tpu", "v5e:2x2"], ["experiment file"]),
        (["nowhere.py", "--cpu"], ["nowhere.py"]),
        (["EXPERIMENT"], ["--tpu", "--gpu", "--cpu"]),
        (["EXPERIMENT", "--cpu", "--gpu", "h100:8"], ["--gpu and --cpu"]),
        (["EXPERIMENT", "--cpu", "0"], ["--cpu", "got 0"]),
        (["EXPERIMENT", "--tpu", "v9:2x2"], ["v4", "v5e", "v5p", "v6e"]),
        (["EXPERIMENT", "--tpu", "v5e:3x3"], ["2x2", "16x16"]),
        (["EXPERIMENT", "--gpu", "b200:8"], ["h100, a100"]),
        (["EXPERIMENT", "--tpu", "v5e:4x4", "--no-compile", "--mesh.data", "3"], ["does not divide", "16 devices"]),
        (
            ["EXPERIMENT", "--tpu", "v5e:2x2", "--libtpu-python", "no-such-python"],
            ["--libtpu-python", "no-such-python"],
        ),
        (["EXPERIMENT", "--tpu", "v5e:2x2", "--libtpu-python", "FALSE"], ["libtpu is not importable", "pip install"]),
    ],
)
def test_bad_input_is_one_line_and_code_two(
    args: list[str], words: list[str], experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no module named libtpu >&2\nexit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    named = {"EXPERIMENT": experiment, "FALSE": str(broken)}
    assert main(["plan", *(named.get(arg, arg) for arg in args)]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert error.startswith("pairjax: error: ")
    for word in words:
        assert word in error


def test_a_library_that_is_no_libtpu_ends_in_one_line(
    experiment: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The child process is this interpreter with the library that the other one names."""
    (tmp_path / "libtpu.so").write_bytes(b"no library")
    other = tmp_path / "python"
    other.write_text(f"#!/bin/sh\necho {tmp_path}/libtpu.so\n", encoding="utf-8")
    other.chmod(0o755)
    code = main(["plan", experiment, "--tpu", "v5e:2x2", "--length", "16", "--libtpu-python", str(other)])
    assert code == 2
    assert "libtpu knows no slice v5e:2x2" in capfd.readouterr().err
