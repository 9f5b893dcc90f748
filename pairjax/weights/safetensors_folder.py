"""Safetensors to the parameter tree and back, every tensor accounted for.

Nothing else is read: a pickle can run code. Arrays are NumPy's, float32; kernels are [inputs, outputs], the transpose
of torch's.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pairjax.base.errors import UserError
from pairjax.base.params import flatten, unflatten
from pairjax.base.types import EncoderSpec, Params
from pairjax.storage.files import read_json, whole_folder
from pairjax.weights.names import (
    DECODER,
    PREFIXES,
    WORDS,
    Tensor,
    encoder_tensors,
    masked_head_tensors,
    pooler_tensors,
    segment_head_tensors,
)
from pairjax.weights.source import INDEX, TOKENISER_FILES, WEIGHTS

BARE_MODELS = {
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
    "distilbert": "DistilBertModel",
    "electra": "ElectraModel",
}
FLOATS = ("F64", "F32", "F16", "BF16")
BUFFERS = re.compile(r"embeddings\.(position_ids|token_type_ids)")
HEADS = re.compile(
    r"(cls|lm_head|classifier|pre_classifier|qa_outputs|vocab_transform|vocab_layer_norm|vocab_projector|pooler|"
    r"discriminator_predictions|generator_predictions|generator_lm_head|sequence_summary)\..+"
)
UNTRAINED = "pairjax_untrained_pooler"
"""In config.json: pooler and segment head were saved as they were drawn, since masked tokens alone train neither."""
REFUSED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")
SHOWN = 5


class LoadedEncoder(NamedTuple):
    """What a Hugging Face folder holds.

    Attributes:
        params: The subtree `encoder`, float32 NumPy arrays.
        pooler: {kernel [D, D], bias [D]}, or None where the checkpoint has none.
        notes: Lines for the log: heads that were ignored, a pooler that is as good as fresh.
    """

    params: Params
    pooler: Params | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A folder's tensors, opened and not yet read.

    Attributes:
        folder: Theirs.
        tensors: The open file and the name in it, by the name that the tensor has in the bare model today.
    """

    folder: Path
    tensors: Mapping[str, tuple[Any, str]]

    def misfits(self, table: Mapping[str, Tensor]) -> list[str]:
        """What is missing, of another shape, or no float; a line each."""
        lines = []
        for path, (name, shape) in table.items():
            expected = _stored_shape(path, shape)
            if name not in self.tensors:
                lines.append(f"{name} {expected} is missing")
                continue
            file, key = self.tensors[name]
            view = file.get_slice(key)
            got, kind = tuple(view.get_shape()), view.get_dtype()
            if got != expected:
                lines.append(f"{key} has shape {got} and not {expected}")
            elif kind not in FLOATS:
                lines.append(f"{key} is {kind} and no float")
        return lines

    def take(self, table: Mapping[str, Tensor]) -> Params:
        """The tree of the table's paths, float32; call where there are no misfits.

        Raises:
            UserError: A tensor holds NaN or infinity.
        """
        flat = {}
        for path, (name, _) in table.items():
            file, key = self.tensors[name]
            value = np.asarray(file.get_tensor(key)).astype(np.float32, copy=False)
            if not np.isfinite(value).all():
                raise UserError(f"{self.folder}: {key} holds NaN or infinity", fix="fetch the weights again")
            flat[path] = np.ascontiguousarray(value.T) if path.endswith("/kernel") else value
        return unflatten(flat)


def _stored_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[::-1] if path.endswith("/kernel") else shape


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors of a folder: one file, or the shards that its index names."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        shards = read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
            raise UserError(f"{folder / INDEX}: no weight_map", expected="the file of each tensor")
        names = sorted(set(shards.values()))
        for name in names:
            if Path(name).name != name:
                raise UserError(f"{folder / INDEX}: names a file outside its folder", got=name)
            if not (folder / name).is_file():
                raise UserError(f"{folder / name}: a shard that {INDEX} names is missing", fix="fetch it again")
        return [folder / name for name in names]
    refused = sorted(path.name for pattern in REFUSED for path in folder.glob(pattern))
    if refused:
        out = f"{folder.name or 'encoder'}-safetensors"
        raise UserError(
            f"{folder}: pickled weights are refused, since reading them can run code",
            got=", ".join(refused),
            expected=WEIGHTS,
            fix='convert them where torch is installed: python -c "from transformers import AutoModel as M, '
            f"AutoTokenizer as T; [c.from_pretrained('{folder}').save_pretrained('{out}') for c in (M, T)]\"",
        )
    raise UserError(
        f"{folder}: the encoder's folder has no weights",
        expected=f"{WEIGHTS} or {INDEX}",
        fix="copy them beside config.json",
    )


