"""Whole pretraining runs: from rules and from files, continued, stopped and resumed, and handed on to pairs."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file, save_file

import pairjax
from pairjax import (
    Config,
    CorpusConfig,
    DataConfig,
    ModelConfig,
    PretrainConfig,
    PretrainEvalConfig,
    PretrainModelConfig,
    RunConfig,
    TrainConfig,
    UserError,
)
from pairjax.base.pretrain_config import Objective
from pairjax.cli.main import main
from pairjax.data.tokenizer import load_tokenizer
from pairjax.finetune.prepare import prepare
from pairjax.models.pretraining import build_pretraining_model
from pairjax.pretrain.held_out import accuracy_interval
from pairjax.pretrain.prepare import (
    build_corpora,
    build_makers,
    corpus_sources,
    corpus_tokenizer,
    prepare_pretraining,
)
from pairjax.pretrain.train import pretrain
from pairjax.run.distributed import StopSignal
from pairjax.run.session import TrainResult
from pairjax.weights import load_pretraining, read_encoder_spec
from tests.cli.conftest import write_pairs
from tests.data.texts import write_documents
from tests.tiny import write_tiny_encoder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    folder = tmp_path_factory.mktemp("pretrain")
    encoder = write_tiny_encoder(folder / "encoder")
    write_documents(folder / "a.txt", documents=20)
    write_documents(folder / "b.txt", documents=10, start=50)
    return PretrainConfig(
        data=CorpusConfig(corpus=str(folder / "*.txt"), dev_fraction=0.2, max_length=48, cache=str(folder / "cache")),
        model=PretrainModelConfig(encoder=str(encoder)),
        train=TrainConfig(batch_size=8, max_steps=6, eval_every=3, keep="last"),
        evaluation=PretrainEvalConfig(examples=16, during=8, batch_size=8, bootstrap=100, baselines=False),
        run=RunConfig(compilation_cache="", progress=False),
    )


def start(config: PretrainConfig, folder: Path, **run: object) -> TrainResult:
    run_config = dataclasses.replace(config.run, dir=str(folder), **run)
    return pretrain(dataclasses.replace(config, run=run_config), console=Console(quiet=True))


def tensors(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model/encoder/model.safetensors")


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(config: PretrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(config, tmp_path_factory.mktemp("whole") / "r").dir


def test_a_run_leaves_figures_and_a_folder_of_berts_names(config: PretrainConfig, whole: Path) -> None:
    result = json.loads((whole / "result.json").read_text())
    assert set(result["metrics"]) == {"dev"}
    for score in result["metrics"]["dev"].values():
        assert score["low"] <= score["value"] <= score["high"]
    assert result["labels"] == ["is next", "is of another document"]
    assert result["train"]["steps"] == 6
    assert result["train"]["tokens"] > 6 * 8 * 20
    steps = [line for line in lines(whole) if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 7))
    assert steps[0]["loss"] == pytest.approx(steps[0]["mlm_loss"] + steps[0]["segment_loss"])
    assert any("segment head new" in note for note in result["notes"])
    folder = whole / "model" / "encoder"
    loaded, heads = load_pretraining(folder, read_encoder_spec(folder))
    assert loaded.notes == ()
    assert loaded.pooler is not None
    assert set(heads) == {"mlm", "order"}


@pytest.mark.parametrize("step", [2, 5])
def test_a_stopped_run_resumes_bit_for_bit(
    config: PretrainConfig, whole: Path, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StopSignal, "requested", lambda self, done: done == step)
    assert start(config, tmp_path / "cut").exit_code == 143
    assert not (tmp_path / "cut" / "model").exists()
    monkeypatch.undo()
    assert start(config, tmp_path / "cut", resume=True).exit_code == 0
    expected, actual = tensors(whole), tensors(tmp_path / "cut")
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
    assert lines(tmp_path / "cut") == lines(whole)


def test_masked_tokens_alone_leave_pooler_and_segment_head_as_they_were(config: PretrainConfig, tmp_path: Path) -> None:
    alone = dataclasses.replace(config, data=dataclasses.replace(config.data, objective="none"))
    start(alone, tmp_path / "r")
    before, after = load_file(Path(str(config.model.encoder)) / "model.safetensors"), tensors(tmp_path / "r")
    np.testing.assert_array_equal(after["bert.pooler.dense.weight"], before["pooler.dense.weight"])
    assert np.abs(after["cls.predictions.bias"]).max() > 0
    assert not np.array_equal(
        after["bert.embeddings.word_embeddings.weight"], before["embeddings.word_embeddings.weight"]
    )
    assert "segment_accuracy" not in json.loads((tmp_path / "r" / "result.json").read_text())["metrics"]["dev"]


def test_a_pooler_that_was_never_trained_is_told_until_it_is(config: PretrainConfig, tmp_path: Path) -> None:
    def notes(objective: str, encoder: Path, to: str) -> str:
        model = dataclasses.replace(config.model, encoder=str(encoder))
        data = dataclasses.replace(config.data, objective=objective)
        train = dataclasses.replace(config.train, max_steps=1)
        result = start(dataclasses.replace(config, model=model, data=data, train=train), tmp_path / to).result
        assert result is not None
        return "\n".join(result["notes"])

    def fine_tuned() -> str:
        data = DataConfig(rules="entailment", max_length=48)
        model = ModelConfig(encoder=str(tmp_path / "two"), pooler="keep")
        return "\n".join(prepare(Config(data=data, model=model)).notes)

    bare = write_tiny_encoder(tmp_path / "bare")
    tensors = load_file(bare / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "pooler" not in k}, bare / "model.safetensors", {"format": "pt"})
    drawn, never = "saved with random weights", "pooler and segment head were never trained"
    assert drawn in notes("none", bare, "one")
    assert drawn in (second := notes("none", tmp_path / "one", "two"))
    assert never in second
    assert never in fine_tuned()
    assert drawn not in (trained := notes("nsp", tmp_path / "two", "three"))
    assert never in trained
    assert never not in notes("none", tmp_path / "three", "four")
    # A pooler that the checkpoint brought is not drawn.
    assert drawn not in notes("none", Path(str(config.model.encoder)), "five")


def test_the_function_is_not_hidden_by_the_package_of_its_name(config: PretrainConfig) -> None:
    wrong = dataclasses.replace(config, train=dataclasses.replace(config.train, metric="accuracy"))
    assert pairjax.pretrain.train.pretrain is pretrain
    with pytest.raises(UserError, match="accuracy is no metric of pretraining"):
        pairjax.pretrain(wrong, console=Console(quiet=True))


def test_heads_and_pooler_are_carried_into_the_next_run(config: PretrainConfig, whole: Path, tmp_path: Path) -> None:
    still = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, encoder=str(whole)),
        optim=dataclasses.replace(config.optim, learning_rate=1e-12),
        data=dataclasses.replace(config.data, objective="sop"),
    )
    result = start(still, tmp_path / "r").result
    assert result is not None
    assert any("pretrained, segment head pretrained" in note for note in result["notes"])
    assert result["labels"] == ["in order", "swapped"]
    for name, value in tensors(whole).items():
        np.testing.assert_allclose(tensors(tmp_path / "r")[name], value, atol=1e-9)


def test_fine_tuning_takes_a_pretraining_run(whole: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    write_pairs(pairs / "train.tsv", start=0, rows=16)
    write_pairs(pairs / "dev.tsv", start=20, rows=8)
    args = ["train", "--data.path", str(pairs), "--model.encoder", str(whole), "--model.pooler", "keep"]
    args += [
        "--train.max-steps",
        "1",
        "--train.batch-size",
        "8",
        "--optim.freeze",
        "encoder",
        "--data.max-length",
        "48",
    ]
    args += ["--evaluation.bootstrap", "100", "--run.compilation-cache", "", "--run.dir", str(tmp_path / "t")]
    assert main(args) == 0
    result = json.loads((tmp_path / "t" / "result.json").read_text())
    assert any("pooler: kept" in note for note in result["notes"])
    kept = load_file(tmp_path / "t" / "model" / "head.safetensors")["pooler/kernel"]
    np.testing.assert_array_equal(kept.T, tensors(whole)["bert.pooler.dense.weight"])


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from scratch on stories, its tokeniser trained on them."""
    folder = tmp_path_factory.mktemp("scratch")
    args = ["pretrain", "--data.documents", "40", "--data.vocabulary", "300", "--data.max-length", "32"]
    args += ["--data.language", "pt", "--train.max-steps", "1", "--train.batch-size", "8"]
    args += ["--evaluation.examples", "8", "--evaluation.during", "8", "--evaluation.batch-size", "8"]
    args += [
        "--evaluation.bootstrap",
        "100",
        "--evaluation.baseline-train",
        "40",
        "--data.cache",
        str(folder / "cache"),
    ]
    assert main([*args, "--run.compilation-cache", "", "--run.dir", str(folder / "r")]) == 0
    return folder / "r"


