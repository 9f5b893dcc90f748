"""Tests `pairjax bench` without a measurement: counts, summaries of rounds, the generated page, bad input."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.benchmarks import suite
from experiments.benchmarks.alone.hlo import OTHER, Operation, read_program
from experiments.benchmarks.cases import BUSY, CASES, NAMES, TOLERANCE, case_title
from experiments.benchmarks.results.markdown import is_different, write_results
from experiments.benchmarks.results.summary import summarise_matrix_rates, summarise_rounds
from experiments.benchmarks.shared.flops import Cost
from experiments.benchmarks.shared.protocol import Client, WorkerError
from experiments.benchmarks.workload.pairs import find_data, write_workload
from pairjax.cli.main import main
from tests.tiny import write_tiny_encoder

HOME = Path(suite.__file__).parent
ABOUT = {
    "date": "2026-01-02",
    "machine": {"processor": "a processor", "threads": 2},
    "versions": {"jax": "1"},
    "git": None,
    "rounds": 2,
    "quick": False,
    "data": {"mrpc": "rules: paraphrase", "sick": "sick"},
    "encoder": "an encoder",
}


def answer(seconds: float, *, rate: float, flops: float = 4e9, count: int = 10, **more: float) -> dict[str, Any]:
    return {"seconds": seconds, "matrix_rate": rate, "flops": flops, "count": count, "peak_mb": 100.0, **more}


def rounds(**more: float) -> list[dict[str, dict[str, Any]]]:
    """pairjax does 4 GFLOP in 0.1 and 0.2 s, torch in 0.4 s; their libraries reach 95 to 105 and 50 GFLOP/s."""
    return [
        {"ours": answer(0.1, rate=95.0, **more), "peer": answer(0.4, rate=50.0, **more)},
        {"ours": answer(0.2, rate=105.0, **more), "peer": answer(0.4, rate=50.0, **more)},
    ]


def result_of(**check: float) -> dict[str, Any]:
    """A case's entry in results.json."""
    return {"rounds": rounds(), "check": check, "opened": {}, "about": ABOUT} | summarise_rounds(rounds())


def row(folder: Path, name: str) -> str:
    lines = (folder / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("|") and f"(`{name}`)" in line)
    return line


def test_arithmetic_equals_a_count_by_hand() -> None:
    # One layer of widths 2 and 3: four 2 x 2 and two 2 x 3 matrices, 28 weights; attention takes 4 L^2 D.
    assert Cost(1, 2, 3, 0).forward([5], 0) == 2 * 28 * 5 + 4 * 25 * 2
    assert Cost(2, 2, 3, 7, words=11).forward([5, 1], 3, masked=4) == (
        2 * (2 * 28 * 6 + 4 * 26 * 2) + 2 * 7 * 3 + 2 * 11 * 4
    )
    assert Cost(1, 2, 3, 7).training([5], 1) == 3 * Cost(1, 2, 3, 7).forward([5], 1)


def test_rounds_are_summarised_as_ratios_rates_and_utilisation() -> None:
    result = summarise_rounds(rounds())
    assert result["ratio"] == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert (result["matrix_rate"], result["matrix_spread"]) == (100.0, 0.1)
    assert result["ours"]["per_second"] == {"median": 75.0, "low": 50.0, "high": 100.0}
    assert result["peer"]["per_second"]["median"] == 25.0
    assert result["ours"]["share_of_floor"] == result["ours"]["share_of_own"] == pytest.approx(0.3)
    assert result["peer"]["share_of_floor"] == pytest.approx(0.1)
    assert result["peer"]["share_of_own"] == pytest.approx(0.2)
    assert result["ours"]["loss"] is None
    assert "ratio_whole" not in result
    assert summarise_rounds(rounds(whole=1.0, loss=0.5))["ratio_whole"]["median"] == 1.0
    assert summarise_rounds(rounds(loss=0.5))["peer"]["loss"] == 0.5


