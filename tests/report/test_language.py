"""Both languages have the same phrases, and each writes numbers in its own way."""

import re
import string

import pytest

from pairjax.report.language import Language, read_words

SCORE = {"value": 0.6071, "low": 0.57, "high": 0.643}


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_have_the_same_phrases_with_the_same_placeholders() -> None:
    english, portuguese = read_words("en"), read_words("pt")
    assert english.keys() == portuguese.keys()
    for key, text in english.items():
        assert placeholders(text) == placeholders(portuguese[key]), key


def test_portuguese_is_not_english() -> None:
    english, portuguese = read_words("en"), read_words("pt")
    equal = {
        key
        for key, text in english.items()
        if text == portuguese[key] and re.search("[a-z]{4}", strip_placeholders(text))
    }
    # Terms that Brazilian users of the field keep in English.
    assert equal <= {"verdict.commit", "provenance.tokens", "pretraining.tokens", "compare.mcnemar"}


def strip_placeholders(text: str) -> str:
    return re.sub(r"\{\w+\}", "", text)


@pytest.mark.parametrize(
    ("code", "score", "count", "signed", "p", "percent"),
    [
        ("en", "0.607 [0.570,\N{NO-BREAK SPACE}0.643]", "12,345", "−1.50", "< 0.001", "91.7 %"),
        ("pt", "0,607 [0,570;\N{NO-BREAK SPACE}0,643]", "12.345", "−1,50", "< 0,001", "91,7%"),
    ],
)
def test_numbers_are_written_as_the_language_does(
    code: str, score: str, count: str, signed: str, p: str, percent: str
) -> None:
    language = Language(code)  # type: ignore[arg-type]
    assert language.score(SCORE) == score
    assert language.count(12345) == count
    assert language.signed(-1.5) == signed
    assert language.p_value(0.0001) == p
    assert language.percent(0.9167) == percent
    assert language.score({"value": None, "low": None, "high": None}) == "–"
    assert language.listed(["a", "b", "c"]) == f"a, b {'and' if code == 'en' else 'e'} c"


def test_an_unknown_name_is_shown_unchanged() -> None:
    assert Language("pt").name("split", "validation_mismatched") == "validation_mismatched"
