"""Builds a tokeniser from a SentencePiece Unigram model, as transformers does but without the package sentencepiece."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError

CLASSES = {
    "sentencepiece.bpe.model": "XLMRobertaTokenizer",
    "spm.model": "DebertaV2Tokenizer",
    "spiece.model": "AlbertTokenizer",
}
"""Usual names of SentencePiece models, with the class in transformers that reads such a file."""

UNIGRAM = 1
CONTROL, USER_DEFINED = 3, 4
"""Numbers in SentencePiece's files: of the kind of model, and of kinds of pieces that are never split."""

SETTINGS = ("do_lower_case", "keep_accents", "split_by_punct", "add_prefix_space")
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def find_sentencepiece(folder: Path) -> Path | None:
    """Returns the SentencePiece model of a folder; None if it has none under a usual name."""
    return next((folder / name for name in CLASSES if (folder / name).is_file()), None)


def load_sentencepiece(path: Path, settings: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """Builds a `tokenizers.Tokenizer` with the normalisation and the special tokens of the class in transformers.

    The class is that of `tokenizer_config.json` if it reads SentencePiece models, else that of the file's name.

    Args:
        path: The SentencePiece model, under one of its usual names.
        settings: The folder's `tokenizer_config.json`.

    Returns:
        The tokeniser, and its special token of each role.

    Raises:
        UserError: The file is damaged, or its model is not a Unigram model.
    """
    import transformers
    from google.protobuf.message import DecodeError
    from tokenizers import AddedToken
    from transformers.convert_slow_tokenizer import SLOW_TO_FAST_CONVERTERS
    from transformers.utils import sentencepiece_model_pb2_new

    model: Any = sentencepiece_model_pb2_new.ModelProto()  # type: ignore[attr-defined]
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        raise UserError(f"{path}: not a SentencePiece model, or damaged", fix="download the file again") from None
    if not model.pieces or model.trainer_spec.model_type != UNIGRAM:
        raise UserError(
            f"{path}: the SentencePiece model is not a Unigram model",
            fix="save the tokeniser with transformers as tokenizer.json",
        )
    named = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
    name = named if named in CLASSES.values() else CLASSES[path.name]
    special = [
        AddedToken(piece.piece, normalized=False, special=piece.type == CONTROL)
        for piece in model.pieces
        if piece.type in (CONTROL, USER_DEFINED)
    ]
    options: dict[str, Any] = {
        "vocab": [(piece.piece, piece.score) for piece in model.pieces],
        "unk_id": model.trainer_spec.unk_id,
        "additional_special_tokens": special,
        "_spm_precompiled_charsmap": model.normalizer_spec.precompiled_charsmap or None,
    }
    options |= {key: settings[key] for key in SETTINGS if key in settings}
    for role in ROLES:
        token = settings.get(role)
        token = token.get("content") if isinstance(token, Mapping) else token
        if isinstance(token, str):
            options[role] = token
    # XLM-R's vocabulary begins with four tokens that the SentencePiece model does not have in this order.
    convert = getattr(SLOW_TO_FAST_CONVERTERS.get(name), "convert_from_spm", None)
    options = convert(**options) if convert is not None else options
    loaded = getattr(transformers, name)(**options)
    return loaded.backend_tokenizer, {role: str(getattr(loaded, role)) for role in ROLES if getattr(loaded, role)}
