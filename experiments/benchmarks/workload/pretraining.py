"""What the cases of pretraining and populations are given besides: rows with their masks, heads with their orders."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pairjax.base.config import CombineConfig, DataConfig, FeatureConfig, ModelConfig, OptimConfig, TrainConfig
from pairjax.base.pretrain_config import CorpusConfig, PretrainConfig, PretrainEvalConfig, PretrainModelConfig
from pairjax.base.types import DropoutRates, Hypers
from pairjax.data.masking import train_rows
from pairjax.data.sources import load_pairs
from pairjax.population.engine import MemberProgram, Members, make_hypers
from pairjax.population.features import cached_features
from pairjax.population.members import make_runs
from pairjax.population.pooled import HeadTask, head_program, head_task
from pairjax.pretrain.prepare import prepare_pretraining
from pairjax.weights import save_pretraining

PRETRAINING, HEADS = "pretraining", "heads"
BATCHES = 48
"""Of pretraining, drawn beforehand for the peer; rounds go round in them."""
IGNORED = -100
"""Label of a token that is not to be predicted, as transformers has it."""
SEEDS = 20
LEARNING_RATES = tuple(float(rate) for rate in np.geomspace(1e-4, 1e-2, 8))
DECAY = 0.01


def pretrain_config(work: Path, corpus: str | None, *, encoder: str | None = None) -> PretrainConfig:
    """Masked tokens and next sentences from an encoder on, 32 rows of 128; by default from what the peer begins with.

    Args:
        work: The working folder.
        corpus: Glob of text; None makes it by rules.
        encoder: To begin with.
    """
    return PretrainConfig(
        data=CorpusConfig(corpus=corpus, max_length=128, cache=str(work / "corpora")),
        model=PretrainModelConfig(encoder=encoder or str(work / PRETRAINING)),
        optim=OptimConfig(learning_rate=5e-5),
        train=TrainConfig(max_steps=1_000_000, batch_size=32),
        evaluation=PretrainEvalConfig(oracles=False),
    )


def write_pretraining(work: Path, meta: dict[str, Any], real: Path | None) -> dict[str, Any]:
    """A `BertForPreTraining` folder with fresh heads, and the run's first rows; what meta.json says of them."""
    text = real / "corpus-en" if real is not None else None
    corpus = str(text / "*.train.txt") if text is not None and text.is_dir() else None
    prepared = prepare_pretraining(pretrain_config(work, corpus, encoder=meta["encoder"]))
    folder = work / PRETRAINING
    save_pretraining(
        folder, prepared.spec, prepared.params, config=prepared.settings, tokeniser=prepared.save_tokeniser
    )
    batches = train_rows(prepared.makers["train"], batch_size=32, start_step=0, stop_step=BATCHES)
    rows: dict[str, list[np.ndarray]] = {}
    for _, batch in batches:
        labels = np.full(batch.input_ids.shape, IGNORED, np.int32)
        row, place = np.nonzero(batch.masked_weights)
        labels[row, batch.masked_positions[row, place]] = batch.masked_targets[row, place]
        made = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.pair_ids,
            "token_type_ids": batch.token_type_ids,
            "labels": labels,
            "order": batch.label[:, 0],
        }
        for name, array in made.items():
            rows.setdefault(name, []).append(array)
    np.savez(work / f"{PRETRAINING}.npz", **{name: np.stack(arrays) for name, arrays in rows.items()})
    width = prepared.spec.hidden_size
    return {
        "corpus": corpus,
        "source": "corpus-en" if corpus else "rules: stories",
        "batches": BATCHES,
        "cost": meta["shape"] | {"above": width * (width + 2), "words": width * (width + prepared.spec.vocab_size)},
    }


def head_source(work: Path) -> HeadTask:
    """SICK through cached vectors of the frozen encoder."""
    encoder = json.loads((work / "meta.json").read_text())["encoder"]
    data = load_pairs(DataConfig(path=str(work / "sick")))
    return head_task(data, cached_features(data.splits.values(), work / "features", FeatureConfig(encoder=encoder)))


def head_runs(work: Path, *, steps: int) -> tuple[MemberProgram, Members, np.ndarray]:
    """Linear heads on [|u - v|, u * v]: seeds x rates at a constant rate; and the rows of dev."""
    source = head_source(work)
    model = ModelConfig(kind="bi", combine=CombineConfig(features=("|u-v|", "u*v")))
    optim = OptimConfig(schedule="constant", warmup=0.0, clip_norm=0.0)
    program = head_program(source, model, optim=optim, steps=steps, dropout=False)
    base = Hypers(0.0, DECAY, 0.0, DropoutRates(0.0, 0.0, 0.0, 0.0))
    runs = make_runs(
        [source.rows["train"]] * SEEDS,
        seeds=range(SEEDS),
        hypers=make_hypers(base, learning_rate=LEARNING_RATES),
        batch_size=32,
        steps=steps,
    )
    return program, runs, source.rows["dev"]


def write_heads(work: Path, steps: int) -> None:
    """The same for the peer: what the heads read, their orders and where they begin."""
    source = head_source(work)
    program, runs, dev = head_runs(work, steps=steps)
    u, v = (source.vectors[side] for side in source.sides.T)
    features = np.concatenate([np.abs(u - v), u * v], axis=1)
    begins = [program.init(jax.random.key(seed))["head"]["logits"] for seed in runs.seeds]
    np.savez(
        work / f"{HEADS}.npz",
        features=features[source.rows["train"]],
        label=source.target[source.rows["train"]].astype(np.int64),
        dev=features[dev],
        order=runs.order.astype(np.int64),
        kernel=np.stack([one["kernel"] for one in begins]),
        bias=np.stack([one["bias"] for one in begins]),
        rates=np.asarray(LEARNING_RATES),
        decay=np.asarray(DECAY),
    )