def test_without_arithmetic_the_ratio_compares_units_and_there_is_no_utilisation() -> None:
    result = summarise_rounds(
        [{"ours": answer(1.0, rate=9.0, flops=0.0), "peer": answer(1.0, rate=9.0, flops=0.0, count=5)}]
    )
    assert result["ratio"]["median"] == 2.0
    assert "share_of_floor" not in result["ours"]


def test_the_matrix_rate_is_the_faster_librarys_and_the_spread_the_larger_one() -> None:
    assert summarise_matrix_rates({"ours": [100.0, 100.0], "peer": [40.0, 60.0]}) == {
        "matrix_rate": 100.0,
        "matrix_spread": 0.4,
    }


def test_a_row_marks_a_busy_machine_and_sides_that_differ(tmp_path: Path) -> None:
    busy = result_of(outputs_apart=TOLERANCE["outputs"])
    busy["rounds"][0]["peer"]["matrix_rate"] = 50.0 * (1 + 2 * BUSY)
    write_results(
        tmp_path, {"step": result_of(loss_apart=3 * TOLERANCE["losses"]), "predict": busy, "train_128": result_of()}
    )
    assert " differs |" in row(tmp_path, "step")
    assert " busy |" in row(tmp_path, "predict")
    assert not any(word in row(tmp_path, "train_128") for word in ("busy", "differs"))
    assert is_different("step", result_of(loss_apart=float("nan")))
    assert not is_different("first_step", {"cold": {}})


def test_measurements_without_a_torch_tool_mark_a_busy_machine_too(tmp_path: Path) -> None:
    times = {"median": 2.0, "low": 1.0, "high": 3.0}
    first = {"cold": times, "warm": times, "peer": times, "matrix_rate": 1.0, "matrix_spread": 2 * BUSY}
    stage = {"group": "whole", "stage": "step", "batch": 1, "length": 2, "milliseconds": 3.0, "compile_seconds": 4.0}
    micro = {"rows": [stage], "matrix_rate": 1.0, "matrix_spread": 2 * BUSY}
    target = write_results(tmp_path, {"first_step": first | {"about": ABOUT}, "micro": micro | {"about": ABOUT}})
    text = target.read_text(encoding="utf-8")
    assert "first update (busy): 2.0 (1.0 to 3.0) s" in text
    assert "## Stages of the model (busy)" in text
    assert "| 4.00 to 4.00 s |" in text


def test_a_row_shows_utilisation_and_utilisation_of_the_own_library(tmp_path: Path) -> None:
    slow = result_of()
    for answers in slow["rounds"]:
        answers["peer"]["matrix_rate"] = 20.0
    write_results(tmp_path, {"step": result_of(), "predict": slow})
    assert "| 0.30 / 0.10 | 0.30 / 0.20 |" in row(tmp_path, "step")
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "XLA's products ran at 100 to 100 GFLOP/s, torch's at 20 to 50" in text
    assert "of its own library in `predict` (0.50, pairjax 0.30)." in text


def test_each_run_adds_its_cases_to_the_stored_ones(tmp_path: Path) -> None:
    write_results(tmp_path, {"step": result_of(), "pipeline": result_of()})
    write_results(tmp_path, {"step": result_of(loss_apart=1e-6) | {"about": ABOUT | {"date": "2026-03-04"}}})
    store = json.loads((tmp_path / "results.json").read_text())
    assert list(store) == ["step", "pipeline"]
    assert store["pipeline"] == json.loads(json.dumps(result_of()))
    assert "| 1.0e-06 |" in row(tmp_path, "step")
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "- `step`: 2026-03-04" in text
    assert "- `pipeline`: 2026-01-02" in text
    assert f"]({Path(os.path.relpath(HOME, tmp_path)).as_posix()}/README.md)" in text


