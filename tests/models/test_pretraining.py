"""The pretraining model against torch's `BertForPreTraining`: golden tensors, and loading and saving its folders."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pairjax.base.errors import UserError
from pairjax.base.params import flatten
from pairjax.base.types import Batch, DropoutRates
from pairjax.models.pretraining import build_pretraining_model
from pairjax.step.losses import make_pretraining_loss
from pairjax.weights import bert_config, load_pretraining, read_encoder_spec, save_pretraining
from pairjax.weights.names import encoder_tensors, masked_head_tensors, pooler_tensors, segment_head_tensors

GOLDEN = Path(__file__).parents[1] / "golden" / "pretraining"
SPEC = read_encoder_spec(GOLDEN)
FNS = build_pretraining_model(SPEC, masked=3)
APPLY = jax.jit(FNS.apply)


def golden() -> tuple[dict, Batch, dict]:
    with np.load(GOLDEN / "golden.npz") as file:
        arrays = dict(file)
    loaded, heads = load_pretraining(GOLDEN, SPEC)
    ids = arrays["input_ids"]
    batch = Batch(
        input_ids=ids,
        token_type_ids=arrays["token_type_ids"],
        position_ids=np.tile(np.arange(ids.shape[1], dtype=np.int32), (len(ids), 1)),
        pair_ids=arrays["attention_mask"],
        side_ids=arrays["side_ids"],
        label=arrays["order"][:, None],
        weight=np.ones((len(ids), 1), np.float32),
        example_id=np.arange(len(ids), dtype=np.int32)[:, None],
        masked_positions=arrays["masked_positions"],
        masked_targets=arrays["masked_targets"],
        masked_weights=arrays["masked_weights"],
    )
    return {"encoder": loaded.params, "pooler": loaded.pooler, "head": heads}, batch, arrays


def test_logits_at_the_masked_positions_equal_torch() -> None:
    params, batch, arrays = golden()
    logits = APPLY(params, batch)
    expected = np.take_along_axis(arrays["prediction_logits"], batch.masked_positions[..., None], axis=1)
    assert logits.masked.shape == (3, 3, SPEC.vocab_size)
    assert np.abs(np.asarray(logits.masked) - expected).max() <= 1e-5
    assert np.abs(np.asarray(logits.segment)[:, 0] - arrays["order_logits"]).max() <= 1e-5


def test_losses_equal_torch() -> None:
    params, batch, arrays = golden()
    loss, terms = make_pretraining_loss(segments=True)
    sums, weights = loss(APPLY(params, batch), batch)
    assert terms == ("mlm", "segment")
    assert weights.tolist() == [6.0, 3.0]
    np.testing.assert_allclose(sums / weights, [arrays["mlm_loss"], arrays["order_loss"]], atol=1e-5)
    masked_only, term = make_pretraining_loss(segments=False)
    assert term == ("mlm",)
    assert masked_only(APPLY(params, batch), batch)[0].tolist() == [sums[0]]


def test_gradients_equal_torch() -> None:
    params, batch, arrays = golden()
    loss, _ = make_pretraining_loss(segments=True)

    def total(params: dict) -> jax.Array:
        sums, weights = loss(FNS.apply(params, batch), batch)
        return jnp.sum(sums / weights)

    gradient = flatten(jax.jit(jax.grad(total))(params))
    table = {f"encoder/{path}": f"bert.{name}" for path, (name, *_) in encoder_tensors(SPEC).items()}
    table |= {path: f"bert.{name}" for path, (name, *_) in pooler_tensors(SPEC).items()}
    heads = masked_head_tensors(SPEC) | segment_head_tensors(SPEC)
    table |= {f"head/{path}": name for path, (name, *_) in heads.items()}
    assert gradient.keys() == table.keys()
    norm = np.sqrt(sum(np.sum(arrays[key] ** 2) for key in arrays if key.startswith("gradient/")))
    for path, name in table.items():
        expected = arrays[f"gradient/{name}"]
        got = np.asarray(gradient[path]).T if path.endswith("/kernel") else np.asarray(gradient[path])
        # The gradient of a key's bias is zero up to rounding, so it is compared with the norm of all gradients.
        scale = norm if path.endswith("key/bias") else np.linalg.norm(expected)
        assert np.linalg.norm(got - expected) <= 1e-4 * scale, path


def test_an_unused_masked_position_changes_neither_loss_nor_gradient() -> None:
    params, batch, _ = golden()
    loss, _ = make_pretraining_loss(segments=True)
    targets = np.where(batch.masked_weights > 0, batch.masked_targets, 7).astype(np.int32)
    positions = np.where(batch.masked_weights > 0, batch.masked_positions, 0).astype(np.int32)
    changed = batch._replace(masked_targets=targets, masked_positions=positions)

    def total(params: dict, batch: Batch) -> jax.Array:
        sums, weights = loss(FNS.apply(params, batch), batch)
        return jnp.sum(sums / weights)

    before, after = (jax.jit(jax.value_and_grad(total))(params, rows) for rows in (batch, changed))
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_new_parameters_have_the_loaded_shapes_and_dropout_uses_its_rates() -> None:
    params, batch, _ = golden()
    fresh = jax.eval_shape(FNS.init, jax.random.key(0))
    assert {path: leaf.shape for path, leaf in flatten(fresh).items()} == {
        path: leaf.shape for path, leaf in flatten(params).items()
    }
    rates = DropoutRates(hidden=0.5, attention=0.1, interaction=0.0, head=0.0)
    plain = APPLY(params, batch)
    dropped = APPLY(params, batch, key=jax.random.key(0), rates=rates)
    none = APPLY(params, batch, key=jax.random.key(0), rates=rates._replace(hidden=0.0, attention=0.0))
    assert np.abs(plain.masked - dropped.masked).max() > 0.1
    # Two programs, with and without dropout, which XLA may fuse differently: equal up to rounding.
    np.testing.assert_allclose(plain.masked, none.masked, atol=1e-5)
    # The same program with other random numbers: equal bit for bit.
    again = APPLY(params, batch, key=jax.random.key(1), rates=rates._replace(hidden=0.0, attention=0.0))
    np.testing.assert_array_equal(none.masked, again.masked)


def saved(folder: Path) -> Path:
    params, _, _ = golden()
    save_pretraining(folder, SPEC, params, config=bert_config(SPEC), tokeniser=lambda target: None)
    return folder


def test_a_saved_folder_has_torchs_names_and_loads_unchanged(tmp_path: Path) -> None:
    folder = saved(tmp_path / "e")
    original, saved_tensors = load_file(GOLDEN / "model.safetensors"), load_file(folder / "model.safetensors")
    assert original.keys() == saved_tensors.keys()
    for name, value in original.items():
        np.testing.assert_array_equal(saved_tensors[name], value, err_msg=name)
    assert read_encoder_spec(folder) == SPEC
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertForPreTraining"]


def test_heads_are_loaded_if_the_weights_have_them(tmp_path: Path) -> None:
    folder = saved(tmp_path / "e")
    tensors = load_file(folder / "model.safetensors")
    without = {name: value for name, value in tensors.items() if not name.startswith("cls.seq_relationship")}
    save_file(without, folder / "model.safetensors")
    assert set(load_pretraining(folder, SPEC)[1]) == {"mlm"}
    words = tensors["bert.embeddings.word_embeddings.weight"]
    save_file(without | {"cls.predictions.decoder.weight": words.copy()}, folder / "model.safetensors")
    assert set(load_pretraining(folder, SPEC)[1]) == {"mlm"}
    # An untied decoder does not fit the tied head: the head is left out, and a note says so.
    save_file(without | {"cls.predictions.decoder.weight": words + 1}, folder / "model.safetensors")
    loaded, heads = load_pretraining(folder, SPEC)
    assert heads == {}
    assert "cls.predictions.decoder.weight" in loaded.notes[0]
    save_file(tensors | {"cls.predictions.bias": np.zeros(3, np.float32)}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"cls.predictions.bias has shape"):
        load_pretraining(folder, SPEC)


def test_transformers_opens_the_folder_with_equal_outputs(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    params, batch, _ = golden()
    model, info = transformers.BertForPreTraining.from_pretrained(
        saved(tmp_path / "e"), attn_implementation="eager", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        expected = model.eval()(
            input_ids=torch.from_numpy(batch.input_ids).long(),
            token_type_ids=torch.from_numpy(batch.token_type_ids).long(),
            attention_mask=torch.from_numpy(batch.pair_ids).long(),
        )
    found = APPLY(params, batch)
    masked = np.take_along_axis(expected.prediction_logits.numpy(), batch.masked_positions[..., None], axis=1)
    assert np.abs(np.asarray(found.masked) - masked).max() <= 1e-5
    assert np.abs(np.asarray(found.segment)[:, 0] - expected.seq_relationship_logits.numpy()).max() <= 1e-5
