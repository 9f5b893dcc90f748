"""Shapes in signatures are checked in tests only, by jaxtyping's import hook with beartype."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Eight devices for the sharding tests; and little optimisation, since tiny models spend their time compiling.
FLAGS = ("--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=0")
os.environ["XLA_FLAGS"] = " ".join(
    (os.environ.get("XLA_FLAGS", ""), *FLAGS, "--xla_llvm_disable_expensive_passes=true")
)

import jax
import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parents[1]
# All but the rules' grammars, which have no shapes and are called a hundred times a pair, and the configs, which check
# and convert their fields themselves.
FOLDERS = ("base", "data")
CHECKED = [f"pairjax.{path.stem}" for path in (ROOT / "pairjax").iterdir() if path.stem not in ("__init__", *FOLDERS)]
CHECKED += [
    f"pairjax.{folder}.{path.stem}"
    for folder in FOLDERS
    for path in (ROOT / "pairjax" / folder).glob("*.py")
    if path.stem != "__init__" and not path.stem.endswith("config")
]
install_import_hook(CHECKED, "beartype.beartype")

jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "xla-tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

DEVICES = jax.devices()
seen = DEVICES[:1]
# Programs of one device compile and run faster, so a test sees one, as on a laptop, unless it is marked `mesh`.
for name in ("devices", "local_devices"):
    setattr(jax, name, lambda *args, **kwargs: list(seen))
for name in ("device_count", "local_device_count"):
    setattr(jax, name, lambda *args, **kwargs: len(seen))
# Programs that a test starts see one device too.
os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"].replace(FLAGS[0], "")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Shows a test all simulated devices or one."""
    global seen
    seen = DEVICES if item.get_closest_marker("mesh") else DEVICES[:1]


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real sets, or a skip that says which variable names it."""
    folder = os.environ.get("PAIRJAX_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PAIRJAX_DATA names no folder with the real sets")
    return Path(folder)
