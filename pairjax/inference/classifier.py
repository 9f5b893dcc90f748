"""Classify pairs of texts, embed texts, or classify a stream of pairs."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeAlias

import numpy as np
from jaxtyping import Float

from pairjax.base.config import MeshConfig
from pairjax.base.errors import TruncationWarning, UserError
from pairjax.base.export_config import ExportConfig
from pairjax.data.encode import EncodedPairs, encode_pairs
from pairjax.data.layout import Layout
from pairjax.data.table import BadRow
from pairjax.data.texts import count_bare
from pairjax.data.tokenizer import PairTokenizer
from pairjax.inference.attributions import Attributions, Explanation
from pairjax.inference.chunks import ArrivedChunks, FullChunks
from pairjax.inference.inputs import iter_rows_of, read_count, read_pairs, read_texts
from pairjax.inference.logits import make_predict_logits
from pairjax.inference.model_folder import Artifact
from pairjax.inference.predictions import Prediction, predictions_from
from pairjax.inference.stream import stream_answers
from pairjax.inference.text_vectors import CachedVectors, SideVectors, no_vector_error
from pairjax.inference.warm_up import compile_shapes
from pairjax.models.build import PairModelFns, build_pair_model, heads_by_path
from pairjax.step.sharding import build_mesh, place, place_params

if TYPE_CHECKING:
    from pairjax.export.model import ExportResult

LENGTHS = (8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024)
"""Lengths of rows; each that occurs is compiled once. The steps of 8 keep padding at 13 % of the slots of SICK's pairs,
which made prediction 35 % faster than steps of 16 and more did."""
PairsLike: TypeAlias = Any
"""Pairs in any of the forms that `pairjax.inference.inputs` reads."""
TextsLike: TypeAlias = Any
"""Texts in any of the forms that `pairjax.inference.inputs` reads."""


def _warn(notes: Iterable[str]) -> None:
    """Warns the caller of a public method of what was cut."""
    for note in notes:
        warnings.warn(note, TruncationWarning, stacklevel=3)


def check_process(pid: int | None) -> None:
    """Raises UserError if the process that used JAX, given by its number, has been forked since."""
    if pid is not None and pid != os.getpid():
        raise UserError(
            "this process was forked after a model was loaded, and JAX's threads do not survive that",
            fix='load the model in each process, or start processes with multiprocessing.get_context("spawn")',
        )


def row_layout(artifact: Artifact) -> Layout:
    """Returns the lengths of a model's rows: those of `LENGTHS` up to its longest row."""
    limit = artifact.max_length * (1 if artifact.model.kind == "cross" else 2)
    return Layout("bucketed", (*(length for length in LENGTHS if length < limit), limit))


