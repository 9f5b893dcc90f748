"""The pretraining model against torch's `BertForPreTraining`: golden tensors, and its folders both ways."""

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
    found = APPLY(params, batch)
    expected = np.take_along_axis(arrays["prediction_logits"], batch.masked_positions[..., None], axis=1)
    assert found.masked.shape == (3, 3, SPEC.vocab_size)
    assert np.abs(np.asarray(found.masked) - expected).max() <= 1e-5
    assert np.abs(np.asarray(found.segment)[:, 0] - arrays["order_logits"]).max() <= 1e-5


def test_losses_equal_torch() -> None:
    params, batch, arrays = golden()
    loss, terms = make_pretraining_loss(segments=True)
    sums, weights = loss(APPLY(params, batch), batch)
    assert terms == ("mlm", "segment")
    assert weights.tolist() == [6.0, 3.0]
    np.testing.assert_allclose(sums / weights, [arrays["mlm_loss"], arrays["order_loss"]], atol=1e-5)
    alone, term = make_pretraining_loss(segments=False)
    assert term == ("mlm",)
    assert alone(APPLY(params, batch), batch)[0].tolist() == [sums[0]]


def test_gradients_equal_torch() -> None:
    params, batch, arrays = golden()
    loss, _ = make_pretraining_loss(segments=True)

    def whole(params: dict) -> jax.Array:
        sums, weights = loss(FNS.apply(params, batch), batch)
        return jnp.sum(sums / weights)

    found = flatten(jax.jit(jax.grad(whole))(params))
    table = {f"encoder/{path}": f"bert.{name}" for path, (name, _) in encoder_tensors(SPEC).items()}
    table |= {path: f"bert.{name}" for path, (name, _) in pooler_tensors(SPEC).items()}
    heads = masked_head_tensors(SPEC) | segment_head_tensors(SPEC)
    table |= {f"head/{path}": name for path, (name, _) in heads.items()}
    assert found.keys() == table.keys()
    norm = np.sqrt(sum(np.sum(arrays[key] ** 2) for key in arrays if key.startswith("gradient/")))
    for path, name in table.items():
        expected = arrays[f"gradient/{name}"]
        got = np.asarray(found[path]).T if path.endswith("/kernel") else np.asarray(found[path])
        # A key's bias has no gradient but for rounding, so there is no norm of its own to compare with.
        scale = norm if path.endswith("key/bias") else np.linalg.norm(expected)
        assert np.linalg.norm(got - expected) <= 1e-4 * scale, path


def test_an_unused_place_changes_neither_loss_nor_gradient() -> None:
    params, batch, _ = golden()
    loss, _ = make_pretraining_loss(segments=True)
    other = np.where(batch.masked_weights > 0, batch.masked_targets, 7).astype(np.int32)
    moved = np.where(batch.masked_weights > 0, batch.masked_positions, 0).astype(np.int32)
    changed = batch._replace(masked_targets=other, masked_positions=moved)

    def whole(params: dict, batch: Batch) -> jax.Array:
        sums, weights = loss(FNS.apply(params, batch), batch)
        return jnp.sum(sums / weights)

    one, two = (jax.jit(jax.value_and_grad(whole))(params, each) for each in (batch, changed))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_parameters_are_those_of_the_tables_and_dropout_reads_its_rates() -> None:
    params, batch, _ = golden()
    fresh = jax.eval_shape(FNS.init, jax.random.key(0))
    assert {path: leaf.shape for path, leaf in flatten(fresh).items()} == {
        path: leaf.shape for path, leaf in flatten(params).items()
    }
    rates = DropoutRates(hidden=0.5, attention=0.1, interaction=0.0, head=0.0)
    still = APPLY(params, batch)
    dropped = APPLY(params, batch, key=jax.random.key(0), rates=rates)
    none = APPLY(params, batch, key=jax.random.key(0), rates=rates._replace(hidden=0.0, attention=0.0))
    assert np.abs(still.masked - dropped.masked).max() > 0.1
    # Two programs, with dropout's code and without it, which XLA may fuse in other ways: equal but for rounding.
    np.testing.assert_allclose(still.masked, none.masked, atol=1e-5)
    # One program with other random numbers: no bit may change.
    again = APPLY(params, batch, key=jax.random.key(1), rates=rates._replace(hidden=0.0, attention=0.0))
    np.testing.assert_array_equal(none.masked, again.masked)


def saved(folder: Path) -> Path:
    params, _, _ = golden()
    save_pretraining(folder, SPEC, params, config=bert_config(SPEC), tokeniser=lambda to: None)
    return folder


def test_a_saved_folder_holds_torchs_names_and_reads_back_the_same(tmp_path: Path) -> None:
    folder = saved(tmp_path / "e")
    one, two = load_file(GOLDEN / "model.safetensors"), load_file(folder / "model.safetensors")
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value, err_msg=name)
    assert read_encoder_spec(folder) == SPEC
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertForPreTraining"]


def test_heads_are_carried_where_the_checkpoint_has_them(tmp_path: Path) -> None:
    folder = saved(tmp_path / "e")
    tensors = load_file(folder / "model.safetensors")
    without = {name: value for name, value in tensors.items() if not name.startswith("cls.seq_relationship")}
    save_file(without, folder / "model.safetensors")
    assert set(load_pretraining(folder, SPEC)[1]) == {"mlm"}
    words = tensors["bert.embeddings.word_embeddings.weight"]
    save_file(without | {"cls.predictions.decoder.weight": words.copy()}, folder / "model.safetensors")
    assert set(load_pretraining(folder, SPEC)[1]) == {"mlm"}
    # A decoder of its own does not belong to a tied head, which starts fresh, and the log says so.
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