@contextmanager
def open_checkpoint(folder: Path, *, family: str) -> Iterator[Checkpoint]:
    """A folder's tensors under the names of the bare model: without prefix, the `gamma` and `beta` of old renamed.

    Raises:
        UserError: No weights, pickled ones, a file that is cut off or damaged, or weights of another family.
    """
    with ExitStack() as stack:
        raw: dict[str, Any] = {}
        for path in _weight_files(folder):
            try:
                # The header is checked against the file's size before anything is allocated.
                file = stack.enter_context(safe_open(path, "numpy"))
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path}: cut off or damaged", got=error, fix="fetch the file again") from None
            for name in file.keys():  # noqa: SIM118
                if name in raw:
                    raise UserError(f"{path}: {name} is in another shard too", fix="fetch the folder again")
                raw[name] = file
        prefix = _prefix(folder, raw, family=family)
        tensors: dict[str, tuple[Any, str]] = {}
        for name, file in raw.items():
            bare = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name.removeprefix(prefix)))
            if bare in tensors:
                raise UserError(f"{folder}: one tensor under two names", got=f"{tensors[bare][1]} and {name}")
            tensors[bare] = (file, name)
        yield Checkpoint(folder, tensors)


def _prefix(folder: Path, names: Mapping[str, Any], *, family: str) -> str:
    """What stands before the bare model's names ("bert."); found by the word embeddings, which every family has."""
    found = [name.removesuffix(WORDS) for name in names if name.endswith(WORDS)]
    if len(found) != 1:
        raise UserError(
            f"{folder}: the weights are of another kind of model",
            got=f"{len(found)} tensors named {WORDS}" if found else f"no {WORDS} among {len(names)} tensors",
            expected=f"a {family} encoder",
        )
    other = found[0].rstrip(".")
    if other in PREFIXES.values() and other != PREFIXES[family]:
        raise UserError(f"{folder}: the weights are of another family", got=other, expected=f"{family}, as config.json")
    return found[0]


def load_encoder(folder: Path, spec: EncoderSpec) -> LoadedEncoder:
    """Read an encoder, and its pooler where it has one.

    Every tensor is accounted for: it is loaded, or belongs to a known head, which is ignored and noted; anything else
    is an error.

    Args:
        folder: With model.safetensors, or shards and their index.
        spec: What config.json says (`read_encoder_spec`).

    Raises:
        UserError: Weights that are absent, pickled, damaged, of another family or shape, or more than is known.
    """
    with open_checkpoint(folder, family=spec.family) as checkpoint:
        return _read(checkpoint, spec, heads={})[0]


def load_pretraining(folder: Path, spec: EncoderSpec) -> tuple[LoadedEncoder, Params]:
    """Read an encoder, its pooler, and those of its pretraining heads that it has.

    Args:
        folder: As for `load_encoder`.
        spec: Of a BERT encoder.

    Returns:
        The encoder, and the subtree `head`: `mlm` and `order`, each where the checkpoint has it whole.

    Raises:
        UserError: As `load_encoder`.
    """
    with open_checkpoint(folder, family=spec.family) as checkpoint:
        heads: dict[str, Tensor] = {}
        for table in (masked_head_tensors(spec), segment_head_tensors(spec)):
            if all(name in checkpoint.tensors for name, _ in table.values()):
                heads |= table
        if DECODER in checkpoint.tensors and not _same_tensor(checkpoint, DECODER, WORDS):
            heads = {path: tensor for path, tensor in heads.items() if not path.startswith("mlm/")}
        return _read(checkpoint, spec, heads=heads)


def _same_tensor(checkpoint: Checkpoint, one: str, other: str) -> bool:
    (file, key), (also, name) = checkpoint.tensors[one], checkpoint.tensors[other]
    return np.array_equal(np.asarray(file.get_tensor(key)), np.asarray(also.get_tensor(name)))


def _read(checkpoint: Checkpoint, spec: EncoderSpec, *, heads: Mapping[str, Tensor]) -> tuple[LoadedEncoder, Params]:
    """The encoder, its pooler where it has one, and the heads asked for."""
    encoder, pooler, folder = encoder_tensors(spec), pooler_tensors(spec), checkpoint.folder
    if not any(name in checkpoint.tensors for name, _ in pooler.values()):
        pooler = {}
    wanted = {name for name, _ in (encoder | pooler | dict(heads)).values()}
    if any(path.startswith("mlm/") for path in heads):
        # Tied to tensors that are loaded already.
        wanted |= {DECODER, DECODER.removesuffix("weight") + "bias"}
    rest = sorted(name for name in checkpoint.tensors if name not in wanted and not BUFFERS.fullmatch(name))
    ignored = [name for name in rest if HEADS.fullmatch(name)]
    problems = checkpoint.misfits(encoder | pooler | dict(heads))
    problems += [f"{checkpoint.tensors[name][1]} is not known" for name in rest if name not in ignored]
    if problems:
        more = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UserError(
            f"{folder}: the weights do not fit config.json",
            got=", ".join(problems[:SHOWN]) + more,
            expected=f"a {spec.family} encoder of {spec.num_layers} layers and width {spec.hidden_size}",
        )
    params = checkpoint.take(encoder)
    pooled = checkpoint.take(pooler)["pooler"] if pooler else None
    notes = [f"{folder}: heads of the checkpoint ignored: {', '.join(ignored)}"] if ignored else []
    if read_json(folder / "config.json").get(UNTRAINED):
        notes.append(f"{folder}: pooler and segment head were never trained, only masked tokens were")
    return LoadedEncoder(params, pooled, tuple(notes)), checkpoint.take(heads)


