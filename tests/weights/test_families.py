"""The records of the encoder families."""

from dataclasses import asdict

import pytest

from pairjax.base.errors import UserError
from pairjax.base.families import FAMILIES, find_family
from pairjax.data.tokenizer import load_tokenizer
from tests.tiny import write_tiny_encoder

KNOWN = "bert, roberta, xlm-roberta, distilbert, electra, mpnet, albert, modernbert, deberta-v2"


def test_records_are_found_under_their_names():
    assert ", ".join(FAMILIES) == KNOWN
    for name in FAMILIES:
        assert find_family(name).name == name


@pytest.mark.parametrize(("name", "got"), [("gpt2", "gpt2"), (None, "none"), ({}, "{}")])
def test_an_unknown_family_is_named_and_the_known_ones_are_listed(name, got):
    with pytest.raises(UserError, match=f"the encoder family is not supported; got {got}; expected one of {KNOWN}"):
        find_family(name)


def test_a_tokeniser_of_an_unknown_family_is_refused(tmp_path):
    with pytest.raises(UserError, match=f"got gpt2; expected one of {KNOWN}"):
        load_tokenizer(write_tiny_encoder(tmp_path), family="gpt2")


@pytest.mark.parametrize("name", FAMILIES)
def test_special_tokens_of_a_record_are_those_of_its_tokeniser(name, tmp_path):
    folder = write_tiny_encoder(tmp_path, family=name)
    (folder / "tokenizer_config.json").unlink()
    tokenizer = load_tokenizer(folder, family=name)
    assert dict(tokenizer.settings).items() >= asdict(find_family(name).special_tokens).items()
    if name != "modernbert":  # Its real vocabulary ends with the special tokens.
        assert tokenizer.pad_id == find_family(name).pad_token_id
