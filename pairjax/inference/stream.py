"""Answer a stream of rows chunk by chunk: a thread reads and tokenises the next chunk while one is computed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from pairjax.base.errors import UncuttableError
from pairjax.data.encode import EncodedPairs, Losses
from pairjax.data.table import BadRow, Row
from pairjax.inference.chunks import ArrivedChunks, FullChunks
from pairjax.inference.predictions import Prediction

Encode = Callable[[Sequence[str], Sequence[str], Sequence[str]], EncodedPairs]
"""From first texts, second texts and the places of pairs to token rows."""


def stream_answers(
    chunks: FullChunks | ArrivedChunks,
    encode: Encode,
    predict: Callable[[EncodedPairs], list[Prediction]],
    *,
    mark: bool,
    report: Callable[[Iterable[str]], None],
) -> Iterator[tuple[tuple[str, str] | BadRow, Prediction | None]]:
    """Yields the rows of the chunks with their predictions; a row that is not a pair has None.

    Args:
        chunks: The rows.
        encode: Tokenises pairs.
        predict: Computes the predictions for token rows.
        mark: Whether a pair that may not be cut becomes a `BadRow`; if not, it ends the stream with an error.
        report: Receives notes on what was cut, after the last row.
    """

    def read() -> tuple[list[Row], EncodedPairs | None]:
        return _encode_rows(chunks.take(), encode, mark=mark)

    losses: Losses | None = None
    with ThreadPoolExecutor(max_workers=1) as pool:
        following = pool.submit(read)
        try:
            while True:
                block, encoded = following.result()
                if not block:
                    break
                following = pool.submit(read)
                predictions: Iterator[Prediction] = iter(())
                if encoded is not None:
                    losses = encoded.losses if losses is None else losses.plus(encoded.losses)
                    predictions = iter(predict(encoded))
                yield from ((row, None if isinstance(row, BadRow) else next(predictions)) for row in block)
        finally:
            chunks.close()
    report(losses.notes() if losses is not None else ())


def _encode_rows(block: list[Row], encode: Encode, *, mark: bool) -> tuple[list[Row], EncodedPairs | None]:
    """Encodes the pairs of a chunk, and marks those that may not be cut if `mark` is set."""
    pairs = [row for row in block if not isinstance(row, BadRow)]
    if not pairs:
        return block, None
    try:
        encoded = encode([first for first, _ in pairs], [second for _, second in pairs], [pair.place for pair in pairs])
    except UncuttableError as error:
        if not mark:
            raise
        reasons = {id(pairs[i]): reason for i, reason in error.reasons.items()}
    else:
        return block, encoded
    marked = [BadRow(row.number, reasons[id(row)]) if id(row) in reasons else row for row in block]
    return _encode_rows(marked, encode, mark=mark)
