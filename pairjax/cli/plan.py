"""`pairjax plan EXPERIMENT.py --tpu v5e:4x4 | --gpu h100:8 | --cpu [N]`: forecasts what a run needs."""

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
from pairjax.cli.options import load_defaults, parse, split_experiment, without_source

COMPILES = "PAIRJAX_PLAN_COMPILES"
"""Environment variable that is set in the child process with libtpu."""
QUIET = {"TPU_STDERR_LOG_LEVEL": "3", "TPU_MIN_LOG_LEVEL": "3", "TF_CPP_MIN_LOG_LEVEL": "3", "TPU_LOG_DIR": "disabled"}


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """Forecast what a run needs on devices before you rent them: memory and arithmetic of each device, traffic between
    them, time of a step at the devices' peak rates, the largest batch that fits and the fastest mesh.

    pairjax plan EXPERIMENT.py --tpu v5e:4x4, or --gpu h100:8, or --cpu [N]; all options of the experiment work too. No
    weights are read. With libtpu (extra: tpu) XLA:TPU compiles the step; otherwise the figures are estimates."""

    tpu: str | None = None
    """TPU slice, such as v5e:4x4 or v4:2x2x2."""
    gpu: str | None = None
    """GPUs, such as h100:8."""
    cpu: int | None = None
    """Number of devices simulated on this machine's CPU (default without a number: 1); their rates are measured."""
    length: int | None = None
    """Token slots of a row; with it, no data is read. Default: the longest row that the experiment's data needs."""
    libtpu_python: str | None = None
    """Python interpreter that has libtpu, if this one does not."""
    compile: bool = True
    """Compile the step if its compiler is available: libtpu for --tpu, XLA's own for --cpu."""


def main(args: Sequence[str]) -> int:
    """Runs `pairjax plan` and returns its exit code."""
    options, config = _parse(args)
    target = _target(options)
    if target.kind == "tpu" and options.compile and COMPILES not in os.environ:
        library = _libtpu(options.libtpu_python)
        if library is not None:
            code = _in_child(args, library)
            if code >= 0:
                return code
            print(f"pairjax: libtpu was killed by signal {-code}; the figures below are an estimate", file=sys.stderr)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if target.kind == "cpu" and "jax" not in sys.modules:
        flags = f"--xla_force_host_platform_device_count={target.count}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()

    from pairjax.plan.advise import make_plan
    from pairjax.plan.tables import format_forecast

    compiler = options.compile and (target.kind == "cpu" or COMPILES in os.environ)
    plan = make_plan(config, target, length=options.length, compiler=compiler)
    for line in format_forecast(plan):
        print(line)
    if target.kind == "tpu" and not compiler and options.compile:
        print("for compiled figures install the extra tpu, or name an interpreter that has libtpu with --libtpu-python")
    return 0


def _parse(args: Sequence[str]) -> tuple[PlanOptions, Any]:
    """Parses the command's own options, and the experiment's config with its options."""
    path, rest = split_experiment(_with_count(args))
    asks_help = bool({"-h", "--help"} & set(rest))
    default: Config | PretrainConfig = Config()
    if path is not None:
        default, _ = load_defaults(path)
    elif not asks_help:
        raise UserError("pairjax plan needs an experiment file", fix="pairjax plan experiments/quickstart.py --cpu")
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
    options: Any = parse(both, rest, prog="pairjax plan", description=PlanOptions.__doc__ or "")
    return options.plan, options.config


def _with_count(args: Sequence[str]) -> list[str]:
    """Returns the arguments with `--cpu` alone replaced by `--cpu 1`."""
    expanded: list[str] = []
    for arg, after in pairwise([*args, ""]):
        expanded += [arg, "1"] if arg == "--cpu" and not after.lstrip("-").isdigit() else [arg]
    return expanded


def _target(options: PlanOptions) -> Any:
    """Returns the devices that the run is planned for.

    Raises:
        UserError: None or several are named, or they are unknown.
    """
    from pairjax.plan.devices import cpu_target, gpu_target, tpu_target

    named = [name for name in ("tpu", "gpu", "cpu") if getattr(options, name) is not None]
    if len(named) != 1:
        got = " and ".join(f"--{name}" for name in named) or "none"
        raise UserError("name one kind of device", got=got, expected="--tpu v5e:4x4, --gpu h100:8 or --cpu [N]")
    makers: dict[str, Any] = {"tpu": tpu_target, "gpu": gpu_target, "cpu": cpu_target}
    return makers[named[0]](getattr(options, named[0]))


def _libtpu(interpreter: str | None) -> str | None:
    """Returns the path of an interpreter's libtpu library; without an interpreter, this one's, or None.

    Raises:
        UserError: The named interpreter cannot be run or has no libtpu.
    """
    if interpreter is None:
        spec = importlib.util.find_spec("libtpu")
        folder = Path(spec.origin).parent if spec is not None and spec.origin else None
        return str(folder / "libtpu.so") if folder is not None and (folder / "libtpu.so").is_file() else None
    code = "import libtpu; print(libtpu.get_library_path())"
    try:
        process = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"--libtpu-python {interpreter}: cannot be run", got=error) from None
    if process.returncode or not Path(process.stdout.strip()).is_file():
        raise UserError(
            f"--libtpu-python {interpreter}: libtpu is not importable there",
            got=(process.stderr.strip().splitlines() or ["no library"])[-1],
            fix=f"run: {interpreter} -m pip install libtpu",
        )
    return process.stdout.strip()


def _in_child(args: Sequence[str], library: str) -> int:
    """Runs this command in a child process with a libtpu library, and returns its exit code.

    libtpu ends its process if something goes wrong, and would look for a TPU if JAX asked for one.
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
