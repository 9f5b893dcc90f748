"""Data for ranking: groups, texts with matches, triplets with a third text in each row."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from pairjax.base.config import DataConfig, LossConfig
from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec
from pairjax.data.encode import append_texts, encode_pairs
from pairjax.data.layout import choose_layout, plan_epoch
from pairjax.data.objectives import apply_objective, matching_pairs
from pairjax.data.pipeline import make_batch
from pairjax.data.ranking import expand_triplets, ranking_task
from pairjax.data.sources import load_pairs, load_train
from pairjax.data.tokenizer import PairTokenizer

TWO = TaskSpec("classification", ("no", "yes"), positive="yes")


def write_triplets(folder: Path, *, negative: bool, rows: int = 12) -> DataConfig:
    folder.mkdir(exist_ok=True)
    for split, count in (("train", rows), ("dev", rows // 2)):
        lines = []
        for number in range(count):
            row = {"query": f"{split} question {number}", "passage": f"{split} answer {number}"}
            lines.append(row | ({"negative": f"{split} wrong {number}"} if negative else {}))
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return DataConfig(path=str(folder), task="ranking")


def write_groups(folder: Path, *rows: str) -> DataConfig:
    folder.mkdir(exist_ok=True)
    header = "query\tpassage\tlabel\tqid\n"
    lines = rows or ("a\tu\tyes\t7", "a\tv\tno\t7", "b\tw\tno\t8", "b\tx\tyes\t8")
    for split in ("train", "dev"):
        (folder / f"{split}.tsv").write_text(header + "\n".join(lines) + "\n")
    return DataConfig(path=str(folder), group="qid")


def test_triplets_of_train_stay_whole_and_those_of_dev_become_candidates(tmp_path: Path) -> None:
    data = load_pairs(write_triplets(tmp_path / "t", negative=True))
    train, dev = data.splits["train"], data.splits["dev"]
    assert data.task == ranking_task()
    assert len(train) == len(train.negative) == 12
    assert train.label.tolist() == [1] * 12
    assert len(dev) == 12
    assert dev.label.tolist() == [1, 0] * 6
    assert dev.second[:2] == ("dev answer 0", "dev wrong 0")
    assert dev.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_without_negatives_the_matches_of_other_rows_are_candidates(tmp_path: Path) -> None:
    data = load_pairs(write_triplets(tmp_path / "t", negative=False))
    dev = data.splits["dev"]
    assert data.splits["train"].negative == ()
    assert np.bincount(dev.group).tolist() == [6] * 6
    assert dev.label.sum() == 6
    for index, label in enumerate(dev.label):
        matches = dev.first[index].split()[-1] == dev.second[index].split()[-1]
        assert matches == bool(label)


def test_a_classifier_reads_triplets_as_labelled_pairs(tmp_path: Path) -> None:
    train = load_pairs(write_triplets(tmp_path / "t", negative=True)).splits["train"]
    pairs = expand_triplets(train, ranking_task())
    assert pairs.second[:2] == ("train answer 0", "train wrong 0")
    assert pairs.label.tolist() == [1, 0] * 12
    with pytest.raises(UserError, match=r"matches only.*--loss\.kind in-batch"):
        expand_triplets(replace(train, negative=()), ranking_task())


def test_groups_are_numbered_in_dev_and_not_needed_in_train(tmp_path: Path) -> None:
    config = write_groups(tmp_path / "g")
    splits = load_pairs(config).splits
    assert splits["train"].group is None
    assert splits["dev"].group.tolist() == [0, 0, 1, 1]
    assert load_train(config).splits.keys() == {"train"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("a\tu\tyes\t7", "a\tv\tno\t7", "b\tw\tno\t8"), r"dev.tsv, line 4: the only pair of its group.*got qid 8"),
        (("a\tu\tyes\t7", "a\tv\tno\t"), r"line 3: qid is empty"),
        (("a\tu\tx\t7", "a\tv\ty\t7", "a\tw\tz\t7"), "--data.group ranks pairs of two classes; got 3 classes"),
    ],
)
def test_groups_that_cannot_be_ranked_are_refused(tmp_path: Path, rows: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_pairs(write_groups(tmp_path / "g", *rows))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negative": "x"}, "--data.negative goes with --data.task ranking"),
        ({"task": "ranking", "label": "x"}, "--data.label does not go with"),
        ({"task": "ranking", "dev_fraction": 0.1}, "--data.dev-fraction does not go with"),
        ({"task": "ranking", "rules": "entailment"}, "--data.rules does not go with"),
    ],
)
def test_options_that_contradict_ranking_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        DataConfig(**options)


def test_a_missing_column_of_groups_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dev.tsv: no column topic.*--data.group"):
        load_pairs(replace(write_groups(tmp_path / "g"), group="topic"))


def test_the_in_batch_loss_reads_the_pairs_that_match() -> None:
    pairs = Pairs(("a", "b", "c"), ("u", "v", "w"), np.array([1, 0, 1], np.int32))
    chosen, notes = matching_pairs(pairs, TWO)
    assert chosen.tolist() == [0, 2]
    assert "reads the 2 pairs of the class yes, not the other 1" in notes[0]
    with pytest.raises(UserError, match="got 1 in train"):
        matching_pairs(replace(pairs, label=np.array([1, 0, 0], np.int32)), TWO)


def test_the_head_of_a_cosine_spans_the_train_scores_or_lies_between_the_classes() -> None:
    scores = Pairs(("a", "b"), ("u", "v"), np.array([1.0, 5.0], np.float32))
    task = apply_objective(TaskSpec("regression"), LossConfig(kind="cosine"), scores)
    assert (task.head, task.center, task.scale) == ("softmax", 1.0, 4.0)
    assert apply_objective(TWO, LossConfig(kind="contrastive", margin=0.4)).center == pytest.approx(0.8)
    with pytest.raises(UserError, match=r"contrastive needs two classes; got scores; use --loss\.kind cosine"):
        apply_objective(TaskSpec("regression"), LossConfig(kind="contrastive"))
    with pytest.raises(UserError, match=r"in-batch needs two classes; got 3"):
        apply_objective(TaskSpec("classification", ("a", "b", "c")), LossConfig(kind="in-batch"))


@pytest.mark.parametrize("layout", ["bucketed", "packed"])
def test_a_triplets_row_has_three_sequences_that_start_at_position_0(layout: str) -> None:
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(20))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PairTokenizer(backend, family="bert", cls_id=1, sep_id=2, pad_id=0)
    texts = [
        " ".join(f"w{(i + j) % 20}" for j in range(1 + (i * length) % 5)) for length in (1, 2, 3) for i in range(9)
    ]
    sides = texts[:9], texts[9:18], texts[18:]
    encode = lambda a, b: encode_pairs(a, b, tokenizer, kind="bi", max_length=8)  # noqa: E731
    encoded = append_texts(encode(sides[0], sides[1]), encode(sides[2], sides[2]))
    chosen = choose_layout(DataConfig(layout=layout), encoded.lengths)  # type: ignore[arg-type]
    plan = plan_epoch(seed=0, epoch=0, lengths=encoded.lengths, layout=chosen, batch_size=9)
    batch = make_batch(encoded, None, plan.index[0], int(plan.length[0]))
    assert sorted(batch.example_id[batch.example_id >= 0].tolist()) == list(range(9))
    for (row, slot), example in np.ndenumerate(batch.example_id):
        for side in range(3) if example >= 0 else ():
            at = (batch.pair_ids[row] == slot + 1) & (batch.side_ids[row] == side)
            ids = [1, *(words.index(word) for word in sides[side][example].split()), 2]
            assert batch.input_ids[row][at].tolist() == ids
            assert batch.position_ids[row][at].tolist() == list(range(len(ids)))