def test_the_committed_page_is_generated_from_the_committed_results(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text((HOME / "results.json").read_text())
    text = write_results(tmp_path, {}).read_text(encoding="utf-8")
    away = f"{Path(os.path.relpath(HOME, tmp_path)).as_posix()}/"
    assert text.replace(f"]({away}", "](") == (HOME / "RESULTS.md").read_text(encoding="utf-8")
    assert (tmp_path / "results.json").read_text() == (HOME / "results.json").read_text()


def test_titles_and_provenance_name_the_data(tmp_path: Path) -> None:
    assert case_title("train", ABOUT["data"]) == "cross-encoder training, rule-made paraphrase"
    assert case_title("predict", ABOUT["data"]) == "cross-encoder prediction, SICK test"
    sources = {"mrpc": "mrpc", "sick": "sick", "pretraining": "rules: stories"}
    assert not any("{" in case_title(name, sources) for name in CASES)
    write_results(tmp_path, {"train": result_of()})
    assert "rule-made paraphrase" in row(tmp_path, "train")
    assert "an encoder, rule-made paraphrase, SICK; jax 1." in (tmp_path / "RESULTS.md").read_text(encoding="utf-8")


def bare_interpreter(folder: Path) -> Path:
    """Writes a command that runs this interpreter without installed packages."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_without_the_torch_tools_the_message_gives_the_command_that_installs_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--peer-python", str(bare_interpreter(tmp_path)), "--output", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no torch, transformers" in line
    assert "pip install -e '.[bench]'" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--peer-python", "nowhere/python"], "nowhere/python: does not run"),
        (["--cases", "stpe"], "no such case; got stpe; expected some of step, "),
        (["--rounds", "0"], "--rounds is too small"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "output"), [([], Path("runs/bench")), (["--quick"], None), (["--quick", "--output", "x"], Path("x"))]
)
def test_results_are_written_to_the_committed_folder_only_if_it_is_named(
    options: list[str], output: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_of_runs: list[suite.Settings] = []
    monkeypatch.setattr(suite, "run", lambda settings: settings_of_runs.append(settings) or {"step": result_of()})
    assert main(["bench", *options]) == 0
    assert settings_of_runs[0].output == output
    assert settings_of_runs[0].cases == (("step", "predict") if "--quick" in options else NAMES)


def test_sides_that_differ_give_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "run", lambda settings: {"step": result_of(loss_apart=1.0)})
    assert main(["bench", "--cases", "step"]) == 1


WORKER = """
from experiments.benchmarks.shared.protocol import serve

class Side:
    def __init__(self, settings):
        self.settings = settings
    def open(self):
        print("a library says something")
        return {"opened": self.settings["x"]}
    def check(self):
        raise ValueError("cannot")
    def round(self, turn):
        return {"turn": turn}

serve(Side, lambda: 7.0)
"""


def test_a_worker_answers_by_lines_and_its_error_is_reported() -> None:
    client = Client([sys.executable, "-c", WORKER, "side", json.dumps({"x": 3})])
    try:
        assert client.opened["opened"] == 3
        reply = client.ask(op="round", turn=5)
        assert (reply["turn"], reply["matrix_rate"]) == (5, 7.0)
        assert reply["peak_mb"] > 0
        with pytest.raises(WorkerError, match="ValueError: cannot"):
            client.ask(op="check")
    finally:
        client.close()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    write_workload(folder / "work", data=None, encoder=str(write_tiny_encoder(folder / "encoder")))
    return folder / "work"


@pytest.mark.parametrize(("name", "compares"), [("step", "losses"), ("predict", "outputs")])
def test_a_pairjax_worker_measures_a_round(work: Path, name: str, compares: str) -> None:
    case = CASES[name]
    settings = {**case.settings, **case.quick, "work": str(work), "threads": 1}
    client = Client(
        [sys.executable, "-m", "experiments.benchmarks.pairjax_side.main", case.pairjax_worker, json.dumps(settings)]
    )
    try:
        checked, reply = client.ask(op="check"), client.ask(op="round", turn=1)
    finally:
        client.close()
    if compares == "losses":
        assert len(checked["losses"]) == 10
        assert np.isfinite(checked["losses"]).all()
        assert np.isfinite(reply["loss"])
    else:
        assert np.isfinite(np.load(checked["outputs"])).all()
    assert all(reply[key] > 0 for key in ("seconds", "count", "flops", "matrix_rate", "peak_mb"))


LAYOUT = {"set": "mrpc", "kind": "bi", "layout": "packed", "lengths": [64, 128], "padding": 0.126}
OPERATIONS = {"group": "products", "direction": "forward", "ms": 3.25, "share_of_floor": 0.875}


def test_layouts_are_shown_by_set_and_operations_by_program(tmp_path: Path) -> None:
    speed = {"median": 9.0, "low": 8.0, "high": 10.0}
    layouts = {
        "rows": [LAYOUT | {"per_second": speed, "share_of_floor": 0.5}],
        "matrix_rate": 1.0,
        "matrix_spread": 0.0,
    }
    profile = {
        "rows": [OPERATIONS | {"program": "step"}],
        "programs": {name: {"op_ms": 6.5, "wall_ms": 4.0, "flops": 1.0} for name in ("step", "prediction")},
        "matrix_rate": 1.0,
        "matrix_spread": 2 * BUSY,
    }
    target = write_results(tmp_path, {"layouts": layouts | {"about": ABOUT}, "profile": profile | {"about": ABOUT}})
    lines = target.read_text(encoding="utf-8").splitlines()
    assert "| MRPC | bi | packed | 64, 128 | 0.13 | 9.0 (8.0 to 10.0) | 0.50 |" in lines
    assert "## Operations of a step (busy)" in lines
    assert "| operations | | step | prediction |" in lines
    assert "| products | forward | 3.2 (0.88) |  |" in lines
    assert "| wall time | | 4.0 | 4.0 |" in lines


MODULE = """HloModule jit_step
%fused (p.1: f32[4,3], p.2: f32[3,2]) -> f32[4,2] {
  %p.1 = f32[4,3]{1,0} parameter(0)
  %p.2 = f32[3,2]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,2]{1,0} dot(%p.1, %p.2), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (a: f32[4,3], b: f32[3,2]) -> (f32[4,2], f32[4,2]) {
  %a = f32[4,3]{1,0} parameter(0)
  %b = f32[3,2]{1,0} parameter(1)
  %fusion = f32[4,2]{1,0} fusion(%a, %b), calls=%fused, metadata={op_name="jit(step)/jvp(M)/layer_0/dot_general"}
  %erf = f32[4,2]{1,0} erf(%fusion), metadata={op_name="jit(step)/transpose(jvp(M))/layer_0/erf"}
  ROOT %tuple = (f32[4,2]{1,0}, f32[4,2]{1,0}) tuple(%fusion, %erf)
}
"""


def test_the_purpose_of_an_operation_comes_from_its_scope_and_its_products() -> None:
    result = read_program(MODULE)
    assert result["fusion"] == Operation("products of affine maps", "forward", 2.0 * 4 * 2 * 3)
    assert result["erf"] == Operation("GELU, dropout, residuals", "backward", 0.0)
    assert result["tuple"] == Operation(OTHER, "", 0.0)


def test_workers_get_absolute_paths_since_they_start_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    link = tmp_path / "bin" / "python"
    link.symlink_to(sys.executable)
    # The link stays: an environment is recognised by the path of its interpreter.
    assert suite.worker_command("peer", "step", {}, "bin/python")[0] == str(link)
    for name in ("mrpc", "sick"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "train.tsv").touch()
    assert find_data("data") == tmp_path / "data"
    assert find_data("nowhere") is None


def test_the_torch_tools_run_without_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1:glibc.malloc.hugetlb=1")
    assert suite.torch_environment()["GLIBC_TUNABLES"] == "glibc.malloc.check=1"


@pytest.mark.parametrize(
    "code",
    [
        "from experiments.benchmarks.pairjax_side.main import load_worker; load_worker('first_step')",
        "import pairjax.finetune.train, pairjax.pretrain.train",
    ],
)
def test_training_starts_without_the_imports_that_only_its_end_needs(code: str) -> None:
    late = ("sklearn", "scipy", "grain", "orbax", "matplotlib", "transformers")
    code = f"import sys; {code}; print(*(name for name in {late} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
