"""Load a saved model and classify pairs of texts, embed texts, or classify a stream of pairs."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pairjax.base.config import MeshConfig
from pairjax.base.errors import UserError
from pairjax.base.types import TaskSpec
from pairjax.data.encode import EncodedPairs, encode_pairs
from pairjax.data.layout import Layout
from pairjax.data.table import BadRow
from pairjax.data.tokenizer import load_tokenizer
from pairjax.evaluation.metrics import probabilities
from pairjax.inference.logits import make_predict_logits
from pairjax.inference.model_folder import Artifact, load_artifact
from pairjax.inference.text_vectors import SideVectors
from pairjax.models.build import build_pair_model, heads_by_path
from pairjax.step.sharding import build_mesh, place, place_params

LENGTHS = (8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024)
"""Lengths of rows; each that occurs is compiled once. The steps of 8 keep padding at 13 % of the slots of SICK's pairs,
which made prediction 35 % faster than steps of 16 and more did."""

CHUNK_CHARACTERS = 2**23
"""Characters after which a chunk of a stream ends, so that long texts do not take more memory than short ones."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one pair.

    Attributes:
        label: The most probable class; None for regression.
        probabilities: Probability of each class by name, calibrated by the temperature fitted on dev; empty for
            regression.
        label_at_threshold: With two classes, the class at the threshold fitted on dev; None otherwise.
        score: The predicted score in the units of the training scores; None for classification.
    """

    label: str | None
    probabilities: dict[str, float]
    label_at_threshold: str | None = None
    score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields that apply to the task, as a line of predictions.jsonl holds them."""
        if self.score is not None:
            return {"score": round(self.score, 6)}
        row: dict[str, Any] = {
            "label": self.label,
            "probabilities": {name: round(value, 6) for name, value in self.probabilities.items()},
        }
        return row if self.label_at_threshold is None else row | {"label_at_threshold": self.label_at_threshold}


def predictions_from(
    outputs: Float[np.ndarray, "pairs outputs"], task: TaskSpec, *, temperature: float, threshold: float | None
) -> list[Prediction]:
    """Converts a model's outputs to predictions.

    Args:
        outputs: float [N, outputs]; logits, or scores in the units of the data.
        task: The task.
        temperature: Divides the logits.
        threshold: Smallest calibrated probability that is predicted as the positive class; None if there is none.
    """
    if task.kind == "regression":
        return [Prediction(None, {}, score=float(value)) for value in outputs[:, 0]]
    rows = probabilities(outputs, temperature=temperature)
    chosen = outputs.argmax(axis=-1)
    positive = task.positive_index
    predictions = []
    for row, best in zip(rows, chosen, strict=True):
        at_threshold = None
        if positive is not None and threshold is not None:
            at_threshold = task.labels[positive if row[positive] >= threshold else 1 - positive]
        named = dict(zip(task.labels, map(float, row), strict=True))
        predictions.append(Prediction(task.labels[int(best)], named, at_threshold))
    return predictions


def _next_chunk(rows: Iterator[tuple[str, str] | BadRow], size: int) -> list[tuple[str, str] | BadRow]:
    """Returns the next `size` rows, or fewer if their texts are long."""
    block: list[tuple[str, str] | BadRow] = []
    characters = 0
    for row in rows:
        block.append(row)
        characters += 0 if isinstance(row, BadRow) else len(row[0]) + len(row[1])
        if len(block) == size or characters >= CHUNK_CHARACTERS:
            break
    return block


