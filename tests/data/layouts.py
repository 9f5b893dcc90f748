"""Thirty layouts of published pair data, made small by hand from their descriptions, all with the same four pairs."""

import bz2
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

PAIRS = [
    ("A man sleeps.", "Nobody is awake, it seems.", "entailment", 4.25),
    ("São dois gatos", "There are 2 cats", "neutral", 2.5),
    ('She said "hi"', "She was silent; why?", "contradiction", 0.75),
    ("One, two", "Three", "neutral", 3.0),
]
"""First text, second text, class, score."""
CLASSES = ("contradiction", "entailment", "neutral")
SPLITS = {"train": PAIRS, "dev": PAIRS[:2], "test": PAIRS[1:3]}
Rows = Sequence[tuple[str, str, str, float]]


class Layout(NamedTuple):
    """One published layout.

    Attributes:
        files: Names of the files by split; `{}` in a name is filled with "train", "dev" and "test".
        content: Returns the bytes of a file with these rows.
        options: The option that the error names, if one is needed.
        splits: The names of the splits that are read, if they are not train, dev and test.
        score: Whether the label is the score.
        labels: The classes as the layout writes them, if it uses other words.
    """

    files: dict[str, str]
    content: Callable[[Rows], bytes]
    options: dict[str, Any] = {}  # noqa: RUF012
    splits: tuple[str, ...] = ("train", "dev", "test")
    score: bool = False
    labels: dict[str, str] = {}  # noqa: RUF012


def same(name: str) -> dict[str, str]:
    """Returns the names of files that differ in the split's word alone."""
    return {split: name.format(split) for split in SPLITS}


def named(train: str, dev: str, test: str) -> dict[str, str]:
    """Returns the names of three files."""
    return {"train": train, "dev": dev, "test": test}


def tsv(header: str, row: Callable[[int, str, str, str, float], Sequence[object]]) -> Callable[[Rows], bytes]:
    """Returns a writer of text separated by tabs, with a header unless it is empty."""

    def content(rows: Rows) -> bytes:
        lines = [header.replace(" | ", "\t")] if header else []
        lines += ["\t".join(map(str, row(number, *pair))) for number, pair in enumerate(rows)]
        return ("\n".join(lines) + "\n").encode()

    return content


def csv(delimiter: str, header: Sequence[str]) -> Callable[[Rows], bytes]:
    """Returns a writer of quoted text whose columns are first, second and label."""

    def quote(value: object) -> str:
        return '"' + str(value).replace('"', '""') + '"'

    def content(rows: Rows) -> bytes:
        lines = [delimiter.join(header), *(delimiter.join(map(quote, row[:3])) for row in rows)]
        return ("\r\n".join(lines) + "\r\n").encode()

    return content


def objects(first: str, second: str, label: str, *, number: bool = False, **more: object) -> Callable[[Rows], list]:
    """Returns a writer of dicts."""

    def content(rows: Rows) -> list[dict[str, object]]:
        return [{first: a, second: b, label: score if number else name} | more for a, b, name, score in rows]

    return content


def lines(make: Callable[[Rows], list]) -> Callable[[Rows], bytes]:
    """Returns a writer of JSON lines."""
    return lambda rows: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in make(rows)).encode()


def parquet(first: str, second: str, label: str, names: Sequence[str] = ()) -> Callable[[Rows], bytes]:
    """Returns a writer of Parquet; with names, labels are numbers and the file holds a ClassLabel."""

    def content(rows: Rows) -> bytes:
        labels = [names.index(row[2]) if names else row[2] for row in rows]
        table = pa.table({first: [row[0] for row in rows], second: [row[1] for row in rows], label: labels})
        if names:
            features = {label: {"names": list(names), "_type": "ClassLabel"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        return sink.getvalue().to_pybytes()

    return content


def assin(rows: Rows) -> bytes:
    """Writes the XML of ASSIN."""
    from xml.sax.saxutils import escape

    pairs = "".join(
        f'<pair entailment="{name}" id="{number}" similarity="{score}">\n<t>{escape(a)}</t><h>{escape(b)}</h></pair>\n'
        for number, (a, b, name, score) in enumerate(rows)
    )
    return f'<?xml version="1.0" encoding="utf-8" ?>\n<entailment-corpus>\n{pairs}</entailment-corpus>\n'.encode()


SNLI = "gold_label | sentence1_binary_parse | sentence1_parse | sentence1 | sentence2 | captionID | pairID | label1"
SICK = "pair_ID | sentence_A | sentence_B | relatedness_score | entailment_judgment"
SNLI_TXT = tsv(SNLI, lambda i, a, b, name, score: (name, "( x )", "(ROOT x)", a, b, "1.jpg#0", f"p{i}", name))
SNLI_JSON = lines(objects("sentence1", "sentence2", "gold_label", annotator_labels=["neutral"], captionID="1.jpg"))
HUB = parquet("premise", "hypothesis", "label", CLASSES)
MNLI = tsv(
    "index | promptID | pairID | genre | sentence1 | sentence2 | gold_label",
    lambda i, a, b, name, score: (i, 1, 1, "fiction", a, b, name),
)
STS = tsv(
    "", lambda i, a, b, name, score: ("main-captions", "MSRvid", "2012test", f"{i:04}", f"{score:.3f}", a, b, "src")
)
TWO_DEV = ("train", "dev_matched", "dev_mismatched")
ANLI_LABELS = {"entailment": "e", "neutral": "n", "contradiction": "c"}

LAYOUTS = {
    "snli txt": Layout(same("snli_1.0_{}.txt"), SNLI_TXT),
    "snli jsonl": Layout(same("snli_1.0_{}.jsonl"), SNLI_JSON),
    "mnli jsonl": Layout(
        named("multinli_1.0_train.jsonl", "multinli_1.0_dev_matched.jsonl", "multinli_1.0_dev_mismatched.jsonl"),
        SNLI_JSON,
        splits=TWO_DEV,
    ),
    "glue mnli": Layout(named("train.tsv", "dev_matched.tsv", "dev_mismatched.tsv"), MNLI, splits=TWO_DEV),
    "glue mrpc": Layout(
        same("msr_paraphrase_{}.txt"),
        tsv("Quality | #1 ID | #2 ID | #1 String | #2 String", lambda i, a, b, name, score: (name, i, i, a, b)),
    ),
    "glue qqp": Layout(
        same("{}.tsv"),
        tsv(
            "id | qid1 | qid2 | question1 | question2 | is_duplicate",
            lambda i, a, b, name, score: (i, 1, 2, a, b, name),
        ),
    ),
    "kaggle qqp": Layout(same("{}.csv"), csv(",", ("question1", "question2", "is_duplicate"))),
    "glue qnli": Layout(
        same("{}.tsv"),
        tsv("index | question | sentence | label", lambda i, a, b, name, score: (i, a, b, name)),
    ),
    "glue sts-b": Layout(
        same("{}.tsv"),
        tsv(
            "index | genre | filename | year | old_index | source1 | source2 | sentence1 | sentence2 | score",
            lambda i, a, b, name, score: (i, "main", "f", "2012", i, "none", "none", a, b, f"{score:.3f}"),
        ),
        score=True,
    ),
    "sts benchmark": Layout(same("sts-{}.csv"), STS, score=True),
    "korsts": Layout(
        same("sts-{}.tsv"),
        tsv(
            "genre | filename | year | id | score | sentence1 | sentence2",
            lambda i, a, b, name, score: ("main", "f", "2012", i, score, a, b),
        ),
        score=True,
    ),
    "kornli": Layout(
        named("snli_1.0_train.ko.tsv", "xnli.dev.ko.tsv", "xnli.test.ko.tsv"),
        tsv("sentence1 | sentence2 | gold_label", lambda i, a, b, name, score: (a, b, name)),
    ),
    "xnli": Layout(
        named("multinli.train.en.tsv", "xnli.dev.tsv", "xnli.test.tsv"),
        tsv("premise | hypo | label", lambda i, a, b, name, score: (a, b, name)),
    ),
    "sick": Layout(
        named("SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt"),
        tsv(SICK, lambda i, a, b, name, score: (i, a, b, score, name)),
        {"label": "entailment_judgment"},
    ),
    "sick scores": Layout(
        named("SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt"),
        tsv(SICK, lambda i, a, b, name, score: (i, a, b, score, name)),
        {"label": "relatedness_score"},
        score=True,
    ),
    "scitail": Layout(
        same("scitail_1.0_{}.tsv"),
        tsv("", lambda i, a, b, name, score: (a, b, "entails" if name == "entailment" else "neutral")),
        labels={"entailment": "entails", "contradiction": "neutral"},
    ),
    "scitail snli format": Layout(same("scitail_1.0_{}.txt"), SNLI_JSON),
    "anli": Layout(
        named("train_r1.jsonl", "dev_r1.jsonl", "test_r1.jsonl"),
        lambda rows: lines(objects("context", "hypothesis", "label", uid="u"))(
            [(a, b, ANLI_LABELS[name], score) for a, b, name, score in rows]
        ),
        labels=ANLI_LABELS,
    ),
    "superglue cb": Layout(
        named("train.jsonl", "val.jsonl", "test.jsonl"), lines(objects("premise", "hypothesis", "label", idx=0))
    ),
    "boolq": Layout(
        named("train.jsonl", "val.jsonl", "test.jsonl"), lines(objects("question", "passage", "label", idx=0))
    ),
    "jglue jnli": Layout(
        named("train-v1.1.json", "valid-v1.1.json", "test-v1.1.json"),
        lines(objects("sentence1", "sentence2", "label", yjcaptions_id="1_2")),
    ),
    "jglue jsts": Layout(
        named("train-v1.1.json", "valid-v1.1.json", "test-v1.1.json"),
        lines(objects("sentence1", "sentence2", "label", number=True)),
        score=True,
    ),
    "assin": Layout(same("assin-ptbr-{}.xml"), assin, {"label": "entailment"}),
    "assin scores": Layout(same("assin-ptbr-{}.xml"), assin, {"label": "similarity"}, score=True),
    "paws": Layout(
        same("{}.tsv"), tsv("id | sentence1 | sentence2 | label", lambda i, a, b, name, score: (i, a, b, name))
    ),
    "hub parquet": Layout(
        named(
            "data/train-00000-of-00001.parquet",
            "data/validation-00000-of-00001.parquet",
            "data/test-00000-of-00001.parquet",
        ),
        HUB,
    ),
    "hub's converted parquet": Layout(
        named("train/0000.parquet", "validation/0000.parquet", "test/0000.parquet"),
        HUB,
    ),
    "pairs of retrieval": Layout(same("{}.parquet"), parquet("anchor", "positive", "label")),
    "jsonl.gz": Layout(
        same("{}.jsonl.gz"), lambda rows: gzip.compress(lines(objects("text", "text_pair", "label"))(rows))
    ),
    "csv.bz2 with semicolons": Layout(
        named("train.csv.bz2", "validation.csv.bz2", "test.csv.bz2"),
        lambda rows: bz2.compress(csv(";", ("sentence1", "sentence2", "label"))(rows)),
    ),
    "tsv.zst": Layout(
        same("{}.tsv.zst"),
        lambda rows: pa.compress(
            tsv("sentence1 | sentence2 | label", lambda i, a, b, name, score: (a, b, name))(rows),
            codec="zstd",
            asbytes=True,
        ),
    ),
    "json array": Layout(
        same("{}.json"), lambda rows: json.dumps(objects("sentence1", "sentence2", "label")(rows), indent=1).encode()
    ),
    "pandas json": Layout(
        same("{}.json"),
        lambda rows: json.dumps(
            {
                name: {str(i): row[column] for i, row in enumerate(rows)}
                for column, name in enumerate(("sentence1", "sentence2", "label"))
            }
        ).encode(),
    ),
    "utf-16": Layout(
        same("{}.csv"),
        lambda rows: csv(";", ("sentence1", "sentence2", "label"))(rows).decode().encode("utf-16"),
        {"encoding": "utf-16"},
    ),
}


def write_layout(folder: Path, layout: Layout) -> Path:
    """Writes a layout's files and returns the folder."""
    for split, name in layout.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(layout.content(SPLITS[split]))
    return folder
