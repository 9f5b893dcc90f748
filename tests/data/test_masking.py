"""Masks: rates, shapes, no special tokens, whole words, new in each epoch; and rows as batches."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from pairjax.base.errors import UserError
from pairjax.data.corpus_sources import rule_source
from pairjax.data.masking import Masking, RowMaker, build_masking, ordered_rows, train_rows
from pairjax.data.nsp import Stream, build_sampler
from pairjax.data.tokenizer import PairTokenizer
from pairjax.data.train_tokenizer import load_or_train_tokenizer
from pairjax.pretrain.held_out import unmasked
from tests.data.texts import index, tiny_tokenizer, write_documents


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PairTokenizer:
    return tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def maker(folder: Path, tokenizer: PairTokenizer, *, objective: str = "nsp", whole_words: bool = False) -> RowMaker:
    write_documents(folder / "a.txt", documents=12)
    corpus = index(folder / "a.txt", tokenizer, folder / "cache")["train"]
    budget = 45 if objective != "none" else 46
    sampler = build_sampler(corpus, objective, budget=budget, short=0.1, seed=0, what="a.txt")  # type: ignore[arg-type]
    return RowMaker(sampler, build_masking(tokenizer, rate=0.15, most=7, whole_words=whole_words), tokenizer, 48)


def test_the_share_of_tokens_is_chosen_and_masked_as_in_bert() -> None:
    masking = Masking(0.15, 1000, 1, np.arange(100, 200, dtype=np.int32), np.zeros(200, bool), None)
    tokens = np.full(4000, 7, np.int32)
    masked, chosen = masking.apply(tokens, np.arange(4000), Stream(0, 0))
    assert len(chosen) == 600
    assert np.all(np.diff(chosen) > 0)
    assert np.array_equal(np.delete(masked, chosen), np.delete(tokens, chosen))
    kinds = [np.mean(masked[chosen] == 1), np.mean(masked[chosen] >= 100), np.mean(masked[chosen] == 7)]
    np.testing.assert_allclose(kinds, [0.8, 0.1, 0.1], atol=0.05)
    assert len(masking.apply(tokens[:3], np.arange(3), Stream(0, 1))[1]) == 1
    most = dataclasses.replace(masking, rate=0.9, most=5)
    assert len(most.apply(tokens, np.arange(4000), Stream(0, 0))[1]) == 5


def test_whole_words_are_chosen_together() -> None:
    continues = np.zeros(50, bool)
    continues[30:] = True
    masking = Masking(0.3, 30, 1, np.arange(5, 30, dtype=np.int32), np.zeros(50, bool), continues)
    rng = np.random.default_rng(0)
    for number in range(50):
        tokens = np.where(rng.random(60) < 0.5, 30, 10).astype(np.int32)
        free = np.delete(np.arange(60), [0, 25, 59])
        _, chosen = masking.apply(tokens, free, Stream(3, number))
        assert len(chosen) <= round(0.3 * 57)
        assert not set(chosen) & {0, 25, 59}
        picked = np.isin(np.arange(60), chosen)
        for place in free:
            before = place - 1
            if before in free and continues[tokens[place]]:
                assert picked[place] == picked[before]


@pytest.mark.parametrize("objective", ["nsp", "sop", "none"])
def test_a_sentences_first_word_is_no_part_of_the_word_before_it(tmp_path: Path, objective: str) -> None:
    # As in RoBERTa, no space is put before a text, so its first word has no mark of its beginning.
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(alphabet)]
    backend = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PairTokenizer(backend, "bert", cls_id=2, sep_id=3, pad_id=0, mask_id=4)
    # Words are as long as a mask may be, so a mask is one word, or nothing but tokens if a word is longer.
    lines = ["abc def", "ghi", "jkl mno"]
    documents = ["\n".join(lines[i % 3 :] + lines[: i % 3] + ["ghi"] * (i // 3)) for i in range(6)]
    (tmp_path / "a.txt").write_text("\n\n".join(documents) + "\n")
    corpus = index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"]
    sampler = build_sampler(corpus, objective, budget=60, short=0.0, seed=0, what="a.txt")  # type: ignore[arg-type]
    masking = build_masking(tokenizer, rate=0.9, most=4, whole_words=True)
    rows = RowMaker(sampler, masking, tokenizer, 63)
    seen = set()
    for number in range(60):
        batch = rows.batch(np.array([number]))
        used = batch.masked_weights[0] > 0
        seen.add("".join(names[token] for token in batch.masked_targets[0][used]))
    words = {"abc", "ghi", "jkl", "Ġdef", "Ġmno"}
    assert words <= seen
    assert {word for word in seen if len(word) >= 3} <= words


def test_rows_are_batches(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    rows = maker(tmp_path, tokenizer)
    batch = rows.batch(np.array([0, 1, -1, 5]))
    assert batch.input_ids.shape == (4, 48)
    assert batch.masked_positions.shape == batch.masked_targets.shape == batch.masked_weights.shape == (4, 7)
    assert batch.weight[:, 0].tolist() == [1, 1, 0, 1]
    assert batch.example_id[:, 0].tolist() == [0, 1, -1, 5]
    assert batch.masked_weights[2].sum() == 0
    assert np.all(batch.input_ids[2] == tokenizer.pad_id)
    for row, number in ((0, 0), (1, 1), (3, 5)):
        segments = rows.sampler.draw(number)
        used = batch.masked_weights[row] > 0
        tokens = batch.input_ids[row].copy()
        tokens[batch.masked_positions[row][used]] = batch.masked_targets[row][used]
        a, b = len(segments.first), len(segments.second)
        joined = [tokenizer.cls_id, *segments.first, tokenizer.sep_id, *segments.second, tokenizer.sep_id]
        assert tokens[: a + b + 3].tolist() == joined
        assert np.all(tokens[a + b + 3 :] == tokenizer.pad_id)
        assert batch.pair_ids[row].sum() == a + b + 3
        assert batch.side_ids[row].sum() == b + 1
        assert batch.position_ids[row, : a + b + 3].tolist() == list(range(a + b + 3))
        assert batch.label[row, 0] == segments.label
        special = {0, a + 1, a + b + 2}
        assert not special & set(batch.masked_positions[row][used].tolist())
        assert used.sum() == min(7, max(1, round(0.15 * (a + b))))
        assert not used.all() or used.sum() == 7


def test_masks_are_fresh_each_epoch_and_the_same_in_each_run(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    rows = maker(tmp_path, tokenizer, objective="none")
    per_pass = rows.sampler.anchors
    first = {rows.sampler.draw(i).start: i for i in range(per_pass)}
    changed = 0
    for i in range(per_pass, per_pass + 20):
        earlier = first[rows.sampler.draw(i).start]
        now, before = rows.batch(np.array([i])), rows.batch(np.array([earlier]))
        changed += not np.array_equal(now.masked_positions, before.masked_positions)
        again = rows.batch(np.array([i]))
        for left, right in zip(now, again, strict=True):
            np.testing.assert_array_equal(left, right)
    assert changed > 15


def test_special_tokens_replace_no_token(tokenizer: PairTokenizer) -> None:
    masking = build_masking(tokenizer, rate=0.15, most=7, whole_words=True)
    names = [tokenizer.backend.id_to_token(int(i)) for i in masking.words]
    assert not {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"} & set(names)
    assert "[" in names
    assert masking.continues is not None
    assert masking.continues[tokenizer.backend.token_to_id("##a")]
    assert not masking.continues[tokenizer.backend.token_to_id("a")]


@pytest.mark.parametrize("whole_words", [False, True])
def test_special_tokens_in_the_text_are_never_predicted(
    tmp_path: Path, tokenizer: PairTokenizer, whole_words: bool
) -> None:
    text = "the [MASK] man\n[SEP] [CLS] [PAD]\na dog [SEP] [UNK] 日\n[MASK] [MASK]\n\nno woman\n[SEP]\nall men [CLS]\n"
    (tmp_path / "a.txt").write_text(text)
    corpus = index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"]
    special = [tokenizer.backend.token_to_id(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    assert set(special) <= set(corpus.tokens.tolist())
    masking = build_masking(tokenizer, rate=0.9, most=20, whole_words=whole_words)
    for objective in ("nsp", "none"):
        sampler = build_sampler(corpus, objective, budget=12, short=0.5, seed=0, what="a.txt")  # type: ignore[arg-type]
        batch = RowMaker(sampler, masking, tokenizer, 16).batch(np.arange(40))
        used = np.asarray(batch.masked_weights) > 0
        assert used.any()
        assert not np.isin(np.asarray(batch.masked_targets)[used], special).any()
    everything = np.array([special[3], special[4]], np.int32)
    masked, chosen = masking.apply(everything, np.arange(2), Stream(0, 0))
    assert len(chosen) == 0
    assert masked.tolist() == everything.tolist()


def test_words_are_recognised_by_the_marks_of_either_tokeniser(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    source = rule_source("en", documents=60, seed=(0, 0))
    for kind in ("wordpiece", "bpe"):
        trained, _ = load_or_train_tokenizer([source], kind=kind, vocabulary=320, lowercase=True, cache=tmp_path)
        masking = build_masking(trained, rate=0.15, most=7, whole_words=True)
        # Five words and four marks.
        text = "the nurse, unhappily: (re)reads"
        ids = trained.backend.encode(text, add_special_tokens=False).ids
        assert masking.continues is not None
        assert len(ids) - masking.continues[ids].sum() == 9
        assert not masking.continues[[trained.cls_id, trained.sep_id, trained.pad_id]].any()
    unmarked = Tokenizer(models.WordLevel({"[PAD]": 0, "[MASK]": 1, "man": 2}, unk_token="[PAD]"))
    with pytest.raises(UserError, match=r"no mask token"):
        build_masking(dataclasses.replace(tokenizer, mask_id=None), rate=0.15, most=7, whole_words=False)
    with pytest.raises(UserError, match=r"--data.whole-words needs a tokeniser that marks words; got a WordLevel"):
        build_masking(dataclasses.replace(tokenizer, backend=unmarked), rate=0.15, most=7, whole_words=True)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_make_slices_of_the_rows_that_one_makes(
    tmp_path: Path, tokenizer: PairTokenizer, processes: int
) -> None:
    rows = maker(tmp_path, tokenizer)
    options = {"batch_size": 10, "start_step": 2, "stop_step": 4, "multiple": 4, "prefetch": 0}
    batches = list(train_rows(rows, **options))
    parts = [
        list(train_rows(rows, **options, process_index=index, process_count=processes)) for index in range(processes)
    ]
    assert [step for step, _ in batches] == [2, 3]
    assert batches[0][1].example_id[:, 0].tolist() == [*range(20, 30), -1, -1]
    for number, (_, batch) in enumerate(batches):
        absent = {name for name in batch._fields if getattr(batch, name) is None}
        assert "cached" in absent
        assert not absent & {"input_ids", "position_ids", "masked_targets", "masked_weights", "label", "weight"}
        for name in set(batch._fields) - absent:
            joined = np.concatenate([getattr(part[number][1], name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(batch, name))
    held = {"batch_size": 10, "multiple": 4}
    parts = [
        list(ordered_rows(rows, 17, **held, process_index=index, process_count=processes)) for index in range(processes)
    ]
    for number, batch in enumerate(ordered_rows(rows, 17, **held)):
        np.testing.assert_array_equal(
            np.concatenate([part[number].example_id for part in parts]), np.asarray(batch.example_id)
        )


def test_prefetched_rows_are_the_same(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    rows = maker(tmp_path, tokenizer)
    direct, prefetched = (
        list(train_rows(rows, batch_size=4, start_step=0, stop_step=3, prefetch=ahead)) for ahead in (0, 2)
    )
    for (step, batch), (other_step, again) in zip(direct, prefetched, strict=True):
        assert step == other_step
        np.testing.assert_array_equal(batch.input_ids, again.input_ids)


def test_evaluation_reads_each_example_once_in_one_shape(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    batches = list(ordered_rows(maker(tmp_path, tokenizer), 10, batch_size=3, multiple=4))
    assert {batch.input_ids.shape for batch in batches} == {(4, 48)}
    ids = np.concatenate([batch.example_id[:, 0] for batch in batches])
    assert ids[ids >= 0].tolist() == list(range(10))


def test_masked_tokens_can_be_put_back(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    rows = maker(tmp_path, tokenizer)
    index = np.array([3, 0, -1, 8])
    batch = rows.batch(index)
    rows_back = np.asarray(unmasked(batch).input_ids)
    assert not np.array_equal(rows_back, batch.input_ids)
    for row, example in enumerate(index):
        if example < 0:
            assert np.array_equal(rows_back[row], batch.input_ids[row])
            continue
        segments = rows.sampler.draw(int(example))
        joined = [tokenizer.cls_id, *segments.first, tokenizer.sep_id, *segments.second, tokenizer.sep_id]
        assert rows_back[row].tolist() == joined + [tokenizer.pad_id] * (48 - len(joined))
