"""Loads the tokeniser of an encoder's folder, with the way in which it joins two texts."""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pairjax.base.errors import UserError
from pairjax.base.families import find_family
from pairjax.base.types import EncoderSpec
from pairjax.data.pair_template import PairTemplate, family_template, read_template
from pairjax.data.sentencepiece_model import CLASSES, find_sentencepiece, load_sentencepiece
from pairjax.storage.files import read_json

PADDED_BY = 127
"""Most rows that an embedding table has beyond the vocabulary because its size is rounded up for the hardware."""

SOURCES = ("tokenizer.json", "vocab.txt", "vocab.json", *CLASSES, "tokenizer.model")
"""Files from which a tokeniser can be read."""

SENTENCEPIECE = "tokenizer.model"
"""The one among them that transformers reads only with the package sentencepiece."""

# These settings do not change the tokens. A saved model must neither hold one machine's paths nor name code to run.
DROPPED = (
    "auto_map",
    "name_or_path",
    "tokenizer_file",
    "special_tokens_map_file",
    "vocab_file",
    "merges_file",
    "full_tokenizer_file",
)


@dataclass(frozen=True)
class PairTokenizer:
    """An encoder's tokeniser, with the special tokens that join two texts.

    Attributes:
        backend: A `tokenizers.Tokenizer` that neither truncates nor pads.
        family: As `EncoderSpec.family`.
        cls_id: Id of the token that opens a row (`[CLS]`, `<s>`).
        sep_id: Id of the token that closes a text (`[SEP]`, `</s>`).
        pad_id: Id of the token in empty slots.
        mask_id: Id of the token that replaces a masked one; None if the vocabulary has none.
        settings: The folder's `tokenizer_config.json` with its special tokens resolved, for `save`.
        notes: Lines for the log: settings that transformers reads in another way.
        template: How two texts are joined; None means the family's usual way.
        prefixes: Text that is put before each text of side A, and of side B.
    """

    backend: Any
    family: str
    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    template: PairTemplate | None = None
    prefixes: tuple[str, str] = ("", "")

    @property
    def joining(self) -> PairTemplate:
        """The template, that of the family by default."""
        return self.template or family_template(self.family)

    @property
    def segments(self) -> bool:
        """Whether B's tokens of a joint row have segment id 1; otherwise all tokens have 0."""
        return self.joining.segments

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest token id."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    def check_vocabulary(self, size: int) -> None:
        """Checks the vocabulary against the encoder's embedding table of `size` rows.

        Raises:
            UserError: Some token has no row in the table.
        """
        if self.vocabulary_size > size:
            raise UserError(
                "the tokeniser does not belong to this encoder: its vocabulary is larger than the embedding table",
                got=f"{self.vocabulary_size} tokens for {size} embeddings",
                fix="use the tokeniser that the encoder was trained with",
            )

    def vocabulary_notes(self, size: int) -> tuple[str, ...]:
        """Returns `notes`, with another if an embedding table of `size` rows is larger than padding explains."""
        if size - self.vocabulary_size <= max(PADDED_BY, size // 100):
            return self.notes
        return (
            *self.notes,
            f"the tokeniser has {self.vocabulary_size:,} tokens for the encoder's {size:,} embeddings: check that it "
            "is the encoder's own",
        )

    def opening(self, kind: Literal["cross", "bi"]) -> tuple[int, ...]:
        """Returns the special tokens before B's own tokens; they belong to side B."""
        if kind == "bi":
            return (self.cls_id,)
        return (self.sep_id,) if self.joining.double_separator else ()

    def of_side(self, side: Literal["first", "second"]) -> "PairTokenizer":
        """Returns the tokeniser for single texts of one side, which are encoded as first texts."""
        return replace(self, prefixes=(self.prefixes[0 if side == "first" else 1], ""))

    def joined_by_family(self) -> "PairTokenizer":
        """Returns the tokeniser with its family's template, for models that were trained before it had its own."""
        return replace(self, template=None)

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json`, which `load_tokenizer` and transformers read."""
        self.backend.save(str(folder / "tokenizer.json"))
        text = json.dumps(dict(self.settings), indent=2, ensure_ascii=False)
        (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def _read_settings(path: Path) -> dict[str, Any]:
    """Reads a JSON object; returns {} if there is no such file."""
    if not path.is_file():
        return {}
    return read_json(path, kind="a tokeniser's settings", fix="fetch the encoder's folder again")


def _load_backend(folder: Path, settings: Mapping[str, Any]) -> tuple[Any, Mapping[str, str]]:
    """Loads the folder's tokeniser, untruncated and unpadded, and the special tokens of a SentencePiece model."""
    if not any((folder / name).is_file() for name in SOURCES):
        raise UserError(
            f"{folder}: the encoder's folder has no tokeniser",
            expected=f"one of {', '.join(SOURCES)}",
            fix="copy the tokeniser's files into the folder of config.json",
        )
    specials: Mapping[str, str] = {}
    try:
        if (folder / "tokenizer.json").is_file():
            from tokenizers import Tokenizer

            backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
            _apply_case(backend, settings)
        elif (model := find_sentencepiece(folder)) is not None:
            backend, specials = load_sentencepiece(model, settings)
        else:
            from transformers import AutoTokenizer

            # Without trust_remote_code, transformers asks on standard input whether to run the folder's own code.
            loaded = AutoTokenizer.from_pretrained(
                str(folder), use_fast=True, local_files_only=True, trust_remote_code=False
            )
            backend = loaded.backend_tokenizer
    except UserError:
        raise
    except Exception as error:  # The Rust side raises plain Exception, and transformers raises many kinds.
        if not (folder / "tokenizer.json").is_file() and _names_code(folder, settings):
            raise UserError(
                f"{folder}: the tokeniser needs Python code from its folder, which pairjax never runs",
                got="auto_map in tokenizer_config.json or config.json",
                expected="tokenizer.json",
                fix="if you trust the code, load it with transformers elsewhere and save it there as tokenizer.json",
            ) from None
        raise UserError(
            f"{folder}: the tokeniser cannot be read",
            got=_tokeniser_fault(folder, error),
            fix="fetch its files again, or save it with transformers as tokenizer.json",
        ) from None
    backend.no_truncation()
    backend.no_padding()
    return backend, specials


def _names_code(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Returns whether the folder's settings name Python code of its own (`auto_map`)."""
    return "auto_map" in settings or "auto_map" in _read_settings(folder / "config.json")


def _tokeniser_fault(folder: Path, error: Exception) -> str:
    """Describes why a tokeniser cannot be read.

    Without the package sentencepiece, transformers takes a SentencePiece model for one of tiktoken and asks for that.
    """
    others = SOURCES[:-1]
    if (folder / SENTENCEPIECE).is_file() and not any((folder / name).is_file() for name in others):
        if importlib.util.find_spec("sentencepiece") is None:
            return f"only {SENTENCEPIECE}, which needs the package sentencepiece (pip install sentencepiece)"
        return f"{SENTENCEPIECE}: {str(error)[:160]}"
    return str(error)[:200]


def _apply_case(backend: Any, settings: Mapping[str, Any]) -> None:
    """Lets tokenizer_config.json override a BERT normaliser's casing, as transformers does.

    A setting that is missing there leaves tokenizer.json as it is, since the file belongs to the vocabulary that the
    weights know. transformers fills it with the default of the tokeniser's class, so it lower-cases for BERT.
    """
    from tokenizers.normalizers import BertNormalizer

    if isinstance(backend.normalizer, BertNormalizer):
        names = {"do_lower_case": "lowercase", "strip_accents": "strip_accents"}
        names["tokenize_chinese_chars"] = "handle_chinese_chars"
        for key, name in names.items():
            if key in settings and settings[key] != getattr(backend.normalizer, name):
                setattr(backend.normalizer, name, settings[key])


def _case_settings(backend: Any) -> dict[str, Any]:
    """Returns a BERT normaliser's casing in the keys of tokenizer_config.json; transformers guesses missing ones."""
    from tokenizers.normalizers import BertNormalizer

    normalizer = backend.normalizer
    if not isinstance(normalizer, BertNormalizer):
        return {}
    return {
        "do_lower_case": normalizer.lowercase,
        "strip_accents": normalizer.strip_accents,
        "tokenize_chinese_chars": normalizer.handle_chinese_chars,
    }


def _case_notes(folder: Path, backend: Any, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns a note if tokenizer.json keeps capitals and transformers, for want of a setting, does not."""
    case = _case_settings(backend)
    generic = settings.get("tokenizer_class") in ("PreTrainedTokenizerFast", "TokenizersBackend")
    if not case or case["do_lower_case"] or "do_lower_case" in settings or generic:
        return ()
    return (
        f"{folder}: tokenizer.json keeps capitals, and tokenizer_config.json does not say do_lower_case: pairjax keeps "
        "them too, but transformers may lower-case texts; add do_lower_case there to decide it",
    )


def _special_names(folder: Path, backend: Any, *, family: str, named: Mapping[str, Any]) -> dict[str, str]:
    """Returns the vocabulary's token for each role: the one that the folder names, else the family's usual one."""
    names = {}
    for role, usual in asdict(find_family(family).special_tokens).items():
        own = named.get(role)
        own = own.get("content") if isinstance(own, Mapping) else own
        candidates = [name for name in (own, usual) if isinstance(name, str)]
        known = [name for name in candidates if backend.token_to_id(name) is not None]
        if known:
            names[role] = known[0]
        elif role in ("cls_token", "sep_token", "pad_token"):
            raise UserError(
                f"{folder}: the tokeniser has no {role}",
                got=f"a vocabulary without {' or '.join(dict.fromkeys(candidates))}",
                expected=f"the special tokens of the {family} family",
                fix=f'name it in tokenizer_config.json as "{role}"',
            )
    return names


def load_tokenizer(folder: Path, *, family: str, prefixes: tuple[str, str] = ("", "")) -> PairTokenizer:
    """Reads the tokeniser of a Hugging Face folder.

    The tokeniser's post-processor decides how texts are joined. Special tokens are those that `tokenizer_config.json`
    or `special_tokens_map.json` names, else the family's usual ones. Truncation and padding settings of
    `tokenizer.json` are switched off. No code from the folder is run.

    Args:
        folder: A folder with tokenizer.json, a SentencePiece model, or a vocabulary that transformers can convert.
        family: As `EncoderSpec.family`.
        prefixes: Text that is put before each text of side A, and of side B.

    Raises:
        UserError: The folder has no tokeniser, or one that cannot be read, lacks the family's special tokens, or joins
            two texts in an unknown way.
    """
    settings = _read_settings(folder / "tokenizer_config.json")
    backend, specials = _load_backend(folder, settings)
    named = {**specials, **_read_settings(folder / "special_tokens_map.json"), **settings}
    names = _special_names(folder, backend, family=family, named=named)
    portable = {key: value for key, value in settings.items() if key not in DROPPED}
    return PairTokenizer(
        backend=backend,
        family=family,
        cls_id=backend.token_to_id(names["cls_token"]),
        sep_id=backend.token_to_id(names["sep_token"]),
        pad_id=backend.token_to_id(names["pad_token"]),
        mask_id=backend.token_to_id(names["mask_token"]) if "mask_token" in names else None,
        settings={**_case_settings(backend), **portable, **names},
        notes=_case_notes(folder, backend, settings),
        template=read_template(backend, family=family, place=folder),
        prefixes=prefixes,
    )


def check_fit(max_length: int, *, spec: EncoderSpec, tokenizer: PairTokenizer, folder: Path) -> None:
    """Checks that tokeniser, row length and encoder fit each other.

    Args:
        max_length: Most tokens of a sequence.
        spec: The encoder's architecture.
        tokenizer: The encoder's tokeniser.
        folder: The encoder's folder, for messages.

    Raises:
        UserError: The tokeniser has ids without an embedding, or a sequence may be longer than the encoder can read.
    """
    if max_length > spec.max_positions:
        raise UserError(
            "--data.max-length is longer than the encoder reads",
            got=max_length,
            expected=f"at most {spec.max_positions} for {folder}",
        )
    tokenizer.check_vocabulary(spec.vocab_size)
