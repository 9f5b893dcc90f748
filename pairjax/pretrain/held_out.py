"""Scores of pretraining on held-out text: masked tokens and segments, with intervals that resample documents.

Examples of one document share its words and its style, so documents are resampled and not examples. With few documents
the intervals are wide, as they should be.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pairjax.base.types import Batch, Params, PretrainingLogits
from pairjax.data.masking import RowMaker, ordered_rows
from pairjax.evaluation.intervals import Interval, bootstrap_intervals
from pairjax.models.pretraining import PretrainingFns
from pairjax.step.losses import cross_entropy, masked_cross_entropy
from pairjax.step.sharding import put_batch, row_split
from pairjax.step.shared import share
from pairjax.step.step import make_eval_step


@dataclass(frozen=True)
class HeldOut:
    """A model's predictions of N held-out examples.

    Attributes:
        document: int [N]; the document of the first segment.
        label: int [N]; 0 or 1.
        probability: float64 [N]; probability of label 1.
        segment_loss: float64 [N]; cross-entropy of the label, in nats.
        masked: float64 [N]; number of masked tokens.
        masked_loss: float64 [N]; sum of the masked tokens' cross-entropies, in nats.
        masked_correct: float64 [N]; number of masked tokens whose most probable token is the original.
        unmasked_probability: float64 [N]; probability of label 1 with no token masked, as baselines read the segments.
            None if it was not computed.
    """

    document: np.ndarray
    label: np.ndarray
    probability: np.ndarray
    segment_loss: np.ndarray
    masked: np.ndarray
    masked_loss: np.ndarray
    masked_correct: np.ndarray
    unmasked_probability: np.ndarray | None = None

    @property
    def segment_correct(self) -> np.ndarray:
        """bool [N]; whether the label is predicted correctly."""
        return np.asarray((self.probability > 0.5) == self.label)

    @property
    def unmasked_correct(self) -> np.ndarray:
        """bool [N]; whether the label is predicted correctly with no token masked."""
        assert self.unmasked_probability is not None
        return np.asarray((self.unmasked_probability > 0.5) == self.label)


def unmasked(batch: Batch) -> Batch:
    """Returns the rows with the original tokens in place of the masked ones."""
    ids, positions = jnp.asarray(batch.input_ids), jnp.asarray(batch.masked_positions)
    rows = jnp.arange(ids.shape[0])[:, None]
    # Unused masked positions point at [CLS], which must not change.
    tokens = jnp.where(jnp.asarray(batch.masked_weights) > 0, jnp.asarray(batch.masked_targets), ids[rows, positions])
    return batch._replace(input_ids=ids.at[rows, positions].set(tokens))


def make_held_out(fns: PretrainingFns, *, mesh: jax.sharding.Mesh) -> Callable[..., HeldOut]:
    """Builds `held_out(params, maker, examples, batch_size=, with_unmasked=) -> HeldOut` of the first examples.

    `with_unmasked` also predicts the segments with no token masked, in a second forward pass. Each process makes its
    own rows and gets the predictions of all; all processes must call it alike.

    Args:
        fns: The model.
        mesh: The device mesh.
    """

    def segment_probability(logits: PretrainingLogits) -> Float[Array, " rows"]:
        return jax.nn.softmax(logits.segment)[:, 0, 1]

    def predict(params: Params, batch: Batch) -> dict[str, Float[Array, " rows"]]:
        logits: PretrainingLogits = fns.apply(params, batch)
        weight = jnp.asarray(batch.masked_weights)
        target = jnp.asarray(batch.masked_targets)
        correct = jnp.argmax(logits.masked, axis=-1) == target
        return {
            "real": jnp.asarray(batch.weight)[:, 0],
            "label": jnp.asarray(batch.label)[:, 0].astype(jnp.float32),
            "probability": segment_probability(logits),
            "segment_loss": cross_entropy(logits.segment, jnp.asarray(batch.label))[:, 0],
            "masked": jnp.sum(weight, axis=1),
            "masked_loss": jnp.sum(masked_cross_entropy(logits.masked, target) * weight, axis=1),
            "masked_correct": jnp.sum(correct * weight, axis=1),
        }

    def predict_both(params: Params, batch: Batch) -> dict[str, Float[Array, " rows"]]:
        logits: PretrainingLogits = fns.apply(params, unmasked(batch))
        return predict(params, batch) | {"unmasked_probability": segment_probability(logits)}

    masked_step = share(("masked", fns.program, mesh), lambda: make_eval_step(predict, mesh=mesh))
    both_step = share(("unmasked", fns.program, mesh), lambda: make_eval_step(predict_both, mesh=mesh))
    split = row_split(mesh)

    def held_out(
        params: Params, maker: RowMaker, examples: int, *, batch_size: int, with_unmasked: bool = False
    ) -> HeldOut:
        step = both_step if with_unmasked else masked_step
        parts: list[dict[str, np.ndarray]] = []
        for batch in ordered_rows(maker, examples, batch_size=batch_size, **split._asdict()):
            outputs = step(params, put_batch(batch, mesh))
            values = {name: np.asarray(output, np.float64) for name, output in outputs.items()}
            real = values.pop("real") > 0
            parts.append({name: value[real] for name, value in values.items()})
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        joined["label"] = joined["label"].astype(np.int64)
        document = np.array([maker.sampler.document_of(index) for index in range(examples)])
        return HeldOut(document=document, **joined)

    return held_out


def accuracy_interval(document: np.ndarray, correct: np.ndarray, *, bootstrap: int) -> Interval:
    """Returns the accuracy with its 95 % interval from resampled documents.

    Args:
        document: int [N]; the document of each example.
        correct: [N]; whether each prediction is correct, or the difference of two such arrays for a margin.
        bootstrap: Number of resamples.
    """
    _, place = np.unique(document, return_inverse=True)
    examples = np.bincount(place).astype(np.float64)
    hits = np.bincount(place, weights=correct.astype(np.float64))
    return bootstrap_intervals(
        lambda counts: {"accuracy": (counts @ hits) / (counts @ examples)}, len(hits), resamples=bootstrap, seed=0
    )["accuracy"]


def quick_scores(held_out: HeldOut, *, segments: bool) -> dict[str, float]:
    """Returns the scores without intervals, for evaluations during training.

    Args:
        held_out: The model's predictions.
        segments: Whether the model predicts the segments' label.
    """
    tokens = held_out.masked.sum()
    loss = float(held_out.masked_loss.sum() / tokens)
    scores = {
        "mlm_loss": loss,
        "mlm_perplexity": float(np.exp(min(loss, 700.0))),
        "mlm_accuracy": float(held_out.masked_correct.sum() / tokens),
    }
    if segments:
        scores["segment_loss"] = float(held_out.segment_loss.mean())
        scores["segment_accuracy"] = float(np.mean(held_out.segment_correct))
        loss += scores["segment_loss"]
    return scores | {"loss": loss}


def scores_with_intervals(held_out: HeldOut, *, segments: bool, bootstrap: int) -> dict[str, Any]:
    """Returns the scores with 95 % intervals that resample documents, as result.json has them.

    If the segments were also predicted with no token masked, `segment_accuracy_unmasked` is the accuracy of these
    predictions.

    Args:
        held_out: The model's predictions.
        segments: Whether the model predicts the segments' label.
        bootstrap: Number of resamples.
    """
    _, place = np.unique(held_out.document, return_inverse=True)
    sums = {
        name: np.bincount(place, weights=values)
        for name, values in (
            ("tokens", held_out.masked),
            ("masked_loss", held_out.masked_loss),
            ("masked_correct", held_out.masked_correct),
            ("examples", np.ones(len(place))),
            ("segment_loss", held_out.segment_loss),
            ("segment_correct", held_out.segment_correct.astype(np.float64)),
        )
    }
    if held_out.unmasked_probability is not None:
        sums["unmasked_correct"] = np.bincount(place, weights=held_out.unmasked_correct.astype(np.float64))

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        total = {name: counts @ values for name, values in sums.items()}
        loss = total["masked_loss"] / total["tokens"]
        scores = {
            "mlm_perplexity": np.exp(np.minimum(loss, 700.0)),
            "mlm_loss": loss,
            "mlm_accuracy": total["masked_correct"] / total["tokens"],
        }
        if segments:
            scores["segment_accuracy"] = total["segment_correct"] / total["examples"]
            scores["segment_loss"] = total["segment_loss"] / total["examples"]
            if held_out.unmasked_probability is not None:
                scores["segment_accuracy_unmasked"] = total["unmasked_correct"] / total["examples"]
        return scores

    intervals = bootstrap_intervals(statistic, len(sums["tokens"]), resamples=bootstrap, seed=0)
    return {name: interval.to_json() for name, interval in intervals.items()}


def sizes(held_out: HeldOut) -> Mapping[str, int]:
    """Returns the numbers of scored examples, documents and masked tokens."""
    return {
        "examples": len(held_out.label),
        "documents": len(np.unique(held_out.document)),
        "masked_tokens": int(held_out.masked.sum()),
    }
