"""From a pretraining config to corpora, tokeniser and model. All input is checked here, before anything is written."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import CorpusConfig, PretrainConfig
from pairjax.base.types import EncoderSpec, Params
from pairjax.data.corpus import Corpus, DevCut, build_index, cache_folder, tokenizer_digest
from pairjax.data.corpus_sources import Source, rule_source, text_sources, tfds_sources
from pairjax.data.masking import RowMaker, build_masking
from pairjax.data.nsp import build_sampler
from pairjax.data.tokenizer import PairTokenizer, check_fit, load_tokenizer
from pairjax.data.train_tokenizer import load_or_train_tokenizer
from pairjax.models.pretraining import PretrainingFns, build_pretraining_model
from pairjax.step.optim import trainable_paths
from pairjax.storage.files import read_json
from pairjax.storage.hashes import hash_parts
from pairjax.weights import (
    UNTRAINED,
    bert_config,
    copy_tokeniser,
    load_pretraining,
    read_encoder_spec,
    resolve_encoder,
    weights_hash,
)

SIZES = {"tiny": (2, 128, 2), "mini": (4, 256, 4), "small": (4, 512, 8), "base": (12, 768, 12)}
"""Number of layers, width and number of attention heads; the feed-forward sublayer is four times as wide."""
POSITIONS = 512
"""Number of position embeddings of a new encoder, unless rows are longer."""
MANY_UNKNOWN = 0.05
"""Share of unknown tokens above which a note says so; a tokeniser of the right language has nearly none."""
HELD_OUT_SEED = 1
"""Seeds the examples of dev and test, so runs of all seeds are scored on the same examples."""


@dataclass(frozen=True)
class PreparedPretraining:
    """Everything that is fixed before the first step.

    Attributes:
        sources: The text sources of each split, for provenance.
        folder: The folder of the encoder to continue; None for a new one.
        corpora: The indexed corpora: train, dev and, if there is one, test.
        makers: Makes the rows of each split.
        tokenizer: The model's tokeniser.
        spec: The encoder's architecture.
        fns: The model's functions.
        params: The initial parameters.
        pooler_kept: Whether the pooler is pretrained.
        untrained: Whether pooler and segment head keep their random initial weights.
        settings: The content of the saved model's config.json.
        save_tokeniser: Writes the tokeniser's files into a folder.
        notes: Lines about the input that the user should read.
    """

    sources: Mapping[str, tuple[Source, ...]]
    folder: Path | None
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
        """Returns the SHA-256 of each text source and of the tokeniser, by name."""
        digests = {
            f"{split} {source.name}": source.digest for split, sources in self.sources.items() for source in sources
        }
        return digests | {"tokeniser": tokenizer_digest(self.tokenizer)}

    def content(self) -> dict[str, str]:
        """Returns the SHA-256 of each split, of the tokeniser and of a continued encoder, by name."""
        content = {
            split: hash_parts(source.digest.encode() for source in sources) for split, sources in self.sources.items()
        }
        content["tokeniser"] = tokenizer_digest(self.tokenizer)
        return content if self.folder is None else content | {"encoder": weights_hash(self.folder)}


def plain_pretrain_config(config: PretrainConfig) -> dict[str, Any]:
    """Returns the config as plain data, for JSON."""
    return asdict(config)


def corpus_sources(data: CorpusConfig) -> dict[str, tuple[Source, ...]]:
    """Returns the text sources of each split; dev is missing if it will be cut off from train.

    Args:
        data: The data options.

    Raises:
        UserError: A glob matches nothing, a file cannot be read, or the TFDS set or its text column does not exist.
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
    patterns = {"train": data.corpus, "dev": data.dev, "test": data.test}
    return {
        split: text_sources(
            pattern,
            format=data.format,
            language=data.language,
            option=f"--data.{'corpus' if split == 'train' else split}",
        )
        for split, pattern in patterns.items()
        if pattern is not None
    }


