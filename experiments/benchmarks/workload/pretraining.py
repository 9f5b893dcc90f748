"""Writes the pretraining model and the masked batches that the torch side reads."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.shared.constants import IGNORED, PRETRAINING
from pairjax.base.config import OptimConfig, TrainConfig
from pairjax.base.pretrain_config import CorpusConfig, PretrainConfig, PretrainEvalConfig, PretrainModelConfig
from pairjax.data.masking import train_rows
from pairjax.pretrain.prepare import prepare_pretraining
from pairjax.weights import save_pretraining

BATCHES = 48
"""Number of batches drawn beforehand for the torch side; rounds cycle through them."""


def pretrain_config(work: Path, corpus: str | None, *, encoder: str | None = None) -> PretrainConfig:
    """Returns the config: masked tokens and next sentences from a pretrained encoder, 32 rows of 128.

    Args:
        work: The working folder.
        corpus: Glob of the text files; None generates text by rules.
        encoder: The initial encoder; None means the folder that the torch side starts from.
    """
    return PretrainConfig(
        data=CorpusConfig(corpus=corpus, max_length=128, cache=str(work / "corpora")),
        model=PretrainModelConfig(encoder=encoder or str(work / PRETRAINING)),
        optim=OptimConfig(learning_rate=5e-5),
        train=TrainConfig(max_steps=1_000_000, batch_size=32),
        evaluation=PretrainEvalConfig(baselines=False),
    )


def write_pretraining(work: Path, meta: dict[str, Any], real: Path | None) -> dict[str, Any]:
    """Writes a `BertForPreTraining` folder with new heads, and the run's first batches.

    Args:
        work: The working folder.
        meta: The content of meta.json so far.
        real: Folder of the real sets; None if there is none.

    Returns:
        The entry of pretraining in meta.json.
    """
    text = real / "corpus-en" if real is not None else None
    corpus = str(text / "*.train.txt") if text is not None and text.is_dir() else None
    prepared = prepare_pretraining(pretrain_config(work, corpus, encoder=meta["encoder"]))
    folder = work / PRETRAINING
    save_pretraining(
        folder, prepared.spec, prepared.params, config=prepared.settings, tokeniser=prepared.save_tokeniser
    )
    stream = train_rows(prepared.makers["train"], batch_size=32, start_step=0, stop_step=BATCHES)
    arrays: dict[str, list[np.ndarray]] = {}
    for _, batch in stream:
        labels = np.full(batch.input_ids.shape, IGNORED, np.int32)
        row, place = np.nonzero(batch.masked_weights)
        labels[row, batch.masked_positions[row, place]] = batch.masked_targets[row, place]
        inputs = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.pair_ids,
            "token_type_ids": batch.token_type_ids,
            "labels": labels,
            "segment": batch.label[:, 0],
        }
        for name, array in inputs.items():
            arrays.setdefault(name, []).append(array)
    np.savez(work / f"{PRETRAINING}.npz", **{name: np.stack(batches) for name, batches in arrays.items()})
    width = prepared.spec.hidden_size
    return {
        "corpus": corpus,
        "source": "corpus-en" if corpus else "rules: stories",
        "batches": BATCHES,
        "cost": meta["shape"] | {"above": width * (width + 2), "words": width * (width + prepared.spec.vocab_size)},
    }
