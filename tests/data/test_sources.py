"""Loading pairs: dev and test splits, notes, provenance, and data for a trained model."""

import hashlib

import numpy as np
import pytest

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import TaskSpec
from pairjax.data.sources import load_for_task, load_pairs
from tests.data.pair_files import HEADER, TASK, TSV, message, write

# ----------------------------------------------------------------------------------------------------- dev, test, notes


def many(rows: int) -> str:
    return HEADER + "".join(f"a {i}\tb {i}\t{'rare' if i % 10 == 0 else 'common'}\n" for i in range(rows))


def test_a_missing_dev_names_the_option_that_cuts_one(tmp_path):
    write(tmp_path, train__tsv=TSV)
    text = message(DataConfig(path=str(tmp_path)))
    assert "no dev split" in text
    assert "--data.dev-fraction" in text


def test_a_dev_cut_is_stratified_seeded_and_disjoint(tmp_path):
    write(tmp_path, train__tsv=many(200))
    config = DataConfig(path=str(tmp_path), dev_fraction=0.2, seed=3)
    data, again = load_pairs(config), load_pairs(config)
    train, dev = data.splits["train"], data.splits["dev"]
    assert len(dev) == 40
    assert np.bincount(dev.label).tolist() == [36, 4]
    assert not set(train.first) & set(dev.first)
    assert set(train.where) | set(dev.where) == {f"train.tsv:{i}" for i in range(2, 202)}
    assert dev.first == again.splits["dev"].first
    assert dev.label.tolist() == again.splits["dev"].label.tolist()
    assert load_pairs(DataConfig(path=str(tmp_path), dev_fraction=0.2, seed=4)).splits["dev"].first != dev.first
    assert any("40 of train's 200 pairs" in note and "seed 3" in note for note in data.notes)
    assert list(data.splits) == ["train", "dev"]


def test_a_dev_cut_shares_no_text_with_train_unless_asked_to(tmp_path):
    rows = "".join(
        f"text {i}\ttext {i + 100}\t{'yn'[i % 2]}\ntext {i + 100}\ttext {i}\t{'yn'[i % 2]}\n" for i in range(40)
    )
    write(tmp_path, train__tsv=HEADER + rows)

    def shared(**options) -> int:
        splits = load_pairs(DataConfig(path=str(tmp_path), dev_fraction=0.2, **options)).splits
        assert len(splits["dev"]) == 16
        return len({*splits["dev"].first, *splits["dev"].second} & {*splits["train"].first, *splits["train"].second})

    assert shared() == 0
    assert shared(group_texts=False) > 0
    notes = load_pairs(DataConfig(path=str(tmp_path), dev_fraction=0.2)).notes
    assert "40 groups of pairs that share texts, the largest of 2 pairs" in notes[0]
    assert "train: 32 rows repeat a pair of an earlier row, 32 of them with its sides swapped" in notes


def test_a_dev_split_and_a_dev_fraction_contradict(tmp_path):
    write(tmp_path, train__tsv=TSV, dev__tsv=TSV)
    text = message(DataConfig(path=str(tmp_path), dev_fraction=0.1))
    assert "--data.dev-fraction" in text
    assert "dev.tsv" in text
    assert "--data.dev-fraction" in message(DataConfig(rules="entailment", dev_fraction=0.1))


@pytest.mark.parametrize("labels", [["-1", "-1"], ["", ""], ["-", "-"], ["-1.0", "-1"]])
def test_a_test_split_without_labels_is_unlabelled(tmp_path, labels):
    test = HEADER + "".join(f"a\tb {i}\t{label}\n" for i, label in enumerate(labels))
    write(tmp_path, train__tsv=TSV, dev__tsv=TSV, test__tsv=test)
    data = load_pairs(DataConfig(path=str(tmp_path)))
    assert data.splits["test"].label is None
    assert "test: no labels, so there are predictions but no scores" in data.notes