class PairClassifier:
    """A trained model that classifies pairs. A program is compiled for each shape of batch that occurs.

    Threads may share a model. It can be pickled, and works in a process that was spawned but not in one that was forked
    after it was loaded.

    Args:
        artifact: Contents of the model folder, from `load_artifact`.
        combiner: The combiner that the model was trained with, if it was the user's own; code is never read from a
            folder.
        mesh: Sizes of the device mesh; by default every device holds a copy of the parameters.

    Attributes:
        artifact: Contents of the model folder.
        task: The task.
        tokenizer: The encoder's tokeniser.
    """

    _process: int | None = None
    """The process in which JAX was first used by a model."""

    def __init__(
        self, artifact: Artifact, *, combiner: Callable[..., Any] | None = None, mesh: MeshConfig | None = None
    ) -> None:
        if artifact.own_combiner and combiner is None:
            raise UserError(
                f"{artifact.folder}: trained with the user's own combiner, which a model folder does not contain",
                fix="pass it: pairjax.load(folder, combiner=...)",
            )
        self._build(artifact, artifact.read_tokenizer(), combiner, mesh or MeshConfig())

    def _build(
        self, artifact: Artifact, tokenizer: PairTokenizer, combiner: Callable[..., Any] | None, mesh: MeshConfig
    ) -> None:
        """Places the parameters on the devices and prepares the programs."""
        check_process(PairClassifier._process)
        PairClassifier._process = os.getpid()
        self._parts = artifact, tokenizer, combiner, mesh
        self.artifact = artifact
        self.task = artifact.task
        self.tokenizer = tokenizer
        model = dataclasses.replace(artifact.model, combiner=combiner)
        self._fns = build_pair_model(model, artifact.spec, self.task)
        self._mesh = build_mesh(data=mesh.data, fsdp=mesh.fsdp, tensor=mesh.tensor)
        placement = place_params(artifact.params, self._mesh, heads=heads_by_path(self._fns.config, artifact.spec))
        self._params = place(artifact.params, placement.specs, self._mesh)
        self._predict = make_predict_logits(self._fns, self.task, mesh=self._mesh)
        self._layout = row_layout(artifact)
        # A bi-encoder without interaction encodes each text alone, so a repeated text needs no second pass.
        separate = model.kind == "bi" and model.interact.kind == "none" and self._fns.config.over == "sides"
        self._sides: CachedVectors | None = None
        if separate:
            self._sides = SideVectors(self._fns, self._params, self._layout, self._mesh)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the parameters and the tokeniser; the folder is not needed again, and programs are compiled anew."""
        return _rebuild, self._parts

    def encode(self, first: TextsLike, second: TextsLike, *, where: Sequence[str] = ()) -> EncodedPairs:
        """Tokenises pairs with the model's own lengths and truncation; `notes()` of the result says what was cut.

        Args:
            first: Texts A, N of them.
            second: Texts B, N of them.
            where: Place of each pair, for messages.
        """
        firsts, seconds = read_texts(first, name="first text"), read_texts(second, name="second text")
        if len(firsts) != len(seconds):
            raise UserError("each pair needs two texts", got=f"{len(firsts)} first and {len(seconds)} second texts")
        return self._encode(firsts, seconds, where)

    def _encode(self, first: Sequence[str], second: Sequence[str], where: Sequence[str] = ()) -> EncodedPairs:
        """Tokenises normalised texts."""
        return encode_pairs(first, second, self.tokenizer, where=where, **self.artifact.row_options)

    def outputs(
        self, first: TextsLike, second: TextsLike, *, batch_size: SupportsIndex = 64
    ) -> Float[np.ndarray, "pairs outputs"]:
        """Returns the model's outputs, float32 [N, outputs]: logits, or scores in the units of the data.

        Args:
            first: Texts A, N of them.
            second: Texts B, N of them.
            batch_size: Largest number of rows in a compiled batch.
        """
        encoded = self.encode(first, second)
        _warn(encoded.notes())
        return self.encoded_outputs(encoded, batch_size=batch_size)

    def encoded_outputs(
        self, encoded: EncodedPairs, *, batch_size: SupportsIndex = 64
    ) -> Float[np.ndarray, "pairs outputs"]:
        """Returns the model's outputs for the result of `encode`, float32 [N, outputs].

        Args:
            encoded: The pairs, N of them.
            batch_size: Largest number of rows in a compiled batch.
        """
        batch_size = read_count(batch_size, "batch_size")
        check_process(self._process)
        if not len(encoded):
            return np.zeros((0, self.task.outputs), np.float32)
        if self._sides is not None:
            logits = self._sides.logits(encoded, batch_size=batch_size)
            return logits * self.task.scale + self.task.center if self.task.kind == "regression" else logits
        rows = min(batch_size, 1 << max(len(encoded) - 1, 0).bit_length())
        return self._predict(self._params, encoded, layout=self._layout, batch_size=rows)

    def predict(self, pairs: PairsLike, *, batch_size: SupportsIndex = 64) -> list[Prediction]:
        """Returns a prediction for each pair, in the order of the pairs.

        >>> import pairjax
        >>> model = pairjax.load("runs/pairs/model")
        >>> prediction = model.predict([("A man sleeps.", "Nobody is awake.")])[0]
        >>> prediction.label in model.task.labels
        True
        >>> round(sum(prediction.probabilities.values()), 5)
        1.0

        Args:
            pairs: Texts (A, B) of each pair: tuples, lists, dicts with two of the usual column names, rows of a NumPy
                array, a data frame, or a generator of them. One tuple of two texts or one dict is one pair. Texts are
                normalised as those of files are.
            batch_size: Largest number of rows in a compiled batch.

        Raises:
            UserError: An element is not a pair of texts, a text is empty, or the model's truncation may not cut one.

        Warns:
            TruncationWarning: Some pairs are longer than the model reads, and were cut.
        """
        size = read_count(batch_size, "batch_size")
        rows = read_pairs(pairs)
        encoded = self._encode([first for first, _ in rows], [second for _, second in rows])
        _warn(encoded.notes())
        return self.predictions(self.encoded_outputs(encoded, batch_size=size))

    def predictions(self, outputs: Float[np.ndarray, "pairs outputs"]) -> list[Prediction]:
        """Converts outputs to predictions with the model's calibration.

        Args:
            outputs: float32 [N, outputs]; from `outputs` or `encoded_outputs`.
        """
        return predictions_from(outputs, self.task, calibration=self.artifact.calibration)

    def predict_stream(
        self, pairs: PairsLike, *, chunk: SupportsIndex = 8192, batch_size: SupportsIndex = 64
    ) -> Iterator[tuple[tuple[str, str], Prediction]]:
        """Yields pairs with their predictions, in order; memory is bounded by `chunk` and by the texts' lengths.

        A thread reads and tokenises the next chunk while this one is computed.

        Args:
            pairs: Texts (A, B) of each pair, as in `predict`.
            chunk: Largest number of pairs in memory at a time.
            batch_size: Largest number of rows in a compiled batch.
        """
        return self.predict_rows(pairs, chunk=chunk, batch_size=batch_size)  # type: ignore[return-value]

    def predict_rows(
        self,
        rows: PairsLike,
        *,
        chunk: SupportsIndex = 8192,
        batch_size: SupportsIndex = 64,
        mark: bool = False,
        wait: float | None = None,
        report: Callable[[Iterable[str]], None] | None = None,
    ) -> Iterator[tuple[tuple[str, str] | BadRow, Prediction | None]]:
        """Does the same as `predict_stream`, and yields rows that are not pairs in their place, with None.

        Args:
            rows: Texts (A, B) as in `predict`, or why a line of the input is not a pair, as `iter_rows` reads them.
            chunk: Largest number of rows in memory at a time.
            batch_size: Largest number of rows in a compiled batch.
            mark: Whether a row that is not a pair, or that the model's truncation may not cut, becomes a `BadRow`; if
                not, it ends the stream with an error.
            wait: Seconds after which the rows that have arrived are answered; by default a chunk is filled.
            report: Receives notes on what was cut, after the last row; by default they are warnings.
        """
        size, batch_size = read_count(chunk, "chunk"), read_count(batch_size, "batch_size")
        check_process(self._process)
        source = iter_rows_of(rows, keep_errors=mark)
        chunks = FullChunks(source, size) if wait is None else ArrivedChunks(source, size, wait=wait)

        def predict(encoded: EncodedPairs) -> list[Prediction]:
            return self.predictions(self.encoded_outputs(encoded, batch_size=batch_size))

        return stream_answers(chunks, self._encode, predict, mark=mark, report=report or _warn)

    def embed(
        self, texts: TextsLike, *, side: Literal["first", "second"] = "first", batch_size: SupportsIndex = 64
    ) -> Float[np.ndarray, "texts dim"]:
        """Returns a bi-encoder's vector of each text, float32 [N, D], as its combiner reads them.

        >>> import pairjax
        >>> model = pairjax.load("runs/pairs/model")
        >>> vectors = model.embed(["A man sleeps.", "Nobody is awake."])
        >>> vectors.shape == (2, model.artifact.spec.hidden_size)
        True

        Args:
            texts: The texts, N of them: a list, tuple, NumPy array, series or generator of strings. A string is one
                text, so N is 1. They are normalised as those of files are.
            side: The side whose prefix is put before the texts, if the model has prefixes.
            batch_size: Largest number of rows in a compiled batch.

        Raises:
            UserError: An element is not a text or is empty; or the model is a cross-encoder, has an interaction, or
                pools both texts together, so a single text has no vector.
        """
        size = read_count(batch_size, "batch_size")
        encoded = self.encode_texts(texts, side=side)
        _warn(encoded.losses.notes("texts"))
        return self.encoded_vectors(encoded, batch_size=size)

    def encode_texts(self, texts: TextsLike, *, side: Literal["first", "second"] = "first") -> EncodedPairs:
        """Tokenises single texts as side A of pairs without a side B; for the arguments and errors see `embed`."""
        if self._sides is None:
            raise no_vector_error(self.artifact.model, str(self.artifact.folder))
        texts = read_texts(texts)
        tokenizer = self.tokenizer.of_side(side)
        places = [f"text {number}" for number in range(1, len(texts) + 1)]
        encoded = encode_pairs(texts, [""] * len(texts), tokenizer, where=places, **self.artifact.row_options)
        return dataclasses.replace(encoded, bare=count_bare(encoded, tokenizer))

    def encoded_vectors(self, encoded: EncodedPairs, *, batch_size: int = 64) -> Float[np.ndarray, "texts dim"]:
        """Returns the vectors for the result of `encode_texts`, float32 [N, D]."""
        check_process(self._process)
        if self._sides is None:
            raise ValueError("this model has no vector for a single text")
        if not len(encoded):
            return np.zeros((0, self._fns.vector_size), np.float32)
        return self._sides.pairs(encoded, batch_size=batch_size)[:, 0]

    def explain(self, pairs: PairsLike, *, label: str | None = None) -> list[Explanation]:
        """Returns how much each token adds to the logit of a class, by integrated gradients.

        Args:
            pairs: Texts (A, B) of each pair, as in `predict`.
            label: The class; by default the predicted one of each pair. Not for regression.
        """
        return self.attributions.explain_pairs(read_pairs(pairs), label, self._encode, self.encoded_outputs)

    @cached_property
    def attributions(self) -> Attributions:
        """The programs of `explain`."""
        return Attributions(self._fns, self.task, self.tokenizer, self._params)

    def in_float32(self) -> "PairClassifier":
        """Returns this model, or if its activations are bfloat16, the same with activations in float32."""
        artifact, tokenizer, combiner, mesh = self._parts
        if artifact.model.dtype == "float32":
            return self
        return _rebuild(
            dataclasses.replace(artifact, model=dataclasses.replace(artifact.model, dtype="float32")),
            tokenizer,
            combiner,
            mesh,
        )

    def export(
        self, to: str, output: str | os.PathLike[str], *, int8: bool = False, fold_temperature: bool = False
    ) -> "ExportResult":
        """Writes the model in another format, as `pairjax export` does.

        Args:
            to: Name of the format, such as "onnx".
            output: The folder to write; it must not exist.
            int8: Whether to write a file with int8 weights too.
            fold_temperature: Whether the last layer is divided by the temperature.

        Returns:
            The folder, the largest difference of its outputs from pairjax's, and notes on what it leaves out.

        Raises:
            UserError: The format cannot express the model, the folder exists, or a package is missing.
        """
        # A layer above: this method is its entrance for users.
        from pairjax.export.model import export_model

        config = ExportConfig(int8=int8, fold_temperature=fold_temperature)
        return export_model(self, to, Path(output), config=config)

    @property
    def functions(self) -> PairModelFns:
        """The model as pure functions."""
        return self._fns

    @property
    def can_embed(self) -> bool:
        """Whether a single text has a vector: the model is a bi-encoder that encodes and pools each text alone."""
        return self._sides is not None

    def warm_up(self, *, batch_size: SupportsIndex = 64, rows: Sequence[int] | None = None) -> int:
        """Compiles a program for every shape of batch, and returns their number; later calls compile nothing.

        Args:
            batch_size: Largest number of rows in a compiled batch, as in the later calls.
            rows: Numbers of joint rows to compile, each a power of two; by default all up to `batch_size`.
        """
        size, like = read_count(batch_size, "batch_size"), self._encode([""], [""])
        return compile_shapes(self.encoded_outputs, self._sides, like, layout=self._layout, batch_size=size, rows=rows)

    @property
    def row_lengths(self) -> tuple[int, ...]:
        """The lengths of rows, in slots, ascending; each row is padded to the next one."""
        return self._layout.ladder

    def forget(self) -> None:
        """Drops the cached vectors of texts, so that the next call encodes all of its texts."""
        if self._sides is not None:
            self._sides.forget()


def _rebuild(*parts: Any) -> PairClassifier:
    """Builds a model from the parts that were pickled."""
    model = PairClassifier.__new__(PairClassifier)
    model._build(*parts)
    return model
