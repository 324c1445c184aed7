"""GGUF files give the model they hold, and are refused where they lie."""

from __future__ import annotations

import hashlib
import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf_file import Raw, encode, text, write_gguf, write_hole
from gguf_gemma import (
    GEMMA,
    GEMMA_2,
    VALUES,
    VALUES_2,
    drawn,
    gemma_file,
    gemma_state,
    on_meta,
)
from tiny import TINY

from sakuga.checkpoint.bind import bind, plan_binding
from sakuga.checkpoint.contents import Contents
from sakuga.checkpoint.families.gemma import GEMMA_GGUF
from sakuga.checkpoint.families.jina import JINA_SINGLE_FILE
from sakuga.checkpoint.families.match import Match, rewrite
from sakuga.checkpoint.families.tables import config_of
from sakuga.checkpoint.folder import open_component
from sakuga.checkpoint.save import write_json
from sakuga.errors import BindError, CorruptFile, LayoutError, ModelNotFound, SpecMismatch
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import NEWBIE_3_5B, GemmaSpec
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.weights.formats import INT8
from sakuga.weights.ggml import dequantise_blocks
from sakuga.weights.gguf import MAX_NUMBERS, MAX_STRINGS, open_gguf
from sakuga.weights.llama_cpp import gemma_config
from sakuga.weights.quantise import quantise
from sakuga.weights.store import Store
from sakuga.weights.stored import keep_stored

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K")


def test_reads_what_the_reference_library_writes(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "gemma3")
    writer.add_float32("a.float", 1e-6)
    writer.add_float64("a.double", 0.1)
    writer.add_int8("a.small", -3)
    writer.add_uint64("a.big", 2**60)
    writer.add_bool("a.bool", True)
    writer.add_array("a.words", ["<pad>", "日本", ""])
    writer.add_array("a.numbers", [1, -2])
    matrix = np.arange(96, dtype=np.float32).reshape(3, 32)
    writer.add_tensor("m", gguf.quantize(matrix, gguf.GGMLQuantizationType.Q8_0),
                      raw_dtype=gguf.GGMLQuantizationType.Q8_0)  # fmt: skip
    writer.add_tensor("v", matrix[0])
    writer.add_tensor("h", matrix[:, :5].astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = open_gguf(tmp_path / "x.gguf")
    assert {key: value for key, value in found.values.items() if key.startswith("a.")} == {
        "a.float": 1e-6, "a.double": 0.1, "a.small": -3, "a.big": 2**60, "a.bool": True,
        "a.words": ["<pad>", "日本", ""], "a.numbers": [1, -2],
    }  # fmt: skip
    store = Store.open(tmp_path / "x.gguf")
    assert store.shapes() == {"m": (3, 32), "v": (32,), "h": (3, 5)}
    assert store.dtypes() == {"m": "Q8_0", "v": "F32", "h": "F16"}
    assert np.frombuffer(store.view("v"), "<f4").tolist() == matrix[0].tolist()
    assert np.frombuffer(store.view("h"), "<f2").tolist() == matrix[:, :5].flatten().tolist()
    assert store.metadata["a.float"] == "1e-06"
    assert "a.words" not in store.metadata


def test_the_reference_library_reads_what_the_helper_writes(tmp_path: Path) -> None:
    file = gemma_file(tmp_path / "x.gguf", "Q4_K")
    reader = gguf.GGUFReader(file)
    assert reader.fields["gemma3.block_count"].contents() == 3
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["<pad>", "é"]
    store = Store.open(file)
    for each in reader.tensors:
        assert bytes(store.view(each.name)) == each.data.tobytes()
        assert store.info(each.name).shape == tuple(reversed(each.shape.tolist()))


@pytest.mark.parametrize("alignment", [1, 8, 64])
def test_data_may_be_aligned_otherwise(tmp_path: Path, alignment: int) -> None:
    tensors = {name: ("F32", np.full(3, n, np.float32)) for n, name in enumerate("abc")}
    store = Store.open(write_gguf(tmp_path / "x.gguf", {}, tensors, alignment))
    for n, name in enumerate("abc"):
        assert np.frombuffer(store.view(name), "<f4").tolist() == [n] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_gemma_by_llama_cpps_names_is_the_gemma_it_was(tmp_path: Path, kind: str) -> None:
    component = open_component(gemma_file(tmp_path / "x.gguf", kind), "text_encoder")
    assert component.spec == GEMMA
    assert component.match.layout is GEMMA_GGUF
    module = on_meta(lambda: GemmaEncoder(GEMMA).model)
    report = bind(module, component)
    blocks = kind.startswith("Q")
    assert report.counts["shifted"] == 2 * 6
    assert report.counts.get("dequantised", 0) == (15 if blocks else 0)
    assert {"output_norm.weight", "rope_freqs.weight", "blk.2.attn_q.weight"} <= set(report.dropped)
    for key, value in gemma_state().items():
        got = module.state_dict()[key]
        assert got.dtype == torch.float32
        if key.endswith("norm.weight"):
            torch.testing.assert_close(got, value, rtol=0, atol=1e-6)
            continue
        raw = torch.frombuffer(bytearray(encode(value.numpy(), kind)), dtype=torch.uint8)
        if blocks:
            want = dequantise_blocks(raw, kind, tuple(value.shape), torch.float32)
        else:
            dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind]
            want = raw.view(dtype).view(value.shape).float()
        assert torch.equal(got, want)


