"""Trains a tokeniser, WordPiece or byte-level BPE, on the corpus, and caches it in the folder of the indexes.

Both split text into words and punctuation marks as BERT does, and have BERT's special tokens, so a BERT encoder can
read either. WordPiece marks a piece that continues a word with `##` and knows the most frequent letters only. BPE marks
a piece that begins a word with `Ġ` and spells unknown text in bytes, so no text is unknown to it.
"""

import hashlib
import json
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
from pairjax.storage.files import whole_folder

FORMAT = 2
ALPHABET = 1000
"""Most letters in a WordPiece vocabulary; rarer ones are unknown."""
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def _sentences(sources: Sequence[Source], errors: list[UserError]) -> Iterator[str]:
    """Yields all sentences; appends an error to `errors`, because the trainer would change its type."""
    try:
        for source in sources:
            yield from (sentence for sentence in source.sentences() if sentence is not None)
    except UserError as error:
        errors.append(error)


def _alphabet(sources: Sequence[Source], normalizer: Any) -> list[str]:
    """Returns the most frequent letters, sorted."""
    counts: Counter[str] = Counter()
    for source in sources:
        for sentence in source.sentences():
            if sentence is not None:
                counts.update(normalizer.normalize_str(sentence))
    letters = [letter for letter in counts if not letter.isspace()]
    return sorted(sorted(letters, key=lambda letter: (-counts[letter], letter))[:ALPHABET])


def train_wordpiece(sources: Sequence[Source], *, vocabulary: int, lowercase: bool) -> Any:
    """Trains a BERT-like WordPiece `tokenizers.Tokenizer` of at most `vocabulary` tokens.

    The same text gives the same vocabulary. By itself, the trainer numbers the letters inside words in the order of a
    hash table, which differs between processes, and breaks ties between merges by these numbers. Therefore the letters
    are passed to it as special tokens.

    Args:
        sources: The text.
        vocabulary: Most tokens of the vocabulary.
        lowercase: Whether text is lower-cased.

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
    errors: list[UserError] = []
    trained.train_from_iterator(_sentences(sources, errors), trainer)
    if errors:
        raise errors[0]
    backend = Tokenizer(models.WordPiece(trained.get_vocab(with_added_tokens=True), unk_token="[UNK]"))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return _with_specials(backend)


def train_bpe(sources: Sequence[Source], *, vocabulary: int, lowercase: bool) -> Any:
    """Trains a byte-level BPE `tokenizers.Tokenizer` of at most `vocabulary` tokens, with BERT's special tokens.

    The same text gives the same vocabulary: bytes are numbered in order, and ties between merges are broken by number.

    Args:
        sources: The text.
        vocabulary: Most tokens of the vocabulary.
        lowercase: Whether text is lower-cased.

    Raises:
        UserError: The text cannot be read, or there is none.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    sentences = (sentence for source in sources for sentence in source.sentences())
    if next((sentence for sentence in sentences if sentence is not None), None) is None:
        raise UserError(f"{sources[0].name}: the corpus is empty", expected="text, one sentence a line")
    backend = Tokenizer(models.BPE(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    # A space is put before each word and punctuation mark, so a token that starts with it begins a word.
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), to_bytes])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    errors: list[UserError] = []
    backend.train_from_iterator(_sentences(sources, errors), trainer)
    if errors:
        raise errors[0]
    return _with_specials(backend)


def _with_specials(backend: Any) -> Any:
    """Registers the special tokens, and adds the template that puts them around one text or two."""
    from tokenizers import processors

    backend.add_special_tokens(list(SPECIALS))
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return backend


def load_or_train_tokenizer(
    sources: Sequence[Source], *, kind: TokenizerKind, vocabulary: int, lowercase: bool, cache: Path
) -> tuple[PairTokenizer, Path]:
    """Returns the tokeniser trained on the sources and its folder; trains it if the cache does not have it.

    Args:
        sources: The text.
        kind: `wordpiece` or `bpe`.
        vocabulary: Most tokens of the vocabulary.
        lowercase: Whether text is lower-cased.
        cache: Folder of trained tokenisers.

    Raises:
        UserError: As `train_wordpiece` and `train_bpe`; or the cache cannot be written.
    """
    made_of = [FORMAT, kind, [source.identity for source in sources], vocabulary, lowercase]
    folder = cache / f"tokenizer-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:20]}"
    if not (folder / "tokenizer.json").is_file():
        train = train_bpe if kind == "bpe" else train_wordpiece
        backend = train(sources, vocabulary=vocabulary, lowercase=lowercase)
        class_name = "PreTrainedTokenizerFast" if kind == "bpe" else "BertTokenizer"
        settings: dict[str, Any] = asdict(find_family("bert").special_tokens)
        settings |= {"do_lower_case": lowercase, "tokenizer_class": class_name}
        settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
        try:
            with whole_folder(folder, replace=False) as partial:
                backend.save(str(partial / "tokenizer.json"))
                (partial / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{cache}: the tokeniser cannot be written", got=error.strerror, fix="choose another --data.cache"
            ) from None
    return load_tokenizer(folder, family="bert"), folder