def build_corpora(
    data: CorpusConfig, sources: Mapping[str, tuple[Source, ...]], tokenizer: PairTokenizer
) -> dict[str, Corpus]:
    """Returns the index of each split; builds those that are not in the cache.

    Args:
        data: The data options.
        sources: The text sources by split.
        tokenizer: The tokeniser.
    """
    cache = cache_folder(data.cache)
    cut = None if "dev" in sources else DevCut(data.dev_fraction, data.seed)
    corpora = build_index(sources["train"], tokenizer, cache=cache, cut=cut)
    for split in ("dev", "test"):
        if split in sources:
            corpora[split] = build_index(sources[split], tokenizer, cache=cache)["train"]
    return corpora


def corpus_tokenizer(data: CorpusConfig, train: tuple[Source, ...]) -> tuple[PairTokenizer, Path]:
    """Returns the tokeniser of a new model and its folder; trains it on the corpus unless the options name one.

    Args:
        data: The data options.
        train: The text sources to train it on.
    """
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
    """Returns the architecture of a new model.

    Args:
        config: The config; its `model.size` is used.
        vocabulary: Size of the tokeniser's vocabulary.
        pad: Id of the padding token.
    """
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


def read_pretrained(folder: Path, config: PretrainConfig) -> tuple[PairTokenizer, EncoderSpec]:
    """Reads the tokeniser and the architecture of an encoder to continue.

    Args:
        folder: The encoder's folder.
        config: The config; the encoder must fit its data options.

    Raises:
        UserError: The encoder is not a BERT, or does not fit its tokeniser, the row length or the objective.
    """
    spec = read_encoder_spec(folder)
    if spec.family != "bert" or spec.embedding_size != spec.hidden_size:
        raise UserError(
            f"--model.encoder {folder}: the pretraining heads do not fit it",
            got=f"a {spec.family} encoder",
            expected="a BERT encoder, as in BertForPreTraining",
        )
    if config.data.objective != "none" and spec.type_vocab_size < 2:
        raise UserError(
            f"--model.encoder {folder}: it has no embeddings for two segments",
            got=f"type_vocab_size {spec.type_vocab_size}",
            fix="use --data.objective none",
        )
    tokenizer = load_tokenizer(folder, family=spec.family)
    check_fit(config.data.max_length, spec=spec, tokenizer=tokenizer, folder=folder)
    return tokenizer, spec


def trainable(config: PretrainConfig, params: Params, *, pooler_kept: bool) -> dict[str, bool]:
    """Returns whether each path trains: by `optim.freeze`, and without segments neither pooler nor segment head.

    Args:
        config: The config.
        params: The whole tree.
        pooler_kept: Whether the pooler is pretrained.
    """
    chosen = trainable_paths(config.optim, params, pooler_kept=pooler_kept)
    if config.data.objective == "none":
        # Without a gradient, weight decay alone would shrink a pretrained pooler.
        chosen |= {path: False for path in chosen if path.startswith(("pooler/", "head/order/"))}
    return chosen


