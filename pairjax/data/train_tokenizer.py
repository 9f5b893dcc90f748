"""A tokeniser of one's own, WordPiece or byte-level BPE trained on the corpus, kept where its index is.

Both split text as BERT does, into words and punctuation marks, and have its special tokens, so that a BERT encoder
reads either. WordPiece marks a piece that goes on with a word by `##` and knows the commonest letters; BPE marks one
that begins a word by `Ġ` and spells what it does not know by bytes, so that no text is unknown to it.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError
from pairjax.base.families import find_family
from pairjax.base.pretrain_config import TokenizerKind
from pairjax.data.corpus_sources import Source
from pairjax.data.tokenizer import PairTokenizer, load_tokenizer

FORMAT = 2
ALPHABET = 1000
"""Letters of a vocabulary, at most; rarer ones are unknown."""
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def _sentences(sources: Sequence[Source], faults: list[UserError]) -> Iterator[str]:
    """All sentences; an error of theirs is kept aside, since the trainer would lose its kind."""
    try:
        for source in sources:
            yield from (sentence for sentence in source.sentences() if sentence is not None)
    except UserError as error:
        faults.append(error)


def _alphabet(sources: Sequence[Source], normalizer: Any) -> list[str]:
    """The commonest letters, sorted."""
    counts: Counter[str] = Counter()
    for source in sources:
        for sentence in source.sentences():
            if sentence is not None:
                counts.update(normalizer.normalize_str(sentence))
    letters = [letter for letter in counts if not letter.isspace()]
    return sorted(sorted(letters, key=lambda letter: (-counts[letter], letter))[:ALPHABET])


def train_wordpiece(sources: Sequence[Source], *, vocabulary: int, lowercase: bool) -> Any:
    """A BERT-like `tokenizers.Tokenizer` of at most `vocabulary` tokens.

    The same text gives the same vocabulary. The trainer alone would number the letters inside words in the order of a
    hash table, another in each process, and break ties between merges by these numbers: so they are given to it.

    Raises:
        UserError: The text cannot be read, or there is none.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    alphabet = _alphabet(sources, normalizer)
    if not alphabet:
        raise UserError(f"{sources[0].name}: the corpus is empty", expected="text, one sentence a line")
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizer
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=[AddedToken(name) for name in (*SPECIALS, *(f"##{letter}" for letter in alphabet))],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    faults: list[UserError] = []
    trained.train_from_iterator(_sentences(sources, faults), trainer)
    if faults:
        raise faults[0]
    backend = Tokenizer(models.WordPiece(trained.get_vocab(with_added_tokens=True), unk_token="[UNK]"))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return _with_specials(backend)


def train_bpe(sources: Sequence[Source], *, vocabulary: int, lowercase: bool) -> Any:
    """A `tokenizers.Tokenizer` of at most `vocabulary` tokens: BERT's words and special tokens, bytes below.

    The same text gives the same vocabulary: bytes are numbered in their order, and ties between merges go by number.

    Raises:
        UserError: The text cannot be read, or there is none.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    sentences = (sentence for source in sources for sentence in source.sentences())
    if next((sentence for sentence in sentences if sentence is not None), None) is None:
        raise UserError(f"{sources[0].name}: the corpus is empty", expected="text, one sentence a line")
    backend = Tokenizer(models.BPE(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    # A space before each word and each mark: what begins with it begins a word.
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), to_bytes])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    faults: list[UserError] = []
    backend.train_from_iterator(_sentences(sources, faults), trainer)
    if faults:
        raise faults[0]
    return _with_specials(backend)


def _with_specials(backend: Any) -> Any:
    """The tokeniser, its special tokens marked and put around one text or two."""
    from tokenizers import processors

    backend.add_special_tokens(list(SPECIALS))
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return backend


def trained_tokenizer(
    sources: Sequence[Source], *, kind: TokenizerKind, vocabulary: int, lowercase: bool, cache: Path
) -> tuple[PairTokenizer, Path]:
    """The tokeniser trained on the sources, from the cache where it is there; and its folder.

    Raises:
        UserError: As `train_wordpiece` and `train_bpe`; or the cache cannot be written.
    """
    made_of = [FORMAT, kind, [source.identity for source in sources], vocabulary, lowercase]
    folder = cache / f"tokenizer-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:20]}"
    if not (folder / "tokenizer.json").is_file():
        train = train_bpe if kind == "bpe" else train_wordpiece
        backend = train(sources, vocabulary=vocabulary, lowercase=lowercase)
        opened_by = "PreTrainedTokenizerFast" if kind == "bpe" else "BertTokenizer"
        settings: dict[str, Any] = asdict(find_family("bert").special_tokens)
        settings |= {"do_lower_case": lowercase, "tokenizer_class": opened_by}
        settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
        try:
            cache.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=cache))
            try:
                backend.save(str(partial / "tokenizer.json"))
                (partial / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
                partial.chmod(0o755)
                os.rename(partial, folder)
            except OSError:
                # Another process has trained the same one meanwhile.
                if not (folder / "tokenizer.json").is_file():
                    raise
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            raise UserError(
                f"{cache}: the tokeniser cannot be written", got=error.strerror, fix="choose another --data.cache"
            ) from None
    return load_tokenizer(folder, family="bert"), folder