@pytest.mark.parametrize(("spec", "values"), [(GEMMA, VALUES), (GEMMA_2, VALUES_2)], ids=["3", "2"])
def test_gemma_encodes_as_before(tmp_path: Path, spec: GemmaSpec, values: dict[str, Any]) -> None:
    file = gemma_file(tmp_path / "x.gguf", values=values, spec=spec)
    component = open_component(file, "text_encoder")
    assert component.spec == spec
    encoder = on_meta(lambda: GemmaEncoder(component.spec))
    bind(encoder.model, component)
    whole = GemmaEncoder(spec).eval()
    whole.model.load_state_dict(gemma_state(spec))
    ids = torch.arange(2, 22)[None]
    with torch.no_grad():
        torch.testing.assert_close(encoder(ids), whole(ids), rtol=1e-4, atol=1e-4)


def test_a_compute_dtype_or_another_storage_format(tmp_path: Path) -> None:
    file = gemma_file(tmp_path / "x.gguf", "Q6_K")
    store = Store.open(file)
    full, half = (on_meta(lambda: GemmaEncoder(GEMMA).model) for _ in range(2))
    bind(full, Contents.of(store))
    report = bind(half, Contents.of(store), dtype=torch.bfloat16)
    assert "Q6_K to bfloat16" in str(report)
    for key, value in full.state_dict().items():
        assert torch.equal(half.state_dict()[key], value.to(torch.bfloat16))
    stored = on_meta(lambda: GemmaEncoder(GEMMA).model)
    keep_stored(stored, INT8)
    report = bind(stored, Contents.of(store))
    assert report.counts["quantised"] == 14
    linear = stored.layers[0].self_attn.q_proj
    want, scale = quantise(full.layers[0].self_attn.q_proj.weight.data, INT8)
    assert torch.equal(linear.weight, want)
    assert torch.equal(linear.scale, scale)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q5_K"])
def test_the_transformer_under_its_own_names(tmp_path: Path, kind: str, prefix: str) -> None:
    spec = replace(TINY.transformer, dim=256, n_heads=8, n_kv_heads=4, axes_dims=(8, 12, 12),
                   cap_feat_dim=512, clip_text_dim=256, multiple_of=256)  # fmt: skip
    state = drawn(lambda: NextDiT(spec)).state_dict()
    tensors = {}
    for key, value in state.items():
        whole = value.dim() > 1 and value.shape[-1] % 256 == 0
        tensors[prefix + key] = (kind if whole else "F32", value.numpy())
    values = {"general.architecture": "lumina2", "general.file_type": 7}
    folder = tmp_path / "transformer"
    folder.mkdir()
    write_gguf(folder / "newbie.gguf", values, tensors)
    write_json(folder / "config.json", config_of(spec))  # the axes are no three equal ones
    component = open_component(folder, "transformer")
    assert component.spec == spec
    module = on_meta(lambda: NextDiT(spec))
    report = bind(module, component)
    assert not set(report.counts) - {"bound", "cast", "dequantised"}
    for key, value in state.items():
        got = module.state_dict()[key]
        assert got.shape == value.shape
        off = (got - value).abs().max() / value.abs().max()
        assert off <= {"F16": 0.001, "Q8_0": 0.01, "Q5_K": 0.08}[kind]


