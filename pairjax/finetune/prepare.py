"""From a config to data, encoder and model. All input is checked here, before anything is written."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pairjax.base.config import Config, trained_model
from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.base.types import EncoderSpec, PairData, Pairs, Params, TaskSpec, dev_split
from pairjax.data.corpus import tokenizer_digest
from pairjax.data.encode import EncodedPairs, append_texts, encode_split
from pairjax.data.layout import Layout, choose_layout
from pairjax.data.objectives import apply_objective, matching_pairs, soft_targets
from pairjax.data.ranking import expand_triplets
from pairjax.data.sources import load_pairs
from pairjax.data.tasks import fit_score_scale, targets_of
from pairjax.data.tokenizer import PairTokenizer, check_fit, load_tokenizer
from pairjax.inference.start import read_start
from pairjax.models.build import PairModelFns, build_pair_model, initial_params
from pairjax.storage.hashes import hash_json, hash_pairs
from pairjax.weights import load_encoder, read_encoder_spec, resolve_encoder
from pairjax.weights.source import weights_hash


@dataclass(frozen=True)
class Prepared:
    """Everything that is fixed before the first step.

    Attributes:
        data: The pairs of each split.
        task: The task; its center and scale are those of the training scores.
        encoder_folder: The folder of the pretrained encoder.
        spec: The encoder's architecture.
        tokenizer: The encoder's tokeniser.
        encoded: The tokens of each split.
        targets: The targets of each split: class indices, or scores standardised by the task's center and scale.
        soft: float32 [N, C]; the class probabilities that the train pairs teach, or None.
        chosen: int64 [M]; the train pairs that the loss reads, or None for all of them.
        layout: The row lengths, chosen from the training split.
        fns: The model's functions.
        params: The initial parameters; those of the encoder, and of the pooler if it is kept, are pretrained.
        pooler_kept: Whether the pooler is pretrained.
        start: SHA-256 of what `--model.init` gave above the encoder; None without it.
        notes: Lines about the input that the user should read.
    """

    data: PairData
    task: TaskSpec
    encoder_folder: Path
    spec: EncoderSpec
    tokenizer: PairTokenizer
    encoded: Mapping[str, EncodedPairs]
    targets: Mapping[str, np.ndarray | None]
    soft: np.ndarray | None
    chosen: np.ndarray | None
    layout: Layout
    fns: PairModelFns
    params: Params
    pooler_kept: bool
    start: str | None
    notes: tuple[str, ...]

    @property
    def dev(self) -> str:
        """The split that selects the best model: `dev`, or the first of several dev splits."""
        name = dev_split(self.data.splits)
        assert name is not None
        return name

    def content(self) -> dict[str, str]:
        """Returns the SHA-256 of each split, the label names, the encoder and the tokeniser, by name."""
        # The label names have a digest of their own, so a change of train alone is not reported for all splits.
        unnamed = TaskSpec(self.task.kind)
        content = {
            split: hash_pairs(PairData(task=unnamed, splits={split: pairs}, source={}, notes=())).hexdigest()
            for split, pairs in self.data.splits.items()
        }
        content["label names"] = hash_json(list(self.task.labels))
        content |= {} if self.start is None else {"head of --model.init": self.start}
        if self.soft is not None:
            content["class probabilities"] = hashlib.sha256(self.soft.tobytes()).hexdigest()
        return content | {"encoder": weights_hash(self.encoder_folder), "tokeniser": tokenizer_digest(self.tokenizer)}


def plain_config(config: Config, *, pooling: str | None = None) -> dict[str, Any]:
    """Returns the config as plain data, for JSON; the user's own combiner becomes its name.

    Args:
        config: The config.
        pooling: The pooling that the model resolved its default to, if known.
    """
    combiner = config.model.combiner
    plain = asdict(replace(config, model=replace(config.model, combiner=None)))
    plain["model"]["combiner"] = None if combiner is None else getattr(combiner, "__qualname__", repr(combiner))
    if not config.data.dev_fraction:
        # It decides nothing then, and runs of older versions resume only with the fields that they had.
        del plain["data"]["group_texts"]
    if pooling is not None:
        plain["model"]["pooling"] = pooling
    if config.model.combiner is None:
        plain["model"]["combine"]["features"] = list(config.model.features)
    return plain


def check_evaluation(config: Config, data: PairData, tokenizer: PairTokenizer) -> None:
    """Checks that the evaluation's options fit the labels, and that swapped pairs and examples can be encoded.

    Args:
        config: The config.
        data: The pairs.
        tokenizer: The encoder's tokeniser.

    Raises:
        UserError: A pair cannot be cut to `--data.max-length`, or an option needs other labels.
    """
    evaluation, truncation = config.evaluation, config.data.truncation
    for option, given, least in (
        ("abstain-at", evaluation.abstain_at is not None, 2),
        ("conformal", evaluation.conformal is not None, 2),
        ("class-thresholds", evaluation.class_thresholds, 3),
    ):
        if given and (data.task.kind != "classification" or len(data.task.labels) < least):
            raise UserError(
                f"--evaluation.{option} needs {'classes' if least == 2 else 'three classes or more'}",
                got=f"{len(data.task.labels)} {'classes' if data.task.kind == 'classification' else 'labels'}"
                if data.task.labels
                else "scores",
                fix="leave it out",
            )
    parts: dict[str, tuple[Pairs, str]] = {}
    if evaluation.swap and truncation in ("only_first", "only_second"):
        for split, pairs in data.splits.items():
            if split != "train" and pairs.label is not None:
                swapped = replace(pairs, first=pairs.second, second=pairs.first)
                parts[f"{split} with its texts swapped"] = (swapped, "add --evaluation.no-swap")
    if evaluation.examples:
        first, second = zip(*evaluation.examples, strict=True)
        parts["--evaluation.examples"] = (Pairs(first, second, None), "shorten it")
    for place, (pairs, fix) in parts.items():
        try:
            encode_split(pairs, tokenizer, model=config.model, max_length=config.data.max_length, truncation=truncation)
        except UserError as error:
            raise UserError(f"{place}: {error}", fix=f"or {fix}") from None


def scale_scores(data: PairData, model: ModelConfig) -> TaskSpec:
    """Returns the task with mean and standard deviation of the train scores; a cosine is its own scale.

    Args:
        data: The pairs.
        model: The model's configuration.

    Raises:
        UserError: The model's score is a cosine, and some train scores are none.
    """
    scores = data.splits["train"].label
    if model.head.kind != "cosine" or data.task.kind != "regression" or scores is None:
        return fit_score_scale(data.task, data.splits["train"])
    low, high = float(scores.min()), float(scores.max())
    if low < -1 or high > 1:
        raise UserError(
            "the model's score is a cosine, and the train scores are not",
            got=f"scores from {low:g} to {high:g}",
            expected="scores from -1 to 1",
            fix="divide them, or start from the encoder alone with --model.encoder",
        )
    return data.task


def labelled_triplets(config: Config, data: PairData) -> PairData:
    """Returns data for ranking with labelled pairs in train, if the loss reads those; other data is unchanged."""
    if config.data.task != "ranking" or config.loss.kind == "in-batch":
        return data
    return replace(data, splits={**data.splits, "train": expand_triplets(data.splits["train"], data.task)})


def with_negatives(config: Config, train: Pairs, encoded: EncodedPairs, tokenizer: PairTokenizer) -> EncodedPairs:
    """Returns the rows of train with the negative of each pair as a third text; unchanged without negatives."""
    if not train.negative:
        return encoded
    thirds = replace(train, first=train.negative, second=train.negative)
    data = config.data
    rows = encode_split(thirds, tokenizer, model=config.model, max_length=data.max_length, truncation=data.truncation)
    return append_texts(encoded, rows)


def prepare(config: Config, *, data: PairData | None = None) -> Prepared:
    """Reads and checks the data, encodes it and builds the model.

    Args:
        config: The config.
        data: Pairs that replace those of `config.data`, if given.

    Raises:
        UserError: The input has an error that would stop the run later.
    """
    data = labelled_triplets(config, load_pairs(config.data) if data is None else data)
    start = None if config.model.init is None else read_start(config.model, data.task)
    model = trained_model(config.model if start is None else start.config, config.loss)
    task = data.task if config.loss.reads_vectors else scale_scores(data, model)
    task = apply_objective(task, config.loss, data.splits["train"])
    soft, soft_notes = soft_targets(config.loss, data.splits["train"], task)
    folder = resolve_encoder(model.encoder, download=model.download) if start is None else start.artifact.encoder_folder
    spec = read_encoder_spec(folder)
    tokenizer = load_tokenizer(folder, family=spec.family, prefixes=config.data.prefixes)
    check_fit(config.data.max_length, spec=spec, tokenizer=tokenizer, folder=folder)
    encoded = {
        split: encode_split(
            pairs,
            tokenizer,
            model=model,
            max_length=config.data.max_length,
            truncation=config.data.truncation,
        )
        for split, pairs in data.splits.items()
    }
    chosen, resolved = None, replace(config, model=model)
    if config.loss.kind == "in-batch":
        chosen, batch_notes = matching_pairs(data.splits["train"], task)
        soft_notes += batch_notes
        encoded["train"] = with_negatives(
            replace(config, model=model), data.splits["train"], encoded["train"], tokenizer
        )
    check_evaluation(resolved, data, tokenizer)
    notes = [*data.notes, *soft_notes, *tokenizer.vocabulary_notes(spec.vocab_size)]
    notes += (f"{split}: {note}" for split in encoded for note in encoded[split].notes())
    frozen = config.optim.freeze in ("encoder", "all_but_head")
    fns = build_pair_model(model, spec, task, freeze_encoder=frozen)
    key = jax.random.key(config.train.seed)
    if start is not None:
        params, param_notes = start.params(fns, task, key)
        pooler_kept = "pooler" in params
    else:
        loaded = load_encoder(folder, spec)
        params, pooler_notes = initial_params(fns, key, encoder=loaded.params, pooler=loaded.pooler)
        param_notes = (*loaded.notes, *pooler_notes)
        pooler_kept = fns.config.pooling == "pooler" and fns.config.pooler != "fresh" and loaded.pooler is not None
    return Prepared(
        data=data,
        task=task,
        encoder_folder=folder,
        spec=spec,
        tokenizer=tokenizer,
        encoded=encoded,
        targets={split: targets_of(task, pairs) for split, pairs in data.splits.items()},
        soft=soft,
        chosen=chosen,
        layout=choose_layout(config.data, encoded["train"].lengths),
        fns=fns,
        params=params,
        pooler_kept=pooler_kept,
        start=None if start is None else start.content(),
        notes=(*notes, *param_notes),
    )
