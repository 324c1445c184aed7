"""A module filled from a file is the module that wrote it, and every key has its fate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny import TINY
from torch import Tensor, nn
from transformers import (
    Gemma3TextConfig,
    Gemma3TextModel,
    JinaEmbeddingsV3Config,
    JinaEmbeddingsV3Model,
)

from sakuga.checkpoint.bind import bind, plan_binding, read_tensor
from sakuga.checkpoint.contents import Contents
from sakuga.checkpoint.families.tables import config_of
from sakuga.checkpoint.save import save_component
from sakuga.errors import BindError, CorruptFile, LayoutError
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import NEWBIE_3_5B
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.model.vae import VAE
from sakuga.weights.formats import FLOAT16, INT8, STORAGE_KEY, StorageFormat
from sakuga.weights.header import Header, TensorInfo
from sakuga.weights.store import Store

INVENTORY = Path(__file__).parents[1] / "golden" / "inventory"

Builder = Callable[[], nn.Module]
BUILDERS: dict[str, Builder] = {
    "nextdit": lambda: NextDiT(TINY.transformer),
    "gemma": lambda: GemmaEncoder(TINY.gemma).model,
    "jina": lambda: JinaEncoder(TINY.jina).model,
    "vae": lambda: VAE(TINY.vae),
}


def real(build: Builder, seed: int = 1) -> nn.Module:
    """A module with every weight drawn, none left at zero or one."""
    module = build().eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.randn(value.shape, generator=draw) * 0.2)
    return module


def on_meta(build: Builder) -> nn.Module:
    with torch.device("meta"):
        return build().eval()


def written(
    folder: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> Store:
    file = folder / "model.safetensors"
    save_file({key: value.clone() for key, value in state.items()}, file, metadata)
    return Store.open(file)


def same(got: nn.Module, want: nn.Module) -> None:
    ours, theirs = got.state_dict(), want.state_dict()
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key


@pytest.mark.parametrize("name", BUILDERS)
def test_a_module_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    want = real(BUILDERS[name])
    store = written(tmp_path, want.state_dict())
    got = on_meta(BUILDERS[name])
    report = bind(got, Contents.of(store))
    same(got, want)
    assert not any(value.is_meta for value in (*got.parameters(), *got.buffers()))
    assert report.counts == {"bound": len(want.state_dict())}
    assert str(len(want.state_dict())) in str(report)


def test_a_bound_gemma_computes_what_transformers_does(tmp_path: Path) -> None:
    config = Gemma3TextConfig(**config_of(TINY.gemma), attn_implementation="sdpa")
    whole = real(lambda: Gemma3TextModel(config))
    prefixed = {f"language_model.model.{k}": v for k, v in whole.state_dict().items()}
    extra = {
        "vision_tower.vision_model.post_layernorm.weight": torch.ones(3),
        "multi_modal_projector.mm_soft_emb_norm.weight": torch.ones(3),
        "language_model.lm_head.weight": torch.ones(3),
    }
    store = written(tmp_path, prefixed | extra)
    with torch.device("meta"):
        encoder = GemmaEncoder(TINY.gemma).eval()
    report = bind(encoder.model, Contents.of(store))
    assert report.counts["dropped"] == len(extra) + 13 + 1  # the last layer, the final norm
    ids = torch.arange(3, 23).view(2, 10)
    with torch.inference_mode():
        want = whole(input_ids=ids, output_hidden_states=True).hidden_states[-2]
        got = encoder(ids)
    assert torch.isfinite(got).all()
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def single_file(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Jina's tensors as the node-graph program spells them, written out by hand."""
    made = {
        "model.embeddings.word_embeddings.weight": state["embeddings.word_embeddings.weight"],
        "model.embeddings.token_type_embeddings.weight": state[
            "embeddings.token_type_embeddings.weight"
        ],
        "model.emb_ln.weight": state["embeddings.LayerNorm.weight"],
        "model.emb_ln.bias": state["embeddings.LayerNorm.bias"],
        "spiece_model": torch.zeros(5, dtype=torch.uint8),
    }
    for n in range(TINY.jina.num_hidden_layers):
        for p in ("weight", "bias"):
            ours, theirs = f"layers.{n}.", f"model.encoder.layers.{n}."
            made[f"{theirs}mixer.Wqkv.{p}"] = torch.cat(
                [state[f"{ours}self_attn.{part}_proj.{p}"] for part in "qkv"]
            )
            made[f"{theirs}mixer.out_proj.{p}"] = state[f"{ours}self_attn.o_proj.{p}"]
            made[f"{theirs}norm1.{p}"] = state[f"{ours}post_attention_layernorm.{p}"]
            made[f"{theirs}mlp.fc1.{p}"] = state[f"{ours}mlp.fc1.{p}"]
            made[f"{theirs}mlp.fc2.{p}"] = state[f"{ours}mlp.fc2.{p}"]
            made[f"{theirs}norm2.{p}"] = state[f"{ours}post_mlp_layernorm.{p}"]
    return made