def test_a_matrix_joined_or_cut_is_read_from_blocks_too(tmp_path: Path) -> None:
    """Jina's fused q, k and v: three tensors of ours out of one of blocks."""
    spec = replace(TINY.jina, hidden_size=32, intermediate_size=64)
    state = drawn(lambda: JinaEncoder(spec).model).state_dict()
    pieces, _ = rewrite(
        Match(JINA_SINGLE_FILE.inverse), {key: tuple(v.shape) for key, v in state.items()}
    )
    tensors = {}
    for piece in pieces:
        value = torch.cat([state[source] for source in piece.sources])
        kind = "Q8_0" if value.dim() > 1 and value.shape[-1] % 32 == 0 else "F32"
        tensors["model." + piece.target] = (kind, value.numpy())
    store = Store.open(write_gguf(tmp_path / "x.gguf", {}, tensors))
    module = on_meta(lambda: JinaEncoder(spec).model)
    bind(module, Contents.of(store))
    for key, value in state.items():
        torch.testing.assert_close(module.state_dict()[key], value, rtol=0, atol=0.006)


def test_blocks_are_no_whole_numbers(tmp_path: Path) -> None:
    store = Store.open(gemma_file(tmp_path / "x.gguf", "Q8_0"))
    odd = replace(GEMMA, num_attention_heads=4)
    with pytest.raises(BindError, match=r"wrong shapes.*q_proj"):
        plan_binding(on_meta(lambda: GemmaEncoder(odd).model), Contents.of(store))


def test_a_file_silent_about_rope_is_read_as_llama_cpp_reads_it(tmp_path: Path) -> None:
    values = {key: v for key, v in VALUES.items() if "rope" not in key and "pattern" not in key}
    spec = open_component(gemma_file(tmp_path / "x.gguf", values=values), "text_encoder").spec
    assert (spec.rope_theta, spec.rope_local_theta, spec.rope_linear_factor) == (1e6, 1e4, 1.0)
    assert spec.full_attention_layers == ()  # every sixth layer, and there are three


def test_every_key_of_the_real_gemma_is_explained(tmp_path: Path) -> None:
    """Gemma 3 4B, 444 tensors in Q4_K and F32, and what its GGUF files say of it."""
    whole = replace(NEWBIE_3_5B.gemma, num_hidden_layers=NEWBIE_3_5B.gemma.num_hidden_layers + 1)
    state = on_meta(lambda: GemmaEncoder(whole).model).state_dict()
    pieces, _ = rewrite(Match(GEMMA_GGUF.inverse), {key: v.shape for key, v in state.items()})
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {
        piece.target: ("F32" if piece.shift else "Q4_K", piece.shape) for piece in pieces
    }
    tensors["output_norm.weight"] = ("F32", (2560,))
    values = {
        "general.architecture": "gemma3",
        "gemma3.context_length": 131_072,
        "gemma3.embedding_length": 2560,
        "gemma3.block_count": 34,
        "gemma3.feed_forward_length": 10_240,
        "gemma3.attention.head_count": 8,
        "gemma3.attention.head_count_kv": 4,
        "gemma3.attention.key_length": 256,
        "gemma3.attention.value_length": 256,
        "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
        "gemma3.attention.sliding_window": 1024,
        "gemma3.rope.freq_base": 1e6,
        "gemma3.rope.scaling.type": "linear",
        "gemma3.rope.scaling.factor": 8.0,
    }
    component = open_component(write_hole(tmp_path / "x.gguf", values, tensors), "text_encoder")
    assert component.spec == NEWBIE_3_5B.gemma
    told = plan_binding(on_meta(lambda: GemmaEncoder(component.spec).model), component).report
    assert len(told.entries) == 34 * 13 + 2
    assert told.counts == {"dequantised": 33 * 7 + 1, "shifted": 33 * 6, "dropped": 14}


def test_the_largest_gemma_scales_by_its_width() -> None:
    values = {**VALUES, "gemma3.block_count": 62, "gemma3.embedding_length": 5376,
              "gemma3.attention.head_count": 32}  # fmt: skip
    config = gemma_config(values)
    assert config is not None
    assert config["query_pre_attn_scalar"] == 168
    assert gemma_config({**VALUES, "general.architecture": "llama"}) is None


