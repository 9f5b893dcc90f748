"""Every command and Python block of README and the guides runs at a tiny size, and every relative link exists.

A shared workspace holds what the pages name: `DIR` (pairs and text), `pairs.tsv`, `experiments/` and finished runs. A
command runs in this process with the options of `BEFORE` ahead of its own, which may override them, and those of
`AFTER` behind. For commands of `PARSED` only the options are parsed, and those of `SKIPPED` are not run; each says why.
"""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import pairjax
from pairjax.cli.main import COMMANDS, MODULES, main
from tests.data.texts import write_documents
from tests.imports.foreign import write_classifier
from tests.tiny import write_tiny_encoder

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "LEIAME.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKDOWN = [
    *sorted(ROOT.glob("*.md")),
    *sorted(path for folder in ("docs", "experiments", "launch") for path in (ROOT / folder).rglob("*.md")),
]
README_LINES = 150

RUN = ("--run.no-progress", "--run.compilation-cache", "")
TINY = (
    *("--model.encoder", "tiny", "--data.max-length", "32", "--data.buckets", "1", "--train.batch-size", "8"),
    *("--evaluation.bootstrap", "100", "--evaluation.no-swap"),
)
BEFORE: dict[str, Sequence[str]] = {
    "train": (*RUN, *TINY),
    "pretrain": (
        *(*RUN, "--train.batch-size", "8", "--data.max-length", "32", "--data.vocabulary", "300"),
        *("--evaluation.no-baselines", "--evaluation.bootstrap", "100", "--evaluation.examples", "16"),
    ),
    "evaluate": ("--evaluation.bootstrap", "100"),
    "predict": ("--no-progress",),
    "features": ("--features.encoder", "tiny", "--data.max-length", "32", "--overwrite"),
    "sweep": (*RUN, *TINY),
    "plan": ("--no-compile", "--model.encoder", "tiny"),
}
"""Options ahead of a command's own: small defaults."""

AFTER: dict[str, Sequence[str]] = {
    "train": ("--train.max-steps", "2"),
    "pretrain": ("--train.max-steps", "2"),
    "sweep": ("--train.max-steps", "2"),
}
"""Options behind a command's own, which override it."""

AFTER_WORD: dict[str, Sequence[str]] = {
    "--data.rules": ("--data.sizes", "24", "12", "12"),
    "experiments/own_combiner.py": ("--data.sizes", "24", "12", "12"),
    "experiments/pretrain_mini.py": ("--model.size", "tiny"),
    "experiments/pretrain_pt_mini.py": ("--model.size", "tiny"),
    "experiments/pretrain_continue_minilm.py": ("--model.encoder", "tiny"),
    "--model.init": ("--model.encoder", pairjax.ModelConfig().encoder, "--data.max-length", "24"),
}
"""Further options behind a command that holds the word."""

PARSED = {
    "pairjax bench": "compares with torch, which is not installed; an hour or two",
    "pairjax claim": "minutes to hours; tests/studies run the claims at a tiny size",
    "pairjax serve": "runs until a signal; tests/serve runs it",
    "--data.download": "needs the network",
    "encoders/e5-pt": "needs make portuguese-encoder",
    "--model.download": "needs the network",
    "--download": "needs the network",
    "pairjax push": "needs the hub; tests/export pushes to a stand-in",
}
"""Commands, or words of commands, whose options are parsed and nothing more."""

SKIPPED = {
    "make": "sets up an environment and runs everything there",
    "curl": "calls a server; tests/serve sends the same bodies",
    "pip": "installs packages",
}

SLOW_PAGES = ("models.md", "training.md")
"""Guides whose commands each compile a program of their own: the default run parses their options, and the slow tests
run them. tests/finetune/test_menu_runs.py trains with the same options in every run."""


class Command(NamedTuple):
    """A command, the first page that holds it, the variables set before it, and its words."""

    page: str
    variables: dict[str, str]
    words: list[str]


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yields the language and the text of each fenced block."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S):
        yield match[1], match[2]


def commands() -> dict[str, Command]:
    """Returns each distinct command of the pages, by its words."""
    lines = [
        (page.name, line)
        for page in PAGES
        for language, text in blocks(page)
        if language == "bash"
        for line in text.replace("\\\n", " ").splitlines()
    ]
    result: dict[str, Command] = {}
    for page, words in ((page, shlex.split(line, comments=True)) for page, line in lines):
        if words and words[0] not in SKIPPED:
            variables = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
            result.setdefault(" ".join(words), Command(page, variables, words[len(variables) :]))
    return result


def python_blocks() -> dict[str, str]:
    """Returns the Python blocks by page and number."""
    texts = [(page.name, text) for page in PAGES for language, text in blocks(page) if language == "python"]
    return {f"{name} {index}": text for index, (name, text) in enumerate(texts)}


def small(words: Sequence[str]) -> list[str]:
    """Returns the arguments of a `pairjax` command with its tiny settings."""
    command, *rest = words
    first = [rest.pop(0)] if rest and rest[0].endswith(".py") else []
    after = [*AFTER.get(command, ())]
    for word, options in AFTER_WORD.items():
        after += options if word in words else ()
    if command in ("train", "pretrain") and "--run.resume" not in words:
        after.append("--run.overwrite")
    return [command, *first, *BEFORE.get(command, ()), *rest, *after]


