"""Starts the torch side of a case: `python -m experiments.benchmarks.torch_side.main NAME SETTINGS`.

Runs the torch tools as their users do. Needs the extra `bench` and imports nothing of pairjax.
"""

import importlib
import os
import sys
import warnings

from experiments.benchmarks.shared.protocol import Worker, serve

WORKERS = {
    "step": "training.Step",
    "train": "training.Train",
    "bi_train": "training.BiTrain",
    "first_step": "training.FirstStep",
    "predict": "prediction.Predict",
    "bi_predict": "prediction.BiPredict",
    "evaluation": "prediction.Evaluation",
    "pipeline": "batches.Pipeline",
    "pretrain": "pretraining.Pretrain",
    "pretrain_gathered": "pretraining.PretrainGathered",
    "loading": "loading.Loading",
    "populations": "populations.Populations",
    "populations_batched": "populations.PopulationsBatched",
}
"""Module and class of each worker."""


def load_worker(name: str) -> type[Worker]:
    """Returns the class of a worker; imports only that worker's module, as the pairjax side does."""
    module, kind = WORKERS[name].split(".")
    worker: type[Worker] = getattr(importlib.import_module(f"experiments.benchmarks.torch_side.{module}"), kind)
    return worker


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.filterwarnings("ignore")
    worker = load_worker(sys.argv[1])
    from experiments.benchmarks.torch_side.case import measure_matrix_rate

    serve(worker, measure_matrix_rate)
