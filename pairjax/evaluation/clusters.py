"""Clusters of pairs that share texts, which are not independent evidence about a model."""

import numpy as np
from jaxtyping import Int64

from pairjax.base.types import Pairs


def text_clusters(pairs: Pairs) -> Int64[np.ndarray, " pairs"]:
    """Returns the cluster of each pair: pairs that share a text, directly or through other pairs, are in one cluster.

    Two pairs with a text in common are not independent evidence about a model.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    position = {text: index for index, text in enumerate(dict.fromkeys([*pairs.first, *pairs.second]))}
    first, second = ([position[text] for text in side] for side in (pairs.first, pairs.second))
    links = coo_matrix((np.ones(len(first)), (first, second)), shape=(len(position), len(position)))
    _, label = connected_components(links, directed=False)
    return label[first].astype(np.int64)
