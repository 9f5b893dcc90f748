"""Data sets of the Hugging Face hub: from a cache folder made by hand, without the network."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.data.hub import HubName, choose_files, find_hub_files, parse_hub_name
from pairjax.data.sources import load_pairs
from tests.data.pair_files import message, rows_of

SHA = "0123456789abcdef0123456789abcdef01234567"
CARD = """---
license: cc-by-4.0
configs:
- config_name: mrpc
  data_files:
  - split: train
    path: mrpc/train-*
  - split: validation_matched
    path: mrpc/validation_matched-*
  - split: validation_mismatched
    path: mrpc/validation_mismatched-*
- config_name: rte
  data_files:
  - split: train
    path: rte/train-*
dataset_info:
- config_name: mrpc
  features:
  - name: sentence1
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': not_equivalent
          '1': equivalent
---
# A card
"""


def write_table(path: Path, labels: list[int], *, named: bool = False) -> None:
    """Writes a Parquet file of pairs; `named` stores class names in it as Hugging Face's datasets does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = len(labels)
    table = pa.table(
        {
            "sentence1": [f"{path.stem} {i}" for i in range(size)],
            "sentence2": ["b"] * size,
            "label": labels,
        }
    )
    if named:
        features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def snapshot(cache: Path, name: str, *, revision: str = "main") -> Path:
    """Returns the folder of a new snapshot in the cache."""
    folder = cache / f"datasets--{name.replace('/', '--')}"
    reference = folder / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(SHA)
    (folder / "snapshots" / SHA).mkdir(parents=True)
    return folder / "snapshots" / SHA


def test_a_config_of_the_card_is_read_from_the_cache(cache):
    folder = snapshot(cache, "org/glue")
    (folder / "README.md").write_text(CARD)
    write_table(folder / "mrpc" / "train-00000-of-00002.parquet", [1, 0])
    write_table(folder / "mrpc" / "train-00001-of-00002.parquet", [1, -1])
    for split in ("validation_matched", "validation_mismatched"):
        write_table(folder / "mrpc" / f"{split}-00000-of-00001.parquet", [0, 1])
    data = load_pairs(DataConfig(hf="org/glue:mrpc"))
    assert data.task.labels == ("not_equivalent", "equivalent")
    assert list(data.splits) == ["train", "dev_matched", "dev_mismatched"]
    assert data.splits["train"].label.tolist() == [1, 0, 1]
    assert data.splits["train"].first[2] == "train-00001-of-00002 0"
    assert data.source["name"] == "org/glue:mrpc"
    assert data.source["revision"] == SHA
    assert data.source["licence"] == "cc-by-4.0"
    assert "mrpc/train-00001-of-00002.parquet" in data.source["files"]
    assert "train: mrpc/train-00000-of-00002.parquet, mrpc/train-00001-of-00002.parquet; Parquet" in data.reading[0]
    assert "several configs; got mrpc, rte; name one: org/glue:mrpc" in message(DataConfig(hf="org/glue"))
    assert "no config cola; got mrpc, rte" in message(DataConfig(hf="org/glue:cola"))
    (folder / "mrpc" / "train-00000-of-00002.parquet").unlink()
    assert "train lacks a shard (number 0)" in message(DataConfig(hf="org/glue:mrpc"))


def test_names_in_the_file_count_and_a_card_is_not_needed(cache):
    folder = snapshot(cache, "plain")
    for split in ("train", "validation"):
        write_table(folder / "data" / f"{split}-00000-of-00001.parquet", [1, 0], named=True)
    data = load_pairs(DataConfig(hf="plain"))
    assert data.task.labels == ("no", "yes")
    assert data.source["revision"] == SHA


def test_the_converted_branch_is_read_if_main_has_no_parquet(cache):
    (snapshot(cache, "org/old") / "old.py").write_text("raise SystemExit")
    text = message(DataConfig(hf="org/old"))
    assert "--data.hf org/old: no Parquet files of train, dev or test; got files .py" in text
    folder = snapshot(cache, "org/old2", revision="refs/convert/parquet")
    for split in ("train", "validation"):
        write_table(folder / "default" / split / "0000.parquet", [1, 0])
        write_table(folder / "default" / split / "0001.parquet", [0, 0])
    data = load_pairs(DataConfig(hf="org/old2"))
    assert [len(pairs) for pairs in data.splits.values()] == [4, 4]
    assert rows_of(data.splits["train"])[2] == ("0001 0", "b")


def test_shards_with_other_class_names_are_an_error(cache):
    folder = snapshot(cache, "org/mixed")
    write_table(folder / "train-00000-of-00002.parquet", [1, 0], named=True)
    write_table(folder / "train-00001-of-00002.parquet", [1, 0])
    write_table(folder / "dev.parquet", [1, 0])
    assert "train-00001-of-00002.parquet: other class names than in train-00000" in message(DataConfig(hf="org/mixed"))


def test_what_is_not_in_the_cache_is_an_error_that_names_the_option(cache):
    text = message(DataConfig(hf="org/none"))
    assert text == ("--data.hf org/none: not in the hub's cache; add --data.download to download it, or check the name")


def test_without_the_network_a_download_is_one_line(cache, monkeypatch):
    import huggingface_hub

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nmore")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", fail)
    text = message(DataConfig(hf="org/none", download=True))
    assert "cannot be downloaded from the hub; got ConnectionError: no route to host; check the name and" in text

    def forbid(*_: object, **__: object) -> None:
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", forbid)
    assert "HF_HUB_OFFLINE forbids the network" in message(DataConfig(hf="org/none", download=True))


def test_a_download_fetches_the_files_of_one_config_only(cache, monkeypatch):
    import huggingface_hub

    folder = snapshot(cache, "org/many")
    fetched: list[list[str]] = []
    names = ["README.md", *(f"{c}/{s}-00000-of-00001.parquet" for c in ("en", "pt") for s in ("train", "test"))]

    def download(*_: object, allow_patterns: list[str], **__: object) -> str:
        fetched.append(allow_patterns)
        for name in allow_patterns:
            if name.endswith(".parquet"):
                write_table(folder / name, [0, 1], named=True)
        return str(folder)

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: names)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = find_hub_files("org/many:pt", download=True)
    assert fetched[-1] == ["README.md", "pt/train-00000-of-00001.parquet", "pt/test-00000-of-00001.parquet"]
    assert list(found.files) == ["train", "test"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", HubName("org/name", None, None)),
        ("glue:mrpc", HubName("glue", "mrpc", None)),
        ("org/name:pt-br@v1.0", HubName("org/name", "pt-br", "v1.0")),
        ("org/name@refs/convert/parquet", HubName("org/name", None, "refs/convert/parquet")),
    ],
)
def test_a_name_is_parsed(text, name):
    assert parse_hub_name(text) == name


def test_a_name_of_another_form_is_an_error():
    with pytest.raises(UserError, match="not the name of a data set; got a/b/c; expected ORG/NAME"):
        parse_hub_name("a/b/c")


def test_files_without_a_known_split_are_no_choice():
    assert choose_files(["data/corpus.parquet", "x.jsonl"], {}, HubName("a", None, None)).splits == {}
