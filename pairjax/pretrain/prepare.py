"""From a pretraining config to what a run needs: corpora, tokeniser, model. All checks of input happen here."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import CorpusConfig, PretrainConfig
from pairjax.base.types import DropoutRates, EncoderSpec, Hypers, Params
from pairjax.data.corpus import Corpus, DevCut, build_index, cache_folder, tokenizer_digest
from pairjax.data.corpus_sources import Source, rule_source, text_sources, tfds_sources
from pairjax.data.masking import RowMaker, build_masking
from pairjax.data.nsp import build_sampler
from pairjax.data.tokenizer import PairTokenizer, check_fit, load_tokenizer
from pairjax.data.train_tokenizer import load_or_train_tokenizer
from pairjax.models.pretraining import PretrainingFns, build_pretraining_model
from pairjax.step.optim import trainable_paths
from pairjax.storage.files import read_json
from pairjax.weights import (
    UNTRAINED,
    bert_config,
    copy_tokeniser,
    load_pretraining,
    read_encoder_spec,
    resolve_encoder,
)

SIZES = {"tiny": (2, 128, 2), "mini": (4, 256, 4), "small": (4, 512, 8), "base": (12, 768, 12)}
"""Layers, width, heads; the feed-forward sublayer is four times as wide."""
POSITIONS = 512
MANY_UNKNOWN = 0.05
"""Share of a text's tokens; a tokeniser of its language knows nearly all."""
HELD_OUT_SEED = 1
"""Dev and test are drawn alike in every run, so that runs of other seeds are scored on the same examples."""


@dataclass(frozen=True)
class PreparedPretraining:
    """Everything that is decided before the first step.

    Attributes:
        sources: Of each split, for provenance.
        corpora: train, dev and, where asked for, test.
        makers: Rows of each split.
        tokenizer: Of the model.
        spec: The architecture.
        fns: The model.
        params: The initial parameters.
        pooler_kept: Whether the pooler came from a checkpoint.
        untrained: Whether pooler and segment head stay as they were drawn.
        settings: Of the saved model's config.json.
        save_tokeniser: Writes the tokeniser's files into a folder.
        notes: What a person should know of the input, a line each.
    """

    sources: Mapping[str, tuple[Source, ...]]
    corpora: Mapping[str, Corpus]
    makers: Mapping[str, RowMaker]
    tokenizer: PairTokenizer
    spec: EncoderSpec
    fns: PretrainingFns
    params: Params
    pooler_kept: bool
    untrained: bool
    settings: Mapping[str, Any]
    save_tokeniser: Callable[[Path], None]
    notes: tuple[str, ...]

    def digests(self) -> dict[str, str]:
        """SHA-256 of each source of text, and of the tokeniser."""
        found = {f"{split} {one.name}": one.digest for split, sources in self.sources.items() for one in sources}
        return found | {"tokeniser": tokenizer_digest(self.tokenizer)}


def plain_pretrain_config(config: PretrainConfig) -> dict[str, Any]:
    """The config as plain data, for JSON."""
    return asdict(config)


def hypers_of(config: PretrainConfig) -> Hypers:
    """The numbers of the config that the compiled step takes as an argument."""
    dropout = config.model.dropout
    rates = DropoutRates(hidden=dropout.hidden, attention=dropout.attention, interaction=0.0, head=0.0)
    return Hypers(config.optim.learning_rate, config.optim.weight_decay, 0.0, rates)


