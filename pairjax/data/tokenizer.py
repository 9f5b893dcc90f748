"""The tokeniser of an encoder's folder, and how its family joins two texts."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pairjax.base.errors import UserError
from pairjax.base.families import find_family
from pairjax.base.types import EncoderSpec

PADDED_BY = 127
"""Rows of an embedding table beyond the vocabulary, at most, where it is rounded up for the hardware's sake."""


SOURCES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")


# Where a folder was made says nothing about its tokens, and would carry a machine's paths into an artefact.
ORIGINS = (
    "name_or_path",
    "tokenizer_file",
    "special_tokens_map_file",
    "vocab_file",
    "merges_file",
    "full_tokenizer_file",
)


@dataclass(frozen=True)
class PairTokenizer:
    """An encoder's tokeniser, and how its family joins two texts.

    Attributes:
        backend: A `tokenizers.Tokenizer` that neither truncates nor pads.
        family: As `EncoderSpec.family`.
        cls_id: Opens a row (`[CLS]`, `<s>`).
        sep_id: Closes a text (`[SEP]`, `</s>`).
        pad_id: Fills empty slots.
        mask_id: Stands for a hidden token; None where the vocabulary has none.
        settings: The folder's `tokenizer_config.json`, special tokens resolved, for `save`.
    """

    backend: Any
    family: str
    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def segments(self) -> bool:
        """Whether B's tokens of a joint row carry segment id 1 (BERT, ELECTRA); otherwise all carry 0."""
        return find_family(self.family).segments

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest token id."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    def check_vocabulary(self, size: int) -> None:
        """Compare with the encoder's embedding table of `size` rows.

        Raises:
            UserError: Some token has no row in it.
        """
        if self.vocabulary_size > size:
            raise UserError(
                "the tokeniser does not belong to this encoder: its vocabulary is larger than the embedding table",
                got=f"{self.vocabulary_size} tokens for {size} embeddings",
                fix="use the tokeniser that the encoder was trained with",
            )

    def vocabulary_notes(self, size: int) -> tuple[str, ...]:
        """A line where an embedding table of `size` rows is larger by more than padding makes it."""
        if size - self.vocabulary_size <= max(PADDED_BY, size // 100):
            return ()
        return (
            f"the tokeniser has {self.vocabulary_size:,} tokens for the encoder's {size:,} embeddings: check that it "
            "is the encoder's own",
        )

    def opening(self, kind: Literal["cross", "bi"]) -> tuple[int, ...]:
        """Special tokens before B's own, which belong to B's side."""
        if kind == "bi":
            return (self.cls_id,)
        return (self.sep_id,) if find_family(self.family).double_separator else ()

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which `load_tokenizer` and transformers read."""
        self.backend.save(str(folder / "tokenizer.json"))
        text = json.dumps(dict(self.settings), indent=2, ensure_ascii=False)
        (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or {} where there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON", got=error, fix="fetch the encoder's folder again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a tokeniser's settings", got=type(value).__name__, expected="a JSON object")
    return value


def _load_backend(folder: Path, settings: Mapping[str, Any]) -> Any:
    """The folder's `tokenizers.Tokenizer`, truncation and padding switched off."""
    if not any((folder / name).is_file() for name in SOURCES):
        raise UserError(
            f"{folder}: the encoder's folder has no tokeniser",
            expected=f"one of {', '.join(SOURCES)}",
            fix="copy the tokeniser's files beside config.json",
        )
    try:
        if (folder / "tokenizer.json").is_file():
            from tokenizers import Tokenizer

            backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
            _apply_case(backend, settings)
        else:
            from transformers import AutoTokenizer

            backend = AutoTokenizer.from_pretrained(str(folder), use_fast=True, local_files_only=True).backend_tokenizer
    except Exception as error:  # the Rust side raises bare Exception, transformers whatever its conversion meets
        raise UserError(
            f"{folder}: the tokeniser cannot be read",
            got=str(error)[:200],
            fix="fetch its files again, or save it with transformers as tokenizer.json",
        ) from None
    backend.no_truncation()
    backend.no_padding()
    return backend


def _apply_case(backend: Any, settings: Mapping[str, Any]) -> None:
    """Let tokenizer_config.json overrule a BERT normaliser's casing, as transformers does."""
    from tokenizers.normalizers import BertNormalizer

    if isinstance(backend.normalizer, BertNormalizer):
        names = {"do_lower_case": "lowercase", "strip_accents": "strip_accents"}
        names["tokenize_chinese_chars"] = "handle_chinese_chars"
        for given, name in names.items():
            if given in settings and settings[given] != getattr(backend.normalizer, name):
                setattr(backend.normalizer, name, settings[given])


def _case_settings(backend: Any) -> dict[str, Any]:
    """A BERT normaliser's casing in tokenizer_config.json's words: transformers guesses where that file is silent."""
    from tokenizers.normalizers import BertNormalizer

    normalizer = backend.normalizer
    if not isinstance(normalizer, BertNormalizer):
        return {}
    return {
        "do_lower_case": normalizer.lowercase,
        "strip_accents": normalizer.strip_accents,
        "tokenize_chinese_chars": normalizer.handle_chinese_chars,
    }


def _special_names(folder: Path, backend: Any, *, family: str, named: Mapping[str, Any]) -> dict[str, str]:
    """The vocabulary's token for each role: the one that the folder names, else the family's usual one."""
    names = {}
    for role, usual in asdict(find_family(family).special_tokens).items():
        given = named.get(role)
        given = given.get("content") if isinstance(given, Mapping) else given
        candidates = [name for name in (given, usual) if isinstance(name, str)]
        found = [name for name in candidates if backend.token_to_id(name) is not None]
        if found:
            names[role] = found[0]
        elif role in ("cls_token", "sep_token", "pad_token"):
            raise UserError(
                f"{folder}: the tokeniser has no {role}",
                got=f"a vocabulary without {' or '.join(dict.fromkeys(candidates))}",
                expected=f"the special tokens of the {family} family",
                fix=f'name it in tokenizer_config.json as "{role}"',
            )
    return names


def load_tokenizer(folder: Path, *, family: str) -> PairTokenizer:
    """Read the tokeniser of a Hugging Face folder.

    Special tokens are those that `tokenizer_config.json` or `special_tokens_map.json` names, else the family's usual
    ones. Truncation and padding that `tokenizer.json` may carry are switched off.

    Args:
        folder: With tokenizer.json, or a vocabulary that transformers can convert.
        family: As `EncoderSpec.family`.

    Raises:
        UserError: No tokeniser there, one that cannot be read, or one without the family's special tokens.
    """
    settings = _read_json(folder / "tokenizer_config.json")
    backend = _load_backend(folder, settings)
    named = {**_read_json(folder / "special_tokens_map.json"), **settings}
    names = _special_names(folder, backend, family=family, named=named)
    kept = {key: value for key, value in settings.items() if key not in ORIGINS}
    return PairTokenizer(
        backend=backend,
        family=family,
        cls_id=backend.token_to_id(names["cls_token"]),
        sep_id=backend.token_to_id(names["sep_token"]),
        pad_id=backend.token_to_id(names["pad_token"]),
        mask_id=backend.token_to_id(names["mask_token"]) if "mask_token" in names else None,
        settings={**_case_settings(backend), **kept, **names},
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
