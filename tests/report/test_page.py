"""The HTML file: its text, its display in a browser, and the command that writes it."""

import html
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pairjax.base.types import TaskSpec
from pairjax.cli.main import main
from pairjax.report.blocks import Drawing
from pairjax.report.claims import claim_section
from pairjax.report.folder import ClaimFolder, read_folder
from pairjax.report.language import Language
from tests.report.browser import Browser
from tests.report.folders import texts, write_claim, write_pair_run, write_pretraining_run

ATTACK = "<script>document.title = 'broken'; alert(1)</script><img src=x onerror=alert(2)>"


def attacked() -> tuple[tuple[str, ...], tuple[str, ...]]:
    first, second = texts(90)
    return tuple(f"{text} {ATTACK}" for text in first), second


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two comparable runs whose texts hold scripts, a regression, a pretraining run and a claim."""
    root = tmp_path_factory.mktemp("report")
    folders = [
        write_pair_run(root / "one", pairs=attacked()),
        write_pair_run(root / "two", pairs=attacked(), seed=1, skill=1.0),
        write_pair_run(root / "scores", task=TaskSpec("regression"), skill=2.0),
        write_pretraining_run(root / "pretrained"),
        write_claim(root / "claims" / "proposition_1"),
    ]
    out = root / "all.html"
    assert main(["report", *map(str, folders), "--output", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_the_file_needs_nothing_else_and_escapes_every_text(report: Path) -> None:
    text = report.read_text("utf-8")
    assert html.escape(ATTACK, quote=False).split("=")[0] in text
    assert "<script" not in text
    assert "<img" not in text
    for outside in ('src="http', 'href="http', "url(http", "@import"):
        assert outside not in text
    for phrase in ("McNemar", "Holm", "A product can beat [u; v].", "supported", "perplexity", "calibration"):
        assert phrase in text
    # Effects in two units have two figures, and each combiner's score has its interval.
    for phrase in (
        "Effects: points",
        "Effects: % of a run",
        "mrpc: accuracy in points, 90 test pairs",
        "2.00",
        "[1.0,",
    ):
        assert phrase in text


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_the_report(browser: Browser, report: Path, width: int, dark: bool) -> None:
    browser.open(report, width=width, dark=dark)
    assert browser.errors == []
    assert browser.ask("document.title") != "broken"
    assert browser.ask("document.documentElement.scrollWidth") <= width
    drawn = "[...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().height > 60).length"
    assert browser.ask(drawn) >= 8
    paper, ink = browser.ask("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    light = [sum(int(part) for part in colour.strip("rgba()").split(",")[:3]) for colour in (paper, ink)]
    assert (light[0] < light[1]) == dark


def test_a_browser_shows_scripts_in_texts_as_text(browser: Browser, report: Path) -> None:
    browser.open(report, width=1280)
    assert browser.ask("document.body.innerText.includes('<script>document.title')")
    assert browser.ask("document.querySelectorAll('script, img, iframe').length") == 0


def test_the_report_in_portuguese(tmp_path: Path) -> None:
    run = write_pair_run(tmp_path / "one")
    assert main(["report", str(run), "--language", "pt"]) == 0
    text = (run / "report.html").read_text("utf-8")
    assert '<html lang="pt' in text
    assert "acurácia" in text
    assert "0,410" in text


@pytest.mark.parametrize("write", [write_pretraining_run, write_pair_run])
def test_an_unfinished_run_shows_its_values_so_far(write: Callable[..., Path], tmp_path: Path) -> None:
    run = write(tmp_path / "cut", finished=False)
    assert main(["report", str(run)]) == 0
    text = (run / "report.html").read_text("utf-8")
    assert "not finish" in text
    assert "<svg" in text


def test_an_unfinished_run_is_shown_next_to_a_finished_one(tmp_path: Path) -> None:
    done, cut = write_pair_run(tmp_path / "done"), write_pair_run(tmp_path / "cut", finished=False)
    out = tmp_path / "both.html"
    assert main(["report", str(done), str(cut), "--output", str(out)]) == 0
    text = out.read_text("utf-8")
    assert "did not finish" in text
    assert "McNemar" not in text


@pytest.mark.parametrize(
    ("name", "board", "drawn"),
    [
        ("any", {"board": "combiners.json"}, True),
        ("proposition_2", {"board": None}, False),
        # Verdicts of version 0.1.0 do not say; then the claim's id decides.
        ("proposition_1", {}, True),
        ("lemma_1", {}, False),
    ],
)
def test_a_claim_is_shown_with_its_table_of_combiners(
    tmp_path: Path, name: str, board: dict[str, str | None], drawn: bool
) -> None:
    file = write_claim(tmp_path / "claims" / name) / "verdict.json"
    row = json.loads(file.read_text("utf-8"))
    assert row.pop("board") == "combiners.json"
    file.write_text(json.dumps(row | board), "utf-8")
    claim = read_folder(file.parent)
    assert isinstance(claim, ClaimFolder)
    section = claim_section(claim, id="claim", language=Language("en"))
    titles = [block.title for block in section.blocks if isinstance(block, Drawing)]
    assert ("mrpc" in titles) == drawn


def test_figures_for_a_readme(tmp_path: Path) -> None:
    claim = write_claim(tmp_path / "claims" / "p1")
    run = write_pretraining_run(tmp_path / "p")
    assert main(["report", str(claim), str(run), "--figures", str(tmp_path / "figures")]) == 0
    for name in ("combiners.svg", "pretraining.svg"):
        drawn = (tmp_path / "figures" / name).read_text("utf-8")
        assert drawn.lstrip().startswith(("<svg", "<?xml"))
        assert len(drawn) < 60_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report"], "no folder to report on"),
        (["report", "missing"], "missing"),
        (["report", "."], "."),
        (["report", "run", "--output", "no/such/x.html"], "its folder does not exist"),
        (["report", "run", "--figures", "f"], "no figure can be drawn"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_pair_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("**/*.html"))


def test_a_damaged_run_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_pair_run(tmp_path / "run")
    (run / "result.json").write_text(json.dumps({"metrics": 3}))
    assert main(["report", str(run)]) == 2
    assert "result.json" in capsys.readouterr().err
