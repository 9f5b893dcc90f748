"""The models that a server offers: each tokenises in a pool of threads and computes in the thread of the device."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from pairjax.base.errors import UserError
from pairjax.base.serve_config import ServeConfig
from pairjax.base.types import POSITIVE_NAMES
from pairjax.data.encode import EncodedPairs
from pairjax.data.rows import select_rows
from pairjax.inference.attributions import Explanation
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.predictions import Prediction
from pairjax.serve.batcher import Batcher, cut_batches
from pairjax.serve.errors import RequestError
from pairjax.serve.tokenise import Tokeniser

Pair = tuple[str, str]


@dataclass
class Times:
    """What the answer to a request took.

    Attributes:
        tokenise: Seconds of tokenisation.
        queue: Seconds that its rows waited for the device.
        compute: Seconds on the device, of all batches that held its rows.
        rows: Number of pairs or texts.
        tokens: Number of tokens, special tokens included.
        characters: Number of characters.
        truncated: Number of pairs or texts that were cut.
    """

    tokenise: float = 0.0
    queue: float = 0.0
    compute: float = 0.0
    rows: int = 0
    tokens: int = 0
    characters: int = 0
    truncated: int = 0


@dataclass(frozen=True)
class Outputs:
    """The outputs for some pairs.

    Attributes:
        logits: float32 [N, outputs]; logits, or scores in the units of the data.
        predictions: The prediction for each pair.
        truncated: Whether each pair was cut.
    """

    logits: Float[np.ndarray, "pairs outputs"]
    predictions: list[Prediction]
    truncated: list[bool]


class ServedModel:
    """A model with its queues.

    Args:
        name: Name by which requests select it.
        model: The model.
        config: The server's configuration.
        device: Executor of the one thread that computes.
        tokenisers: Executor of the threads that tokenise.
        observe: Receives the name, the number of rows and of tokens of each batch.
    """

    def __init__(
        self,
        name: str,
        model: PairClassifier,
        config: ServeConfig,
        *,
        device: Executor,
        tokenisers: Executor,
        observe: Callable[[str, int, int], None],
    ) -> None:
        self.name, self.model, self.task = name, model, model.task
        self._explains = config.max_explained > 0
        self._pair_tokeniser = Tokeniser(self._encode_pairs, tokenisers)
        self._text_tokeniser = Tokeniser(model.encode_texts, tokenisers)
        self.device = device
        # Powers of two, since `encoded_outputs` rounds the number of rows up to one.
        most = 1 << (config.batch_size.bit_length() - 1)
        self._sizes = sorted({max(1, most // 16), max(1, most // 4), most})
        limits: dict[str, Any] = {
            "max_tokens": config.max_batch_tokens,
            "max_rows": config.max_queue,
            "wait": config.max_wait_ms / 1e3,
            "observe": lambda rows, tokens: observe(name, rows, tokens),
        }
        self._pairs = Batcher(self._compute_pairs, device, **limits)
        self._texts = Batcher(self._compute_texts, device, **limits)

    @property
    def default_label(self) -> str | None:
        """The class by whose probability /rerank sorts; None if none of the classes is a usual positive one."""
        if self.task.positive is not None:
            return self.task.positive
        usual = [label for label in self.task.labels if label.lower() in POSITIVE_NAMES]
        return usual[0] if len(usual) == 1 else None

    @property
    def waiting(self) -> int:
        """Number of rows that wait for the device."""
        return self._pairs.waiting + self._texts.waiting

    def warm_up(self) -> int:
        """Compiles every shape that requests can have; runs in the thread of the device."""
        shapes = self.model.warm_up(batch_size=self._sizes[-1], rows=self._sizes)
        if not self._explains:
            return shapes
        return shapes + self.model.attributions.warm_up(self.model.encode("a", "b"), self.model.row_lengths[-1])

    async def close(self) -> None:
        """Ends the queues."""
        await self._pairs.close()
        await self._texts.close()

    def _compute_pairs(self, encoded: EncodedPairs) -> Float[np.ndarray, "pairs outputs"]:
        """Computes the outputs of pairs; runs in the thread of the device."""
        if self.model.can_embed:
            return self.model.encoded_outputs(encoded, batch_size=self._sizes[-1])
        ladder = np.asarray(self.model.row_lengths)
        rounded = ladder[np.searchsorted(ladder, encoded.lengths)].astype(np.int64)
        outputs = np.zeros((len(encoded), self.task.outputs), np.float32)
        for index in cut_batches(rounded, self._sizes):
            outputs[index] = self.model.encoded_outputs(select_rows(encoded, index), batch_size=self._sizes[-1])
        return outputs

    def _compute_texts(self, encoded: EncodedPairs) -> Float[np.ndarray, "texts dim"]:
        """Computes the vectors of texts; runs in the thread of the device."""
        return self.model.encoded_vectors(encoded, batch_size=self._sizes[-1])

    async def outputs(self, pairs: Sequence[Pair], times: Times, *, truncate: bool | None = None) -> Outputs:
        """Answers pairs.

        Args:
            pairs: The pairs, N of them.
            times: What the answer took is added to it.
            truncate: Whether longer pairs are cut; None for True.

        Raises:
            RequestError: A text is invalid, a pair is too long and `truncate` is False, or too many pairs wait.
        """
        encoded = await self._tokenise(self._pair_tokeniser, list(pairs), times, truncate)
        times.characters += sum(len(first) + len(second) for first, second in pairs)
        logits = await self._wait_for(self._pairs, encoded, times)
        cut = [False] * len(encoded) if encoded.cut is None else encoded.cut.tolist()
        return Outputs(logits, self.model.predictions(logits), cut)

    async def vectors(
        self, texts: Sequence[str], times: Times, *, truncate: bool | None = None, normalise: bool = True
    ) -> Float[np.ndarray, "texts dim"]:
        """Returns the vectors of texts, float32 [N, D]; for the arguments see `outputs`.

        Args:
            texts: The texts, N of them.
            times: What the answer took is added to it.
            truncate: Whether longer texts are cut; None for True.
            normalise: Whether vectors have the length 1.
        """
        encoded = await self._tokenise(self._text_tokeniser, list(texts), times, truncate)
        times.characters += sum(map(len, texts))
        vectors = await self._wait_for(self._texts, encoded, times)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12) if normalise else vectors

    async def explain(self, pairs: Sequence[Pair], times: Times, *, label: str | None) -> list[Explanation]:
        """Explains pairs, each in a turn of its own on the device, so that other requests are computed in between.

        Args:
            pairs: The pairs.
            times: What the answer took is added to it.
            label: The class; None for the predicted class of each pair.
        """
        labels: list[str | None] = [label] * len(pairs)
        if label is None:
            labels = [prediction.label for prediction in (await self.outputs(pairs, times)).predictions]
        explanations, start = [], time.monotonic()
        for pair, chosen in zip(pairs, labels, strict=True):
            explain = partial(self.model.explain, [pair], label=chosen)
            try:
                explanations += await asyncio.get_running_loop().run_in_executor(self.device, explain)
            except UserError as error:
                raise RequestError("Validation", str(error)) from None
        times.compute += time.monotonic() - start
        return explanations

    def _encode_pairs(self, pairs: list[Pair]) -> EncodedPairs:
        """Tokenises pairs; runs in a thread of the tokenisers."""
        return self.model.encode([first for first, _ in pairs], [second for _, second in pairs])

    async def _tokenise(
        self, tokeniser: Tokeniser, items: list[Any], times: Times, truncate: bool | None
    ) -> EncodedPairs:
        """Tokenises pairs or texts outside the event loop."""
        start = time.monotonic()
        try:
            encoded = await tokeniser.encode(items)
        except UserError as error:
            raise RequestError("Validation", str(error)) from None
        cut = int(encoded.cut.sum()) if encoded.cut is not None else 0
        times.tokenise += time.monotonic() - start
        times.rows += len(encoded)
        times.tokens += len(encoded.tokens)
        times.truncated += cut
        if cut and truncate is False:
            raise RequestError(
                "Validation",
                f"`truncate` is false, and {cut} of {len(items)} are longer than {encoded.max_length} tokens; "
                "shorten them, or leave `truncate` out",
            )
        return encoded

    async def _wait_for(self, batcher: Batcher, encoded: EncodedPairs, times: Times) -> np.ndarray:
        """Queues rows and waits for their outputs; if the request is cancelled, they leave the queue."""
        work = batcher.queue(encoded)
        try:
            outputs = await work.future
        finally:
            work.future.cancel()
        times.queue += work.started - work.queued
        times.compute += work.compute
        return outputs
