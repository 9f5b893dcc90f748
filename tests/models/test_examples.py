"""The examples in docstrings give what they show."""

import doctest
from types import ModuleType

import pytest

from pairjax.models import combine, pool
from pairjax.step import losses


@pytest.mark.parametrize("module", [combine, losses, pool], ids=["combine", "losses", "pool"])
def test_examples_of_docstrings(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