@pytest.mark.parametrize("spelling", ["transformers", "single file"])
def test_a_bound_jina_computes_what_transformers_does(tmp_path: Path, spelling: str) -> None:
    config = JinaEmbeddingsV3Config(**config_of(TINY.jina), attn_implementation="sdpa")
    whole = real(lambda: JinaEmbeddingsV3Model(config))
    state = whole.state_dict()
    store = written(tmp_path, state if spelling == "transformers" else single_file(state))
    with torch.device("meta"):
        encoder = JinaEncoder(TINY.jina).eval()
    report = bind(encoder.model, Contents.of(store))
    assert set(report.dropped) == (
        {"pooler.dense.weight", "pooler.dense.bias"}
        if spelling == "transformers"
        else {"spiece_model"}
    )
    ids = torch.arange(3, 23).view(2, 10)
    with torch.inference_mode():
        want = whole(input_ids=ids).last_hidden_state.mean(1)
        got = encoder(ids)
    assert torch.isfinite(got).all()
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def test_casts_are_reported(tmp_path: Path) -> None:
    want = real(BUILDERS["vae"])
    half = {key: value.to(torch.float16) for key, value in want.state_dict().items()}
    got = on_meta(BUILDERS["vae"])
    report = bind(got, Contents.of(written(tmp_path, half)), dtype=torch.bfloat16)
    assert report.counts == {"cast": len(half)}
    assert "float16 to bfloat16" in str(report)
    for key, value in got.state_dict().items():
        assert torch.equal(value, half[key].to(torch.bfloat16))


def test_training_on_bound_weights_leaves_the_file_alone(tmp_path: Path) -> None:
    store = written(tmp_path, real(BUILDERS["vae"]).state_dict())
    before = store.path.read_bytes()
    module = on_meta(BUILDERS["vae"])
    bind(module, Contents.of(store))
    with torch.no_grad():
        for value in module.parameters():
            value.add_(1)
    assert store.path.read_bytes() == before


def test_int8_rows_come_back_within_half_a_step(tmp_path: Path) -> None:
    want = real(BUILDERS["nextdit"])
    save_component(tmp_path, TINY.transformer, want.state_dict(), "int8", "float16")
    store = Store.open(tmp_path)
    got = on_meta(BUILDERS["nextdit"])
    report = bind(got, Contents.of(store))
    matrices = [key for key, value in want.state_dict().items() if value.dim() > 1]
    assert report.counts["dequantised"] == report.counts["scale"] == len(matrices)
    for key, value in want.state_dict().items():
        back = got.state_dict()[key]
        assert back.dtype == torch.float32
        if key in matrices:
            step = value.flatten(1).abs().amax(1) / 127
            limit = (step * 0.5001).view(-1, *(1,) * (value.dim() - 1))
            assert ((back - value).abs() <= limit).all(), key
        else:
            assert torch.equal(back, value.half().float()), key


def test_storage_is_chosen_per_tensor(tmp_path: Path) -> None:
    def choose(key: str, value: Tensor) -> StorageFormat:
        return INT8 if key.endswith("conv1.weight") else FLOAT16

    want = real(BUILDERS["vae"])
    size = save_component(tmp_path, TINY.vae, want.state_dict(), choose)
    store = Store.open(tmp_path)
    assert store.info("encoder.conv_in.weight").dtype == "F16"
    assert store.info("encoder.mid_block.resnets.0.conv1.weight").dtype == "I8"
    assert size == store.path.joinpath("diffusion_pytorch_model.safetensors").stat().st_size
    bind(on_meta(BUILDERS["vae"]), Contents.of(store))


def broken(tmp_path: Path, change: Callable[[dict[str, Tensor]], Any]) -> str:
    state = dict(real(BUILDERS["nextdit"]).state_dict())
    change(state)
    module = on_meta(BUILDERS["nextdit"])
    with pytest.raises(BindError) as caught:
        bind(module, Contents.of(written(tmp_path, state)))
    assert all(value.is_meta for value in module.parameters())
    return str(caught.value)


