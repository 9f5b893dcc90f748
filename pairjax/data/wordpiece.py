"""A tokeniser of one's own: WordPiece trained on the corpus, kept where its index is."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError
from pairjax.data.corpus import Source
from pairjax.data.encode import BERT_NAMES, PairTokenizer, load_tokenizer

FORMAT = 1
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def _sentences(sources: Sequence[Source], faults: list[UserError]) -> Iterator[str]:
    """All sentences; an error of theirs is kept aside, since the trainer would lose its kind."""
    try:
        for source in sources:
            yield from (sentence for sentence in source.sentences() if sentence is not None)
    except UserError as error:
        faults.append(error)


def train_wordpiece(sources: Sequence[Source], *, vocabulary: int, lowercase: bool) -> Any:
    """A BERT-like `tokenizers.Tokenizer` of at most `vocabulary` tokens.

    Nothing is drawn at random: the same text gives the same vocabulary.

    Raises:
        UserError: The text cannot be read, or there is none.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    backend.decoder = decoders.WordPiece()  # type: ignore[assignment]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIALS), limit_alphabet=1000, show_progress=False
    )
    faults: list[UserError] = []
    backend.train_from_iterator(_sentences(sources, faults), trainer)
    if faults:
        raise faults[0]
    if backend.get_vocab_size() == len(SPECIALS):
        raise UserError(f"{sources[0].name}: the corpus is empty", expected="text, one sentence a line")
    cls, sep = (backend.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    backend.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    return backend


def trained_tokenizer(
    sources: Sequence[Source], *, vocabulary: int, lowercase: bool, cache: Path
) -> tuple[PairTokenizer, Path]:
    """The tokeniser trained on the sources, from the cache where it is there; and its folder.

    Raises:
        UserError: As `train_wordpiece`; or the cache cannot be written.
    """
    made_of = [FORMAT, [source.digest for source in sources], vocabulary, lowercase]
    folder = cache / f"tokenizer-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:20]}"
    if not (folder / "tokenizer.json").is_file():
        backend = train_wordpiece(sources, vocabulary=vocabulary, lowercase=lowercase)
        settings = dict(BERT_NAMES) | {"do_lower_case": lowercase, "tokenizer_class": "BertTokenizer"}
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
                f"{cache}: the tokeniser cannot be written", got=error.strerror, mend="choose another --data.cache"
            ) from None
    return load_tokenizer(folder, family="bert"), folder