class PairClassifier:
    """A trained model that classifies pairs. A program is compiled for each shape of batch that occurs.

    Args:
        artifact: Contents of the model folder, from `load_artifact`.
        combiner: The combiner that the model was trained with, if it was the user's own; code is never read from a
            folder.
        mesh: Sizes of the device mesh; by default every device holds a copy of the parameters.

    Attributes:
        artifact: Contents of the model folder.
        task: The task.
    """

    def __init__(
        self, artifact: Artifact, *, combiner: Callable[..., Any] | None = None, mesh: MeshConfig | None = None
    ) -> None:
        if artifact.own_combiner and combiner is None:
            raise UserError(
                f"{artifact.folder}: trained with the user's own combiner, which a model folder does not contain",
                fix="pass it: pairjax.load(folder, combiner=...)",
            )
        self.artifact = artifact
        self.task = artifact.task
        model = dataclasses.replace(artifact.model, combiner=combiner)
        self._tokenizer = load_tokenizer(artifact.folder / "encoder", family=artifact.spec.family)
        self._fns = build_pair_model(model, artifact.spec, self.task.outputs)
        sizes = mesh or MeshConfig()
        self._mesh = build_mesh(data=sizes.data, fsdp=sizes.fsdp, tensor=sizes.tensor)
        placement = place_params(artifact.params, self._mesh, heads=heads_by_path(self._fns.config, artifact.spec))
        self._params = place(artifact.params, placement.specs, self._mesh)
        self._predict = make_predict_logits(self._fns, self.task, mesh=self._mesh)
        limit = artifact.max_length * (1 if model.kind == "cross" else 2)
        self._layout = Layout("bucketed", (*(length for length in LENGTHS if length < limit), limit))
        # A bi-encoder without interaction encodes each text alone, so a repeated text needs no second pass.
        separate = model.kind == "bi" and model.interact.kind == "none" and self._fns.config.over == "sides"
        self._sides = SideVectors(self._fns, self._params, self._layout, self._mesh) if separate else None

    def encode(self, first: Sequence[str], second: Sequence[str]) -> EncodedPairs:
        """Tokenises pairs with the model's own lengths and truncation.

        Args:
            first: Texts A, N of them.
            second: Texts B, N of them.
        """
        return encode_pairs(
            first,
            second,
            self._tokenizer,
            kind=self.artifact.model.kind,
            max_length=self.artifact.max_length,
            truncation=self.artifact.truncation,
        )

    def outputs(
        self, first: Sequence[str], second: Sequence[str], *, batch_size: int = 64
    ) -> Float[np.ndarray, "pairs outputs"]:
        """Returns the model's outputs, float32 [N, outputs]: logits, or scores in the units of the data.

        Args:
            first: Texts A, N of them.
            second: Texts B, N of them.
            batch_size: Largest number of rows in a compiled batch.
        """
        return self._outputs(self.encode(first, second), batch_size)

    def _outputs(self, encoded: EncodedPairs, batch_size: int) -> Float[np.ndarray, "pairs outputs"]:
        """Returns the outputs of encoded pairs."""
        if self._sides is not None:
            logits = self._sides.logits(encoded, batch_size=batch_size)
            return logits * self.task.scale + self.task.center if self.task.kind == "regression" else logits
        rows = min(batch_size, 1 << max(len(encoded) - 1, 0).bit_length())
        return self._predict(self._params, encoded, layout=self._layout, batch_size=rows)

    def predict(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 64) -> list[Prediction]:
        """Returns a prediction for each pair, in the order of the pairs.

        >>> model = load("runs/pairs/model")
        >>> prediction = model.predict([("A man sleeps.", "Nobody is awake.")])[0]
        >>> prediction.label in model.task.labels
        True
        >>> round(sum(prediction.probabilities.values()), 5)
        1.0

        Args:
            pairs: Texts (A, B) of each pair.
            batch_size: Largest number of rows in a compiled batch.
        """
        if not pairs:
            return []
        first, second = zip(*pairs, strict=True)
        return self._predictions(self.outputs(first, second, batch_size=batch_size))

    def _predictions(self, outputs: Float[np.ndarray, "pairs outputs"]) -> list[Prediction]:
        """Converts outputs to predictions with the model's calibration."""
        calibration = self.artifact.calibration
        temperature, threshold = calibration.temperature, calibration.threshold
        return predictions_from(outputs, self.task, temperature=temperature, threshold=threshold)

    def predict_stream(
        self, pairs: Iterable[tuple[str, str]], *, chunk: int = 8192, batch_size: int = 64
    ) -> Iterator[tuple[tuple[str, str], Prediction]]:
        """Yields pairs with their predictions, in order; memory is bounded by `chunk` and `CHUNK_CHARACTERS`.

        A thread reads and tokenises the next chunk while this one is computed.

        Args:
            pairs: Texts (A, B) of each pair.
            chunk: Largest number of pairs in memory at a time.
            batch_size: Largest number of rows in a compiled batch.
        """
        for pair, prediction in self.predict_rows(pairs, chunk=chunk, batch_size=batch_size):
            assert not isinstance(pair, BadRow)
            assert prediction is not None
            yield pair, prediction

    def predict_rows(
        self, rows: Iterable[tuple[str, str] | BadRow], *, chunk: int = 8192, batch_size: int = 64
    ) -> Iterator[tuple[tuple[str, str] | BadRow, Prediction | None]]:
        """Does the same as `predict_stream`, and yields rows that are not pairs in their place, with None.

        Args:
            rows: Texts (A, B), or why a line of the input is not a pair, as `iter_rows` reads them.
            chunk: Largest number of rows in memory at a time.
            batch_size: Largest number of rows in a compiled batch.
        """
        source = iter(rows)

        def read() -> tuple[list[tuple[str, str] | BadRow], EncodedPairs | None]:
            block = _next_chunk(source, chunk)
            pairs = [row for row in block if not isinstance(row, BadRow)]
            return block, self.encode(*zip(*pairs, strict=True)) if pairs else None

        with ThreadPoolExecutor(max_workers=1) as pool:
            following = pool.submit(read)
            while True:
                block, encoded = following.result()
                if not block:
                    return
                following = pool.submit(read)
                predictions = iter([] if encoded is None else self._predictions(self._outputs(encoded, batch_size)))
                yield from ((row, None if isinstance(row, BadRow) else next(predictions)) for row in block)

    def embed(self, texts: Sequence[str], *, batch_size: int = 64) -> Float[np.ndarray, "texts dim"]:
        """Returns a bi-encoder's vector of each text, float32 [N, D], as its combiner reads them.

        >>> model = load("runs/pairs/model")
        >>> vectors = model.embed(["A man sleeps.", "Nobody is awake."])
        >>> vectors.shape == (2, model.artifact.spec.hidden_size)
        True

        Args:
            texts: The texts, N of them.
            batch_size: Largest number of rows in a compiled batch.

        Raises:
            UserError: The model is a cross-encoder, has an interaction, or pools both texts together, so a single text
                has no vector.
        """
        model = self.artifact.model
        if model.kind == "cross" or model.interact.kind != "none":
            kind = "cross-encoder" if model.kind == "cross" else f"bi-encoder with {model.interact.kind} interaction"
            raise UserError(
                f"{self.artifact.folder}: a {kind} has no vector for a single text", expected="a bi-encoder"
            )
        if self._sides is None:
            raise UserError(
                f"{self.artifact.folder}: this bi-encoder pools both texts together",
                expected="a model that pools each side",
            )
        if not texts:
            return np.zeros((0, self.artifact.spec.hidden_size), np.float32)
        encoded = self.encode(texts, [""] * len(texts))
        return self._sides.pairs(encoded, batch_size=batch_size)[:, 0]

    def forget(self) -> None:
        """Drops the cached vectors of texts, so that the next call encodes all of its texts."""
        if self._sides is not None:
            self._sides.forget()


def load(
    path: str | Path, *, combiner: Callable[..., Any] | None = None, mesh: MeshConfig | None = None
) -> PairClassifier:
    """Loads a trained model.

    >>> model = load("runs/pairs/model")
    >>> [prediction] = model.predict([("A man sleeps.", "Nobody is awake.")])
    >>> list(prediction.probabilities) == list(model.task.labels)
    True

    Args:
        path: A model folder, or a run folder, whose `model/` is loaded.
        combiner: The combiner that the model was trained with, if it was the user's own.
        mesh: Sizes of the device mesh; by default every device holds a copy of the parameters.

    Raises:
        UserError: There is no model, it is damaged, a newer pairjax wrote it, or it needs a combiner.
    """
    return PairClassifier(load_artifact(path), combiner=combiner, mesh=mesh)
