"""The smallest batch there is, for shapes."""

import numpy as np

from pairjax.base.types import Batch


def tiny_batch(*, masked: int = 0) -> Batch:
    """One row with one pair of two tokens a side: enough for shapes, since no parameter depends on R, L or K.

    Args:
        masked: Masked positions of the row, for pretraining; 0 for none.
    """
    zeros = np.zeros((1, 4), np.int32)
    batch = Batch(
        input_ids=zeros,
        token_type_ids=zeros,
        position_ids=np.asarray([[0, 1, 2, 3]], np.int32),
        pair_ids=zeros + 1,
        side_ids=np.asarray([[0, 0, 1, 1]], np.int32),
        label=np.zeros((1, 1), np.int32),
        weight=np.ones((1, 1), np.float32),
        example_id=np.zeros((1, 1), np.int32),
    )
    if not masked:
        return batch
    places = np.zeros((1, masked), np.int32)
    return batch._replace(
        masked_positions=places, masked_targets=places, masked_weights=np.ones((1, masked), np.float32)
    )
