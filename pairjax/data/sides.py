"""The sides of bi-encoder rows as texts alone, each distinct one once."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from pairjax.data.encode import EncodedPairs


@dataclass(frozen=True)
class Sides:
    """Distinct token sequences, and where each pair's two stand among them.

    Attributes:
        keys: Each sequence's ids as bytes, in the order of first use.
        pairs: int64 [N, 2]; A's and B's place in `keys`.
    """

    keys: tuple[bytes, ...]
    pairs: Int64[np.ndarray, "pairs 2"]


def distinct_sides(encoded: EncodedPairs) -> Sides:
    """Sides that are the same tokens, after truncation, whichever side they stand on, are one.

    Raises:
        ValueError: Joint rows, whose sides are no texts of their own.
    """
    if encoded.kind != "bi":
        raise ValueError("the sides of a joint row are not encoded alone")
    ends = np.stack([encoded.offsets[:-1] + encoded.first_length, encoded.offsets[1:]], axis=1).ravel().tolist()
    tokens, width = encoded.tokens.tobytes(), encoded.tokens.itemsize
    place: dict[bytes, int] = {}
    found, begin = [], 0
    for end in ends:
        found.append(place.setdefault(tokens[begin * width : end * width], len(place)))
        begin = end
    return Sides(tuple(place), np.asarray(found, np.int64).reshape(-1, 2))


def alone(keys: list[bytes], like: EncodedPairs) -> EncodedPairs:
    """Sequences as rows with a side A and nothing on side B.

    Args:
        keys: Each sequence's int32 ids as bytes, as `distinct_sides` gives them.
        like: The rows they came from; its counts of what was cut are not theirs.
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
    )
