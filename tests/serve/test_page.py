"""The page at /: one file that loads nothing, shows texts as texts, and works in a browser."""

import base64
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from pairjax.base.serve_config import ServeConfig
from pairjax.inference.classifier import PairClassifier
from pairjax.serve.app import build_app, build_server
from tests.report.browser import Browser

EVIL = "<img src=x onerror=alert(1)> the man"


def test_the_policy_allows_the_pages_own_script_and_style_only(client: TestClient) -> None:
    response = client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", response.text, flags=re.S)
        assert policy[name] == f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
    assert not re.search(r"https?://|<[^>]* style=|<[^>]* on\w+=|innerHTML|document\.write|eval\(", response.text)
    assert client.get("/card").headers["content-type"] == "text/markdown; charset=utf-8"


@pytest.fixture(scope="module")
def address(models: dict[str, PairClassifier]) -> Iterator[str]:
    state = build_server({"nli": models["nli"]}, ServeConfig(batch_size=4, access_log=False))
    server = uvicorn.Server(uvicorn.Config(build_app(state), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not (server.started and state.ready):
        assert state.failed is None
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


def wait_for(browser: Browser, expression: str) -> None:
    deadline = time.monotonic() + 60
    while not browser.ask(expression):
        assert time.monotonic() < deadline, (expression, browser.ask("$('error').textContent"), browser.errors)
        time.sleep(0.05)


def test_the_page_in_a_browser(address: str, models: dict[str, PairClassifier], tmp_path: Path) -> None:
    [expected] = models["nli"].predict([(EVIL, "a dog")])
    with Browser(tmp_path) as browser:
        for width, dark in ((1100, False), (390, True)):
            browser.visit(address, width=width, dark=dark)
            wait_for(browser, "$('about').textContent.startsWith('nli')")
            # 1. One pair: answer, swapped answer and shading; texts are shown as texts.
            browser.ask(f"$('first').value = {EVIL!r}; $('second').value = 'a dog'; $('answer').click()")
            wait_for(browser, "!$('explained').hidden")
            assert browser.ask("$('label').textContent") == expected.label
            assert browser.ask("document.querySelectorAll('#bars li').length") == 3
            assert browser.ask("$('swapped-label').textContent") in models["nli"].task.labels
            assert EVIL in browser.ask("$('texts').textContent")
            assert browser.ask("document.querySelectorAll('.texts .token').length") > 5
            assert browser.ask("document.images.length") == 0
            # 2. A table, with a header, a quoted cell and a line that is no pair.
            browser.ask(
                "$('pasted').value = 'text1,text2\\n\"the man, too\",a dog\\nalone\\n'; $('answer-all').click()"
            )
            wait_for(browser, "!$('answers').hidden")
            cells = (
                "[...document.querySelectorAll('#answers tbody tr')].map(row => [...row.cells].map(c => c.innerText))"
            )
            [first, second] = browser.ask(cells)
            assert first[:2] == ["the man, too", "a dog"]
            assert second[2] == "Not a pair of texts"
            assert browser.ask("!$('download').hidden")
            # 3. Portuguese; nothing is wider than the screen.
            browser.ask("$('language').value = 'pt'; $('language').dispatchEvent(new Event('change'))")
            assert browser.ask("document.documentElement.lang") == "pt-BR"
            assert browser.ask("$('answer').textContent") == "Classificar"
            assert browser.ask("$('progress').textContent") == "1 par respondido"
            assert browser.ask("String(Object.keys(WORDS.en)) === String(Object.keys(WORDS.pt))")
            assert browser.ask("document.documentElement.scrollWidth") <= width
            browser.ask("$('language').value = 'en'; $('language').dispatchEvent(new Event('change'))")
            assert browser.errors == []