def corpus_sources(data: CorpusConfig) -> dict[str, tuple[Source, ...]]:
    """The text of each split that the config names; dev is left out where it is to be cut off.

    Raises:
        UserError: A glob matches nothing, a file cannot be read, or the TFDS set is not there or holds no such text.
    """
    if data.tfds is not None:
        return tfds_sources(
            data.tfds,
            column=data.text,
            folder=data.tfds_dir,
            download=data.download,
            format=data.format,
            language=data.language,
        )
    if data.corpus is None:
        sizes = {"train": data.documents, "dev": data.documents // 10, "test": data.documents // 10}
        return {
            split: (rule_source(data.language, documents=size, seed=(data.seed, number)),)
            for number, (split, size) in enumerate(sizes.items())
        }
    given = {"train": data.corpus, "dev": data.dev, "test": data.test}
    return {
        split: text_sources(
            pattern,
            format=data.format,
            language=data.language,
            option=f"--data.{'corpus' if split == 'train' else split}",
        )
        for split, pattern in given.items()
        if pattern is not None
    }


def build_corpora(
    data: CorpusConfig, sources: Mapping[str, tuple[Source, ...]], tokenizer: PairTokenizer
) -> dict[str, Corpus]:
    """Each split's index, built where the cache lacks it."""
    cache = cache_folder(data.cache)
    cut = None if "dev" in sources else DevCut(data.dev_fraction, data.seed)
    corpora = build_index(sources["train"], tokenizer, cache=cache, cut=cut)
    for split in ("dev", "test"):
        if split in sources:
            corpora[split] = build_index(sources[split], tokenizer, cache=cache)["train"]
    return corpora


def corpus_tokenizer(data: CorpusConfig, train: tuple[Source, ...]) -> tuple[PairTokenizer, Path]:
    """The tokeniser of a new model and its folder: one that is given, else trained on the corpus."""
    if data.tokenizer is None:
        return load_or_train_tokenizer(
            train,
            kind=data.tokenizer_kind,
            vocabulary=data.vocabulary,
            lowercase=data.lowercase,
            cache=cache_folder(data.cache),
        )
    folder = Path(data.tokenizer).expanduser()
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt")):
        folder = resolve_encoder(data.tokenizer)
    return load_tokenizer(folder, family="bert"), folder


def new_spec(config: PretrainConfig, *, vocabulary: int, pad: int) -> EncoderSpec:
    """The architecture of a new model whose tokeniser has so many words and that padding token."""
    layers, width, heads = SIZES[config.model.size]
    return EncoderSpec(
        family="bert",
        vocab_size=vocabulary,
        hidden_size=width,
        embedding_size=width,
        num_layers=layers,
        num_heads=heads,
        intermediate_size=4 * width,
        max_positions=max(POSITIONS, config.data.max_length),
        type_vocab_size=2,
        position_offset=0,
        pad_token_id=pad,
        layer_norm_eps=1e-12,
        activation="gelu",
        has_pooler=True,
    )


def continued(folder: Path, config: PretrainConfig) -> tuple[PairTokenizer, EncoderSpec]:
    """Tokeniser and architecture of an encoder to go on with.

    Raises:
        UserError: It is no BERT, or does not fit its tokeniser, the row length or the objective.
    """
    spec = read_encoder_spec(folder)
    if spec.family != "bert" or spec.embedding_size != spec.hidden_size:
        raise UserError(
            f"--model.encoder {folder}: its heads would not fit",
            got=f"a {spec.family} encoder",
            expected="a BERT encoder, as BertForPreTraining has",
        )
    if config.data.objective != "none" and spec.type_vocab_size < 2:
        raise UserError(
            f"--model.encoder {folder}: it cannot tell two segments apart",
            got=f"type_vocab_size {spec.type_vocab_size}",
            fix="use --data.objective none",
        )
    tokenizer = load_tokenizer(folder, family=spec.family)
    check_fit(config.data.max_length, spec=spec, tokenizer=tokenizer, folder=folder)
    return tokenizer, spec


def trainable(config: PretrainConfig, params: Params, *, pooler_kept: bool) -> dict[str, bool]:
    """Which paths train: those of `optim.freeze`; what only the segments' labels would teach, with those alone."""
    chosen = trainable_paths(config.optim, params, pooler_kept=pooler_kept)
    if config.data.objective == "none":
        # Without a gradient, decay alone would shrink a kept pooler.
        chosen |= {path: False for path in chosen if path.startswith(("pooler/", "head/order/"))}
    return chosen


def prepare_pretraining(config: PretrainConfig) -> PreparedPretraining:
    """Read, check, index and build.

    Raises:
        UserError: Anything about the input that a run could trip over later.
    """
    data = config.data
    folder = None
    if config.model.encoder is not None:
        folder = resolve_encoder(config.model.encoder, download=config.model.download)
        tokenizer, spec = continued(folder, config)
        sources = corpus_sources(data)
    else:
        sources = corpus_sources(data)
        tokenizer, source_folder = corpus_tokenizer(data, sources["train"])
        spec = new_spec(config, vocabulary=tokenizer.vocabulary_size, pad=tokenizer.pad_id)
    if tokenizer.mask_id is None:
        raise UserError(f"{folder or source_folder}: the tokeniser has no mask token", expected="[MASK] in it")
    corpora = build_corpora(data, sources, tokenizer)
    makers = build_makers(data, corpora, tokenizer)
    fns = build_pretraining_model(spec, masked=data.most_masked, dtype=config.model.dtype, remat=config.model.remat)
    params = jax.jit(fns.init)(jax.random.key(config.train.seed))
    pooler_kept, settings = False, bert_config(spec)
    notes = [*corpus_notes(data, corpora), *shared_notes(sources), *sampler_notes(makers)]
    if folder is not None:
        loaded, heads = load_pretraining(folder, spec)
        params = {**params, "encoder": loaded.params, "head": {**params["head"], **heads}}
        pooler_kept = loaded.pooler is not None
        if loaded.pooler is not None:
            params["pooler"] = loaded.pooler
        names = {"pooler": pooler_kept, "masked-token head": "mlm" in heads, "segment head": "order" in heads}
        origin = ", ".join(f"{name} {'from the checkpoint' if kept else 'fresh'}" for name, kept in names.items())
        notes += [*tokenizer.vocabulary_notes(spec.vocab_size), *loaded.notes]
        notes.append(f"continued from {config.model.encoder}: {origin}")
        settings = read_json(folder / "config.json")
    untrained = data.objective == "none" and (not pooler_kept or bool(settings.get(UNTRAINED)))
    if untrained:
        notes.append("pooler and segment head are saved as they were drawn: masked tokens alone train neither")
    kept = folder

    def save_tokeniser(to: Path) -> None:
        if kept is None:
            tokenizer.save(to)
        else:
            copy_tokeniser(kept, to)

    return PreparedPretraining(
        sources=sources,
        corpora=corpora,
        makers=makers,
        tokenizer=tokenizer,
        spec=spec,
        fns=fns,
        params=params,
        pooler_kept=pooler_kept,
        untrained=untrained,
        settings=settings,
        save_tokeniser=save_tokeniser,
        notes=tuple(notes),
    )


def build_makers(data: CorpusConfig, corpora: Mapping[str, Corpus], tokenizer: PairTokenizer) -> dict[str, RowMaker]:
    """Rows of each split; dev and test by a seed of their own.

    Raises:
        UserError: A split that the objective cannot be drawn from.
    """
    masking = build_masking(tokenizer, rate=data.mask_rate, most=data.most_masked, whole_words=data.whole_words)
    makers = {}
    for split, corpus in corpora.items():
        cut = corpus.folder.name == "dev"
        needed = 2 if data.objective == "nsp" else 1
        if cut and corpus.facts.documents < needed:
            raise UserError(
                f"--data.dev-fraction {data.dev_fraction:g} cuts too little off as dev",
                got=f"{corpus.facts.documents} of {sum(one.facts.documents for one in corpora.values())} documents",
                expected=f"at least {needed}",
                fix="raise it, add documents (blank lines stand between them), or name other text with --data.dev",
            )
        sampler = build_sampler(
            corpus,
            data.objective,
            budget=data.budget,
            short=data.short,
            seed=data.seed if split == "train" else HELD_OUT_SEED,
            what=_named(data, split, cut=cut),
        )
        makers[split] = RowMaker(sampler, masking, tokenizer, data.max_length)
    return makers


def shared_notes(sources: Mapping[str, tuple[Source, ...]]) -> tuple[str, ...]:
    """A line a held-out split on what stands in train too, by content."""
    train = {source.digest for source in sources["train"]}
    lines = []
    for split in sources.keys() - {"train"}:
        shared = [source.name for source in sources[split] if source.digest in train]
        if shared:
            shown = ", ".join(shared[:3]) + (", ..." if len(shared) > 3 else "")
            verb = "is" if len(shared) == 1 else "are"
            lines.append(f"{split}: {len(shared)} of {len(sources[split])} sources {verb} train text too: {shown}")
    return tuple(sorted(lines))


def sampler_notes(makers: Mapping[str, RowMaker]) -> tuple[str, ...]:
    """Lines on how each split is drawn."""
    return tuple(f"{split}: {note}" for split, maker in makers.items() for note in maker.sampler.notes())


def _named(data: CorpusConfig, split: str, *, cut: bool) -> str:
    """Which text a split is, for messages."""
    if cut:
        return "dev (cut off by --data.dev-fraction)"
    if data.tfds is not None:
        return f"--data.tfds {data.tfds}, {split}"
    if data.corpus is None:
        return f"rule-made {split}"
    return f"--data.{'corpus' if split == 'train' else split}"


def corpus_notes(data: CorpusConfig, corpora: Mapping[str, Corpus]) -> tuple[str, ...]:
    """A line a split with its size, and lines on what is odd about it."""
    lines = []
    for split, corpus in corpora.items():
        facts = corpus.facts
        lines.append(
            f"{split}: {facts.documents:,} documents, {facts.sentences:,} sentences, {facts.tokens:,} tokens, "
            f"{facts.unknown / max(facts.tokens, 1):.2%} of them unknown"
        )
        cut = corpus.longer_than(data.budget)
        odd = {
            f"sentences of more than {data.budget} tokens, which segments cut": cut,
            "sentences without a single token, left out": facts.bare,
            "documents of one sentence, which have no next one": facts.single if data.objective != "none" else 0,
        }
        lines += [f"{split}: {count:,} {what}" for what, count in odd.items() if count]
        if facts.unknown > MANY_UNKNOWN * facts.tokens:
            share = facts.unknown / facts.tokens
            lines.append(f"{split}: {share:.0%} of the tokens are unknown; the tokeniser may be of another language")
    return tuple(lines)
