"""Reads safetensors into the parameter tree and writes it back; no tensor is skipped in silence.

Other formats are refused, since reading a pickle can run code. Arrays are float32 NumPy arrays. Kernels are
[inputs, outputs], the transpose of torch's.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  Registers bfloat16 with NumPy, which safetensors needs and does not do.
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pairjax.base.errors import UserError
from pairjax.base.families import FAMILIES, find_family
from pairjax.base.params import flatten, unflatten
from pairjax.base.types import EncoderSpec, Params
from pairjax.storage.files import read_json, whole_folder
from pairjax.weights.names import (
    DECODER,
    Tensor,
    encoder_tensors,
    masked_head_tensors,
    pooler_tensors,
    segment_head_tensors,
    words_name,
)
from pairjax.weights.source import INDEX, TOKENISER_FILES, WEIGHTS

FLOATS = ("F64", "F32", "F16", "BF16")
BUFFERS = re.compile(r"embeddings\.(position_ids|token_type_ids)")
HEADS = re.compile(
    r"(cls|lm_head|classifier|pre_classifier|qa_outputs|vocab_transform|vocab_layer_norm|vocab_projector|pooler|"
    r"discriminator_predictions|generator_predictions|generator_lm_head|sequence_summary|predictions|sop_classifier|"
    r"lm_predictions|mask_predictions|head|decoder)\..+"
)
UNTRAINED = "pairjax_untrained_pooler"
"""Key of config.json: pooler and segment head hold their initial values, since masked tokens alone train neither."""
REFUSED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")
MAX_PROBLEMS = 5
"""Problems that an error message lists."""


class LoadedEncoder(NamedTuple):
    """The weights of a Hugging Face folder.

    Attributes:
        params: The subtree `encoder`, float32 NumPy arrays.
        pooler: {kernel [D, D], bias [D]}, float32; None if the weights have no pooler.
        notes: Lines for the log: heads that were ignored, a pooler that was never trained.
    """

    params: Params
    pooler: Params | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class WeightFiles:
    """The open weight files of a folder; tensors are read on demand.

    Attributes:
        folder: The folder that the files belong to.
        tensors: For each tensor's name in today's bare model, the open file and the tensor's name in it.
    """

    folder: Path
    tensors: Mapping[str, tuple[Any, str]]

    def misfits(self, table: Mapping[str, Tensor]) -> list[str]:
        """Describes each tensor of the table that is missing, has another shape or is not floating-point."""
        lines = []
        for path, (name, shape, part) in table.items():
            expected = _stored_shape(path, shape, part)
            if name not in self.tensors:
                lines.append(f"{name} {expected} is missing")
                continue
            file, key = self.tensors[name]
            view = file.get_slice(key)
            actual, dtype = tuple(view.get_shape()), view.get_dtype()
            if actual != expected:
                lines.append(f"{key} has shape {actual} instead of {expected}")
            elif dtype not in FLOATS:
                lines.append(f"{key} is {dtype}, not floating-point")
        return list(dict.fromkeys(lines))

    def take(self, table: Mapping[str, Tensor]) -> Params:
        """Reads the tree of the table's paths, float32; `misfits` must be empty.

        Raises:
            UserError: A tensor holds NaN or infinity.
        """
        flat = {}
        for path, (name, _, (place, count)) in table.items():
            file, key = self.tensors[name]
            value = np.asarray(file.get_tensor(key)).astype(np.float32, copy=False)
            value = np.split(value, count)[place] if count > 1 else value
            if not np.isfinite(value).all():
                raise UserError(f"{self.folder}: {key} holds NaN or infinity", fix="download the weights again")
            flat[path] = np.ascontiguousarray(value.T) if path.endswith("/kernel") else value
        return unflatten(flat)


def _stored_shape(path: str, shape: tuple[int, ...], part: tuple[int, int]) -> tuple[int, ...]:
    first, *others = shape[::-1] if path.endswith("/kernel") else shape
    return (part[1] * first, *others)


def _weight_files(folder: Path) -> list[Path]:
    """Finds the safetensors of a folder: one file, or the shards that its index names."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        shards = read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
            raise UserError(f"{folder / INDEX}: no weight_map", expected="a table with the file of each tensor")
        names = sorted(set(shards.values()))
        for name in names:
            if Path(name).name != name:
                raise UserError(f"{folder / INDEX}: names a file outside its folder", got=name)
            if not (folder / name).is_file():
                raise UserError(f"{folder / name}: a shard that {INDEX} names is missing", fix="download it again")
        return [folder / name for name in names]
    refuse_pickles(folder)
    raise UserError(
        f"{folder}: the encoder's folder has no weights",
        expected=f"{WEIGHTS} or {INDEX}",
        fix="copy them beside config.json",
    )


