"""How texts are joined, as the tokeniser says; SentencePiece models; prefixes."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from pairjax.base.errors import UserError
from pairjax.base.types import PairData, Pairs, TaskSpec
from pairjax.data.encode import encode_pairs
from pairjax.data.pair_template import PairTemplate
from pairjax.data.texts import add_prefixes, encode_texts
from pairjax.data.tokenizer import PairTokenizer, load_tokenizer
from pairjax.inference.load import load
from pairjax.inference.model_folder import MANIFEST
from pairjax.storage.hashes import hash_json
from tests.inference.tiny_model import write_tiny_model
from tests.tiny import write_tiny_encoder

GOLDEN = Path(__file__).parents[1] / "golden" / "tokenisers"
XLMR = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")


def with_template(folder: Path, single: str, pair: str, *, family: str = "bert") -> Path:
    """Writes a tiny encoder whose tokeniser has another template, with `<s>` for [CLS] and `</s>` for [SEP]."""
    write_tiny_encoder(folder, family=family)
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    names = {"<s>": "[CLS]", "</s>": "[SEP]"}
    single, pair = (" ".join(names.get(part, part) for part in text.split()) for text in (single, pair))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(name, tokenizer.token_to_id(name)) for name in names.values()]
    )
    tokenizer.save(str(path))
    return folder


def row(tokenizer: PairTokenizer, first: str, second: str, **options: object) -> list[str]:
    encoded = encode_pairs([first], [second], tokenizer, kind="cross", max_length=32, **options)
    return [tokenizer.backend.id_to_token(int(token)) for token in encoded.tokens]


def test_a_bert_body_with_xlm_r_s_template_has_two_separators_and_one_segment(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(with_template(tmp_path, *XLMR), family="bert")
    assert row(tokenizer, "a man", "dog") == ["[CLS]", "a", "man", "[SEP]", "[SEP]", "dog", "[SEP]"]
    encoded = encode_pairs(["a man"], ["dog"], tokenizer, kind="cross", max_length=32)
    assert not encoded.segments
    assert encoded.first_length.tolist() == [4]
    alone = encode_pairs(["a man"], ["dog"], tokenizer, kind="bi", max_length=32)
    assert alone.lengths.tolist() == [7]


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_usual_templates_are_those_of_the_families(family: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tiny_encoder(tmp_path, family=family), family=family)
    assert tokenizer.template == tokenizer.joined_by_family().joining


def test_without_a_post_processor_texts_are_joined_as_the_family_does(tmp_path: Path) -> None:
    write_tiny_encoder(tmp_path, family="roberta")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))
    tokenizer = load_tokenizer(tmp_path, family="roberta")
    assert tokenizer.template is None
    assert row(tokenizer, "a", "b")[2:4] == ["</s>", "</s>"]


@pytest.mark.parametrize(
    ("single", "pair", "got"),
    [
        ("$A </s> <s>", "$A </s> $B </s> <s>", r"A \[SEP\] B \[SEP\] \[CLS\]"),
        ("<s> $A </s>", "<s> $B </s> $A </s>", r"\[CLS\] B \[SEP\] A \[SEP\]"),
        ("<s> $A </s>", "<s> $A $B </s>", r"\[CLS\] A B \[SEP\]"),
        ("<s> $A </s>", "<s> $A </s> <s> $B </s>", r"\[CLS\] A \[SEP\] \[CLS\] B \[SEP\]"),
        ("$A", "<s> $A </s> $B </s>", r"\[CLS\] A \[SEP\] B \[SEP\]"),
    ],
)
def test_a_template_of_another_form_is_refused(single: str, pair: str, got: str, tmp_path: Path) -> None:
    folder = with_template(tmp_path, single, pair)
    with pytest.raises(UserError, match=f"joins two texts in a way that pairjax does not know; got {got}; expected"):
        load_tokenizer(folder, family="bert")


@pytest.mark.parametrize("name", ["xlm-roberta", "deberta-v2", "albert"])
def test_ids_of_a_sentencepiece_model_equal_transformers(name: str, tmp_path: Path) -> None:
    golden = json.loads((GOLDEN / "golden.json").read_text())
    texts, family = golden["texts"], "xlm-roberta" if name == "xlm-roberta" else "bert"
    tokenizer = load_tokenizer(GOLDEN / name, family=family)
    tokenizer.save(tmp_path)
    for loaded in (tokenizer, load_tokenizer(tmp_path, family=family)):
        encoded = encode_pairs(texts, texts[1:] + texts[:1], loaded, kind="cross", max_length=1000)
        for i, (ids, segments) in enumerate(zip(golden[name]["ids"], golden[name]["segments"], strict=True)):
            begin, end = encoded.offsets[i : i + 2]
            assert encoded.tokens[begin:end].tolist() == ids, texts[i]
            split = int(encoded.first_length[i])
            assert segments == [0] * split + [int(encoded.segments)] * (len(ids) - split)


def test_a_damaged_sentencepiece_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "spm.model").write_bytes(b"\xff\xff\xff")
    with pytest.raises(UserError, match=r"spm\.model: not a SentencePiece model, or damaged"):
        load_tokenizer(tmp_path, family="bert")


def test_prefixes_are_put_before_the_texts_of_each_side(tmp_path: Path) -> None:
    folder = write_tiny_encoder(tmp_path)
    plain, prefixed = (load_tokenizer(folder, family="bert", prefixes=p) for p in (("", ""), ("a ", "the dog ")))
    assert row(prefixed, "man", "is") == row(plain, "a man", "the dog is")
    assert row(prefixed, "man", "is", truncation="head_tail")[:2] == ["[CLS]", "a"]
    encoded = encode_pairs(["", "man"], ["is", "\u200b"], prefixed, kind="cross", max_length=32)
    assert encoded.bare == 2
    assert encode_texts(["", "man"], prefixed, max_length=32, truncation="longest_first").bare == 1
    pairs = Pairs(("man",), ("is",), np.zeros(1, np.int32))
    data = add_prefixes(PairData(TaskSpec("classification", ("0", "1")), {"train": pairs}, {}), ("a ", "the dog "))
    assert (data.splits["train"].first, data.splits["train"].second) == (("a man",), ("the dog is",))


@pytest.mark.parametrize(("kind", "most"), [("cross", 3), ("bi", 5)])
def test_a_prefix_that_fills_the_row_is_refused(kind: str, most: int, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tiny_encoder(tmp_path), family="bert", prefixes=("the man is the dog a ", ""))
    with pytest.raises(UserError, match=f"leave no room for the texts; got 6 tokens; expected at most {most}; shorten"):
        encode_pairs(["a"], ["a"], tokenizer, kind=kind, max_length=8)


def test_a_model_keeps_its_prefixes_and_an_old_one_its_family_s_template(tmp_path: Path) -> None:
    plain = write_tiny_model(tmp_path / "plain", sharpness=20)
    prefixed = write_tiny_model(tmp_path / "prefixed", sharpness=20, prefixes=("the ", "a "))
    models = load(plain), load(prefixed)
    outputs = [
        models[0].outputs(["the man"], ["a dog"]),
        models[1].outputs(["man"], ["dog"]),
        models[0].outputs(["man"], ["dog"]),
    ]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert np.abs(outputs[0] - outputs[2]).max() > 1e-3
    for side, prefix in (("first", "the "), ("second", "a ")):
        np.testing.assert_array_equal(models[1].embed(["man"], side=side), models[0].embed([f"{prefix}man"]))
    # A folder of version 2 has no prefixes.
    manifest = json.loads((plain / MANIFEST).read_text()) | {"format": 2}
    manifest = {key: value for key, value in manifest.items() if key not in ("prefixes", "seal")}
    (plain / MANIFEST).write_text(json.dumps(manifest | {"seal": hash_json(manifest)}))
    assert load(plain).tokenizer.template is None
    assert isinstance(models[1].tokenizer.template, PairTemplate)
