"""Where answers go: files, devices, pipes and links; and where pairs come from: pipes, home folders, odd terminals."""

import io
import json
import os
import select
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.cli.main import main
from pairjax.storage.files import whole_file, whole_folder, write_json
from pairjax.storage.outputs import check_output, check_output_folder
from tests.inference.tiny_model import write_tiny_model

AS_ROOT = os.geteuid() == 0
LONG = "the man is not a dog " * 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("m"), config=ModelConfig(), layers=1)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("p") / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tlabel\nthe man\ta dog\tno\nno woman\tthe dog\tyes\n")
    return path


@pytest.fixture
def umask():
    """Sets the umask, and puts the old one back."""
    old = os.umask(0o022)
    yield os.umask
    os.umask(old)


def answers(text: str) -> list[str]:
    return [json.loads(line)["sentence1"] for line in text.splitlines()]


def read_pipe(path: Path) -> tuple[threading.Thread, list[str]]:
    """Reads a named pipe to its end in a thread."""
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.append(path.read_text()), daemon=True)
    thread.start()
    return thread, texts


# ------------------------------------------------------------------------------------------------------------ writing


def test_a_named_pipe_stays_one_and_gets_the_answers(model: Path, pairs: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread, texts = read_pipe(pipe)
    assert main(["predict", str(model), str(pairs), "--output", str(pipe)]) == 0
    thread.join(30)
    assert answers(texts[0]) == ["the man", "no woman"]
    thread, texts = read_pipe(pipe)
    assert main(["evaluate", str(model), "--data.path", str(pairs), "--output", str(pipe)]) == 0
    thread.join(30)
    assert "test" in json.loads(texts[0])["metrics"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_device_and_a_descriptor_are_written_to(tmp_path: Path) -> None:
    for name in ("/dev/null", "null"):
        path = tmp_path / name
        if name == "null":
            try:
                os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            except PermissionError:
                continue
        with whole_file(check_output(path)) as file:
            file.write("x")
        assert stat.S_ISCHR(path.stat().st_mode)
    reader, writer = os.pipe()
    with whole_file(check_output(f"/dev/fd/{writer}")) as file:
        file.write("answers")
    assert os.read(reader, 100) == b"answers"
    with open(tmp_path / "log", "w+") as log:
        log.write("before ")
        log.flush()
        inode = os.fstat(log.fileno()).st_ino
        with whole_file(check_output(f"/dev/fd/{log.fileno()}")) as file:
            file.write("after")
    assert (tmp_path / "log").read_text() == "before after"
    assert (tmp_path / "log").stat().st_ino == inode


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for content in ("new", "old"):  # The first link leads to no file yet.
        link = tmp_path / "link"
        if not link.is_symlink():
            link.symlink_to("there/file")
        with whole_file(check_output(link)) as file:
            file.write(content)
        assert link.is_symlink()
        assert (tmp_path / "there" / "file").read_text() == content
    (tmp_path / "folder").symlink_to("there")
    with whole_folder(check_output_folder(tmp_path / "folder")) as partial:
        (partial / "model").write_text("")
    assert (tmp_path / "folder").is_symlink()
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["model"]


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_the_umask_is_respected(umask, mask: int, file_mode: int, folder_mode: int, tmp_path: Path) -> None:
    umask(mask)
    write_json(tmp_path / "new.json", {})
    assert stat.S_IMODE((tmp_path / "new.json").stat().st_mode) == file_mode
    with whole_folder(tmp_path / "folder"):
        pass
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == folder_mode
    # A file that exists keeps its mode, as with the shell's `>`.
    (tmp_path / "old.json").write_text("")
    (tmp_path / "old.json").chmod(0o640)
    write_json(tmp_path / "old.json", {})
    assert stat.S_IMODE((tmp_path / "old.json").stat().st_mode) == 0o640


def test_a_long_name_is_no_problem(tmp_path: Path) -> None:
    for name in ("a" * 255, "ã" * 127):
        write_json(check_output(tmp_path / name), {})
        with whole_folder(tmp_path / "below" / name):
            pass
    with pytest.raises(UserError, match="cannot be written"):
        check_output(tmp_path / ("a" * 256))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none/x.json", "its folder does not exist"),
        (".", "is a folder"),
        ("new/", "is a folder"),
        ("file/x.json", "its folder does not exist"),
        ("loop", "loop"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_the_model_is_loaded(
    name: str, message: str, model: Path, pairs: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setattr("pairjax.inference.load.load", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.chdir(tmp_path)
    for args in (
        ["predict", str(model), str(pairs)],
        ["evaluate", str(model), "--data.path", str(pairs)],
        ["report", str(model.parent)],
    ):
        assert main([*args, "--output", name]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


def test_the_output_is_not_the_input(model: Path, pairs: Path, tmp_path: Path, capsys) -> None:
    link = tmp_path / "link.tsv"
    link.symlink_to(pairs)
    content = pairs.read_text()
    for args in (["predict", str(model), str(pairs)], ["evaluate", str(model), "--data.path", str(pairs)]):
        assert main([*args, "--output", str(link)]) == 2
        assert "link.tsv is the input, and --output would replace it" in capsys.readouterr().err
    assert pairs.read_text() == content


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("")
    (tmp_path / "x.json").chmod(0o444)
    with pytest.raises(UserError, match="permission denied; choose another --output"):
        check_output(tmp_path / "x.json")
    tmp_path.chmod(0o555)
    for check in (check_output, check_output_folder):
        with pytest.raises(UserError, match="permission denied; choose another --output"):
            check(tmp_path / "new")
    tmp_path.chmod(0o755)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no file")
def test_a_file_system_that_takes_no_file_is_one_line() -> None:
    for check in (check_output, check_output_folder):
        with pytest.raises(UserError, match="/proc/x cannot be written"):
            check("/proc/x")


def test_a_folder_output_that_is_a_file_is_refused_at_once(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below"):
        assert main(["features", "--data.path", "nowhere", "--output", str(tmp_path / name)]) == 2
        assert f"{tmp_path / 'file'} is no folder; expected a folder for --output" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ reading


def test_pairs_are_read_from_a_named_pipe(model: Path, pairs: Path, tmp_path: Path, capsys) -> None:
    for name in ("in.tsv", "pipe"):
        pipe = tmp_path / name
        os.mkfifo(pipe)
        threading.Thread(target=lambda path=pipe: path.write_bytes(pairs.read_bytes()), daemon=True).start()
        output = tmp_path / "out.jsonl"
        assert main(["predict", str(model), str(pipe), "--output", str(output)]) == 0
        assert answers(output.read_text()) == ["the man", "no woman"]
        # Scoring reads a file twice.
        capsys.readouterr()
        for option in ("--data.path", "--data.test"):
            extra = ["--data.train", str(pairs)] if option == "--data.test" else []
            assert main(["evaluate", str(model), option, str(pipe), *extra]) == 2
            assert f"{name}: a pipe or a device; expected a file" in capsys.readouterr().err


def test_pairs_from_a_pipe_are_answered_as_they_arrive(model: Path, monkeypatch) -> None:
    (read_in, write_in), (read_out, write_out) = os.pipe(), os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(read_in))
    monkeypatch.setattr(sys, "stdout", os.fdopen(write_out, "w"))
    with os.fdopen(write_in, "wb", buffering=0) as source, os.fdopen(read_out) as out, ThreadPoolExecutor() as pool:
        code = pool.submit(main, ["predict", str(model)])
        for text in (b"the man", b"a dog"):
            source.write(text + b"\tno woman\n")
            assert select.select([out], [], [], 300)[0], "no answer before the end of the input"
            assert json.loads(out.readline())["sentence1"].encode() == text
        source.close()
        assert code.result() == 0


def test_a_terminal_that_lacks_a_letter_gets_valid_json(model: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "p.tsv").write_text("Um café\tA cup\n", encoding="utf-8")
    for encoding in ("ascii", "cp1252", "utf-8"):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["predict", str(model), str(tmp_path / "p.tsv")]) == 0
        out.flush()
        text = out.buffer.getvalue()  # type: ignore[attr-defined]
        assert json.loads(text.decode("utf-8" if encoding == "utf-8" else "ascii"))["sentence1"] == "Um café"


def test_a_label_that_the_terminal_lacks_is_escaped(capsys, monkeypatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr("pairjax.cli.main._dispatch", lambda _: print("não") or 0)
    assert main([]) == 0
    out.flush()
    assert out.buffer.getvalue() == b"n\\xe3o\n"  # type: ignore[attr-defined]


def test_a_tilde_is_the_home_folder(model: Path, pairs: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "p.tsv").write_bytes(pairs.read_bytes())
    (tmp_path / "home" / "model").symlink_to(model)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "~/model", "~/p.tsv", "--output", "~/o.jsonl"]) == 0
    assert main(["evaluate", "~/model", "--data.path", str(pairs), "--output=~/s.json"]) == 0
    assert main(["report", "~/model", "--output=~/r.html"]) == 2
    assert f"{tmp_path}/home/model is not a run folder" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["model", "o.jsonl", "p.tsv", "s.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


# ----------------------------------------------------------------------------------------------- cuts and marked rows


def test_what_was_cut_is_reported(model: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "test.tsv"
    path.write_text(f"a\tb\tlabel\n{LONG}\t{LONG}\tno\n{LONG}\tthe man\tyes\nthe man\ta dog\tno\n")
    line = "2 of 3 pairs are longer than 32 tokens and were cut (longest_first), "
    assert main(["predict", str(model), str(path), "--output", str(tmp_path / "o")]) == 0
    assert line in capsys.readouterr().err
    assert main(["evaluate", str(model), "--data.path", str(path), "--output", str(tmp_path / "s.json")]) == 0
    assert f"test: {line}" in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "s.json").read_text())["notes"][0].startswith(f"test: {line}")


def test_a_pair_that_may_not_be_cut_is_marked(tmp_path: Path, capsys) -> None:
    model = write_tiny_model(tmp_path, config=ModelConfig(), layers=1, truncation="only_second")
    path, output = tmp_path / "long.tsv", tmp_path / "o.jsonl"
    path.write_text(f"a\tb\nthe man\ta dog\nno\t{LONG}\n{LONG}\tno\nno\tno\n")
    command = ["predict", str(model), str(path), "--output", str(output)]
    assert main(command) == 2
    assert f"pairjax: error: {path}, line 4: the first text alone fills the row" in capsys.readouterr().err
    assert not output.exists()
    assert main([*command, "--bad-rows", "mark"]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert ["error" in row for row in rows] == [False, False, True, False]
    assert rows[2]["line"] == 4
    assert "1 of 4 lines are not valid pairs" in capsys.readouterr().err