def test_rules_alone_pretrain_a_new_model_with_oracles(scratch: Path) -> None:
    result = json.loads((scratch / "result.json").read_text())
    assert set(result["metrics"]) == set(result["baselines"]) == {"dev", "test"}
    assert {"majority", "second_alone", "lengths", "tfidf_overlap"} <= set(result["baselines"]["dev"])
    message = result["metrics"]["dev"]["segment_accuracy_unmasked"]["value"]
    for name, score in result["baselines"]["dev"].items():
        assert result["over_baselines"]["dev"][name]["value"] == pytest.approx(message - score["value"])
    assert {"segment_accuracy", "segment_accuracy_unmasked"} <= set(result["metrics"]["dev"])
    assert read_encoder_spec(scratch / "model" / "encoder").num_layers == 4


def test_transformers_reads_text_as_a_run_from_scratch_does(scratch: Path) -> None:
    from transformers import AutoTokenizer

    folder = scratch / "model" / "encoder"
    theirs, ours = AutoTokenizer.from_pretrained(str(folder)), load_tokenizer(folder, family="bert")
    first, second = "A enfermeira não dorme.", "Ela foi à praia, e voltou!"
    ids = [ours.backend.encode(text, add_special_tokens=False).ids for text in (first, second)]
    pair = theirs(first, second)
    assert pair["input_ids"] == [ours.cls_id, *ids[0], ours.sep_id, *ids[1], ours.sep_id]
    assert pair["token_type_ids"] == [0] * (len(ids[0]) + 2) + [1] * (len(ids[1]) + 1)
    assert theirs.mask_token_id == ours.mask_id
    assert len(theirs) == ours.vocabulary_size == read_encoder_spec(folder).vocab_size