def refuse_pickles(folder: Path) -> None:
    """Raises UserError if a folder holds pickled weights, with the command that converts them."""
    refused = sorted(path.name for pattern in REFUSED for path in folder.glob(pattern))
    if refused:
        out = f"{folder.name or 'encoder'}-safetensors"
        raise UserError(
            f"{folder}: pickled weights are refused, because reading them can run code",
            got=", ".join(refused),
            expected=WEIGHTS,
            fix='convert them in an environment with torch: python -c "from transformers import AutoModel as M, '
            f"AutoTokenizer as T; [c.from_pretrained('{folder}').save_pretrained('{out}') for c in (M, T)]\"",
        )


@contextmanager
def open_weights(folder: Path, *, family: str) -> Iterator[WeightFiles]:
    """Opens a folder's weight files, with tensor names as in the bare model.

    The prefix of a model with a head is removed, and the old names `gamma` and `beta` become `weight` and `bias`.

    Raises:
        UserError: There are no weights, they are pickled, damaged or of another family.
    """
    with ExitStack() as stack:
        raw: dict[str, Any] = {}
        for path in _weight_files(folder):
            try:
                # The header is checked against the file's size before anything is allocated.
                file = stack.enter_context(safe_open(path, "numpy"))
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path}: cut off or damaged", got=error, fix="download the file again") from None
            for name in file.keys():  # noqa: SIM118
                if name in raw:
                    raise UserError(f"{path}: {name} is in another shard too", fix="download the folder again")
                raw[name] = file
        prefix = _prefix(folder, raw, family=family)
        tensors: dict[str, tuple[Any, str]] = {}
        for name, file in raw.items():
            bare = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name.removeprefix(prefix)))
            if bare in tensors:
                raise UserError(f"{folder}: one tensor under two names", got=f"{tensors[bare][1]} and {name}")
            tensors[bare] = (file, name)
        yield WeightFiles(folder, tensors)


def _prefix(folder: Path, names: Mapping[str, Any], *, family: str) -> str:
    """Returns the prefix of the bare model's tensor names ("bert."), as found at the word embeddings."""
    words = words_name(family)
    prefixes = [name.removesuffix(words) for name in names if name.endswith(words)]
    if len(prefixes) != 1:
        raise UserError(
            f"{folder}: the weights are of another kind of model",
            got=f"{len(prefixes)} tensors named {words}" if prefixes else f"no {words} among {len(names)} tensors",
            expected=f"the weights of a {family} encoder",
        )
    name, expected = prefixes[0].rstrip("."), f"{family}, as in config.json"
    if name in {record.prefix for record in FAMILIES.values()} - {find_family(family).prefix}:
        raise UserError(f"{folder}: the weights are of another family", got=name, expected=expected)
    return prefixes[0]


def load_encoder(folder: Path, spec: EncoderSpec) -> LoadedEncoder:
    """Reads an encoder, and its pooler if the weights have one.

    Each tensor is loaded, or belongs to a known head and is ignored with a note; any other tensor is an error.

    Args:
        folder: The folder with model.safetensors, or with shards and their index.
        spec: The architecture, as `read_encoder_spec` gives it.

    Raises:
        UserError: The weights are missing, pickled, damaged, of another family or shape, or hold an unknown tensor.
    """
    with open_weights(folder, family=spec.family) as weights:
        return read_parts(weights, spec, heads={})[0]