def prepare_pretraining(config: PretrainConfig) -> PreparedPretraining:
    """Reads and checks the input, indexes the corpora and builds the model.

    Args:
        config: The config.

    Raises:
        UserError: The input has an error that would stop the run later.
    """
    data = config.data
    folder = None
    if config.model.encoder is not None:
        folder = resolve_encoder(config.model.encoder, download=config.model.download)
        tokenizer, spec = read_pretrained(folder, config)
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
        pretrained = {"pooler": pooler_kept, "masked-token head": "mlm" in heads, "segment head": "order" in heads}
        origin = ", ".join(f"{name} {'pretrained' if given else 'new'}" for name, given in pretrained.items())
        notes += [*tokenizer.vocabulary_notes(spec.vocab_size), *loaded.notes]
        notes.append(f"continued from {config.model.encoder}: {origin}")
        settings = read_json(folder / "config.json")
    untrained = data.objective == "none" and (not pooler_kept or bool(settings.get(UNTRAINED)))
    if untrained:
        notes.append("pooler and segment head are saved with random weights: masked tokens train neither of them")
    pretrained_folder = folder

    def save_tokeniser(target: Path) -> None:
        if pretrained_folder is None:
            tokenizer.save(target)
        else:
            copy_tokeniser(pretrained_folder, target)

    return PreparedPretraining(
        sources=sources,
        folder=folder,
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
    """Returns the row maker of each split; dev and test have a fixed seed (`HELD_OUT_SEED`).

    Args:
        data: The data options.
        corpora: The indexed corpora.
        tokenizer: The tokeniser.

    Raises:
        UserError: A split has too little text for the objective.
    """
    masking = build_masking(tokenizer, rate=data.mask_rate, most=data.most_masked, whole_words=data.whole_words)
    makers = {}
    for split, corpus in corpora.items():
        cut = corpus.folder.name == "dev"
        needed = 2 if data.objective == "nsp" else 1
        if cut and corpus.facts.documents < needed:
            raise UserError(
                f"--data.dev-fraction {data.dev_fraction:g} leaves too little text for dev",
                got=f"{corpus.facts.documents} of {sum(part.facts.documents for part in corpora.values())} documents",
                expected=f"at least {needed}",
                fix="raise it, add documents (separated by blank lines), or name other text with --data.dev",
            )
        sampler = build_sampler(
            corpus,
            data.objective,
            budget=data.budget,
            short=data.short,
            seed=data.seed if split == "train" else HELD_OUT_SEED,
            what=_describe_split(data, split, cut=cut),
        )
        makers[split] = RowMaker(sampler, masking, tokenizer, data.max_length)
    return makers


def shared_notes(sources: Mapping[str, tuple[Source, ...]]) -> tuple[str, ...]:
    """Returns a line for each held-out split that shares sources with train, by content."""
    train = {source.digest for source in sources["train"]}
    lines = []
    for split in sources.keys() - {"train"}:
        shared = [source.name for source in sources[split] if source.digest in train]
        if shared:
            names = ", ".join(shared[:3]) + (", ..." if len(shared) > 3 else "")
            verb = "is" if len(shared) == 1 else "are"
            lines.append(f"{split}: {len(shared)} of {len(sources[split])} sources {verb} also in train: {names}")
    return tuple(sorted(lines))


def sampler_notes(makers: Mapping[str, RowMaker]) -> tuple[str, ...]:
    """Returns lines about the examples of each split."""
    return tuple(f"{split}: {note}" for split, maker in makers.items() for note in maker.sampler.notes())


def _describe_split(data: CorpusConfig, split: str, *, cut: bool) -> str:
    """Names the text of a split, for messages."""
    if cut:
        return "dev (cut off by --data.dev-fraction)"
    if data.tfds is not None:
        return f"--data.tfds {data.tfds}, {split}"
    if data.corpus is None:
        return f"rule-made {split}"
    return f"--data.{'corpus' if split == 'train' else split}"


def corpus_notes(data: CorpusConfig, corpora: Mapping[str, Corpus]) -> tuple[str, ...]:
    """Returns a line with the size of each split, and lines about unusual sentences and documents."""
    lines = []
    for split, corpus in corpora.items():
        facts = corpus.facts
        lines.append(
            f"{split}: {facts.documents:,} documents, {facts.sentences:,} sentences, {facts.tokens:,} tokens, "
            f"{facts.unknown / max(facts.tokens, 1):.2%} of them unknown"
        )
        counts = {
            f"sentences of more than {data.budget} tokens, which segments truncate": corpus.longer_than(data.budget),
            "sentences without tokens, left out": facts.bare,
            "documents of one sentence, which has no next one": facts.single if data.objective != "none" else 0,
        }
        lines += [f"{split}: {count:,} {description}" for description, count in counts.items() if count]
        if facts.unknown > MANY_UNKNOWN * facts.tokens:
            share = facts.unknown / facts.tokens
            lines.append(f"{split}: {share:.0%} of the tokens are unknown; the tokeniser may be for another language")
    return tuple(lines)
