"""Losses of vectors: equal to sentence-transformers' in value and gradient, whatever the rows, slots and devices."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pairjax.base.config import Config, LossConfig, ModelConfig, OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import InteractConfig
from pairjax.base.types import Batch, TaskSpec
from pairjax.step.sharding import batch_sharding, build_mesh
from pairjax.step.vector_losses import make_vector_loss

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.npz"
TWO = TaskSpec("classification", ("no", "yes"), positive="yes")
CASES = {
    "cosine": (LossConfig(kind="cosine"), 2, "score"),
    "contrastive": (LossConfig(kind="contrastive"), 2, "similar"),
    "contrastive_0_9": (LossConfig(kind="contrastive", margin=0.9), 2, "similar"),
    "in_batch": (LossConfig(kind="in-batch"), 2, "similar"),
    "in_batch_5": (LossConfig(kind="in-batch", scale=5.0), 2, "similar"),
    "triplets": (LossConfig(kind="in-batch"), 3, "similar"),
}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN))


def batch_of(label: np.ndarray, weight: np.ndarray) -> Batch:
    slots = np.zeros((len(label), 1), np.int32)
    return Batch(slots, slots, slots, slots, slots, label, weight.astype(np.float32), slots)


def rows_of(vectors: np.ndarray, label: np.ndarray, *, slots: int, rows: int) -> tuple[np.ndarray, Batch, np.ndarray]:
    """Places examples in rows of some slots, in a random order among empty ones, which hold garbage or zeros."""
    place = np.sort(np.random.default_rng(1).permutation(rows * slots)[: len(vectors)])
    placed = np.zeros((rows * slots, *vectors.shape[1:]), np.float32)
    placed[::2] = 7.0
    placed[place] = vectors
    labels, weight = np.zeros(rows * slots, label.dtype), np.zeros(rows * slots)
    labels[place], weight[place] = label, 1.0
    batch = batch_of(labels.reshape(rows, slots), weight.reshape(rows, slots))
    return placed.reshape(rows, slots, *vectors.shape[1:]), batch, place


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("name", list(CASES))
def test_values_and_gradients_equal_sentence_transformers(golden: dict[str, np.ndarray], name: str, slots: int) -> None:
    config, sides, column = CASES[name]
    task = TaskSpec("regression") if column == "score" else TWO
    label = golden[column].astype(np.float32 if column == "score" else np.int32)
    vectors, batch, place = rows_of(golden["vectors"][:, :sides], label, slots=slots, rows=16 // slots)
    loss = make_vector_loss(config, task)

    def mean(vectors: jax.Array) -> jax.Array:
        total, weight = loss(vectors, batch)
        return total / weight

    value, gradient = jax.jit(jax.value_and_grad(mean))(jnp.asarray(vectors))
    np.testing.assert_allclose(value, golden[f"{name}/value"], rtol=1e-5)
    flat = np.asarray(gradient).reshape(-1, *gradient.shape[2:])
    np.testing.assert_allclose(flat[place], golden[f"{name}/gradient"][:, :sides], atol=1e-5)
    # Empty slots have no gradient, not even a NaN.
    assert not np.delete(flat, place, axis=0).any()


@pytest.mark.mesh
def test_negatives_come_from_the_rows_of_all_devices(golden: dict[str, np.ndarray]) -> None:
    vectors, batch, _ = rows_of(golden["vectors"], golden["similar"].astype(np.int32), slots=1, rows=16)
    loss = make_vector_loss(LossConfig(kind="in-batch"), TWO)
    mesh = build_mesh(data=4, fsdp=2, tensor=1)
    placed = jax.device_put((vectors, batch), batch_sharding(mesh))
    value_and_gradient = jax.jit(jax.value_and_grad(lambda vectors, batch: jnp.divide(*loss(vectors, batch))))
    (value, gradient), (alone, other) = value_and_gradient(*placed), value_and_gradient(vectors, batch)
    assert len(gradient.devices()) == 8
    np.testing.assert_allclose(value, alone, rtol=1e-6)
    np.testing.assert_allclose(gradient, other, atol=1e-5)


BI = ModelConfig(kind="bi")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Config(loss=LossConfig(kind="cosine")), "needs a bi-encoder.*got --model.kind cross"),
        (
            lambda: Config(
                loss=LossConfig(kind="in-batch"), model=ModelConfig(kind="bi", interact=InteractConfig("cross"))
            ),
            "needs a bi-encoder without interaction",
        ),
        (
            lambda: Config(loss=LossConfig(kind="in-batch"), model=BI, optim=OptimConfig(accumulate=2)),
            "micro-batches would not see each other",
        ),
        (
            lambda: Config(loss=LossConfig(kind="contrastive"), model=BI, optim=OptimConfig(freeze="encoder")),
            "trains the encoder",
        ),
        (lambda: LossConfig(kind="cosine", label_smoothing=0.1), "label-smoothing goes with a classifier"),
        (lambda: LossConfig(kind="cosine", r_drop=1.0), "r-drop goes with a classifier"),
        (lambda: LossConfig(kind="contrastive", class_weights="balanced"), "class-weights goes with a classifier"),
        (lambda: LossConfig(margin=0.3), "margin goes with --loss.kind contrastive"),
        (lambda: LossConfig(kind="cosine", scale=10.0), "scale goes with --loss.kind in-batch"),
        (lambda: LossConfig(kind="in-batch", scale=0.0), "scale must be positive"),
    ],
)
def test_options_that_contradict_a_loss_of_vectors_are_refused(build, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()