def test_a_config_beside_it_must_agree(tmp_path: Path) -> None:
    gemma_file(tmp_path / "x.gguf")
    write_json(tmp_path / "config.json", config_of(GEMMA))
    assert open_component(tmp_path, "text_encoder").spec == GEMMA
    write_json(tmp_path / "config.json", config_of(replace(GEMMA, sliding_window=8)))
    with pytest.raises(SpecMismatch, match="sliding_window 8"):
        open_component(tmp_path, "text_encoder")


def test_metadata_that_contradicts_the_shapes(tmp_path: Path) -> None:
    file = gemma_file(tmp_path / "x.gguf", values={**VALUES, "gemma3.attention.head_count": 4})
    with pytest.raises(SpecMismatch, match="num_attention_heads 4 by"):
        open_component(file, "text_encoder")


def test_an_architecture_that_is_no_text_says_nothing() -> None:
    for odd in (["gemma2"], 3, True, None):
        assert gemma_config({"general.architecture": odd}) is None


def test_another_model_is_named_as_unknown(tmp_path: Path) -> None:
    tensors = {"token_embd.weight": ("F32", np.ones((4, 32), np.float32)),
               "blk.0.attn_q.weight": ("Q4_0", np.ones((32, 32), np.float32))}  # fmt: skip
    file = write_gguf(tmp_path / "x.gguf", {"general.architecture": "llama"}, tensors)
    with pytest.raises(LayoutError, match=r"Gemma, llama\.cpp names"):
        open_component(file, "text_encoder")


def test_a_folder_holds_one_file_of_either_kind(tmp_path: Path) -> None:
    gemma_file(tmp_path / "a.gguf")
    gemma_file(tmp_path / "b.gguf")
    with pytest.raises(ModelNotFound, match=r"a\.gguf, b\.gguf"):
        Store.open(tmp_path)
    (tmp_path / "b.gguf").unlink()
    assert Store.open(tmp_path).files == (tmp_path / "a.gguf",)
    (tmp_path / "a.gguf").rename(tmp_path / "model.safetensors")  # the bytes tell, not the name
    assert Store.open(tmp_path).dtypes()["token_embd.weight"] == "F32"


def test_hash_is_the_files_own(tmp_path: Path) -> None:
    file = gemma_file(tmp_path / "x.gguf")
    assert Store.open(file).sha256() == hashlib.sha256(file.read_bytes()).hexdigest()


# Files that lie


def header(tensors: int = 0, entries: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries)


def listed(name: str = "a", sizes: tuple[int, ...] = (8,), kind: int = 0, start: int = 0) -> bytes:
    raw = text(name) + struct.pack("<I", len(sizes))
    return raw + struct.pack(f"<{len(sizes)}Q", *sizes) + struct.pack("<IQ", kind, start)


def filled(head: bytes, data: int) -> bytes:
    return head + bytes(-len(head) % 32) + bytes(data)


def array(kind: int, count: int, data: bytes = b"") -> bytes:
    return text("a") + struct.pack("<IIQ", 9, kind, count) + data


