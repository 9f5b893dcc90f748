"""Trees of parameters by path, and tables of patterns in which the first match wins and every path must match."""

import pytest

from pairjax.base.errors import UserError
from pairjax.base.params import flatten, lookup, merge, split, unflatten

TREE = {"encoder": {"layer_0": {"kernel": 1, "bias": 2}, "layer_10": {"kernel": 3}}, "head": {"kernel": 4}}
FLAT = {"encoder/layer_0/bias": 2, "encoder/layer_0/kernel": 1, "encoder/layer_10/kernel": 3, "head/kernel": 4}


def test_flatten_and_unflatten_are_inverse() -> None:
    assert flatten(TREE) == FLAT
    assert unflatten(FLAT) == TREE
    assert flatten({}) == {}
    assert unflatten({}) == {}


def test_flatten_has_the_order_of_jax_tree_leaves() -> None:
    import jax

    assert list(flatten(TREE).values()) == jax.tree.leaves(TREE)


def test_the_first_pattern_that_matches_wins() -> None:
    table = ((r".*/bias", "bias"), (r"encoder/.*", "encoder"), (r".*", "rest"))
    assert lookup(table, list(FLAT)) == {
        "encoder/layer_0/bias": "bias",
        "encoder/layer_0/kernel": "encoder",
        "encoder/layer_10/kernel": "encoder",
        "head/kernel": "rest",
    }


def test_a_pattern_matches_whole_paths_only() -> None:
    with pytest.raises(UserError, match="no pattern covers the parameter encoder/layer_10/kernel"):
        lookup(((r"encoder/layer_1", 1), (r"encoder/layer_0/.*", 0), (r"head/.*", 2)), list(FLAT))


def test_an_uncovered_path_is_named_with_the_patterns_tried() -> None:
    with pytest.raises(UserError) as caught:
        lookup(((r"encoder/.*", 0), (r".*/bias", 1)), list(FLAT))
    assert str(caught.value) == "no pattern covers the parameter head/kernel; expected one of encoder/.*, .*/bias"


def test_split_and_merge_are_inverse() -> None:
    inside, outside = split(TREE, {path: path.endswith("kernel") for path in FLAT})
    assert flatten(inside).keys() | flatten(outside).keys() == FLAT.keys()
    assert flatten(outside) == {"encoder/layer_0/bias": 2}
    assert merge(inside, outside) == TREE
    assert merge(outside, inside) == TREE


def test_merging_trees_that_share_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match="head/kernel"):
        merge(TREE, {"head": {"kernel": 5}})


def test_splitting_without_a_choice_for_a_path_is_refused() -> None:
    with pytest.raises(KeyError, match="head/kernel"):
        split(TREE, {path: True for path in FLAT if not path.startswith("head")})