def test_transformers_opens_a_run_from_scratch_with_equal_outputs(scratch: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from transformers import BertForPreTraining

    folder = scratch / "model" / "encoder"
    model, info = BertForPreTraining.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    data = CorpusConfig(language="pt", documents=40, tokenizer=str(folder), max_length=32, cache=str(tmp_path))
    sources = corpus_sources(data)
    tokenizer, _ = corpus_tokenizer(data, sources["train"])
    maker = build_makers(data, build_corpora(data, sources, tokenizer), tokenizer)["test"]
    batch = maker.batch(np.arange(6))
    spec = read_encoder_spec(folder)
    loaded, heads = load_pretraining(folder, spec)
    fns = build_pretraining_model(spec, masked=data.most_masked)
    actual = jax.jit(fns.apply)({"encoder": loaded.params, "pooler": loaded.pooler, "head": heads}, batch)
    with torch.no_grad():
        expected = model.eval()(
            input_ids=torch.from_numpy(batch.input_ids).long(),
            token_type_ids=torch.from_numpy(batch.token_type_ids).long(),
            attention_mask=torch.from_numpy(batch.pair_ids).long(),
        )
    masked = np.take_along_axis(expected.prediction_logits.numpy(), batch.masked_positions[..., None], axis=1)
    assert np.abs(np.asarray(actual.masked) - masked).max() <= 1e-5
    assert np.abs(np.asarray(actual.segment)[:, 0] - expected.seq_relationship_logits.numpy()).max() <= 1e-5


def test_intervals_resample_documents_and_not_examples() -> None:
    rng = np.random.default_rng(0)
    document = np.repeat(np.arange(8), 100)
    # Each document is right always or never: 800 examples tell no more than 8.
    right = np.repeat(rng.random(8) < 0.5, 100)
    together = accuracy_interval(document, right, bootstrap=1000)
    apart = accuracy_interval(np.arange(800), right, bootstrap=1000)
    assert together.value == apart.value
    assert together.high - together.low > 5 * (apart.high - apart.low)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--data.corpus", "FOLDER/none*"], ["--data.corpus", "no such file"]),
        (["--data.corpus", "FOLDER/one.txt", "--data.dev", "FOLDER/one.txt"], ["single document", "blank line"]),
        (["--data.corpus", "FOLDER/copies.txt", "--data.dev", "FOLDER/two.txt"], ["3 documents", "not a copy"]),
        (["--data.corpus", "FOLDER/short.txt"], ["one sentence only"]),
        (["--data.corpus", "FOLDER/two.txt"], ["--data.dev-fraction 0.05", "0 of 2 documents", "--data.dev"]),
        (["--data.corpus", "FOLDER/empty.txt"], ["empty"]),
        (["--data.corpus", "FOLDER/latin.txt"], ["latin.txt, byte 3", "UTF-8"]),
        (["--model.encoder", "FOLDER/roberta"], ["roberta", "BERT"]),
        (["--model.encoder", "FOLDER/larger"], ["vocabulary"]),
        (["--model.encoder", "FOLDER/roberta", "--data.tokenizer", "x"], ["--data.tokenizer"]),
        (["--data.tokenizer-kind", "bpe", "--data.vocabulary", "200"], ["--data.vocabulary", "bpe", "261"]),
        (["--mesh.data", "3"], ["does not divide the devices"]),
        (["--data.max-length", "600", "--model.encoder", "FOLDER/larger"], ["600"]),
        (["--train.metric", "accuracy"], ["--train.metric accuracy", "mlm_loss"]),
        (["experiments/sick_cross.py"], ["pairjax train"]),
    ],
)
def test_bad_input_is_one_line_and_code_two(
    change: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.txt").write_text("the man\na dog\n")
    (tmp_path / "two.txt").write_text("the man\na dog\n\nno man\nall dogs\n")
    (tmp_path / "copies.txt").write_text("the man\na dog\n\n" * 3)
    (tmp_path / "short.txt").write_text("the man\n\na dog\n\nno man\n")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "latin.txt").write_bytes("caf\xe9\n".encode("latin-1"))
    if "FOLDER/roberta" in change:
        write_tiny_encoder(tmp_path / "roberta", family="roberta")
    if "FOLDER/larger" in change:
        write_tiny_encoder(tmp_path / "larger")
        write_tiny_encoder(tmp_path / "other", vocabulary=[f"word{i}" for i in range(300)])
        if "600" not in change:
            (tmp_path / "other" / "tokenizer.json").rename(tmp_path / "larger" / "tokenizer.json")
    run = tmp_path / "run"
    first = [change[0]] if change[0].startswith("experiments") else []
    rest = [arg.replace("FOLDER", str(tmp_path)) for arg in change[len(first) :]]
    common = ["--run.dir", str(run), "--data.cache", str(tmp_path / "cache"), "--data.documents", "20"]
    assert main(["pretrain", *first, *rest, *common]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert error.startswith("pairjax: error: ")
    for word in words:
        assert word in error
    assert not run.exists()


def test_files_of_one_document_each_give_their_share_of_dev(config: PretrainConfig, tmp_path: Path) -> None:
    for number in range(40):
        text = " ".join(f"The man {number} reads book {place}." for place in range(6))
        (tmp_path / f"{number:02}.txt").write_text(text + "\n")
    data = dataclasses.replace(
        config.data,
        corpus=str(tmp_path / "*.txt"),
        format="prose",
        dev_fraction=0.1,
        tokenizer=config.model.encoder,
        cache=str(tmp_path / "cache"),
    )
    sources = corpus_sources(data)
    tokenizer, _ = corpus_tokenizer(data, sources["train"])
    corpora = build_corpora(data, sources, tokenizer)
    assert {split: corpus.facts.documents for split, corpus in corpora.items()} == {"train": 36, "dev": 4}
    assert set(build_makers(data, corpora, tokenizer)) == {"train", "dev"}


@pytest.mark.parametrize(("objective", "limit"), [("nsp", 45), ("none", 46)])
def test_sentences_that_a_row_cannot_hold_are_cut_and_counted(
    config: PretrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], objective: Objective, limit: int
) -> None:
    # One sentence just fits, two do not; all others are short.
    odd = "\n".join(" ".join(["the"] * tokens) for tokens in (limit, limit + 1, 300))
    short = "\n\n".join(f"the man {number}\na dog {number}" for number in range(6))
    (tmp_path / "a.txt").write_text(f"{odd}\n\n{short}\n")
    write_documents(tmp_path / "dev.txt", documents=4)
    corpus, dev = str(tmp_path / "a.txt"), str(tmp_path / "dev.txt")
    data = dataclasses.replace(config.data, corpus=corpus, dev=dev, objective=objective, cache=str(tmp_path / "cache"))
    prepared = prepare_pretraining(dataclasses.replace(config, data=data))
    assert f"train: 2 sentences of more than {limit} tokens, which segments truncate" in prepared.notes
    assert not any(note.startswith("dev:") and "which segments truncate" in note for note in prepared.notes)
    rows = prepared.makers["train"].batch(np.arange(20))
    assert np.asarray(rows.pair_ids).sum(axis=1).max() == 48
    args = ["data", "corpus", "--data.corpus", corpus, "--data.dev", dev, "--data.objective", objective]
    args += ["--encoder", str(config.model.encoder), "--data.max-length", "48", "--data.cache", str(tmp_path / "cache")]
    assert main(args) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "sentences of more than" in line)
    assert line.split() == ["sentences", "of", "more", "than", str(limit), "tokens", "2", "0"]


