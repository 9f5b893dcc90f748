"""From a config to what a run needs: data, encoder, model. All checks of input happen here, before any file."""

import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pairjax.base.config import Config, ModelConfig, Truncation
from pairjax.base.errors import UserError
from pairjax.base.params import flatten
from pairjax.base.types import EncoderSpec, Hypers, PairData, Pairs, Params, Rates, TaskSpec
from pairjax.data.encode import EncodedPairs, PairTokenizer, encode_pairs, load_tokenizer
from pairjax.data.layout import Layout, choose_layout
from pairjax.data.sources import load_pairs
from pairjax.models.build import PairModelFns, build_pair_model, initial_params
from pairjax.run.distributed import check_agreement, process_count
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
    rates = Rates(
        hidden=dropout.hidden, attention=dropout.attention, interaction=dropout.interaction, head=dropout.head
    )
    return Hypers(
        learning_rate=config.optim.learning_rate,
        weight_decay=config.optim.weight_decay,
        label_smoothing=config.loss.label_smoothing,
        rates=rates,
    )


def use_compilation_cache(folder: str | None) -> None:
    """Keep compiled programs across processes; '' keeps none."""
    if folder == "":
        return
    path = folder or os.path.join(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "pairjax", "xla")
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compilation_cache() -> str:
    """The folder that `use_compilation_cache` named in this process; '' for none."""
    return jax.config.values["jax_compilation_cache_dir"] or ""


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


def standardised(task: TaskSpec, train: Pairs) -> TaskSpec:
    """The task with center and scale of the train scores; a classification task as it is."""
    if task.kind == "classification" or train.label is None:
        return task
    spread = float(np.std(train.label))
    return replace(task, center=float(np.mean(train.label)), scale=spread if spread > 0 else 1.0)


def targets_of(task: TaskSpec, pairs: Pairs) -> np.ndarray | None:
    """Labels as the model learns them: int32 [N], or float32 [N] standardised; None where unlabelled."""
    if pairs.label is None or task.kind == "classification":
        return pairs.label
    return ((pairs.label - task.center) / task.scale).astype(np.float32)


def encode_split(
    pairs: Pairs, tokenizer: PairTokenizer, *, model: ModelConfig, max_length: int, truncation: Truncation
) -> EncodedPairs:
    """A split's token arrays."""
    return encode_pairs(
        pairs.first,
        pairs.second,
        tokenizer,
        kind=model.kind,
        max_length=max_length,
        truncation=truncation,
        where=pairs.where,
    )


def check_fit(max_length: int, *, spec: EncoderSpec, tokenizer: PairTokenizer, folder: Path) -> None:
    """Whether tokeniser, length and encoder fit each other.

    Raises:
        UserError: The tokeniser knows ids that the encoder has no embedding for, or rows are longer than it can read.
    """
    if max_length > spec.max_positions:
        raise UserError(
            "--data.max-length is longer than the encoder reads",
            got=max_length,
            expected=f"at most {spec.max_positions} for {folder}",
        )
    tokenizer.check_vocabulary(spec.vocab_size)


def prepare(config: Config, *, data: PairData | None = None) -> Prepared:
    """Read, check, encode and build.

    Args:
        config: What to do.
        data: Pairs in the place of those that `config.data` names.

    Raises:
        UserError: Anything about the input that a run could trip over later.
    """
    data = load_pairs(config.data) if data is None else data
    task = standardised(data.task, data.splits["train"])
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


def label_counts(task: TaskSpec, pairs: Pairs) -> Any:
    """Pairs of each class in train, [classes]; None for regression."""
    if task.kind == "regression" or pairs.label is None:
        return None
    return np.bincount(pairs.label, minlength=len(task.labels))


LOCAL = frozenset({"run.progress", "run.compilation_cache", "data.cache"})
"""Options that each process of a run may have its own way."""


def check_alike(plain: Mapping[str, Any], *, data: Mapping[str, Any], params: Params) -> None:
    """Whether all processes of a run train the same, by options, data and a checksum of each parameter.

    Args:
        plain: The config as plain data.
        data: What the data are, by name.
        params: The initial parameters.

    Raises:
        UserError: They do not, on every process; says in what.
    """
    if process_count() == 1:
        return
    options = {
        f"{section}.{name}" if isinstance(fields, Mapping) else section: value
        for section, fields in plain.items()
        for name, value in (fields.items() if isinstance(fields, Mapping) else ((section, fields),))
    }
    agree = {name: value for name, value in options.items() if name not in LOCAL}
    agree |= {f"data set {name}": value for name, value in data.items()}
    agree |= {
        f"parameter {path}": zlib.crc32(np.ascontiguousarray(leaf).data) for path, leaf in flatten(params).items()
    }
    check_agreement(agree, what="what they train")
