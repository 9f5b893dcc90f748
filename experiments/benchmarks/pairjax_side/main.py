"""Starts pairjax's side of a case: `python -m experiments.benchmarks.pairjax_side.main NAME SETTINGS`."""

import importlib
import os
import sys

from experiments.benchmarks.shared.protocol import Worker, serve

WORKERS = {
    "step": "training.Step",
    "train": "training.Train",
    "first_step": "training.FirstStep",
    "predict": "prediction.Predict",
    "evaluation": "prediction.Evaluation",
    "pipeline": "batches.Pipeline",
    "pretrain": "pretraining.Pretrain",
    "loading": "loading.Loading",
    "populations": "populations.Populations",
}
"""Module and class of each worker."""


def load_worker(name: str) -> type[Worker]:
    """Returns the class of a worker.

    Imports only that worker's module: `first_step` is timed from the start of the process, so imports count.
    """
    module, kind = WORKERS[name].split(".")
    worker: type[Worker] = getattr(importlib.import_module(f"experiments.benchmarks.pairjax_side.{module}"), kind)
    return worker


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    worker = load_worker(sys.argv[1])
    from experiments.benchmarks.pairjax_side.case import measure_matrix_rate

    serve(worker, measure_matrix_rate)