HOSTILE: dict[str, bytes] = {
    "cut in the counts": header()[:20],
    "no such version": header(version=1),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "absurd count of tensors": header(tensors=2**63),
    "absurd count of values": header(entries=2**64 - 1),
    "more tensors than are listed": filled(header(tensors=2) + listed(), 32),
    "more values than are listed": header(entries=1),
    "a name longer than the file": header(entries=1) + struct.pack("<Q", 2**40),
    "a name longer than memory": header(entries=1) + struct.pack("<Q", 2**64 - 1) + b"a",
    "a name that is no text": header(entries=1) + text(b"\xff\xfe") + struct.pack("<II", 4, 1),
    "a value cut short": header(entries=1) + text("a") + struct.pack("<I", 10) + b"1234",
    "an unknown type of value": header(entries=1) + text("a") + struct.pack("<IQ", 99, 0),
    "lists of lists": header(entries=1) + array(9, 1, struct.pack("<IQ", 4, 0)),
    "a list longer than the file": header(entries=1) + array(8, 500_000),
    "a list longer than memory": header(entries=1) + array(10, 2**62),
    "a list of too many strings": header(entries=1) + array(8, MAX_STRINGS + 1, bytes(8 * 9)),
    "lists of too many numbers": header(entries=2)
    + array(0, MAX_NUMBERS, bytes(MAX_NUMBERS)) + array(0, 1, b"x"),
    "a value told twice": header(entries=2) + (text("a") + struct.pack("<II", 4, 1)) * 2,
    "a tensor told twice": filled(header(tensors=2) + listed() + listed(start=32), 64),
    "too many dimensions": filled(header(tensors=1) + listed(sizes=(1,) * 5), 32),
    "absurd rank": header(tensors=1) + text("a") + struct.pack("<I", 2**32 - 1),
    "absurd sizes": filled(header(tensors=1) + listed(sizes=(2**62, 2**62, 4)), 32),
    "sizes past an address": filled(header(tensors=1) + listed(sizes=(2**63, 0)), 0),
    "an unknown type": filled(header(tensors=1) + listed(kind=4), 32),
    "a type sakuga cannot read": filled(header(tensors=1) + listed(sizes=(256,), kind=16), 96),
    "rows that end within a block": filled(header(tensors=1) + listed(sizes=(48, 2), kind=8), 128),
    "blocks past the end": filled(header(tensors=1) + listed(sizes=(256,), kind=12), 96),
    "data past the end": filled(header(tensors=1) + listed(sizes=(64,)), 64),
    "a start past the end": filled(header(tensors=1) + listed(start=2**40), 32),
    "a start that wraps": filled(header(tensors=1) + listed(start=2**64 - 32), 32),
    "a start off the alignment": filled(header(tensors=1) + listed(start=4), 36),
    "tensors that overlap": filled(header(tensors=2) + listed() + listed("b"), 64),
    "a gap between tensors": filled(header(tensors=2) + listed() + listed("b", start=64), 96),
    "bytes after the last tensor": filled(header(tensors=1) + listed(), 32) + b"PK\x03\x04",
    "bytes after no tensor at all": header() + bytes(8) + b"PK\x03\x04",
    "an alignment of zero": filled(
        header(1, 1) + text("general.alignment") + struct.pack("<II", 4, 0) + listed(), 32),
    "an alignment of three": filled(
        header(1, 1) + text("general.alignment") + struct.pack("<II", 4, 3) + listed(), 32),
    "an alignment of text": filled(
        header(1, 1) + text("general.alignment") + struct.pack("<I", 8) + text("x") + listed(), 32),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_a_header_that_lies(tmp_path: Path, name: str) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(HOSTILE[name])
    start = time.process_time()
    with pytest.raises(CorruptFile) as caught:
        Store.open(file)
    assert time.process_time() - start < 1
    assert str(file) in caught.value.got
    assert len(str(caught.value)) < 600 + 2 * len(str(file))


def test_the_honest_form_of_those_opens(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(filled(header(2, 1) + array(4, 1, bytes(4)) + listed()
                            + listed("b", (32, 2), 8, 32), 32 + 68))  # fmt: skip
    assert Store.open(file).shapes() == {"a": (8,), "b": (2, 32)}
    file.write_bytes(header())
    assert Store.open(file).keys() == ()


def test_every_cut_of_a_real_file_is_refused(tmp_path: Path) -> None:
    tensors = {"a": ("Q8_0", np.ones((3, 32), np.float32)), "b": ("F32", np.ones(8, np.float32))}
    file = write_gguf(tmp_path / "x.gguf", {"x": ["a", "b"], "y": 3}, tensors)
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(CorruptFile):
            Store.open(file)


def test_a_long_header_is_refused_in_time(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(header(entries=1) + array(8, MAX_STRINGS, bytes(8 * MAX_STRINGS))[:-1])
    start = time.process_time()
    with pytest.raises(CorruptFile, match="past byte"):
        Store.open(file)
    assert time.process_time() - start < 1


def test_odd_values_do_no_harm(tmp_path: Path) -> None:
    values = {**VALUES, "general.alignment": 32, "nan": float("nan"), "inf": float("inf"),
              "raw": Raw(struct.pack("<IB", 7, 9))}  # fmt: skip
    values["gemma3.rope.freq_base"] = float("inf")
    store = Store.open(gemma_file(tmp_path / "x.gguf", values=values))
    assert store.metadata["nan"] == "nan"
    with pytest.raises(SpecMismatch, match="rope_theta"):
        open_component(tmp_path, "text_encoder")
