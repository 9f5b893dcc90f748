"""Environments without a home folder or without the device that JAX_PLATFORMS names."""

import pwd

import jax
import pytest

from pairjax.base.errors import UserError
from pairjax.step.compilation import check_devices, compilation_cache, use_compilation_cache


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda'\nmore")])
def test_a_device_that_is_missing_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def devices() -> None:
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(UserError, match=r"JAX_PLATFORMS=cuda.*unset JAX_PLATFORMS") as raised:
        check_devices()
    assert "\n" not in str(raised.value)


def test_without_a_home_folder_nothing_is_cached_and_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    before = compilation_cache()
    use_compilation_cache(None)
    assert compilation_cache() == before
    assert capsys.readouterr().err.count("\n") == 1