def test_missing_keys_are_listed(tmp_path: Path) -> None:
    text = broken(tmp_path, lambda state: state.pop("layers.1.ffn_norm2.weight"))
    assert "missing 'layers.1.ffn_norm2.weight'" in text


def test_unexpected_keys_are_listed_with_the_nearest(tmp_path: Path) -> None:
    def rename(state: dict[str, Tensor]) -> None:
        state["layers.1.ffn_norm_2.weight"] = state.pop("layers.1.ffn_norm2.weight")

    text = broken(tmp_path, rename)
    assert "'layers.1.ffn_norm_2.weight' (nearest: 'layers.1.ffn_norm2.weight')" in text


def test_wrong_shapes_are_listed_with_both(tmp_path: Path) -> None:
    text = broken(tmp_path, lambda state: state.update({"x_embedder.bias": torch.zeros(49)}))
    assert "'x_embedder.bias' is (49,), not (48,)" in text


def test_whole_numbers_do_not_pass_for_weights(tmp_path: Path) -> None:
    bits = torch.zeros(48, dtype=torch.int8)
    assert "one kind" in broken(tmp_path, lambda state: state.update({"x_embedder.bias": bits}))


def test_an_unknown_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError):
        bind(on_meta(BUILDERS["vae"]), Contents.of(written(tmp_path, {"a": torch.zeros(1)})))


@pytest.mark.parametrize(
    "fault", ["no scale", "long scale", "half scale", "float values", "format"]
)
def test_quantised_tensors_need_their_scales(tmp_path: Path, fault: str) -> None:
    state = dict(real(BUILDERS["vae"]).state_dict())
    key = "encoder.conv_in.weight"
    rows = state[key].shape[0]
    if fault != "float values":
        state[key] = state[key].to(torch.int8)
    if fault != "no scale":
        dtype = torch.float16 if fault == "half scale" else torch.float32
        state[key + ".scale"] = torch.ones(rows + (fault == "long scale"), dtype=dtype)
    name = "int9" if fault == "format" else "int8"
    store = written(tmp_path, state, {STORAGE_KEY: json.dumps({key: name})})
    with pytest.raises(CorruptFile):
        bind(on_meta(BUILDERS["vae"]), Contents.of(store))


def test_a_buffer_nobody_computed_is_refused(tmp_path: Path) -> None:
    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("inv_freq", torch.ones(3), persistent=False)

    module = on_meta(BUILDERS["vae"])
    with torch.device("meta"):
        module.rotary = Rotary()
    with pytest.raises(BindError, match=r"rotary\.inv_freq"):
        bind(module, Contents.of(written(tmp_path, real(BUILDERS["vae"]).state_dict())))


def test_unaligned_tensors_are_read(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    header += b" " * (1 + -len(header) % 8)
    data = torch.tensor([1.0, 2.0]).numpy().tobytes()
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + data)
    store = Store.open(file)
    assert store.info("a").start % 4
    tensor = read_tensor(store, "a")
    assert tensor.tolist() == [1.0, 2.0]
    assert tensor.data_ptr() % 4 == 0


REAL: dict[str, Builder] = {
    "nextdit_original": lambda: NextDiT(NEWBIE_3_5B.transformer),
    "gemma_3_4b_it": lambda: GemmaEncoder(NEWBIE_3_5B.gemma).model,
    "jina_text_comfyui": lambda: JinaEncoder(NEWBIE_3_5B.jina).model,
    "flux_ae_diffusers": lambda: VAE(NEWBIE_3_5B.vae),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_size_files_bind_on_the_meta_device(name: str) -> None:
    """Headers alone: a plan reads no weight, so the bytes need not be there."""
    tensors = json.loads((INVENTORY / f"{name}.json").read_text())["tensors"]
    file = Path(f"{name}.safetensors")
    infos = {key: TensorInfo("BF16", tuple(shape), 0, file, 0) for key, shape in tensors.items()}
    store = Store(file, {file: Header(infos, {})})
    module = on_meta(REAL[name])
    report = plan_binding(module, Contents.of(store), dtype=torch.bfloat16).report
    assert {entry.key for entry in report.entries} == set(tensors)
    assert {entry.fate for entry in report.entries} <= {"bound", "dropped"}
    assert all(reason for reason in report.dropped.values())
