"""Pretraining on text. The package is callable: `pairjax.pretrain(config)` calls `pairjax.pretrain.train.pretrain`.

The function and this package have the same name, and Python binds the package to it as soon as a module of the package
is imported.
"""

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package that can be called like its main function."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from pairjax.pretrain.train import pretrain

        return pretrain(*args, **options)


sys.modules[__name__].__class__ = _CallablePackage