def write_pairs(path: Path, *, count: int) -> None:
    """Writes pairs of words that the tiny encoder knows, under two labels in turn."""
    people = ("man", "woman", "dog", "homem", "mulher")
    lines = ["sentence1\tsentence2\tlabel"]
    for index in range(count):
        first, second = people[index % 5], people[(index // 5) % 5]
        text = f"{'a' if index % 3 else 'the'} {first} and {'some' if index % 7 else 'all'} {second}"
        lines.append(f"{text}\t{text if index % 2 else 'no ' + text}\t{'same' if index % 2 else 'other'}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Makes a folder with all that the pages name, finished runs included, and works in it."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("experiments", "launch"):
        (folder / name).symlink_to(ROOT / name)
    write_tiny_encoder(folder / "tiny")
    write_classifier(folder / "nli", tokeniser=True)
    data = folder / "DIR"
    data.mkdir()
    for split, count in (("train", 48), ("dev", 16), ("test", 16)):
        write_pairs(data / f"{split}.tsv", count=count)
    shutil.copy(data / "test.tsv", folder / "pairs.tsv")
    write_documents(data / "a.train.txt", documents=40)
    write_documents(data / "a.heldout.txt", documents=10, start=50)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        # Some commands name their own folder of compiled programs; tests share that of conftest.py.
        patch.setattr("pairjax.step.compilation.use_compilation_cache", lambda folder: None)
        assert main(small(["train", "--data.path", "DIR", "--run.dir", "runs/mine"])) == 0
        assert main(small(["train", "--data.path", "DIR", "--model.kind", "bi", "--run.dir", "runs/bi"])) == 0
        shutil.copytree("runs/mine", "runs/other")
        text = ["--data.corpus", "DIR/*.train.txt", "--data.test", "DIR/*.heldout.txt", "--run.dir", "runs/p"]
        assert main(small(["pretrain", "experiments/pretrain_mini.py", *text])) == 0
        yield folder


class ParsedError(Exception):
    """Ends a command once its options have been parsed."""


def parse_options(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a `pairjax` command up to its parsed options."""
    module = f"pairjax.cli.{MODULES.get(words[0], words[0])}"
    __import__(module)
    parse = sys.modules[module].parse

    def parse_and_stop(*args: object, **kwargs: object) -> None:
        parse(*args, **kwargs)
        raise ParsedError

    monkeypatch.setattr(f"{module}.parse", parse_and_stop)
    with pytest.raises(ParsedError):
        main(words)


COMMANDS_OF_PAGES = commands()
RUN_BY_DEFAULT = [
    pytest.param(name, marks=[pytest.mark.slow] if command.page in SLOW_PAGES else [], id=name[:80])
    for name, command in COMMANDS_OF_PAGES.items()
]


@pytest.mark.parametrize("name", RUN_BY_DEFAULT)
def test_commands_run(name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, variables, words = COMMANDS_OF_PAGES[name]
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    if words[0] == "bash":
        run_launcher(words[1:], monkeypatch)
        return
    assert words[0] == "pairjax"
    if any(part in name for part in PARSED):
        parse_options(words[1:], monkeypatch)
    else:
        assert main(small(words[1:])) == 0


def test_options_of_slow_pages_parse(workspace: Path) -> None:
    for _, _, words in (command for command in COMMANDS_OF_PAGES.values() if command.page in SLOW_PAGES):
        with pytest.MonkeyPatch.context() as patch:
            parse_options(words[1:], patch)


def run_launcher(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a launcher with --dry-run, and parses the options of the `pairjax` command that it starts."""
    script, *options = words[: words.index("--")]
    command = words[words.index("--") + 1 :]
    done = subprocess.run(
        ["bash", script, *options, "--dry-run", "--", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert command[1] in done.stdout
    parse_options(command, monkeypatch)


@pytest.mark.parametrize("name", python_blocks())
def test_python_blocks_run(name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {
        "DataConfig": {"max_length": 32},
        "ModelConfig": {"encoder": "tiny"},
        "TrainConfig": {"batch_size": 8, "max_steps": 2},
        "EvalConfig": {"bootstrap": 100},
        "RunConfig": {"compilation_cache": "", "progress": False, "overwrite": True},
    }
    for config, settings in tiny.items():
        monkeypatch.setattr(pairjax, config, functools.partial(getattr(pairjax, config), **settings), raising=False)
    parts = {"model": pairjax.ModelConfig(), "train": pairjax.TrainConfig(), "evaluation": pairjax.EvalConfig()}
    monkeypatch.setattr(pairjax, "Config", functools.partial(pairjax.Config, **parts), raising=False)
    exec(compile(python_blocks()[name], name, "exec"), {})


def test_every_block_names_its_language() -> None:
    found = {page.name: [language for language, _ in blocks(page)] for page in PAGES}
    assert {language for languages in found.values() for language in languages} <= {"bash", "python", "text"}, found


def test_every_option_that_the_pages_name_exists(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        *([command] for command in COMMANDS if command != "data"),
        *(["data", part] for part in ("inspect", "corpus", "mine")),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        assert stop.value.code == 0
    helps = capsys.readouterr().out
    helps += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "launch").glob("*.sh"))
    known = set(re.findall(r"--[a-z][a-z0-9.-]*", helps))
    for page in PAGES:
        named = {option.rstrip(".-") for option in re.findall(r"--[a-z][a-z0-9.-]*", page.read_text(encoding="utf-8"))}
        # A section of options, such as --run.
        missing = {
            option
            for option in named - known - {"--help"}
            if not any(other.startswith(f"{option}.") for other in known)
        }
        assert not missing, f"{page.name} names options that no command has: {sorted(missing)}"


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path = Path(os.path.normpath(page.parent / target)) if target else page
        assert path.exists(), f"{page.name} links to {target}, which does not exist"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{page.name} links to {target}#{anchor}, which has no such heading"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES
