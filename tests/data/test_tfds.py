"""TFDS sets: TFDS prepares a GLUE-like builder here, and pairjax reads it without TensorFlow."""

import dataclasses
import json
import shutil
import struct
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import CorpusConfig
from pairjax.base.types import TaskSpec
from pairjax.cli.main import main
from pairjax.data.sources import load_for_task, load_pairs
from pairjax.data.tfds import choose_splits, find_prepared, parse_name
from pairjax.pretrain.prepare import corpus_sources

tfds = pytest.importorskip("tensorflow_datasets")

ROWS = 30


class TinyGlue(tfds.core.GeneratorBasedBuilder):
    """A builder with two configs: classes with an unlabelled test split (mrpc) and float scores (stsb)."""

    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name="mrpc"), tfds.core.BuilderConfig(name="stsb")]
    VERSION = tfds.core.Version("2.0.0")

    def _info(self):
        named = tfds.features.ClassLabel(names=["not_equivalent", "equivalent"])
        features = {
            "sentence1": tfds.features.Text(),
            "sentence2": tfds.features.Text(),
            "label": named if self.builder_config.name == "mrpc" else np.float32,
            "idx": np.int32,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            citation="@misc{tiny}",
            license="CC BY 4.0",
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(ROWS, "train"),
            "validation": self._generate_examples(6, "dev"),
            "test": self._generate_examples(5, "test"),
        }

    def _generate_examples(self, count, split):
        for i in range(count):
            label = i % 2 if self.builder_config.name == "mrpc" else i / 10
            texts = {"sentence1": f"São {split} {i}", "sentence2": f"second {split} {i}"}
            yield i, texts | {"label": -1 if split == "test" else label, "idx": i}


class TinyBooks(tfds.core.GeneratorBasedBuilder):
    """A builder of texts of three lines with a train split only, like lm1b and wiki40b."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"text": tfds.features.Text(), "year": np.int32})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(12)}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"text": f"The man {i} is São.\nNo dog {i}\nsleeps at {i}. All are here.", "year": 1900 + i}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Prepares a TFDS folder with the sets as ArrayRecord, and unregisters their builders."""
    root = tmp_path_factory.mktemp("tfds")
    for config in ("mrpc", "stsb"):
        TinyGlue(config=config, data_dir=str(root)).download_and_prepare(file_format="array_record")
    TinyBooks(data_dir=str(root)).download_and_prepare(file_format="array_record")
    return root


def as_tfrecord(folder: Path) -> None:
    """Rewrites a prepared ArrayRecord set as TFRecord with the same examples."""
    from array_record.python.array_record_module import ArrayRecordReader

    for path in folder.glob("*.array_record-*"):
        reader = ArrayRecordReader(str(path))
        records = [reader.read([row])[0] for row in range(reader.num_records())]
        reader.close()
        framed = b"".join(struct.pack("<QI", len(r), 0) + r + struct.pack("<I", 0) for r in records)
        path.with_name(path.name.replace("array_record", "tfrecord")).write_bytes(framed)
        path.unlink()
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))


def test_a_glue_like_set_is_read_with_its_class_names(prepared):
    data = load_pairs(DataConfig(tfds="tiny_glue/mrpc", tfds_dir=str(prepared)))
    assert data.task == TaskSpec("classification", ("not_equivalent", "equivalent"), positive="equivalent")
    assert data.source["rows"] == {"train": ROWS, "dev": 6, "test": 5}
    train = data.splits["train"]
    for first, second, label in zip(train.first, train.second, train.label, strict=True):
        number = int(first.split()[-1])
        assert first == f"São train {number}"
        assert second == f"second train {number}"
        assert label == number % 2
    assert data.splits["test"].label is None
    assert "test: no labels, so there are predictions but no scores" in data.notes
    assert train.where[0] == "train:1"


def test_float_labels_make_a_regression_and_minus_one_an_unlabelled_test(prepared):
    data = load_pairs(DataConfig(tfds="tiny_glue/stsb:2.0.0", tfds_dir=str(prepared)))
    assert data.task.kind == "regression"
    assert sorted(data.splits["dev"].label.tolist()) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert data.splits["test"].label is None


def test_provenance_names_set_version_files_and_licence(prepared):
    source = load_pairs(DataConfig(tfds="tiny_glue/mrpc", tfds_dir=str(prepared))).source
    assert source["name"] == "tiny_glue/mrpc/2.0.0"
    assert source["licence"] == "CC BY 4.0"
    assert source["citation"] == "@misc{tiny}"
    assert any("train" in name for name in source["files"])
    assert all(len(digest) == 64 for digest in source["files"].values())


def test_tfrecord_reads_as_array_record_does(prepared, tmp_path):
    shutil.copytree(prepared / "tiny_glue", tmp_path / "tiny_glue")
    folder = tmp_path / "tiny_glue" / "mrpc" / "2.0.0"
    as_tfrecord(folder)
    array_record = load_pairs(DataConfig(tfds="tiny_glue/mrpc", tfds_dir=str(prepared)))
    tfrecord = load_pairs(DataConfig(tfds="tiny_glue/mrpc", tfds_dir=str(tmp_path)))
    for split in ("train", "dev", "test"):
        assert array_record.splits[split].first == tfrecord.splits[split].first
    assert array_record.splits["train"].label.tolist() == tfrecord.splits["train"].label.tolist()
    shard = next(folder.glob("*train.tfrecord*"))
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"tfrecord.*: cut off or damaged; prepare the set again"):
        load_pairs(DataConfig(tfds="tiny_glue/mrpc", tfds_dir=str(tmp_path)))
    shard.unlink()
    with pytest.raises(UserError, match=r"tfrecord.*: missing from the prepared set"):
        load_pairs(DataConfig(tfds="tiny_glue/mrpc", tfds_dir=str(tmp_path)))


def test_a_damaged_set_is_an_error(prepared, tmp_path):
    shutil.copytree(prepared / "tiny_glue", tmp_path / "tiny_glue")
    config = DataConfig(tfds="tiny_glue/mrpc", tfds_dir=str(tmp_path))
    folder = tmp_path / "tiny_glue" / "mrpc" / "2.0.0"
    shard = next(folder.glob("*train.array_record*"))
    shard.write_bytes(b"no records")
    with pytest.raises(UserError, match=r"tiny_glue/mrpc/2\.0\.0, split train: cannot be read .*prepare the set again"):
        load_pairs(config)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="a damaged TFDS set"):
        load_pairs(config)


def test_columns_of_a_set_can_be_named(prepared):
    config = DataConfig(tfds="tiny_glue/mrpc", tfds_dir=str(prepared), first="sentence2", second="sentence1")
    assert load_pairs(config).splits["dev"].first[0].startswith("second dev")
    with pytest.raises(UserError, match=r"split train: no column nope; got columns .*sentence1.*--data\.label"):
        load_pairs(DataConfig(tfds="tiny_glue/mrpc", tfds_dir=str(prepared), label="nope"))


def test_the_label_order_of_the_model_is_used(prepared):
    config = DataConfig(tfds="tiny_glue/mrpc", tfds_dir=str(prepared))
    turned = load_for_task(config, TaskSpec("classification", ("equivalent", "not_equivalent")))
    straight = load_pairs(config)
    assert turned.splits["dev"].label.tolist() == (1 - straight.splits["dev"].label).tolist()


def test_a_set_that_is_not_prepared_is_an_error(tmp_path):
    start = time.monotonic()
    for name in ("glue/mrpc", "glue/mrpc:9.9.9", "no_such_set"):
        with pytest.raises(UserError) as caught:
            load_pairs(DataConfig(tfds=name, tfds_dir=str(tmp_path)))
        text = str(caught.value)
        assert text.startswith(f"TFDS set {name} is not prepared in {tmp_path}")
        assert "--data.download" in text
        assert "--data.tfds-dir" in text
    assert time.monotonic() - start < 5
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_an_error_before_any_download(tmp_path):
    with pytest.raises(UserError, match="TFDS has no pairjax_no_such_set"):
        load_pairs(DataConfig(tfds="pairjax_no_such_set", tfds_dir=str(tmp_path), download=True))
    with pytest.raises(UserError, match="not a builder's name; got glue/mrpc/x/y"):
        load_pairs(DataConfig(tfds="glue/mrpc/x/y", tfds_dir=str(tmp_path)))


def test_a_missing_set_is_prepared_on_request(tmp_path):
    config = DataConfig(tfds="tiny_glue/mrpc", tfds_dir=str(tmp_path), download=True)
    assert load_pairs(config).source["rows"] == {"train": ROWS, "dev": 6, "test": 5}
    assert find_prepared(parse_name("tiny_glue/mrpc"), tmp_path) == tmp_path / "tiny_glue" / "mrpc" / "2.0.0"


def test_a_failed_download_gives_a_workaround(tmp_path, monkeypatch):
    def fail(self, **kwargs):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    for name in ("glue/mrpc", "paws_wiki"):
        with pytest.raises(UserError) as caught:
            load_pairs(DataConfig(tfds=name, tfds_dir=str(tmp_path), download=True))
        text = str(caught.value)
        assert text.startswith(
            f"TFDS could not prepare {name} (ConnectionError: no route to host); prepare it on another machine"
        )
        assert "--data.tfds-dir" in text