@pytest.mark.parametrize("command", ["pretrain", "data corpus"])
def test_an_index_that_is_cut_short_is_one_line_and_built_again_once_deleted(
    config: PretrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    encoder, cache = str(config.model.encoder), tmp_path / "cache"
    args = ["--data.corpus", str(config.data.corpus), "--data.max-length", "48", "--data.cache", str(cache)]
    look = ["data", "corpus", *args, "--encoder", encoder, "--data.dev-fraction", "0.2"]
    assert main(look) == 0
    (index,) = cache.glob("index-*")
    tokens = index / "train" / "tokens.bin"
    tokens.write_bytes(tokens.read_bytes()[:-2])
    capsys.readouterr()
    train = ["pretrain", *args, "--model.encoder", encoder, "--data.dev-fraction", "0.2"]
    train += ["--run.dir", str(tmp_path / "run"), "--run.compilation-cache", ""]
    assert main(train if command == "pretrain" else look) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert f"{tokens}: the index is cut short" in error
    assert f"delete {index}; it is built again" in error
    assert not (tmp_path / "run").exists()
    shutil.rmtree(index)
    assert main(look) == 0


def test_another_config_cannot_resume(config: PretrainConfig, whole: Path) -> None:
    changed = dataclasses.replace(config, data=dataclasses.replace(config.data, seed=1))
    with pytest.raises(UserError, match=r"data.seed"):
        start(changed, whole, resume=True)


def test_the_corpus_report_shows_counts_and_examples(
    config: PretrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["data", "corpus", "--data.corpus", str(config.data.corpus), "--data.cache", str(config.data.cache)]
    assert main([*args, "--encoder", str(config.model.encoder), "--data.max-length", "48"]) == 0
    shown = capsys.readouterr().out
    for word in ("documents", "unknown tokens", "duplicate sentences", "example 0: B is", "a.txt"):
        assert word in shown


@pytest.mark.parametrize(
    ("text", "error"),
    [("the man\na dog\nno man\n", "single document"), ("the man\n\na dog\n\nno man\n", "one sentence only")],
)
def test_the_corpus_report_comes_before_what_it_explains(
    text: str, error: str, config: PretrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(text)
    args = ["data", "corpus", "--data.corpus", str(tmp_path / "a.txt"), "--data.cache", str(tmp_path / "cache")]
    assert main([*args, "--encoder", str(config.model.encoder)]) == 2
    shown = capsys.readouterr()
    assert "documents of one sentence" in shown.out
    assert error in shown.err
    assert len(shown.err.strip().splitlines()) == 1


def test_a_file_that_is_in_train_and_held_out_is_named(
    config: PretrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(str(config.data.corpus)).parent
    again = shutil.copy(folder / "b.txt", tmp_path / "again.txt")
    data = dataclasses.replace(config.data, dev=str(folder / "a.txt"), test=str(again), cache=str(tmp_path / "cache"))
    notes = prepare_pretraining(dataclasses.replace(config, data=data)).notes
    assert f"dev: 1 of 1 sources is also in train: {folder / 'a.txt'}" in notes
    assert f"test: 1 of 1 sources is also in train: {again}" in notes
    args = ["data", "corpus", "--encoder", str(config.model.encoder), "--data.cache", str(tmp_path / "cache")]
    assert main([*args, "--data.corpus", str(data.corpus), "--data.dev", str(data.dev)]) == 0
    assert "dev: 1 of 1 sources is also in train" in capsys.readouterr().out


def test_a_tokeniser_that_may_be_anothers_is_a_note(config: PretrainConfig, tmp_path: Path) -> None:
    larger = write_tiny_encoder(tmp_path / "larger", vocabulary=[f"word{i}" for i in range(300)])
    shutil.copy(Path(str(config.model.encoder)) / "tokenizer.json", larger / "tokenizer.json")
    (tmp_path / "a.txt").write_text("\n".join(f"日 本 語 {i}" if i % 5 else "" for i in range(100)) + "\n")
    data = dataclasses.replace(config.data, corpus=str(tmp_path / "a.txt"), cache=str(tmp_path / "cache"))
    odd = dataclasses.replace(config, data=data, model=PretrainModelConfig(encoder=str(larger)))
    notes = prepare_pretraining(odd).notes
    assert any("tokens for the encoder's 4" in note for note in notes)
    assert any("of the tokens are unknown" in note for note in notes)
    usual = prepare_pretraining(config).notes
    assert not any("the encoder's" in note or "are unknown" in note for note in usual)


def test_a_tokeniser_is_found_below_the_home_folder(
    config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(str(config.model.encoder)) / name, tmp_path / "own" / name)
    tokenizer, folder = corpus_tokenizer(CorpusConfig(tokenizer="~/own"), ())
    assert folder == tmp_path / "own"
    assert tokenizer.mask_id is not None