def load_pretraining(folder: Path, spec: EncoderSpec) -> tuple[LoadedEncoder, Params]:
    """Reads an encoder, its pooler, and the pretraining heads that the weights have.

    Args:
        folder: The folder with model.safetensors, or with shards and their index.
        spec: The architecture, that of a BERT encoder.

    Returns:
        The encoder, and the subtree `head` with `mlm` and `order`, each only if the weights have it in full.

    Raises:
        UserError: The same errors as in `load_encoder`.
    """
    with open_weights(folder, family=spec.family) as weights:
        heads: dict[str, Tensor] = {}
        for table in (masked_head_tensors(spec), segment_head_tensors(spec)):
            if all(name in weights.tensors for name, *_ in table.values()):
                heads |= table
        if DECODER in weights.tensors and not _equal_tensors(weights, DECODER, words_name(spec.family)):
            # The head's projection is not tied to the embeddings, so the head does not fit the model.
            heads = {path: tensor for path, tensor in heads.items() if not path.startswith("mlm/")}
        return read_parts(weights, spec, heads=heads)


def _equal_tensors(weights: WeightFiles, first: str, second: str) -> bool:
    left, right = weights.tensors[first], weights.tensors[second]
    return np.array_equal(left[0].get_tensor(left[1]), right[0].get_tensor(right[1]))


def read_parts(weights: WeightFiles, spec: EncoderSpec, *, heads: Mapping[str, Tensor]) -> tuple[LoadedEncoder, Params]:
    """Reads the encoder, its pooler if there is one, and the given heads."""
    encoder, pooler, folder = encoder_tensors(spec), pooler_tensors(spec), weights.folder
    if not any(name in weights.tensors for name, *_ in pooler.values()):
        pooler = {}
    used = {name for name, *_ in (encoder | pooler | dict(heads)).values()}
    if any(path.startswith("mlm/") for path in heads):
        # Tied to the word embeddings and to the head's bias, which are loaded under their own names.
        used |= {DECODER, DECODER.removesuffix("weight") + "bias"}
    rest = sorted(name for name in weights.tensors if name not in used and not BUFFERS.fullmatch(name))
    ignored = [name for name in rest if HEADS.fullmatch(name)]
    problems = weights.misfits(encoder | pooler | dict(heads))
    problems += [f"{weights.tensors[name][1]} is not known" for name in rest if name not in ignored]
    if problems:
        hidden = f", and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        raise UserError(
            f"{folder}: the weights do not fit config.json",
            got=", ".join(problems[:MAX_PROBLEMS]) + hidden,
            expected=f"a {spec.family} encoder of {spec.num_layers} layers and width {spec.hidden_size}",
        )
    params = weights.take(encoder)
    pooler_params = weights.take(pooler)["pooler"] if pooler else None
    notes = [f"{folder}: ignored the heads of the pretrained weights: {', '.join(ignored)}"] if ignored else []
    if read_json(folder / "config.json").get(UNTRAINED):
        notes.append(f"{folder}: pooler and segment head were never trained, because only masked tokens were predicted")
    return LoadedEncoder(params, pooler_params, tuple(notes)), weights.take(heads)


def save_encoder(folder: Path, spec: EncoderSpec, encoder: Params, pooler: Params | None, *, source: Path) -> None:
    """Writes an encoder as a folder that transformers can open; the folder appears complete or not at all.

    Args:
        folder: The folder to write; an existing one is replaced.
        spec: The architecture.
        encoder: The subtree `encoder`.
        pooler: {kernel [D, D], bias [D]} or None; left out if the family has no pooler.
        source: The folder that the encoder was read from; its settings and tokeniser are copied.

    Raises:
        ValueError: The parameters do not fit the architecture.
    """
    table = encoder_tensors(spec)
    tree: Params = dict(encoder)
    if pooler is not None and spec.has_pooler:
        table |= pooler_tensors(spec)
        tree["pooler"] = pooler
    config = bare_config(read_json(source / "config.json"), find_family(spec.family).bare_model)
    write_folder(folder, named_tensors(table, tree), config, lambda target: copy_tokeniser(source, target))


