"""Texts to token rows: the tokeniser of an encoder's folder, truncation that is counted, and compact storage.

A pair's row is stored whole, special tokens included, in one flat array; `split` says where its second side starts.
That is all a batch needs, whatever the family and whether the two texts are read jointly or each alone:

- cross, BERT-like: `[CLS] A [SEP] | B [SEP]`; RoBERTa-like: `<s> A </s> | </s> B </s>`
- bi: `[CLS] A [SEP] | [CLS] B [SEP]`
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int32, Int64

from pairjax.base.config import Truncation
from pairjax.base.errors import UserError
from pairjax.data.truncate import kept_tokens

TEXTS_AT_ONCE = 2048
PAIRS_AT_ONCE = 65536
PADDED_BY = 127
"""Rows of an embedding table beyond the vocabulary, at most, where it is rounded up for the hardware's sake."""
SOURCES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
BERT_NAMES = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
    "unk_token": "[UNK]",
}
ROBERTA_NAMES = {
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
    "unk_token": "<unk>",
}
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
        return self.family in ("bert", "electra")

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
                mend="use the tokeniser that the encoder was trained with",
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
        return (self.sep_id,) if self.family in ("roberta", "xlm-roberta") else ()

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which `load_tokenizer` and transformers read."""
        self.backend.save(str(folder / "tokenizer.json"))
        text = json.dumps(dict(self.settings), indent=2, ensure_ascii=False)
        (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class EncodedPairs:
    """N token rows, laid end to end.

    Attributes:
        tokens: int32 [T], every row's ids, special tokens included.
        offsets: int64 [N + 1]; row i is `tokens[offsets[i]:offsets[i + 1]]`.
        split: int32 [N]; slots of side A, so that B's start is `offsets[i] + split[i]`.
        kind: Whether the two sides are one sequence or each its own.
        segments: Whether B of a joint row has segment id 1.
        pad_id: Id for empty slots.
        max_length: The limit that rows (cross) or sides (bi) were cut to.
        truncation: How.
        truncated: Pairs that lost tokens.
        lost: Tokens lost in all.
        bare: Pairs with a text of which the tokeniser keeps nothing (empty, or control characters only).
    """

    tokens: Int32[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " pairs_and_one"]
    split: Int32[np.ndarray, " pairs"]
    kind: Literal["cross", "bi"]
    segments: bool
    pad_id: int
    max_length: int
    truncation: Truncation
    truncated: int = 0
    lost: int = 0
    bare: int = 0

    def __len__(self) -> int:
        return len(self.split)

    @property
    def lengths(self) -> Int32[np.ndarray, " pairs"]:
        """Row slots that each pair needs: the joint sequence, or both sides of a bi-encoder."""
        return np.diff(self.offsets).astype(np.int32)

    def notes(self) -> tuple[str, ...]:
        """A line for each thing worth telling: what truncation cut, texts without tokens."""
        lines = []
        if self.truncated:
            of = "pairs are" if self.kind == "cross" else "pairs have a text"
            lines.append(
                f"{self.truncated} of {len(self)} {of} longer than {self.max_length} tokens and were cut "
                f"({self.truncation}), {self.lost} tokens lost"
            )
        if self.bare:
            lines.append(f"{self.bare} of {len(self)} pairs have a text without a single token")
        return tuple(lines)


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or {} where there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON", got=error, mend="fetch the encoder's folder again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a tokeniser's settings", got=type(value).__name__, expected="a JSON object")
    return value


def _load_backend(folder: Path, settings: Mapping[str, Any]) -> Any:
    """The folder's `tokenizers.Tokenizer`, truncation and padding switched off."""
    if not any((folder / name).is_file() for name in SOURCES):
        raise UserError(
            f"{folder}: the encoder's folder has no tokeniser",
            expected=f"one of {', '.join(SOURCES)}",
            mend="copy the tokeniser's files beside config.json",
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
            mend="fetch its files again, or save it with transformers as tokenizer.json",
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
    for role, usual in (ROBERTA_NAMES if family in ("roberta", "xlm-roberta") else BERT_NAMES).items():
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
                mend=f'name it in tokenizer_config.json as "{role}"',
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


def _tokenise(
    texts: Sequence[str], tokenizer: PairTokenizer
) -> tuple[Int32[np.ndarray, " tokens"], Int64[np.ndarray, " texts_and_one"]]:
    """Ids of each text without special tokens, laid end to end, and where each starts."""
    parts = [np.zeros(0, np.int32)]
    counts = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        chunk = list(texts[start : start + TEXTS_AT_ONCE])
        try:
            encoded = tokenizer.backend.encode_batch_fast(chunk, add_special_tokens=False)
        except (TypeError, UnicodeError):
            wrong = next((text for text in chunk if not _is_text(text)), chunk[0])
            raise UserError("a text cannot be tokenised", got=repr(wrong)[:80], expected="a Unicode string") from None
        ids = [item.ids for item in encoded]
        counts += [len(item) for item in ids]
        parts.append(np.fromiter(chain.from_iterable(ids), np.int32))
    return np.concatenate(parts), np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _is_text(value: object) -> bool:
    """Whether a value is a string that UTF-8 can write (no lone surrogates)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeError:
        return False
    return True


def _copy(
    target: Int32[np.ndarray, " slots"],
    to: Int64[np.ndarray, " runs"],
    tokens: Int32[np.ndarray, " tokens"],
    start: Int64[np.ndarray, " runs"],
    count: Int64[np.ndarray, " runs"],
) -> None:
    """`target[to[i]:to[i] + count[i]] = tokens[start[i]:start[i] + count[i]]` for every run i."""
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    target[np.repeat(to, count) + within] = tokens[np.repeat(start, count) + within]


def _copy_texts(
    rows: Int32[np.ndarray, " slots"],
    to: Int64[np.ndarray, " pairs"],
    tokens: Int32[np.ndarray, " tokens"],
    *,
    start: Int64[np.ndarray, " pairs"],
    full: Int64[np.ndarray, " pairs"],
    kept: Int64[np.ndarray, " pairs"],
    both_ends: bool,
) -> None:
    """Copy what one side keeps of its texts: the head, or (`both_ends`) the two halves of what was cut."""
    for begin in range(0, len(to), PAIRS_AT_ONCE):
        part = slice(begin, begin + PAIRS_AT_ONCE)
        tail = np.where(kept[part] < full[part], kept[part] // 2, 0) if both_ends else np.zeros_like(kept[part])
        head = kept[part] - tail
        _copy(rows, to[part], tokens, start[part], head)
        if both_ends:
            _copy(rows, to[part] + head, tokens, start[part] + full[part] - tail, tail)


def encode_pairs(
    first: Sequence[str],
    second: Sequence[str],
    tokenizer: PairTokenizer,
    *,
    kind: Literal["cross", "bi"],
    max_length: int,
    truncation: Truncation = "longest_first",
    where: Sequence[str] = (),
) -> EncodedPairs:
    """Tokenise pairs into rows; each distinct text once, in chunks.

    Args:
        first: A's texts.
        second: B's texts, as many.
        tokenizer: Of the encoder.
        kind: Whether the pair is one sequence or each text its own.
        max_length: Longest sequence, special tokens included: the joint pair, or each text of a bi-encoder.
        truncation: `longest_first` drops tail tokens of the longer side (as transformers); `only_first` and
            `only_second` of that side; `head_tail` shares the length as `longest_first` and keeps the first and the
            last half of a side that is too long.
        where: Each pair's place in its source, for messages.

    Raises:
        UserError: A pair cannot be cut to the limit by the strategy, or a text is no string.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} first texts and {len(second)} second texts")
    opening = tokenizer.opening(kind)
    budget = max_length - (2 if kind == "bi" else 3 + len(opening))
    if budget < 2:
        raise UserError("--data.max-length leaves no room for tokens", got=max_length, expected=max_length + 2 - budget)
    index: dict[str, int] = {}
    ids = [np.fromiter((index.setdefault(text, len(index)) for text in side), np.int64) for side in (first, second)]
    tokens, starts = _tokenise(list(index), tokenizer)
    full = [starts[side + 1] - starts[side] for side in ids]
    kept = kept_tokens(full[0], full[1], kind=kind, budget=budget, truncation=truncation, where=where)
    split = kept[0] + 2
    offsets = np.concatenate([[0], np.cumsum(split + len(opening) + kept[1] + 1)]).astype(np.int64)
    rows, begin = np.empty(int(offsets[-1]), np.int32), offsets[:-1]
    rows[begin] = tokenizer.cls_id
    rows[begin + split - 1] = rows[offsets[1:] - 1] = tokenizer.sep_id
    for place, token in enumerate(opening):
        rows[begin + split + place] = token
    for side, to in enumerate((begin + 1, begin + split + len(opening))):
        start, both_ends = starts[ids[side]], truncation == "head_tail"
        _copy_texts(rows, to, tokens, start=start, full=full[side], kept=kept[side], both_ends=both_ends)
    lost = full[0] + full[1] - kept[0] - kept[1]
    return EncodedPairs(
        tokens=rows,
        offsets=offsets,
        split=split.astype(np.int32),
        kind=kind,
        segments=tokenizer.segments and kind == "cross",
        pad_id=tokenizer.pad_id,
        max_length=max_length,
        truncation=truncation,
        truncated=int((lost > 0).sum()),
        lost=int(lost.sum()),
        bare=int(((full[0] == 0) | (full[1] == 0)).sum()),
    )
