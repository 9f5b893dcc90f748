"""Caches features: encodes each distinct text once with a frozen encoder and keeps the vectors in memory-mapped arrays.

A cache is a folder: `meta.json` (hashes of what it was made from, and of its files), `texts.jsonl`, `pooled.npy`
[texts, D] and optionally `tokens.npy` [tokens, D] with `offsets.npy` [texts + 1]. The folder appears under its name
only when it is complete. A cache that was made from something else, or is damaged, is never read: it is made again.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from jaxtyping import Array, Float, Int32, Int64

from pairjax.base.data_config import Truncation
from pairjax.base.errors import UserError
from pairjax.base.feature_config import FeatureConfig
from pairjax.base.model_config import ModelConfig
from pairjax.base.types import Batch, EncoderSpec, Pairs, Params
from pairjax.data.encode import EncodedPairs
from pairjax.data.layout import Layout, plan_in_order
from pairjax.data.pipeline import eval_batches
from pairjax.data.texts import distinct_texts, encode_texts
from pairjax.data.tokenizer import PairTokenizer, check_fit, load_tokenizer
from pairjax.models.build import build_pair_model, initial_params
from pairjax.step.sharding import build_mesh, put_batch, replicate, row_shards
from pairjax.storage.files import read_json, storage_error, to_json, whole_folder, write_text
from pairjax.storage.hashes import file_fault, hash_files, hash_json, hash_parts
from pairjax.weights import load_encoder, read_encoder_spec, resolve_encoder, weights_hash

FORMAT = 1
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Row lengths that texts are padded to; fewer than prediction has (`classifier.LENGTHS`), as each one is compiled."""
META, TEXTS, POOLED, TOKENS, OFFSETS = "meta.json", "texts.jsonl", "pooled.npy", "tokens.npy", "offsets.npy"
DTYPES: Mapping[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@dataclass(frozen=True)
class Features:
    """An opened cache.

    Attributes:
        folder: The cache's folder.
        identity: What the cache was made from.
        index: The row of each text.
        pooled: [texts, D]; pooled vectors, memory-mapped, in the cache's dtype.
        tokens: [tokens, D]; token vectors, memory-mapped; None if the cache has only pooled vectors.
        offsets: int64 [texts + 1]; text i's tokens are `tokens[offsets[i]:offsets[i + 1]]`.
        notes: Lines for the user: why the cache was made again, which texts were truncated.
    """

    folder: Path
    identity: Mapping[str, Any]
    index: Mapping[str, int]
    pooled: np.ndarray
    tokens: np.ndarray | None
    offsets: Int64[np.ndarray, " texts_and_one"] | None
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """SHA-256 of the identity; part of the key of everything computed from the features."""
        return hash_json(dict(self.identity))

    def token_vectors(self) -> tuple[np.ndarray, Int64[np.ndarray, " texts_and_one"]]:
        """Returns the token vectors and their offsets.

        Raises:
            UserError: The cache has only pooled vectors.
        """
        if self.tokens is None or self.offsets is None:
            raise UserError(f"{self.folder}: the cache has no token vectors", fix="make it with --features.tokens")
        return self.tokens, self.offsets

    def sides(self, pairs: Pairs) -> Int32[np.ndarray, "pairs 2"]:
        """Returns the rows of each pair's two texts.

        Raises:
            UserError: A text is not in the cache.
        """
        try:
            first = [self.index[text] for text in pairs.first]
            second = [self.index[text] for text in pairs.second]
        except KeyError as error:
            raise UserError(
                f"{self.folder}: the cache lacks a text", got=repr(error.args[0])[:80], fix="make it for these pairs"
            ) from None
        return np.stack([np.asarray(first, np.int32), np.asarray(second, np.int32)], axis=1)

    def vectors(self, sides: Int32[np.ndarray, "pairs 2"], batch: Batch) -> Float[np.ndarray, "rows slots 2 dim"]:
        """Returns u and v of a batch's pairs in float32, as `PairModelFns.head_pooled` takes them.

        Args:
            sides: The rows of each pair's texts, as `sides` returns them.
            batch: The batch.

        Returns:
            The vectors; zeros in an empty slot.
        """
        real = batch.example_id >= 0
        rows = sides[np.where(real, batch.example_id, 0)]
        return np.where(real[..., None, None], self.pooled[rows].astype(np.float32), np.float32(0))

    def hidden(self, sides: Int32[np.ndarray, "pairs 2"], batch: Batch) -> Float[np.ndarray, "rows length dim"]:
        """Returns the hidden states of a bi-encoder's batch in float32, as `PairModelFns.head` takes them.

        Args:
            sides: The rows of each pair's texts, as `sides` returns them.
            batch: The batch.

        Returns:
            The hidden states; zeros in an empty slot.

        Raises:
            UserError: The cache has only pooled vectors.
        """
        tokens, offsets = self.token_vectors()
        real = batch.pair_ids > 0
        slot = np.where(real, batch.pair_ids - 1, 0)
        example = np.take_along_axis(batch.example_id, slot, axis=1)
        text = sides[np.where(real, example, 0), batch.side_ids]
        place = np.where(real, offsets[text] + batch.position_ids, 0)
        return np.where(real[..., None], tokens[place].astype(np.float32), np.float32(0))


def _tokenizer_hash(tokenizer: PairTokenizer) -> str:
    """Returns the SHA-256 of a tokeniser and its special tokens."""
    special = json.dumps([tokenizer.family, tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id])
    return hash_parts([tokenizer.backend.to_str().encode(), special.encode()])


def _stale(folder: Path, identity: Mapping[str, Any], *, overwrite: bool) -> str | None:
    """Returns why the cache in a folder cannot be used, None if it can, "" if there is none.

    Raises:
        UserError: The folder holds something else, or the cache of another encoder.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return ""
    if not (folder / META).is_file():
        raise UserError(f"{folder}: not a feature cache", got=f"no {META}", fix="choose another folder")
    try:
        meta = read_json(folder / META, required=("identity", "files"))
        saved, files = dict(meta["identity"]), dict(meta["files"])
    except (UserError, ValueError, TypeError) as error:
        return f"its {META} is damaged ({error})"
    if overwrite:
        return "to be overwritten"
    if saved.get("encoder") != identity["encoder"]:
        raise UserError(
            f"{folder}: the cache of another encoder",
            got=saved.get("encoder"),
            expected=identity["encoder"],
            fix="choose another folder, or add --overwrite",
        )
    changed = [name for name in identity if saved.get(name) != identity[name]]
    if changed:
        return f"made from other {', '.join(changed)}"
    faults = (file_fault(folder, name, (int(size), str(digest))) for name, (size, digest) in files.items())
    fault = next((fault for fault in faults if fault), None)
    return f"cut short or damaged: {fault}" if fault else None


def _open(folder: Path, identity: Mapping[str, Any], notes: Sequence[str]) -> Features:
    """Opens a complete cache."""
    lines = (folder / TEXTS).read_text(encoding="utf-8").splitlines()
    index = {json.loads(line): row for row, line in enumerate(lines)}
    dtype = DTYPES[identity["dtype"]]

    def read_array(name: str) -> np.ndarray:
        # The .npy format has no bfloat16: such arrays are saved as uint16.
        array = np.load(folder / name, mmap_mode="r")
        return array.view(dtype) if array.dtype == np.uint16 else array

    tokens = read_array(TOKENS) if identity["tokens"] else None
    offsets = np.load(folder / OFFSETS) if identity["tokens"] else None
    return Features(folder, dict(identity), index, read_array(POOLED), tokens, offsets, tuple(notes))


def _create(path: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Creates a .npy file as a writable memory map."""
    saved = np.uint16 if dtype is ml_dtypes.bfloat16 else dtype
    array = np.lib.format.open_memmap(path, mode="w+", dtype=saved, shape=shape)
    return array.view(dtype) if dtype is ml_dtypes.bfloat16 else array


def _fill(
    folder: Path,
    encoded: EncodedPairs,
    encode: Callable[[Batch], tuple[Array, Array]],
    *,
    config: FeatureConfig,
    width: int,
    multiple: int,
    progress: Callable[[int], None],
) -> None:
    """Encodes every row of `encoded` and writes the arrays into a folder."""
    dtype = DTYPES[config.dtype]
    pooled = _create(folder / POOLED, (len(encoded), width), dtype)
    tokens = _create(folder / TOKENS, (len(encoded.tokens), width), dtype) if config.tokens else None
    layout = Layout("bucketed", LENGTHS).extend(encoded.lengths)
    rows = min(config.batch_size, 1 << max(len(encoded) - 1, 0).bit_length())
    for batch in eval_batches(encoded, None, plan_in_order(encoded.lengths, layout, rows, multiple=multiple)):
        hidden, vectors = encode(batch)
        real = batch.example_id[:, 0] >= 0
        index = batch.example_id[real, 0]
        pooled[index] = np.asarray(vectors)[real].astype(dtype)
        if tokens is not None:
            row, column = np.nonzero(batch.pair_ids)
            place = encoded.offsets[batch.example_id[row, 0]] + batch.position_ids[row, column]
            tokens[place] = np.asarray(hidden)[row, column].astype(dtype)
        progress(int(real.sum()))
    if tokens is not None:
        np.save(folder / OFFSETS, encoded.offsets)
    # Dropping the last reference to a memory map writes it to disk.


def _origin(config: FeatureConfig, source: Path, tokenizer: PairTokenizer) -> dict[str, Any]:
    """Returns the part of a cache's identity that does not depend on the texts and the length of rows."""
    return {
        "format": FORMAT,
        "encoder": config.encoder,
        "weights": weights_hash(source),
        "tokenizer": _tokenizer_hash(tokenizer),
        "pooling": config.pooling,
        "dtype": config.dtype,
        "tokens": config.tokens,
    }


def read_features(
    folder: Path, config: FeatureConfig, *, max_length: int = 128, truncation: Truncation = "longest_first"
) -> Features:
    """Opens an existing cache, of any texts, with token vectors or without; makes and replaces nothing.

    Args:
        folder: The cache's folder.
        config: The encoder, pooling and precision that the cache must have.
        max_length: The longest row of a text that the cache must have.
        truncation: The truncation that the cache must have.

    Raises:
        UserError: There is no cache, it was made from something else, or it is damaged.
    """
    source = resolve_encoder(config.encoder, download=config.download)
    tokenizer = load_tokenizer(source, family=read_encoder_spec(source).family)
    fix = "make it with pairjax features, and the same --features.pooling and --data.max-length"
    try:
        saved = dict(read_json(folder / META, required=("identity",))["identity"])
    except (UserError, ValueError, TypeError) as error:
        raise UserError(f"{folder}: not a feature cache", got=f"no readable {META}", fix=fix) from error
    identity = _origin(config, source, tokenizer) | {"max_length": max_length, "truncation": truncation}
    identity |= {name: saved[name] for name in ("texts", "tokens") if name in saved}
    reason = _stale(folder, identity, overwrite=False)
    if reason is not None:
        raise UserError(f"{folder}: the cache does not fit", got=f"it was {reason}", fix=fix)
    return _open(folder, identity, ())


def cached_features(
    splits: Iterable[Pairs],
    folder: Path,
    config: FeatureConfig,
    *,
    max_length: int = 128,
    truncation: Truncation = "longest_first",
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Features:
    """Returns the features of all texts of some splits: opens the cache in `folder` if it fits, else makes it.

    Args:
        splits: The pairs; each distinct text is encoded once.
        folder: The cache's folder.
        config: Encoder, pooling, precision and which vectors to keep.
        max_length: Longest row of a text, special tokens included.
        truncation: How longer texts are cut, `longest_first` or `head_tail`.
        overwrite: Whether to replace the cache of another encoder.
        progress: Called with the number of texts of each batch.

    Raises:
        UserError: There are no texts, the folder holds something else or the cache of another encoder, or the encoder
            cannot be read.
    """
    texts = distinct_texts(splits)
    if not texts:
        raise UserError("no texts to encode", got="empty splits")
    source = resolve_encoder(config.encoder, download=config.download)
    spec = read_encoder_spec(source)
    tokenizer = load_tokenizer(source, family=spec.family)
    check_fit(max_length, spec=spec, tokenizer=tokenizer, folder=source)
    identity = _origin(config, source, tokenizer) | {
        "texts": hash_parts(text.encode("utf-8", "surrogatepass") for text in texts),
        "max_length": max_length,
        "truncation": truncation,
    }
    reason = _stale(folder, identity, overwrite=overwrite)
    if reason is None:
        return _open(folder, identity, ())
    notes = [f"{folder}: the cache was {reason}; made again"] if reason else []
    encoded = encode_texts(texts, tokenizer, max_length=max_length, truncation=truncation)
    notes += encoded.notes("texts")
    _write(folder, texts, encoded, source, spec, config=config, identity=identity, progress=progress)
    return _open(folder, identity, notes)


def _write(
    folder: Path,
    texts: Sequence[str],
    encoded: EncodedPairs,
    source: Path,
    spec: EncoderSpec,
    *,
    config: FeatureConfig,
    identity: Mapping[str, Any],
    progress: Callable[[int], None],
) -> None:
    """Encodes the texts and writes the cache, completely or not at all."""
    model = build_pair_model(
        ModelConfig(encoder=config.encoder, kind="bi", pooling=config.pooling), spec, 1, freeze_encoder=True
    )
    loaded = load_encoder(source, spec)
    if config.pooling == "pooler" and loaded.pooler is None:
        raise UserError(f"{source}: the pretrained weights have no pooler", fix="use --features.pooling cls")
    params, _ = initial_params(model, jax.random.key(0), encoder=loaded.params, pooler=loaded.pooler)
    mesh = build_mesh()
    placed = replicate(params, mesh)

    @jax.jit
    def encode(params: Params, batch: Batch) -> tuple[Array, Array]:
        hidden = model.encode(params, batch)
        return hidden, model.pooled(params, hidden, batch)[:, 0, 0]

    try:
        with whole_folder(folder) as partial:
            _fill(
                partial,
                encoded,
                lambda batch: encode(placed, put_batch(batch, mesh)),
                config=config,
                width=spec.hidden_size,
                multiple=row_shards(mesh),
                progress=progress,
            )
            write_text(partial / TEXTS, "".join(json.dumps(text) + "\n" for text in texts))
            meta = {"identity": identity, "files": {name: list(pair) for name, pair in hash_files(partial).items()}}
            write_text(partial / META, to_json(meta, indent=1) + "\n")
    except OSError as error:
        raise storage_error(f"{folder} cannot be written", error, fix="free some space") or error from error
