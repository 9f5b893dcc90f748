"""Integrated gradients: how much each token adds to the logit of a class.

Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks" (2017): the contribution of token i is the
integral over a in [0, 1] of grad_i F(b + a (x - b)) . (x_i - b_i), for word embeddings x, baseline b and logit F. The
contributions of all tokens sum to F(x) - F(b) (completeness). In the baseline the pad token replaces every token of
both texts; special tokens, positions and segments stay, so they contribute nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pairjax.base.errors import UserError
from pairjax.base.types import Batch, EncoderSpec, Params, TaskSpec
from pairjax.data.encode import EncodedPairs
from pairjax.data.pipeline import make_batch
from pairjax.data.tokenizer import PairTokenizer
from pairjax.models.build import PairModelFns, build_pair_model

LENGTHS = tuple(1 << power for power in range(5, 13))
"""Row lengths, in slots; few, because each is a program."""
SLOTS = 1024
"""Slots of a batch of points on the path."""
POINTS, MOST_POINTS = 32, 256
"""Points on the path, both ends included: at first, and at most."""
TOLERANCE = 0.01
"""Largest error of completeness, relative to the change of the logit (or to 0.1 if it is smaller), that is accepted
before the number of points reaches `MOST_POINTS`."""


@dataclass(frozen=True)
class TokenContribution:
    """A token of a text, and its contribution.

    Attributes:
        side: 0 for the first text, 1 for the second.
        start: Index of its first character in the text.
        end: Index after its last character.
        text: Its characters.
        contribution: What it adds to the logit, or to the score.
    """

    side: int
    start: int
    end: int
    text: str
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """The contributions of the tokens of one pair.

    Attributes:
        first: Text A.
        second: Text B.
        label: The class whose logit is explained; None for regression.
        logit: The logit before calibration, or the score in the units of the training scores.
        baseline: The same for the baseline, in which the pad token replaces every token.
        tokens: The tokens that the model reads, special tokens excluded. Tokens that were cut are missing.
    """

    first: str
    second: str
    label: str | None
    logit: float
    baseline: float
    tokens: tuple[TokenContribution, ...]

    @property
    def residual(self) -> float:
        """The change of the logit that the contributions do not account for: the error of the integration."""
        return self.logit - self.baseline - sum(token.contribution for token in self.tokens)

    def to_json(self) -> dict[str, Any]:
        """Returns the explanation as plain data."""
        head = {"sentence1": self.first, "sentence2": self.second}
        head |= {} if self.label is None else {"label": self.label}
        values = {name: round(getattr(self, name), 6) for name in ("logit", "baseline", "residual")}
        tokens = [vars(token) | {"contribution": round(token.contribution, 6)} for token in self.tokens]
        return head | values | {"tokens": tokens}


def _word_table(params: Params) -> Any:
    """Returns the word embeddings, float32 [V, E]."""
    return params["encoder"]["embeddings"]["word"]["embedding"]


def _with_word_table(params: Params, table: Any) -> Params:
    """Returns the parameters with other word embeddings."""
    encoder = params["encoder"]
    embeddings = encoder["embeddings"] | {"word": {"embedding": table}}
    return params | {"encoder": encoder | {"embeddings": embeddings}}


class Attributions:
    """Integrated gradients of one model.

    Args:
        fns: The model.
        task: The task.
        tokenizer: The encoder's tokeniser.
        params: The model's parameters.
    """

    def __init__(self, fns: PairModelFns, task: TaskSpec, tokenizer: PairTokenizer, params: Params) -> None:
        self._fns, self._task, self._tokenizer, self._params = fns, task, tokenizer, params
        self._programs: dict[int, Callable[..., Any]] = {}

    def warm_up(self, like: EncodedPairs, longest: int) -> int:
        """Compiles the program of every row length, and returns their number.

        Args:
            like: Rows of the model, at least one.
            longest: Largest number of slots of a pair.
        """
        lengths = [length for length in LENGTHS if length < longest] + [_row_length(longest)]
        for length in lengths:
            self._evaluate(make_batch(like, None, np.zeros((1, 1), np.int32), length), np.zeros(1, bool), 0, POINTS)
        return len(lengths)

    def explain_pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        label: str | None,
        encode: Callable[..., EncodedPairs],
        outputs: Callable[[EncodedPairs], Float[np.ndarray, "pairs outputs"]],
    ) -> list[Explanation]:
        """Explains pairs, one after another.

        Args:
            pairs: Normalised texts (A, B).
            label: The class; None for the predicted class of each pair.
            encode: Tokenises lists of first and second texts.
            outputs: Computes the outputs for token rows.

        Raises:
            UserError: There is no such class.
        """
        labels = self._task.labels
        if label is not None and label not in labels:
            raise UserError("no such class", got=label, expected=f"one of {', '.join(labels)}" if labels else "none")
        explanations = []
        for first, second in pairs:
            encoded = encode([first], [second])
            index = labels.index(label) if label is not None else 0
            if label is None and labels:
                index = int(outputs(encoded)[0].argmax())
            explanations.append(self.explain(first, second, encoded, index))
        return explanations

    def explain(self, first: str, second: str, encoded: EncodedPairs, index: int) -> Explanation:
        """Explains the logit of one class for one pair.

        Args:
            first: Text A, normalised.
            second: Text B, normalised.
            encoded: The pair alone, encoded.
            index: Index of the class; 0 for regression.
        """
        total, size = int(encoded.offsets[-1]), int(encoded.first_length[0])
        spans = [
            (side, *span)
            for side, (text, kept) in enumerate(
                ((first, size - 2), (second, total - size - 1 - len(self._tokenizer.opening(encoded.kind))))
            )
            for span in self._spans(side, text, kept, both_ends=encoded.truncation == "head_tail")
        ]
        own = np.zeros(_row_length(total), bool)
        own[1 : size - 1] = True
        own[size + len(self._tokenizer.opening(encoded.kind)) : total - 1] = True
        batch = make_batch(encoded, None, np.zeros((1, 1), np.int32), len(own))
        points = POINTS
        while True:
            shares, logit, baseline = self._evaluate(batch, own, index, points)
            if abs(logit - baseline - shares.sum()) <= TOLERANCE * max(abs(logit - baseline), 0.1):
                break
            if points == MOST_POINTS:
                break
            points *= 2
        scale, center = (self._task.scale, self._task.center) if self._task.kind == "regression" else (1.0, 0.0)
        texts = (first, second)
        return Explanation(
            first,
            second,
            self._task.labels[index] if self._task.labels else None,
            logit * scale + center,
            baseline * scale + center,
            tuple(
                TokenContribution(side, start, end, texts[side][start:end], float(share) * scale)
                for (side, start, end), share in zip(spans, shares[own], strict=True)
            ),
        )

    def _spans(self, side: int, text: str, kept: int, *, both_ends: bool) -> list[tuple[int, int]]:
        """Returns the characters of each token of a text that the row keeps; none for the tokens of a prefix."""
        prefix = self._tokenizer.prefixes[side]
        offsets = self._tokenizer.backend.encode(prefix + text, add_special_tokens=False).offsets
        spans = [(max(0, begin - len(prefix)), max(0, end - len(prefix))) for begin, end in offsets]
        if not both_ends or kept >= len(spans):
            return spans[:kept]
        tail = kept // 2
        return spans[: kept - tail] + spans[len(spans) - tail :]

    def _evaluate(
        self, row: Batch, own: np.ndarray, index: int, points: int
    ) -> tuple[Float[np.ndarray, " slots"], float, float]:
        """Returns the contribution of each slot of a row, and the logit at both ends of the path.

        The integral is a Gauss-Legendre sum over the points between the ends.
        """
        length = len(row.input_ids[0])
        nodes, weights = np.polynomial.legendre.leggauss(points - 2)
        place = np.concatenate([[0.0], (nodes + 1) / 2, [1.0]]).astype(np.float32)
        weight = np.concatenate([[0.0], weights / 2, [0.0]]).astype(np.float32)
        if length not in self._programs:
            self._programs[length] = self._build(length)
        program = self._programs[length]
        ids = row.input_ids[0]
        baseline = np.where(np.resize(own, length), self._tokenizer.pad_id, ids).astype(np.int32)
        rows = max(4, SLOTS // length)
        shares, logits = np.zeros(length, np.float64), []
        for begin in range(0, points, rows):
            part = slice(begin, begin + rows)
            padded = [np.pad(values[part], (0, rows - len(values[part]))) for values in (place, weight)]
            share, values = program(self._params, row, ids, baseline, *padded, np.int32(index))
            shares += np.asarray(share, np.float64)
            logits += np.asarray(values)[: len(place[part])].tolist()
        return shares, float(logits[-1]), float(logits[0])

    def _build(self, length: int) -> Callable[..., Any]:
        """Builds the program for rows of `length` slots.

        Each row has word embeddings of its own: the program's vocabulary is the slots of all rows, so that the gradient
        of the table is that of each slot.
        """
        rows = max(4, SLOTS // length)
        spec: EncoderSpec = replace(self._fns.spec, vocab_size=rows * length)
        config = replace(self._fns.config, dtype="float32")
        fns = build_pair_model(config, spec, self._task)

        def evaluate(
            params: Params, row: Batch, ids: Array, baseline: Array, place: Array, weight: Array, index: Array
        ) -> tuple[Array, Array]:
            table = _word_table(params)
            start = table[baseline]
            change = table[ids] - start
            path = start + place[:, None, None] * change

            def sum_of_logits(words: Array) -> tuple[Array, Array]:
                batch = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf), rows, axis=0), row)
                batch = batch._replace(input_ids=jnp.arange(rows * length).reshape(rows, length))
                logits = fns.apply(_with_word_table(params, words.reshape(rows * length, -1)), batch)[:, 0, index]
                return logits.sum(), logits

            gradient, logits = jax.grad(sum_of_logits, has_aux=True)(path)
            return jnp.einsum("rle,le,r->l", gradient, change, weight), logits

        return jax.jit(evaluate)


def _row_length(size: int) -> int:
    """Returns the shortest row length that holds `size` slots."""
    return next((length for length in LENGTHS if length >= size), -(-size // 8) * 8)
