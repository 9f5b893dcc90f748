"""From a config to what a run needs: data, encoder, model. All checks of input happen here, before any file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pairjax.base.config import Config
from pairjax.base.types import DropoutRates, EncoderSpec, Hypers, PairData, Params, TaskSpec
from pairjax.data.encode import EncodedPairs, encode_split
from pairjax.data.layout import Layout, choose_layout
from pairjax.data.sources import load_pairs
from pairjax.data.tasks import fit_score_scale, targets_of
from pairjax.data.tokenizer import PairTokenizer, check_fit, load_tokenizer
from pairjax.models.build import PairModelFns, build_pair_model, initial_params
from pairjax.weights import load_encoder, read_encoder_spec, resolve_encoder


@dataclass(frozen=True)
class Prepared:
    """Everything that is decided before the first step.

    Attributes:
        layout: Row lengths, by the training split alone.
        targets: What the model learns, by split: class indices, or scores standardised by the task's center and scale.
        params: The initial parameters; the encoder's (and a kept pooler's) from the checkpoint.
        pooler_kept: Whether the pooler came from the checkpoint.
        notes: What a person should know of the input, a line each.
    """

    data: PairData
    task: TaskSpec
    encoder_folder: Path
    spec: EncoderSpec
    tokenizer: PairTokenizer
    encoded: Mapping[str, EncodedPairs]
    targets: Mapping[str, np.ndarray | None]
    layout: Layout
    fns: PairModelFns
    params: Params
    pooler_kept: bool
    notes: tuple[str, ...]


def hypers_of(config: Config) -> Hypers:
    """The numbers of the config that the compiled step takes as an argument."""
    dropout = config.model.dropout
    rates = DropoutRates(
        hidden=dropout.hidden, attention=dropout.attention, interaction=dropout.interaction, head=dropout.head
    )
    return Hypers(
        learning_rate=config.optim.learning_rate,
        weight_decay=config.optim.weight_decay,
        label_smoothing=config.loss.label_smoothing,
        rates=rates,
    )


def plain_config(config: Config, *, pooling: str | None = None) -> dict[str, Any]:
    """The config as plain data, for JSON; a combiner of one's own by its name.

    Args:
        config: What to write.
        pooling: As resolved by the model, where it is known.
    """
    combiner = config.model.combiner
    plain = asdict(replace(config, model=replace(config.model, combiner=None)))
    plain["model"]["combiner"] = None if combiner is None else getattr(combiner, "__qualname__", repr(combiner))
    if pooling is not None:
        plain["model"]["pooling"] = pooling
    if config.model.combiner is None:
        plain["model"]["combine"]["features"] = list(config.model.features)
    return plain


def prepare(config: Config, *, data: PairData | None = None) -> Prepared:
    """Read, check, encode and build.

    Args:
        config: What to do.
        data: Pairs in the place of those that `config.data` names.

    Raises:
        UserError: Anything about the input that a run could trip over later.
    """
    data = load_pairs(config.data) if data is None else data
    task = fit_score_scale(data.task, data.splits["train"])
    folder = resolve_encoder(config.model.encoder, download=config.model.download)
    spec = read_encoder_spec(folder)
    tokenizer = load_tokenizer(folder, family=spec.family)
    check_fit(config.data.max_length, spec=spec, tokenizer=tokenizer, folder=folder)
    encoded = {
        split: encode_split(
            pairs,
            tokenizer,
            model=config.model,
            max_length=config.data.max_length,
            truncation=config.data.truncation,
        )
        for split, pairs in data.splits.items()
    }
    notes = [*data.notes, *tokenizer.vocabulary_notes(spec.vocab_size)]
    notes += (f"{split}: {note}" for split in encoded for note in encoded[split].notes())
    frozen = config.optim.freeze in ("encoder", "all_but_head")
    fns = build_pair_model(config.model, spec, task.outputs, freeze_encoder=frozen)
    loaded = load_encoder(folder, spec)
    params, more = initial_params(fns, jax.random.key(config.train.seed), encoder=loaded.params, pooler=loaded.pooler)
    pooler_kept = fns.config.pooling == "pooler" and fns.config.pooler != "fresh" and loaded.pooler is not None
    return Prepared(
        data=data,
        task=task,
        encoder_folder=folder,
        spec=spec,
        tokenizer=tokenizer,
        encoded=encoded,
        targets={split: targets_of(task, pairs) for split, pairs in data.splits.items()},
        layout=choose_layout(config.data, encoded["train"].lengths),
        fns=fns,
        params=params,
        pooler_kept=pooler_kept,
        notes=(*notes, *loaded.notes, *more),
    )
