"""Held-out figures of pretraining: masked tokens and segments, with intervals that resample documents.

Examples of one document share its words and its style, so it is documents that are drawn again and not examples;
where there are few of them the intervals are wide, as they should be.
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
from pairjax.step.sharding import put_batch, row_shards, row_share
from pairjax.step.step import make_eval_step


@dataclass(frozen=True)
class HeldOut:
    """What a model did on held-out examples, one entry each.

    Attributes:
        document: Whose sentences the first segment is.
        label: 0 or 1.
        probability: Of label 1; 0.5 where segments are not told.
        segment_loss: In nats.
        whole: As `probability`, with nothing masked: what baselines read. None where it was not asked for.
        masked: Masked tokens.
        masked_loss: Sum over them, in nats.
        masked_right: How many of them were the likeliest.
    """

    document: np.ndarray
    label: np.ndarray
    probability: np.ndarray
    segment_loss: np.ndarray
    masked: np.ndarray
    masked_loss: np.ndarray
    masked_right: np.ndarray
    whole: np.ndarray | None = None

    @property
    def whole_right(self) -> np.ndarray:
        """bool; whether the segments were told rightly with nothing masked."""
        assert self.whole is not None
        return np.asarray((self.whole > 0.5) == self.label)


def unmasked(batch: Batch) -> Batch:
    """The rows with their masked tokens put back."""
    ids, positions = jnp.asarray(batch.input_ids), jnp.asarray(batch.masked_positions)
    rows = jnp.arange(ids.shape[0])[:, None]
    # Unused places point at [CLS], which stays.
    tokens = jnp.where(jnp.asarray(batch.masked_weights) > 0, jnp.asarray(batch.masked_targets), ids[rows, positions])
    return batch._replace(input_ids=ids.at[rows, positions].set(tokens))


def make_held_out(fns: PretrainingFns, *, mesh: jax.sharding.Mesh) -> Callable[..., HeldOut]:
    """`held_out(params, maker, examples, batch_size=, whole=) -> HeldOut` of examples 0 to `examples - 1`.

    `whole` asks for the segments of rows with nothing masked too, by a second pass.
    Of several processes each makes its own rows and gets the figures of all; all must call it alike.
    """

    def told(logits: PretrainingLogits) -> Float[Array, " rows"]:
        return jax.nn.softmax(logits.segment)[:, 0, 1]

    def figures(params: Params, batch: Batch) -> dict[str, Float[Array, " rows"]]:
        logits: PretrainingLogits = fns.apply(params, batch)
        weight = jnp.asarray(batch.masked_weights)
        target = jnp.asarray(batch.masked_targets)
        right = jnp.argmax(logits.masked, axis=-1) == target
        return {
            "real": jnp.asarray(batch.weight)[:, 0],
            "label": jnp.asarray(batch.label)[:, 0].astype(jnp.float32),
            "probability": told(logits),
            "segment_loss": cross_entropy(logits.segment, jnp.asarray(batch.label))[:, 0],
            "masked": jnp.sum(weight, axis=1),
            "masked_loss": jnp.sum(masked_cross_entropy(logits.masked, target) * weight, axis=1),
            "masked_right": jnp.sum(right * weight, axis=1),
        }

    def figures_and_whole(params: Params, batch: Batch) -> dict[str, Float[Array, " rows"]]:
        return figures(params, batch) | {"whole": told(fns.apply(params, unmasked(batch)))}

    masked_step, whole_step = (make_eval_step(read, mesh=mesh) for read in (figures, figures_and_whole))
    index, count = row_share(mesh)

    def held_out(params: Params, maker: RowMaker, examples: int, *, batch_size: int, whole: bool = False) -> HeldOut:
        step = whole_step if whole else masked_step
        parts: list[dict[str, np.ndarray]] = []
        share = {"process_index": index, "process_count": count, "multiple": row_shards(mesh)}
        for batch in ordered_rows(maker, examples, batch_size=batch_size, **share):
            made = {name: np.asarray(value, np.float64) for name, value in step(params, put_batch(batch, mesh)).items()}
            real = made.pop("real") > 0
            parts.append({name: value[real] for name, value in made.items()})
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        joined["label"] = joined["label"].astype(np.int64)
        document = np.array([maker.sampler.document_of(index) for index in range(examples)])
        return HeldOut(document=document, **joined)

    return held_out


def right_by_document(document: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Examples and right ones of each document that has any."""
    _, place = np.unique(document, return_inverse=True)
    return np.bincount(place).astype(np.float64), np.bincount(place, weights=right.astype(np.float64))


def accuracy_interval(document: np.ndarray, right: np.ndarray, *, bootstrap: int) -> Interval:
    """Share of right answers, its interval by resampling documents; or of a difference of such shares, where `right`
    is the difference."""
    examples, hits = right_by_document(document, right)
    return bootstrap_intervals(
        lambda counts: {"accuracy": (counts @ hits) / (counts @ examples)}, len(hits), resamples=bootstrap, seed=0
    )["accuracy"]


def quick_figures(found: HeldOut, *, segments: bool) -> dict[str, float]:
    """The figures as they are, for the curve."""
    tokens = found.masked.sum()
    loss = float(found.masked_loss.sum() / tokens)
    figures = {
        "mlm_loss": loss,
        "mlm_perplexity": float(np.exp(min(loss, 700.0))),
        "mlm_accuracy": float(found.masked_right.sum() / tokens),
    }
    if segments:
        figures["segment_loss"] = float(found.segment_loss.mean())
        figures["segment_accuracy"] = float(np.mean((found.probability > 0.5) == found.label))
        loss += figures["segment_loss"]
    return figures | {"loss": loss}


def figures_with_intervals(found: HeldOut, *, segments: bool, bootstrap: int) -> dict[str, Any]:
    """The same with 95 % intervals that resample documents, as result.json has them.

    Where segments were also read with nothing masked, `segment_accuracy_unmasked` is their accuracy.
    """
    _, place = np.unique(found.document, return_inverse=True)
    sums = {
        name: np.bincount(place, weights=values)
        for name, values in (
            ("tokens", found.masked),
            ("masked_loss", found.masked_loss),
            ("masked_right", found.masked_right),
            ("examples", np.ones(len(place))),
            ("segment_loss", found.segment_loss),
            ("segment_right", ((found.probability > 0.5) == found.label).astype(np.float64)),
        )
    }
    if found.whole is not None:
        sums["whole_right"] = np.bincount(place, weights=found.whole_right.astype(np.float64))

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        total = {name: counts @ values for name, values in sums.items()}
        loss = total["masked_loss"] / total["tokens"]
        made = {
            "mlm_perplexity": np.exp(np.minimum(loss, 700.0)),
            "mlm_loss": loss,
            "mlm_accuracy": total["masked_right"] / total["tokens"],
        }
        if segments:
            made["segment_accuracy"] = total["segment_right"] / total["examples"]
            made["segment_loss"] = total["segment_loss"] / total["examples"]
            if found.whole is not None:
                made["segment_accuracy_unmasked"] = total["whole_right"] / total["examples"]
        return made

    intervals = bootstrap_intervals(statistic, len(sums["tokens"]), resamples=bootstrap, seed=0)
    return {name: interval.to_json() for name, interval in intervals.items()}


def sizes(found: HeldOut) -> Mapping[str, int]:
    """How much was scored."""
    return {
        "examples": len(found.label),
        "documents": len(np.unique(found.document)),
        "masked_tokens": int(found.masked.sum()),
    }