def test_the_folder_is_found_by_config_and_newest_version(tmp_path):
    def version(*parts: str) -> Path:
        folder = tmp_path.joinpath(*parts)
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text("{}")
        return folder

    old, new = version("plain", "1.9.0"), version("plain", "1.10.0")
    path = version("single", "only", "1.0.0")
    version("several", "x", "1.0.0")
    chosen = version("several", "y", "1.0.0")
    assert find_prepared(parse_name("plain"), tmp_path) == new
    assert find_prepared(parse_name("plain:1.9.0"), tmp_path) == old
    assert find_prepared(parse_name("plain:2.0.0"), tmp_path) is None
    assert find_prepared(parse_name("single"), tmp_path) == path
    assert find_prepared(parse_name("several/y"), tmp_path) == chosen
    assert find_prepared(parse_name("gone/y"), tmp_path) is None
    with pytest.raises(UserError, match="several configs are prepared; got x, y; name one: several/x"):
        find_prepared(parse_name("several"), tmp_path)
    (tmp_path / "several" / ".config").mkdir()
    (tmp_path / "several" / ".config" / "metadata.json").write_text('{"default_config_name": "y"}')
    assert find_prepared(parse_name("several"), tmp_path) == chosen


def test_splits_get_our_names_and_a_choice_is_noted():
    mnli = ["train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"]
    chosen, notes = choose_splits(mnli, "glue/mnli")
    assert chosen == {"train": "train", "dev": "validation_matched", "test": "test_matched"}
    assert notes[0] == "dev: glue/mnli's validation_matched; validation_mismatched is left out"
    assert len(notes) == 2
    with pytest.raises(UserError, match="glue/x: two dev splits; got validation and dev"):
        choose_splits(["train", "dev", "validation"], "glue/x")


def test_reading_a_set_logs_nothing(prepared, caplog, capfd):
    load_pairs(DataConfig(tfds="tiny_glue/mrpc", tfds_dir=str(prepared)))
    assert caplog.records == []
    out = capfd.readouterr()
    assert out.out + out.err == ""


def sentences(data: CorpusConfig, split: str = "train") -> list[list[str]]:
    """Returns the sentences of each document; documents are sorted, because TFDS shuffles them."""
    (source,) = corpus_sources(data)[split]
    documents: list[list[str]] = [[]]
    for sentence in source.sentences():
        if sentence is None:
            documents.append([])
        else:
            documents[-1].append(sentence)
    assert documents.pop() == []
    return sorted(documents)


def test_a_set_of_texts_is_a_corpus_whose_examples_are_documents(prepared):
    data = CorpusConfig(tfds="tiny_books", tfds_dir=str(prepared))
    lines = [[f"The man {i} is São.", f"No dog {i}", f"sleeps at {i}. All are here."] for i in range(12)]
    assert sentences(data) == sorted(lines)
    prose = [[f"The man {i} is São.", f"No dog {i} sleeps at {i}.", "All are here."] for i in range(12)]
    assert sentences(dataclasses.replace(data, format="prose")) == sorted(prose)
    source = corpus_sources(data)["train"][0]
    assert source.name == "tiny_books/1.0.0, split train"
    assert len(source.digest) == 64


def test_the_splits_of_a_set_become_train_dev_and_test(prepared):
    data = CorpusConfig(tfds="tiny_glue/mrpc", text="sentence2", tfds_dir=str(prepared))
    corpora = corpus_sources(data)
    assert {split: len(sentences(data, split)) for split in corpora} == {"train": ROWS, "dev": 6, "test": 5}
    other = dataclasses.replace(data, text="sentence1")
    assert corpus_sources(other)["train"][0].identity != corpora["train"][0].identity


def test_sets_without_usable_text_are_errors(prepared):
    data = CorpusConfig(tfds="tiny_books", tfds_dir=str(prepared))
    with pytest.raises(
        UserError, match=r"split train: no column body; got columns (text, year|year, text); name .*--data\.text"
    ):
        corpus_sources(dataclasses.replace(data, text="body"))
    with pytest.raises(UserError, match=r"row 1: column year is not text; got 19\d\d"):
        sentences(dataclasses.replace(data, text="year"))
    with pytest.raises(UserError, match="TFDS set gone is not prepared in"):
        corpus_sources(dataclasses.replace(data, tfds="gone"))
    with pytest.raises(UserError, match=r"more than one corpus; got --data\.corpus and --data\.tfds"):
        CorpusConfig(tfds="tiny_books", corpus="*.txt")


def test_a_corpus_of_a_set_is_indexed_and_reported(prepared, tmp_path, capsys):
    args = ["data", "corpus", "--data.tfds", "tiny_books", "--data.tfds-dir", str(prepared)]
    args += ["--data.tokenizer-kind", "bpe", "--data.vocabulary", "300", "--data.dev-fraction", "0.25"]
    assert main([*args, "--data.max-length", "64", "--data.cache", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "vocabulary: 300 tokens" in output
    assert "example 0: B is" in output
