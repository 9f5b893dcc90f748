"""Finds the distinct sides of bi-encoder rows, so each is encoded only once."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from pairjax.data.encode import EncodedPairs


@dataclass(frozen=True)
class Sides:
    """The distinct token sequences of N pairs.

    Attributes:
        keys: The int32 ids of each sequence as bytes, in the order of first use.
        pairs: int64 [N, 2]; indices into `keys` of A and B.
    """

    keys: tuple[bytes, ...]
    pairs: Int64[np.ndarray, "pairs 2"]


def distinct_sides(encoded: EncodedPairs) -> Sides:
    """Returns the distinct sides: equal tokens after truncation are one sequence, whether on side A or B.

    Raises:
        ValueError: The rows are joint (cross), so their sides are not sequences of their own.
    """
    if encoded.kind != "bi":
        raise ValueError("the sides of a joint row are not encoded separately; expected rows of a bi-encoder")
    ends = np.stack([encoded.offsets[:-1] + encoded.first_length, encoded.offsets[1:]], axis=1).ravel().tolist()
    tokens, width = encoded.tokens.tobytes(), encoded.tokens.itemsize
    positions: dict[bytes, int] = {}
    index, begin = [], 0
    for end in ends:
        index.append(positions.setdefault(tokens[begin * width : end * width], len(positions)))
        begin = end
    return Sides(tuple(positions), np.asarray(index, np.int64).reshape(-1, 2))


def build_text_rows(keys: list[bytes], like: EncodedPairs) -> EncodedPairs:
    """Builds rows that have a side A and an empty side B.

    Args:
        keys: The int32 ids of each sequence as bytes, as in `Sides.keys`.
        like: The rows that the sequences came from; its settings are copied, its counts of cut pairs are not.
    """
    counts = np.asarray([len(key) for key in keys], np.int64) // np.dtype(np.int32).itemsize
    return replace(
        like,
        tokens=np.frombuffer(b"".join(keys), np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        first_length=counts.astype(np.int32),
        truncated=0,
        lost=0,
        bare=0,
        cut=None,
    )


def blank_rows(length: int, count: int, like: EncodedPairs) -> EncodedPairs:
    """Builds rows of pad tokens, which give a batch its shape and nothing else.

    Args:
        length: Slots of each row.
        count: Number of rows.
        like: Rows of the same model.
    """
    return build_text_rows([np.full(length, like.pad_id, np.int32).tobytes()] * count, like)