def test_a_test_split_that_lacks_the_label_column_is_unlabelled(tmp_path):
    write(
        tmp_path,
        train__tsv=TSV.replace("label", "gold"),
        dev__tsv=TSV.replace("label", "gold"),
        test__tsv="a\tb\nx\ty\n",
    )
    assert load_pairs(DataConfig(path=str(tmp_path), label="gold")).splits["test"].label is None


def test_a_test_split_with_some_labels_is_an_error(tmp_path):
    write(tmp_path, train__tsv=TSV, dev__tsv=TSV, test__tsv=HEADER + "a\tb\tyes\nc\td\t\n")
    assert "test.tsv, line 3: the label (label) is missing" in message(DataConfig(path=str(tmp_path)))


@pytest.mark.parametrize("mark", ["-", "-1"])
def test_pairs_that_are_marked_as_unlabelled_are_left_out_and_counted(tmp_path, mark):
    write(tmp_path, train__tsv=TSV + f"x\ty\t{mark}\n", dev__tsv=TSV, test__tsv=HEADER + f"c\td\t{mark}\na\tb\tyes\n")
    data = load_pairs(DataConfig(path=str(tmp_path)))
    assert data.source["rows"] == {"train": 3, "dev": 3, "test": 1}
    assert "train: left out 1 pair marked as unlabelled (- or -1; train.tsv:5)" in data.notes[0]
    numbered = HEADER + "".join(f"a{i}\tb\t{label}\n" for i, label in enumerate([0, 1, 2, -1, 0]))
    write(tmp_path / "numbers", train__tsv=numbered, dev__tsv=numbered)
    assert load_pairs(DataConfig(path=str(tmp_path / "numbers"))).task.labels == ("0", "1", "2")
    config = DataConfig(path=str(tmp_path / "numbers"), task="classification")
    assert load_pairs(config).task.labels == ("-1", "0", "1", "2")


def test_minus_one_may_be_a_class(tmp_path):
    train = HEADER + "a\tb\t-1\nc\td\t1\n"
    write(tmp_path, train__tsv=train, dev__tsv=train, test__tsv=HEADER + "a\tb\t-1\ne\tf\t-1\n")
    data = load_pairs(DataConfig(path=str(tmp_path)))
    assert data.task.labels == ("-1", "1")
    assert data.splits["test"].label.tolist() == [0, 0]


def test_a_dev_split_must_be_labelled(tmp_path):
    write(tmp_path, train__tsv=TSV, dev__tsv="a\tb\nx\ty\n")
    assert "dev.tsv: no label column" in message(DataConfig(path=str(tmp_path)))
    write(tmp_path, dev__tsv=HEADER + "a\tb\t\n")
    assert "dev.tsv, line 2: the label (label) is missing" in message(DataConfig(path=str(tmp_path)))


def test_empty_texts_and_missing_labels_are_skipped_and_counted_by_option(tmp_path):
    train = TSV + "\tb\tyes\na\t \tno\nq\tr\t-\nq\tr\t\n"
    write(tmp_path, train__tsv=train, dev__tsv=TSV)
    data = load_pairs(DataConfig(path=str(tmp_path), bad_rows="skip"))
    assert len(data.splits["train"]) == 3
    assert "train: skipped 1 row (--data.bad-rows skip): 1 because the label is missing (train.tsv:8)" in data.notes
    assert data.notes[1].startswith("train: left out 1 pair marked as unlabelled (- or -1; train.tsv:7)")
    skipped = "train: skipped 2 rows (--data.bad-rows skip): 1 because sentence1 is empty (train.tsv:5); 1 because"
    assert data.notes[0] == f"{skipped} sentence2 is empty (train.tsv:6)"
    write(tmp_path, train__tsv=HEADER + "\tb\tyes\n")
    assert "every row is invalid (sentence1 is empty)" in message(DataConfig(path=str(tmp_path), bad_rows="skip"))


