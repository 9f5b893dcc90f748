"""`pairjax data inspect`: the figures are correct, and the tables fit in 80 columns."""

import io

import numpy as np
import pytest
from rich.console import Console

from pairjax.base.types import PairData, Pairs, TaskSpec
from pairjax.data.inspect import inspect_pairs, jaccard, print_summary
from pairjax.data.quality import measure_quality

NAMED = TaskSpec("classification", ("no", "yes"), positive="yes")


def pairs(*rows, kind=np.int32) -> Pairs:
    first, second, label = zip(*rows, strict=True)
    where = tuple(f"t.tsv:{number}" for number in range(2, len(rows) + 2))
    return Pairs(first, second, None if label[0] is None else np.array(label, kind), where)


def data(task: TaskSpec = NAMED, notes: tuple[str, ...] = (), **splits: Pairs) -> PairData:
    return PairData(task, splits, {"name": "a [set]", "licence": None}, notes)


def printed(summary, width: int = 80, rows: int = 2) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_summary(summary, console, rows=rows)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [("a b c", "b c d", 0.5), ("A, b!", "b a", 1.0), ("a", "b", 0.0), ("?", "!", 0.0), ("São", "são", 1.0)],
)
def test_overlap_is_jaccard_over_case_folded_words(first, second, overlap):
    assert jaccard(first, second) == overlap


def test_figures_are_counted_by_split_and_class():
    train = pairs(("a b", "a b c", 1), ("x", "y", 0), ("a b", "a b c", 0))
    turned = measure_quality(NAMED, {"train": pairs(("a", "b", 1), ("b", "a", 1), ("b", "a", 1), ("c", "c", 1))})
    assert turned.repeated == turned.reversed == {"train": 1}
    summary = inspect_pairs(data(train=train, dev=pairs(("x", "y", 0), ("y", "x", 1))))
    split = summary.splits["train"]
    assert {name: rows.tolist() for name, rows in split.group.items()} == {"no": [1, 2], "yes": [0]}
    assert split.words.tolist() == [[2, 3], [1, 1], [2, 3]]
    assert split.characters.tolist() == [[3, 5], [1, 1], [3, 5]]
    assert split.overlap.tolist() == pytest.approx([2 / 3, 0, 2 / 3])
    assert summary.quality.repeated == {"train": 1, "dev": 0}
    assert summary.quality.shared["train", "dev"] == 1
    assert summary.quality.swapped["train", "dev"] == 1
    assert summary.quality.contradictory == 1


def test_scores_are_grouped_in_bands_that_cover_every_pair():
    rows = [("a", "b", score) for score in (0.0, 1.0, 2.4, 5.0)]
    summary = inspect_pairs(data(TaskSpec("regression"), train=pairs(*rows, kind=np.float32)))
    group = summary.splits["train"].group
    assert list(group) == ["0 to 1", "1 to 2", "2 to 3", "3 to 4", "4 to 5"]
    assert [rows.tolist() for rows in group.values()] == [[0], [1], [2], [], [3]]


@pytest.mark.parametrize("width", [80, 100])
def test_the_tables_fit_and_show_the_counts(width):
    long = "word " * 80
    train = pairs(("a cat sits", "a cat stands", 1), ("x [/b] y", long, 0), ("p", "q", 0))
    summary = inspect_pairs(
        data(train=train, dev=pairs(("p", "q", 1)), test=pairs(("u", "v", None)), notes=("a note",))
    )
    text = printed(summary, width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("a [set]", "no, yes; positive: yes", "2 (66.7%)", "(none)", "x [/b] y", "a cat sits", "- a note"):
        assert word in text
    assert "t.tsv:4 says no, t.tsv:2 says yes" in " ".join(text.split())


def test_the_number_of_sample_pairs_can_be_chosen():
    train = pairs(*((f"one{i}", f"two{i}", i % 2) for i in range(10)))
    text = printed(inspect_pairs(data(train=train)), rows=3)
    assert text.count("two") == 6


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["sick", "stsb"])
def test_real_sets_can_be_inspected(realdata, name):
    from pairjax.base.data_config import DataConfig
    from pairjax.data.sources import load_pairs

    text = printed(inspect_pairs(load_pairs(DataConfig(path=str(realdata / name)))))
    assert max(map(len, text.splitlines())) <= 80
    assert "Repeats and leaks" in text
