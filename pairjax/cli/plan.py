"""`pairjax plan EXPERIMENT.py --tpu v5e:4x4 | --gpu h100:8 | --cpu [N]`."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import tyro

from pairjax.base.config import Config
from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import PretrainConfig
from pairjax.cli.options import load_experiment, parse, split_experiment, without_source

COMPILES = "PAIRJAX_PLAN_COMPILES"
"""Set in the child process that has libtpu at hand."""
QUIET = {"TPU_STDERR_LOG_LEVEL": "3", "TPU_MIN_LOG_LEVEL": "3", "TF_CPP_MIN_LOG_LEVEL": "3", "TPU_LOG_DIR": "disabled"}


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """What a run needs on devices that nobody has rented yet: memory and arithmetic of each device, traffic between
    them, time of a step at the devices' peaks, the largest batch that fits and the mesh that is fastest.

    pairjax plan EXPERIMENT.py --tpu v5e:4x4, or --gpu h100:8, or --cpu [N]; all options of the experiment hold too. No
    weights are read. With libtpu (extra: tpu) the step is compiled by XLA:TPU; otherwise the figures are estimates."""

    tpu: str | None = None
    """TPU slice, as v5e:4x4 or v4:2x2x2."""
    gpu: str | None = None
    """GPUs, as h100:8."""
    cpu: int | None = None
    """Devices simulated on this machine's CPU (1 without a number), whose rates are measured."""
    length: int | None = None
    """Slots of a row; no data are read then. Default: the longest row that the experiment's data need."""
    libtpu_python: str | None = None
    """Interpreter in whose environment libtpu is installed, where it is not in this one's."""
    compile: bool = True
    """Compile the step where its compiler is at hand: libtpu for --tpu, XLA's own for --cpu."""


def main(args: Sequence[str]) -> int:
    options, config = _parse(args)
    target = _target(options)
    if target.kind == "tpu" and options.compile and COMPILES not in os.environ:
        library = _libtpu(options.libtpu_python)
        if library is not None:
            code = _in_child(args, library)
            if code >= 0:
                return code
            print(f"pairjax: libtpu was killed by signal {-code}; what follows is an estimate", file=sys.stderr)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if target.kind == "cpu" and "jax" not in sys.modules:
        flags = f"--xla_force_host_platform_device_count={target.count}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()

    from pairjax.plan.advise import make_plan
    from pairjax.plan.shown import shown

    compiler = options.compile and (target.kind == "cpu" or COMPILES in os.environ)
    plan = make_plan(config, target, length=options.length, compiler=compiler)
    for line in shown(plan):
        print(line)
    if target.kind == "tpu" and not compiler and options.compile:
        print("for compiled figures install the extra tpu, or name with --libtpu-python an interpreter that has libtpu")
    return 0


def _parse(args: Sequence[str]) -> tuple[PlanOptions, Any]:
    """The command's own options, and the experiment's config with its options."""
    path, rest = split_experiment(_with_count(args))
    helps = bool({"-h", "--help"} & set(rest))
    default: Config | PretrainConfig = Config()
    if path is not None:
        default = load_experiment(path).config
    elif not helps:
        raise UserError("pairjax plan needs an experiment file", fix="pairjax plan experiments/quickstart.py --cpu")
    if not isinstance(default, Config | PretrainConfig):
        raise UserError(
            f"{path}: its config is of no run", got=type(default).__name__, expected="Config or PretrainConfig"
        )
    if isinstance(default, Config):
        default = dataclasses.replace(default, data=without_source(default.data, rest))
    kind = type(default)
    both = dataclasses.make_dataclass(
        "Options",
        [
            ("plan", Annotated[PlanOptions, tyro.conf.arg(name="")], dataclasses.field(default_factory=PlanOptions)),
            ("config", Annotated[kind, tyro.conf.arg(name="")], dataclasses.field(default=default)),
        ],
        frozen=True,
    )
    found: Any = parse(both, rest, prog="pairjax plan", description=PlanOptions.__doc__ or "")
    return found.plan, found.config


def _with_count(args: Sequence[str]) -> list[str]:
    """`--cpu` alone as `--cpu 1`."""
    found: list[str] = []
    for arg, after in pairwise([*args, ""]):
        found += [arg, "1"] if arg == "--cpu" and not after.lstrip("-").isdigit() else [arg]
    return found


def _target(options: PlanOptions) -> Any:
    """Where the run is to go.

    Raises:
        UserError: Not exactly one is named, or one that is unknown.
    """
    from pairjax.plan.devices import cpu_target, gpu_target, tpu_target

    named = [name for name in ("tpu", "gpu", "cpu") if getattr(options, name) is not None]
    if len(named) != 1:
        got = " and ".join(f"--{name}" for name in named) or "none"
        raise UserError("name one kind of device", got=got, expected="--tpu v5e:4x4, --gpu h100:8 or --cpu [N]")
    makers: dict[str, Any] = {"tpu": tpu_target, "gpu": gpu_target, "cpu": cpu_target}
    return makers[named[0]](getattr(options, named[0]))


def _libtpu(interpreter: str | None) -> str | None:
    """The library of the libtpu that an interpreter has installed (this one by default); None where this has none.

    Raises:
        UserError: The interpreter that is named has none.
    """
    if interpreter is None:
        spec = importlib.util.find_spec("libtpu")
        folder = Path(spec.origin).parent if spec is not None and spec.origin else None
        return str(folder / "libtpu.so") if folder is not None and (folder / "libtpu.so").is_file() else None
    code = "import libtpu; print(libtpu.get_library_path())"
    try:
        asked = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"--libtpu-python {interpreter}: cannot be run", got=error) from None
    if asked.returncode or not Path(asked.stdout.strip()).is_file():
        raise UserError(
            f"--libtpu-python {interpreter}: libtpu is not importable there",
            got=(asked.stderr.strip().splitlines() or ["no library"])[-1],
            fix=f"run: {interpreter} -m pip install libtpu",
        )
    return asked.stdout.strip()


def _in_child(args: Sequence[str], library: str) -> int:
    """This command in a process of its own, by this interpreter, with that libtpu; its exit code.

    libtpu ends its process when something is wrong, and would look for a TPU if JAX asked for one.
    """
    environment = {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_LIBRARY_PATH": library,
        COMPILES: "1",
    }
    command = [sys.executable, "-m", "pairjax", "plan", *args]
    return subprocess.run(command, env={**os.environ, **QUIET, **environment}, check=False).returncode