def save_pretraining(
    folder: Path,
    spec: EncoderSpec,
    params: Params,
    *,
    config: Mapping[str, Any],
    tokeniser: Callable[[Path], None],
    untrained: bool = False,
) -> None:
    """Writes a folder that transformers opens as `BertForPreTraining`; it appears complete or not at all.

    Args:
        folder: The folder to write; an existing one is replaced.
        spec: The architecture, that of a BERT encoder.
        params: The pretraining model's parameters: `encoder`, `pooler` and `head`.
        config: Settings for config.json; the architecture's name is replaced.
        tokeniser: Writes the tokeniser's files into a folder.
        untrained: Whether pooler and segment head hold their initial values; loading the folder then gives a note.

    Raises:
        ValueError: The parameters do not fit the architecture.
    """
    heads = masked_head_tensors(spec) | segment_head_tensors(spec)
    bare, prefix = encoder_tensors(spec) | pooler_tensors(spec), find_family(spec.family).prefix
    table = {path: tensor._replace(name=f"{prefix}.{tensor.name}") for path, tensor in bare.items()}
    tree = {**params["encoder"], "pooler": params["pooler"], **params["head"]}
    tied = {"architectures": ["BertForPreTraining"], "tie_word_embeddings": True}
    settings = bare_config(config, "BertForPreTraining") | tied | ({UNTRAINED: True} if untrained else {})
    write_folder(folder, named_tensors(table | heads, tree), settings, tokeniser)


def named_tensors(table: Mapping[str, Tensor], tree: Params) -> dict[str, np.ndarray]:
    """Names the tree's arrays as the table says, float32 and in torch's layout.

    Raises:
        ValueError: Paths or shapes differ from the table's.
    """
    flat = {path: np.asarray(leaf, np.float32) for path, leaf in flatten(tree).items()}
    shapes = {path: leaf.shape for path, leaf in flat.items()}
    if shapes != {path: tensor.shape for path, tensor in table.items()}:
        odd = sorted(
            path for path in shapes.keys() | table.keys() if path not in table or shapes.get(path) != table[path].shape
        )
        raise ValueError(f"parameters do not fit the architecture: {', '.join(odd)}")
    parts: dict[str, dict[int, np.ndarray]] = {}
    for path, (name, _, (place, _)) in table.items():
        parts.setdefault(name, {})[place] = flat[path].T if path.endswith("/kernel") else flat[path]
    return {
        name: np.ascontiguousarray(
            values[0] if len(values) == 1 else np.concatenate([values[i] for i in sorted(values)])
        )
        for name, values in parts.items()
    }


def write_folder(
    folder: Path, tensors: dict[str, np.ndarray], config: Mapping[str, Any], tokeniser: Callable[[Path], None]
) -> None:
    """Writes a Hugging Face folder under a temporary name, then renames it."""
    with whole_folder(folder) as partial:
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        text = json.dumps(dict(config), indent=2, sort_keys=True, ensure_ascii=False)
        (partial / "config.json").write_text(text + "\n", encoding="utf-8")
        tokeniser(partial)


def copy_tokeniser(source: Path, folder: Path) -> None:
    """Copies those of the tokeniser's files that `source` has into `folder`, without the code that one may name."""
    for name in TOKENISER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    path = folder / "tokenizer_config.json"
    if path.is_file() and "auto_map" in (settings := read_json(path)):
        del settings["auto_map"]
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def bare_config(config: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """Returns the settings of the bare model in float32: without heads, custom code or the source's path."""
    dropped = ("_name_or_path", "auto_map", "torch_dtype", "id2label", "label2id", "num_labels", "problem_type")
    foreign = ("sentence_transformers", "sbert_ce_default_activation_function", "pairjax", UNTRAINED)
    settings = {key: value for key, value in config.items() if key not in (*dropped, *foreign)}
    return settings | {"architectures": [architecture], "dtype": "float32"}


def bert_config(spec: EncoderSpec) -> dict[str, Any]:
    """Returns the config.json of a new BERT encoder; `read_encoder_spec` reads the same architecture from it."""
    return {
        "model_type": "bert",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "intermediate_size": spec.intermediate_size,
        "max_position_embeddings": spec.max_positions,
        "type_vocab_size": spec.type_vocab_size,
        "pad_token_id": spec.pad_token_id,
        "layer_norm_eps": spec.layer_norm_eps,
        "hidden_act": spec.activation,
        "hidden_dropout_prob": spec.hidden_dropout,
        "attention_probs_dropout_prob": spec.attention_dropout,
        "initializer_range": 0.02,
    }
