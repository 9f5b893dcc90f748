"""Small batches of pairs for the tests of models."""

import numpy as np

from pairjax.base.types import Batch, EncoderSpec

CLS, SEP, VOCABULARY = 1, 2, 40


def tiny_spec(**changes) -> EncoderSpec:
    """Describes an encoder of two layers of width 16."""
    return EncoderSpec(
        **{
            "family": "bert",
            "vocab_size": VOCABULARY,
            "hidden_size": 16,
            "embedding_size": 16,
            "num_layers": 2,
            "num_heads": 2,
            "intermediate_size": 32,
            "max_positions": 64,
            "type_vocab_size": 2,
            "position_offset": 0,
            "pad_token_id": 0,
            "layer_norm_eps": 1e-12,
            "activation": "gelu",
            "has_pooler": True,
            **changes,
        }
    )


def random_pairs(count, *, seed=0):
    """Draws pairs of token lists with 2 to 6 tokens per side."""
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(3, VOCABULARY, rng.integers(2, 7)).tolist() for _ in range(2)) for _ in range(count)]


def lay(pairs, kind, packing=None, *, length=None, slots=None, labels=None) -> Batch:
    """Lays pairs out as a batch.

    Args:
        pairs: (A's tokens, B's tokens) of each pair, without special tokens.
        kind: cross: [CLS] A [SEP] B [SEP]; bi: [CLS] A [SEP] and [CLS] B [SEP], each from position 0.
        packing: Indices of the pairs in each row; by default one pair per row.
        length: Token slots of a row; by default the smallest number that suffices.
        slots: Pair slots K; by default the smallest number that suffices.
        labels: Label of each pair.
    """
    packing = [[index] for index in range(len(pairs))] if packing is None else packing
    rows = []
    for members in packing:
        row = []  # (token, segment, position, pair, side) of each slot
        for slot, index in enumerate(members, start=1):
            first, second = pairs[index]
            a, b = [CLS, *first, SEP], [*([CLS] if kind == "bi" else []), *second, SEP]
            start = 0 if kind == "bi" else len(a)
            row += [(token, 0, place, slot, 0) for place, token in enumerate(a)]
            row += [(token, int(kind == "cross"), start + place, slot, 1) for place, token in enumerate(b)]
        rows.append(row)
    length = length or max(map(len, rows))
    slots = slots or max(map(len, packing))
    tokens = np.zeros((5, len(rows), length), np.int32)
    example = np.full((len(rows), slots), -1, np.int32)
    label = np.zeros((len(rows), slots), np.int32)
    for r, row in enumerate(rows):
        tokens[:, r, : len(row)] = np.asarray(row, np.int32).reshape(-1, 5).T
        example[r, : len(packing[r])] = packing[r]
        if labels is not None:
            label[r, : len(packing[r])] = np.asarray(labels)[packing[r]]
    weight = (example >= 0).astype(np.float32)
    return Batch(*tokens, label, weight, example)
