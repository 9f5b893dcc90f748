"""Label a Parquet data set with Ray Data: workers that hold the model, restarted if they die.

Command: pip install 'ray[data]' pairjax; python experiments/serving/ray_predict.py runs/quickstart pairs.parquet out
The columns are sentence1 and sentence2; the others are kept. `out` becomes a folder of Parquet files.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import ray


class Predictor:
    """A worker: one copy of the model.

    Args:
        folder: The model folder.
    """

    def __init__(self, folder: str) -> None:
        from pairjax.inference.load import load
        from pairjax.step.compilation import use_compilation_cache

        use_compilation_cache(None)
        self._model = load(folder)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Returns the batch with a column for each field of an answer.

        Args:
            batch: Columns of N rows each.
        """
        pairs = zip(batch["sentence1"].tolist(), batch["sentence2"].tolist(), strict=True)
        predictions = self._model.predict(pairs)
        answers: dict[str, Any] = {"worker": np.full(len(predictions), os.getpid())}
        if self._model.task.kind == "regression":
            return batch | answers | {"score": np.array([answer.score for answer in predictions])}
        answers["label"] = np.array([answer.label for answer in predictions])
        for label in self._model.task.labels:
            answers[f"probability of {label}"] = np.array([answer.probabilities[label] for answer in predictions])
        return batch | answers


def main() -> None:
    """Labels all rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="a model folder, or a run folder")
    parser.add_argument("input", help="a Parquet file or a folder of them")
    parser.add_argument("output", help="a new folder")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    options = parser.parse_args()
    if Path(options.output).exists():
        parser.error(f"{options.output} exists; choose another folder")
    # Reading and writing need processors too, or the workers wait for ever.
    ray.init(num_cpus=max(options.workers + 2, os.cpu_count() or 1), include_dashboard=False)
    data = ray.data.read_parquet(str(Path(options.input).resolve()))
    labelled = data.map_batches(
        Predictor,
        fn_constructor_args=[str(Path(options.model).resolve())],
        batch_size=options.batch_size,
        # Ray replaces a worker that dies, and computes its batches again.
        compute=ray.data.ActorPoolStrategy(size=options.workers),
    )
    labelled.write_parquet(str(Path(options.output).resolve()))


if __name__ == "__main__":
    main()
