"""A saved model at work: `pairjax.load(folder)`, then `predict`, `embed`, or a stream of pairs."""

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
"""Of the texts read at a time, at most, but for the last one: a stream of long lines takes no more memory."""


@dataclass(frozen=True)
class Prediction:
    """One pair's answer.

    Attributes:
        label: The most probable class; None for regression.
        probabilities: By class name, after the temperature fitted on dev; empty for regression.
        label_at_threshold: With two classes, the class by the threshold fitted on dev; None otherwise.
        score: Regression's output, in the units of the train scores; None for classification.
    """

    label: str | None
    probabilities: dict[str, float]
    label_at_threshold: str | None = None
    score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As a row of predictions.jsonl: the fields that apply."""
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
    """Outputs (logits, or scores in the data's units) to answers."""
    if task.kind == "regression":
        return [Prediction(None, {}, score=float(value)) for value in outputs[:, 0]]
    rows = probabilities(outputs, temperature=temperature)
    chosen = outputs.argmax(axis=-1)
    positive = task.positive_index
    found = []
    for row, best in zip(rows, chosen, strict=True):
        at_threshold = None
        if positive is not None and threshold is not None:
            at_threshold = task.labels[positive if row[positive] >= threshold else 1 - positive]
        named = dict(zip(task.labels, map(float, row), strict=True))
        found.append(Prediction(task.labels[int(best)], named, at_threshold))
    return found


def _chunk(rows: Iterator[tuple[str, str] | BadRow], most: int) -> list[tuple[str, str] | BadRow]:
    """The next rows: `most`, or fewer where their texts are long."""
    block: list[tuple[str, str] | BadRow] = []
    characters = 0
    for row in rows:
        block.append(row)
        characters += 0 if isinstance(row, BadRow) else len(row[0]) + len(row[1])
        if len(block) == most or characters >= CHUNK_CHARACTERS:
            break
    return block


class PairClassifier:
    """A model folder, loaded; its programs are compiled once for each row length and number of rows that turn up.

    Args:
        artifact: From `load_artifact`.
        combiner: The user's own combiner, where the model was trained with one (code is never read from a folder).
        mesh: How it lies over the devices; by default a copy on each.
    """

    def __init__(
        self, artifact: Artifact, *, combiner: Callable[..., Any] | None = None, mesh: MeshConfig | None = None
    ) -> None:
        if artifact.own_combiner and combiner is None:
            raise UserError(
                f"{artifact.folder}: trained with a combiner of one's own, which a folder never carries",
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
        # Without an interaction a bi-encoder reads each text alone, so a text that comes again is not encoded again.
        apart = model.kind == "bi" and model.interact.kind == "none" and self._fns.config.over == "sides"
        self._sides = SideVectors(self._fns, self._params, self._layout, self._mesh) if apart else None

    def encode(self, first: Sequence[str], second: Sequence[str]) -> EncodedPairs:
        """Token arrays of pairs, with the model's own lengths and truncation."""
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
        """Logits, or scores in the data's units, float32 [N, outputs]."""
        return self._outputs(self.encode(first, second), batch_size)

    def _outputs(self, encoded: EncodedPairs, batch_size: int) -> Float[np.ndarray, "pairs outputs"]:
        if self._sides is not None:
            found = self._sides.logits(encoded, batch_size=batch_size)
            return found * self.task.scale + self.task.center if self.task.kind == "regression" else found
        rows = min(batch_size, 1 << max(len(encoded) - 1, 0).bit_length())
        return self._predict(self._params, encoded, layout=self._layout, batch_size=rows)

    def predict(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 64) -> list[Prediction]:
        """Answers in the order of the pairs.

        Args:
            pairs: (A, B) texts.
            batch_size: Rows of a compiled batch, at most.
        """
        if not pairs:
            return []
        first, second = zip(*pairs, strict=True)
        return self._answers(self.outputs(first, second, batch_size=batch_size))

    def _answers(self, outputs: Float[np.ndarray, "pairs outputs"]) -> list[Prediction]:
        fitted = self.artifact.calibration
        return predictions_from(outputs, self.task, temperature=fitted.temperature, threshold=fitted.threshold)

    def predict_stream(
        self, pairs: Iterable[tuple[str, str]], *, chunk: int = 8192, batch_size: int = 64
    ) -> Iterator[tuple[tuple[str, str], Prediction]]:
        """Pairs with their answers, in order, in memory bounded by `chunk` pairs and `CHUNK_CHARACTERS`.

        A thread reads and tokenises the next chunk while this one is computed.
        """
        for pair, answer in self.predict_rows(pairs, chunk=chunk, batch_size=batch_size):
            assert not isinstance(pair, BadRow)
            assert answer is not None
            yield pair, answer

    def predict_rows(
        self, rows: Iterable[tuple[str, str] | BadRow], *, chunk: int = 8192, batch_size: int = 64
    ) -> Iterator[tuple[tuple[str, str] | BadRow, Prediction | None]]:
        """As `predict_stream`; a row that is no pair (`iter_rows`) stays in its place and has no answer."""
        source = iter(rows)

        def read() -> tuple[list[tuple[str, str] | BadRow], EncodedPairs | None]:
            block = _chunk(source, chunk)
            pairs = [row for row in block if not isinstance(row, BadRow)]
            return block, self.encode(*zip(*pairs, strict=True)) if pairs else None

        with ThreadPoolExecutor(max_workers=1) as pool:
            coming = pool.submit(read)
            while True:
                block, encoded = coming.result()
                if not block:
                    return
                coming = pool.submit(read)
                answers = iter([] if encoded is None else self._answers(self._outputs(encoded, batch_size)))
                yield from ((row, None if isinstance(row, BadRow) else next(answers)) for row in block)

    def embed(self, texts: Sequence[str], *, batch_size: int = 64) -> Float[np.ndarray, "texts dim"]:
        """A bi-encoder's vectors, float32 [N, D], as its combiner reads them; each text alone.

        Raises:
            UserError: A cross-encoder, or one with an interaction: a text alone has no vector there.
        """
        model = self.artifact.model
        if model.kind == "cross" or model.interact.kind != "none":
            kind = "cross-encoder" if model.kind == "cross" else f"bi-encoder with {model.interact.kind} interaction"
            raise UserError(f"{self.artifact.folder}: a text alone has no vector in a {kind}", expected="a bi-encoder")
        if self._sides is None:
            raise UserError(
                f"{self.artifact.folder}: this bi-encoder pools its pair as one",
                expected="a model that pools each side",
            )
        if not texts:
            return np.zeros((0, self.artifact.spec.hidden_size), np.float32)
        encoded = self.encode(texts, [""] * len(texts))
        return self._sides.pairs(encoded, batch_size=batch_size)[:, 0]


def load(
    path: str | Path, *, combiner: Callable[..., Any] | None = None, mesh: MeshConfig | None = None
) -> PairClassifier:
    """Load a model folder, or the `model/` of a run folder.

    Raises:
        UserError: There is no model, it is damaged, or a newer pairjax wrote it.
    """
    return PairClassifier(load_artifact(path), combiner=combiner, mesh=mesh)
