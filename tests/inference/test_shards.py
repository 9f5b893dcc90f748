"""`pairjax predict --shard i/n` and --merge: every row once, in order; complete shards are kept, others refused."""

from pathlib import Path

import pytest

from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.cli.main import main
from pairjax.inference.shards import Shard
from tests.inference.tiny_model import write_tiny_model

LINES = ["sentence1\tsentence2", *(f"the man {i}\tno dog {i % 3}" for i in range(11)), "empty\t", "a\tb"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ModelConfig(kind="cross")
    return write_tiny_model(tmp_path_factory.mktemp("m"), config=config, layers=1, hidden=16, max_length=24)


@pytest.fixture
def predict(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("pairjax.step.compilation.use_compilation_cache", lambda folder: None)
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("\n".join(LINES) + "\n")

    def run(*options: str, output: str = "out.jsonl") -> tuple[int, str]:
        capsys.readouterr()
        path = str(tmp_path / output)
        common = ["--output", path, "--bad-rows", "mark", "--no-progress", "--batch-size", "8"]
        return main(["predict", str(model), str(pairs), *common, *options]), capsys.readouterr().err

    return run


@pytest.mark.parametrize("count", [1, 3, 20])
def test_merged_shards_are_the_answers_of_one_run(count: int, predict, tmp_path: Path) -> None:
    assert predict(output="whole.jsonl")[0] == 0
    for number in range(count, 0, -1):
        assert predict("--shard", f"{number}/{count}")[0] == 0
    code, message = predict("--merge", str(count))
    assert (code, message) == (0, "13 answers merged\n")
    assert (tmp_path / "out.jsonl").read_text() == (tmp_path / "whole.jsonl").read_text()


def test_a_complete_shard_is_kept_and_a_missing_one_named(predict, tmp_path: Path) -> None:
    assert predict("--shard", "2/3")[0] == 0
    path = tmp_path / "out-2-of-3.jsonl"
    before = path.stat().st_mtime_ns
    code, message = predict("--shard", "2/3")
    assert (code, path.stat().st_mtime_ns) == (0, before)
    assert message == f"{path} is complete\n"
    code, message = predict("--merge", "3")
    assert code == 2
    assert "2 of 3 shards are missing; got no 1/3, 3/3" in message
    assert not (tmp_path / "out.jsonl").exists()


def test_shards_of_other_work_are_refused(predict, tmp_path: Path) -> None:
    assert predict("--shard", "1/1")[0] == 0
    code, message = predict("--merge", "1", "--no-texts")
    assert code == 2
    assert "out-1-of-1.jsonl: written for another texts; delete it, or choose another --output" in message
    (tmp_path / "pairs.tsv").write_text("a\tb\n")
    assert "written for another input" in predict("--shard", "1/1")[1]
    path = tmp_path / "out-1-of-1.jsonl"
    path.write_text('{"label": "yes"}\n')
    assert "not a file of pairjax predict --shard" in predict("--shard", "1/1")[1]


def test_a_damaged_shard_is_found(predict, tmp_path: Path) -> None:
    for number in (1, 2):
        assert predict("--shard", f"{number}/2")[0] == 0
    path = tmp_path / "out-1-of-2.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    code, message = predict("--merge", "2")
    assert code == 2
    assert "out-2-of-2.jsonl: damaged" in message or "out-1-of-2.jsonl: damaged" in message


def test_options_are_checked(predict) -> None:
    for text in ("0/3", "4/3", "x", "1/0", "-1/3"):
        with pytest.raises(UserError, match="i/n with i from 1 to n"):
            Shard.parse(text)
    assert "exclude each other" in predict("--shard", "1/2", "--merge", "2")[1]
    assert "--merge is too small" in predict("--merge", "0")[1]
    assert Shard(3, 10).file_of(Path("a/out.jsonl")) == Path("a/out-03-of-10.jsonl")
