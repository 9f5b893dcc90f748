"""A minimal batch, to derive the shapes of parameters."""

import numpy as np

from pairjax.base.types import Batch


def tiny_batch(*, masked: int = 0) -> Batch:
    """Builds one row with one pair of two tokens per side; no parameter's shape depends on R, L or K.

    Args:
        masked: Number of masked positions, for pretraining.
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
    positions = np.zeros((1, masked), np.int32)
    return batch._replace(
        masked_positions=positions, masked_targets=positions, masked_weights=np.ones((1, masked), np.float32)
    )