def save_encoder(folder: Path, spec: EncoderSpec, encoder: Params, pooler: Params | None, *, source: Path) -> None:
    """Write a folder that transformers opens, whole or not at all.

    Args:
        folder: Replaced if it is there.
        spec: The architecture.
        encoder: The subtree `encoder`.
        pooler: {kernel, bias} or None; left out where the family has none.
        source: The folder that the encoder came from, for its config.json and tokeniser.

    Raises:
        ValueError: The parameters are not those of the architecture.
    """
    table = encoder_tensors(spec)
    tree: Params = dict(encoder)
    if pooler is not None and spec.has_pooler:
        table |= pooler_tensors(spec)
        tree["pooler"] = pooler
    config = bare_config(read_json(source / "config.json"), BARE_MODELS[spec.family])
    _write_folder(folder, _named_tensors(table, tree), config, lambda to: copy_tokeniser(source, to))


def save_pretraining(
    folder: Path,
    spec: EncoderSpec,
    params: Params,
    *,
    config: Mapping[str, Any],
    tokeniser: Callable[[Path], None],
    untrained: bool = False,
) -> None:
    """Write a folder that transformers opens as `BertForPreTraining`, whole or not at all.

    Args:
        folder: Replaced if it is there.
        spec: Of a BERT encoder.
        params: `encoder`, `pooler` and `head`, as the pretraining model has them.
        config: Of config.json; its architecture is set here.
        tokeniser: Writes the tokeniser's files into a folder.
        untrained: Whether pooler and segment head are as they were drawn; who loads the folder is told.

    Raises:
        ValueError: The parameters are not those of the architecture.
    """
    heads = masked_head_tensors(spec) | segment_head_tensors(spec)
    prefixed = encoder_tensors(spec) | pooler_tensors(spec)
    table = {path: Tensor(f"{PREFIXES[spec.family]}.{name}", shape) for path, (name, shape) in prefixed.items()}
    tree = {**params["encoder"], "pooler": params["pooler"], **params["head"]}
    tied = {"architectures": ["BertForPreTraining"], "tie_word_embeddings": True}
    settings = bare_config(config, "BertForPreTraining") | tied | ({UNTRAINED: True} if untrained else {})
    _write_folder(folder, _named_tensors(table | heads, tree), settings, tokeniser)


def _named_tensors(table: Mapping[str, Tensor], tree: Params) -> dict[str, np.ndarray]:
    """The tree's arrays under their names, float32, as torch lays them out.

    Raises:
        ValueError: Paths or shapes differ from the table's.
    """
    flat = {path: np.asarray(leaf, np.float32) for path, leaf in flatten(tree).items()}
    shapes = {path: leaf.shape for path, leaf in flat.items()}
    if shapes != {path: shape for path, (_, shape) in table.items()}:
        odd = sorted(
            path for path in shapes.keys() | table.keys() if path not in table or shapes.get(path) != table[path].shape
        )
        raise ValueError(f"parameters do not fit the architecture: {', '.join(odd)}")
    return {
        name: np.ascontiguousarray(flat[path].T if path.endswith("/kernel") else flat[path])
        for path, (name, _) in table.items()
    }


def _write_folder(
    folder: Path, tensors: dict[str, np.ndarray], config: Mapping[str, Any], tokeniser: Callable[[Path], None]
) -> None:
    """A Hugging Face folder, beside its name first."""
    with whole_folder(folder) as partial:
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        text = json.dumps(dict(config), indent=2, sort_keys=True, ensure_ascii=False)
        (partial / "config.json").write_text(text + "\n", encoding="utf-8")
        tokeniser(partial)


def copy_tokeniser(source: Path, folder: Path) -> None:
    """The tokeniser's files of a folder, those that it has."""
    for name in TOKENISER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def bare_config(config: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """The source's settings, for a model in float32: no heads, no code, no path of where it lay."""
    dropped = ("_name_or_path", "auto_map", "torch_dtype", "id2label", "label2id", "problem_type", UNTRAINED)
    kept = {key: value for key, value in config.items() if key not in dropped}
    return kept | {"architectures": [architecture], "dtype": "float32"}


def bert_config(spec: EncoderSpec) -> dict[str, Any]:
    """config.json of a new BERT encoder; `read_encoder_spec` reads the architecture back."""
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