def test_leaks_repeats_and_contradictions_are_counted(tmp_path):
    train = HEADER + "a\tb\tyes\na\tb\tyes\nc\td\tno\ne\tf\tno\n"
    dev = HEADER + "a\tb\tyes\nd\tc\tno\nx\ty\tno\n"
    test = HEADER + "e\tf\tyes\nx\ty\tno\nq\tr\tno\n"
    write(tmp_path, train__tsv=train, dev__tsv=dev, test__tsv=test)
    assert list(load_pairs(DataConfig(path=str(tmp_path))).notes) == [
        "train: 1 row repeats a pair of an earlier row",
        "dev: 2 rows repeat a pair of train, 1 of them with its sides swapped",
        "test: 1 row repeats a pair of train",
        "test: 1 row repeats a pair of dev",
        "1 pair carries labels that differ (train.tsv:5 says no, test.tsv:2 says yes)",
    ]


def test_clean_data_has_no_notes(tmp_path):
    write(tmp_path, train__tsv=TSV, dev__tsv=HEADER + "n\tm\tyes\n")
    assert load_pairs(DataConfig(path=str(tmp_path))).notes == ()


def test_a_quoted_tsv_is_noticed(tmp_path):
    write(tmp_path, train__tsv=TSV + '"he said ""no"""\tx\tno\n', dev__tsv=HEADER + 'x\t"quoted"\tyes\n')
    notes = load_pairs(DataConfig(path=str(tmp_path))).notes
    assert len(notes) == 1
    assert notes[0].startswith("train: 1 text")


def test_the_source_is_recorded_with_digests(tmp_path):
    write(tmp_path / "set", train__tsv=TSV, dev__tsv=HEADER + "n\tm\tyes\n")
    source = load_pairs(DataConfig(path=str(tmp_path / "set"))).source
    assert source == {
        "name": "set",
        "files": {
            "train.tsv": hashlib.sha256(TSV.encode()).hexdigest(),
            "dev.tsv": hashlib.sha256((HEADER + "n\tm\tyes\n").encode()).hexdigest(),
        },
        "licence": None,
        "rows": {"train": 3, "dev": 1},
    }


# -------------------------------------------------------------------------------------------------- for a trained model


def test_the_label_order_of_the_model_is_used(tmp_path):
    write(tmp_path, test__tsv=TSV)
    task = TaskSpec("classification", ("yes", "no"))
    data = load_for_task(DataConfig(path=str(tmp_path)), task)
    assert data.task is task
    assert list(data.splits) == ["test"]
    assert data.splits["test"].label.tolist() == [0, 1, 0]


def test_a_file_is_the_split_of_its_name_or_test(tmp_path):
    write(tmp_path, dev__tsv=TSV, other__tsv="a\tb\nx\ty\n")
    assert list(load_for_task(DataConfig(path=str(tmp_path / "dev.tsv")), TASK).splits) == ["dev"]
    data = load_for_task(DataConfig(path=str(tmp_path / "other.tsv")), TASK)
    assert list(data.splits) == ["test"]
    assert data.splits["test"].label is None


def test_a_label_that_the_model_does_not_know_is_an_error(tmp_path):
    write(tmp_path, test__tsv=TSV + "a\tb\tmaybe\n")
    with pytest.raises(
        UserError, match=r"test\.tsv, line 5: a label that the model does not have; got maybe; expected one of no, yes"
    ):
        load_for_task(DataConfig(path=str(tmp_path / "test.tsv")), TASK)


# ------------------------------------------------------------------------------------------------------------ real data


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "rows", "labels"),
    [
        ("mrpc", (3668, 408, 1725), ("not_paraphrase", "paraphrase")),
        ("sick", (4500, 500, 4927), ("contradiction", "entailment", "neutral")),
        ("sick-relatedness", (4500, 500, 4927), ()),
        ("stsb", (5749, 1500, 1379), ()),
        ("assin2", (6500, 500, 2448), ("entailment", "none")),
    ],
)
def test_real_sets_have_their_official_rows(realdata, name, rows, labels):
    data = load_pairs(DataConfig(path=str(realdata / name)))
    assert tuple(data.source["rows"].values()) == rows
    assert data.task.labels == labels
    assert data.task.kind == ("classification" if labels else "regression")
    assert all(pairs.label is not None for pairs in data.splits.values())
