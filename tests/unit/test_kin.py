"""Lumina-Image 2.0 and its kin: folders as published, single files, budgets, adapters, words."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf_file import write_gguf
from kin_folder import (
    KIN,
    gemma_config,
    gemma_state,
    original,
    published,
    vae_config,
    write_json,
    write_kin,
)
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from budgets import apart, limits, results
from effort import some
from sakuga.api.engine_spec import Budget, EngineSpec
from sakuga.api.events import Finished
from sakuga.api.request import Request
from sakuga.checkpoint.catalog import lint_profile
from sakuga.checkpoint.convert import Written
from sakuga.checkpoint.folder import Checkpoint, open_checkpoint, open_component
from sakuga.checkpoint.parts import is_model
from sakuga.commands.cli import app
from sakuga.commands.convert import convert
from sakuga.engine.engine import Engine
from sakuga.engine.linting import findings
from sakuga.engine.networks import Networks
from sakuga.errors import BindError, LayoutError, ModelNotFound, SpecMismatch, WeightsError
from sakuga.model.inventory import weights_of
from sakuga.model.spec import (
    LUMINA_2,
    NETA_LUMINA,
    NETAYUME_LUMINA,
    SAKIKO_LUMINA,
    ModelSpec,
    VAESpec,
)

PROMPT = "1girl, blue hair, smile"


@pytest.fixture(scope="module")
def kin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kin(tmp_path_factory.mktemp("kin") / "Lumina-Image-2.0")


@pytest.fixture
def copy(kin: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kin, tmp_path / "some model"))


def engine(model: Path | None, **spec: Any) -> Engine:
    named = None if model is None else str(model)
    return Engine.open(EngineSpec(named, device="cpu", dtype="float32", **spec))


def request(**asked: Any) -> Request:
    return Request(PROMPT, **{"seed": 3, "steps": 2, "width": 256, "height": 256, **asked})


def drawn(one: Engine, **asked: Any) -> Finished:
    *_, last = one.generate(request(**asked))
    assert isinstance(last, Finished)
    return last


def pixels(one: Engine, **asked: Any) -> bytes:
    return drawn(one, **asked).result.picture.rgb


def test_a_folder_as_published_is_understood(kin: Path) -> None:
    checkpoint = open_checkpoint(kin)
    assert checkpoint.spec == KIN
    assert [part.name for part in checkpoint.components] == ["text_encoder", "transformer", "vae"]
    assert checkpoint.text_encoder_2 is None


def test_it_draws_without_a_second_encoder(kin: Path) -> None:
    receipt = drawn(engine(kin), negative="night").result.receipt
    assert [stage.stage for stage in receipt.plan.stages] == ["gemma", "denoise", "decode"]
    assert set(receipt.weights) == {"text_encoder", "transformer", "vae"}
    assert receipt.texts.gemma == LUMINA_2.drawing.system_text + PROMPT
    assert (receipt.texts.negative_gemma, receipt.texts.jina) == ("night", "")
    assert (receipt.tokens.jina, receipt.tokens.negative_jina) == (0, 0)
    assert receipt.guidance == "v_uncond + 4·(v_cond - v_uncond), each row as long as in v_cond"


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_every_command_takes_the_folder(kin: Path, tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    run("draw", PROMPT, "--model", kin, "--size", "256", "--steps", "2", "--out", picture)
    assert picture.is_file()
    assert "Jina" not in run("show", picture)
    assert "jina" not in run("plan", "--model", kin, "--vram", "2GB")
    told = run("inspect", kin)
    assert "NextDiT, diffusers names" in told
    assert "Gemma, transformers names" in told
    assert "no published file" not in told
    said = run("doctor", kin, "--json")
    assert "red" not in said.split('"colour"')[0]
    assert "text_encoder_2" not in said
    run("lint", "1girl, smile", "--model", kin)


def test_published_files_of_one_seed_are_one_model(kin: Path, tmp_path: Path) -> None:
    """The transformer's original names, in the folder as a single file, draw the same picture."""
    shelf = tmp_path / "diffusion_models"
    shelf.mkdir()
    file = shelf / "lumina_2_model.safetensors"
    save_file(original(KIN, 0), file, {"format": "pt"})
    settings = {"transformer": str(file), "gemma": str(kin / "text_encoder"),
                "vae": str(kin / "vae")}  # fmt: skip
    one = engine(None, **settings)
    assert one.model.transformer.qk_norm_eps == 1e-6  # of the original code
    write_json(shelf / "config.json", {"qk_norm_eps": 1e-5})  # of diffusers' class
    assert pixels(engine(None, **settings)) == pixels(engine(kin))


def all_in_one(file: Path, kin: Path, spec: ModelSpec = KIN) -> Path:
    """A checkpoint as ComfyUI saves it: all components, each behind its prefix."""
    vae = convert(kin / "vae", file.with_name("ae.safetensors"), "single-file")
    assert vae
    parts = {
        "model.diffusion_model.": original(spec, 0),
        "text_encoders.gemma2_2b.transformer.model.": gemma_state(spec.gemma, 0),
        "text_encoders.gemma2_2b.": {"logit_scale": torch.tensor(4.6)},
        "text_encoders.": {"spiece_model": torch.frombuffer(
            bytearray((kin / "tokenizer" / "tokenizer.model").read_bytes()), dtype=torch.uint8)},
        "vae.": load_file(file.with_name("ae.safetensors")),
    }  # fmt: skip
    state = {start + name: value for start, part in parts.items() for name, value in part.items()}
    save_file(state, file, {"format": "pt"})
    return file


def test_each_part_of_an_all_in_one_file_opens_by_its_flag(kin: Path, tmp_path: Path) -> None:
    file = all_in_one(tmp_path / "NetaYume_all_in_one.safetensors", kin)
    # Of a model so small, only a config tells the heads of Gemma and the groups of the VAE.
    said = {"gemma": {**gemma_config(KIN.gemma), "head_dim": 12}, "vae": vae_config(KIN.vae)}
    for name, config in said.items():
        write_json(tmp_path / name / "config.json", config)
        shutil.copyfile(file, tmp_path / name / "x.safetensors")
    with pytest.raises(SpecMismatch):
        engine(None, transformer=str(file), gemma=str(file), vae=str(file))
    parts = {name: str(tmp_path / name) for name in said}
    one = engine(None, transformer=str(file), **parts)
    assert one.model.drawing == NETAYUME_LUMINA.drawing
    prefixes = [part.match.prefix for part in one.checkpoint.components]
    assert prefixes == [
        "text_encoders.gemma2_2b.transformer.model.", "model.diffusion_model.", "vae.",
    ]  # fmt: skip
    assert len(set(pixels(one))) > 10


def test_an_all_in_one_file_is_split_and_its_folder_draws(tmp_path: Path) -> None:
    # Of the usual proportions, so that shapes alone say what it is.
    gemma = replace(
        KIN.gemma, head_dim=256, num_attention_heads=2, num_key_value_heads=1,
        query_pre_attn_scalar=256, sliding_window=4096, attn_softcap=50.0,
    )  # fmt: skip
    spec = replace(KIN, gemma=gemma, vae=VAESpec((32, 32, 32, 32), 1, 32))
    kin = write_kin(tmp_path / "Lumina-Image-2.0", spec=spec)
    (tmp_path / "one").mkdir()
    file = all_in_one(tmp_path / "one" / "lumina.safetensors", kin, spec)
    file.with_name("ae.safetensors").unlink()
    assert {each.component for each in convert(file, tmp_path / "split", "diffusers")} == {
        "transformer", "text_encoder", "vae",
    }  # fmt: skip
    whole, split = (tensors(open_checkpoint(place)) for place in (file.parent, tmp_path / "split"))
    assert whole.keys() == split.keys()
    assert all(torch.equal(whole[key], split[key]) for key in whole)
    assert pixels(engine(tmp_path / "split")) == pixels(engine(file.parent))


def tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    networks = Networks(checkpoint, "float32")
    names = ("transformer", "text_encoder", "vae")
    return {f"{name}.{k}": v for name in names for k, v in networks[name].state_dict().items()}


def test_every_key_of_an_all_in_one_file_is_accounted_for(kin: Path, tmp_path: Path) -> None:
    file = all_in_one(tmp_path / "x.safetensors", kin)
    part = open_component(file, "transformer")
    told = part.explain({weight.key: weight.shape for weight in weights_of(part.spec)})
    assert told.complete
    reasons = Counter(reason for _, reason in told.dropped)
    count = len(load_file(file)) - len(original(KIN, 0))
    assert reasons["it is of another component in this file"] == count
    with pytest.raises(LayoutError, match="a file holds one component"):
        open_component(file)
    mixed = load_file(file) | original(KIN, 0)  # two transformers: which one is meant?
    save_file(mixed, tmp_path / "y.safetensors", {"format": "pt"})
    with pytest.raises(LayoutError, match="a file holds one component"):
        open_component(tmp_path / "y.safetensors", "transformer")


@pytest.mark.parametrize(
    ("name", "preset"),
    [("Lumina-Image-2.0", LUMINA_2), ("models--neta-art--Neta-Lumina-diffusers", NETA_LUMINA),
     ("NetaYume-Lumina-Image-2.0-Diffusers-v40", NETAYUME_LUMINA), ("my merge", LUMINA_2),
     ("SakikoLab_Sakiko-Lumina", SAKIKO_LUMINA), ("newbie", LUMINA_2)],
    ids=lambda value: getattr(value, "name", value),
)  # fmt: skip
def test_a_folder_is_drawn_as_its_name_says(
    kin: Path, tmp_path: Path, name: str, preset: Any
) -> None:
    model = Path(shutil.copytree(kin, tmp_path / name))
    # The folder's scheduler says its own shift.
    assert open_checkpoint(model).spec.drawing == replace(preset.drawing, shift=6.0)
    profile = lint_profile(str(model))
    assert (profile.system_xml, profile.limit) == (preset.drawing.system_xml, 256)


def test_the_scheduler_says_the_shift_unless_our_entry_does(copy: Path) -> None:
    scheduler = copy / "scheduler" / "scheduler_config.json"
    said = json.loads(scheduler.read_text())
    for change, shift in (
        ({"shift": 4}, 4.0), ({"shift": None}, 6.0),
        # Of the 16 channels of the latents, which Lumina2Pipeline takes for a length.
        ({"use_dynamic_shifting": True}, math.exp(0.5 + 0.65 * (16 - 256) / 3840)),
        ({"use_dynamic_shifting": True, "time_shift_type": "linear", "max_shift": 2.0},
         0.5 + 1.5 * (16 - 256) / 3840),
    ):  # fmt: skip
        write_json(scheduler, said | change)
        assert open_checkpoint(copy).spec.drawing.shift == pytest.approx(shift, rel=1e-12)
    for odd in ({"base_shift": "0.5"}, {"max_image_seq_len": 256}, {"time_shift_type": "cubic"}):
        write_json(scheduler, said | {"use_dynamic_shifting": True} | odd)
        with pytest.raises(SpecMismatch):
            open_checkpoint(copy)
    write_json(scheduler, said | {"shift": 4.0})
    index = json.loads((copy / "model_index.json").read_text())
    write_json(copy / "model_index.json", index | {"sakuga": {"drawing": {"shift": 2.5}}})
    assert open_checkpoint(copy).spec.drawing.shift == 2.5
    write_json(scheduler, said | {"shift": "six"})
    with pytest.raises(SpecMismatch, match=r"shift is of type float.*scheduler_config"):
        open_checkpoint(copy)


def test_a_negative_has_its_own_system_prompt(kin: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(kin, tmp_path / "netayume"))
    one = engine(model)
    for asked, before in (
        ({}, NETAYUME_LUMINA.drawing.system_text),
        ({"system": "Draw."}, "Draw. "),
    ):
        texts = one.plan(one.resolve(request(negative="night", **asked))).texts.sent
        assert texts.gemma == before + PROMPT
        assert texts.negative_gemma == (
            "You are an assistant designed to generate low-quality images based on textual prompts "
            "<Prompt Start> night"
        )
    assert one.plan(one.resolve(request())).texts.sent.negative_gemma == ""


def test_a_second_encoder_that_nothing_reads_is_refused_where_it_is_asked_for(
    kin: Path, tiny_model: Path, copy: Path
) -> None:
    with pytest.raises(SpecMismatch, match=r"Lumina-Image 2\.0 and its fine-tunes"):
        engine(kin, jina=str(tiny_model / "text_encoder_2"))
    shutil.copytree(tiny_model / "text_encoder_2", copy / "text_encoder_2")
    assert open_checkpoint(copy).text_encoder_2 is None


def test_a_transformer_that_takes_pooled_text_still_misses_its_encoder(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "newbie"))
    shutil.rmtree(model / "text_encoder_2")
    with pytest.raises(ModelNotFound, match="no text_encoder_2 or clip_model among"):
        open_checkpoint(model)


def test_half_a_pooled_branch_is_refused(copy: Path) -> None:
    for name in ("clip_text_pooled_proj.0.weight", "surprise.weight"):
        shutil.rmtree(copy / "transformer")
        state = published(KIN, 0) | {name: torch.zeros(8)}
        (copy / "transformer").mkdir()
        save_file(state, copy / "transformer" / "x.safetensors", {"format": "pt"})
        write_json(copy / "transformer" / "config.json", {"axes_dims": [4, 4, 4]})
        with pytest.raises(LayoutError, match="Lumina 2 none"):
            open_checkpoint(copy)
    state = original(KIN, 0) | {"clip_text_pooled_proj.0.weight": torch.zeros(8)}
    save_file(state, copy / "transformer" / "x.safetensors", {"format": "pt"})
    with pytest.raises(BindError, match="clip_text_pooled_proj"):
        drawn(engine(copy))


def test_less_and_less_memory_draws_the_same_picture(kin: Path) -> None:
    asked = request(negative="night", steps=1, number=2)
    free = results(engine(kin).generate(asked))
    steps = limits(engine(kin, budget=Budget(vram="1GB")), asked)
    assert len(steps) > 5
    streamed = False
    for limit in {steps[0], *some(steps[1:-1:3]), steps[-1]}:
        one = engine(kin, budget=Budget(vram=str(limit)))
        drawing = results(one.generate(asked))
        assert one.device.ledger.peak <= limit
        plan = drawing[0].receipt.plan
        assert "jina" not in {stage.stage for stage in plan.stages}
        streamed |= any(stage.streamed for stage in plan.stages)
        exact = all(stage.strips == stage.parts == stage.batches == 1 for stage in plan.stages)
        for before, now in zip(free, drawing, strict=True):
            most, share = apart(before, now)
            assert most <= (0 if exact else 1)
            assert share <= 0.001
    assert streamed


@pytest.mark.parametrize("layout", ["diffusers", "original", "single-file"])
def test_every_layout_of_it_is_the_same_model(kin: Path, tmp_path: Path, layout: str) -> None:
    source = Path(shutil.copytree(kin, tmp_path / "NetaYume"))
    out = tmp_path / "renamed"
    told = convert(source, out, layout)
    assert [each.component for each in told] == ["text_encoder", "transformer", "vae"]
    assert all(not each.provisional for each in told if isinstance(each, Written))
    assert open_checkpoint(out).spec.drawing == open_checkpoint(source).spec.drawing
    assert open_checkpoint(out).spec.transformer == KIN.transformer
    assert pixels(engine(out)) == pixels(engine(source))
    assert json.loads((out / "model_index.json").read_text())["_class_name"] == "Lumina2Pipeline"


def factors(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(rows + columns)
    return tuple(torch.randn(shape, generator=draw) for shape in ((4, columns), (rows, 4)))


ADAPTERS = {
    "peft.safetensors": (
        "transformer.layers.1.attn.to_q.lora_A.weight",
        "transformer.layers.1.attn.to_q.lora_B.weight", 48,
    ),
    "kohya.safetensors": (
        "lora_unet_layers_1_attention_qkv.lora_down.weight",
        "lora_unet_layers_1_attention_qkv.lora_up.weight", 96,
    ),
    "comfy.safetensors": (
        "diffusion_model.context_refiner.0.feed_forward.w1.lora_A.weight",
        "diffusion_model.context_refiner.0.feed_forward.w1.lora_B.weight", 192,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_changes_what_merging_changes(kin: Path, tmp_path: Path, name: str) -> None:
    down, up, rows = ADAPTERS[name]
    first, second = factors(rows, 48)
    file = tmp_path / name
    save_file({down: first, up: second}, file, {"format": "pt"})
    told = run("lora", "show", file, "--model", kin, "--json")
    assert json.loads(told)[0]["unmatched"] == []
    merged = Path(shutil.copytree(kin, tmp_path / "Lumina"))
    shutil.rmtree(merged / "transformer")
    (merged / "transformer").mkdir()
    run(
        "lora",
        "merge",
        f"{file}:0.5",
        "--model",
        kin,
        "--out",
        merged / "transformer" / "x.safetensors",
    )
    shutil.copyfile(kin / "transformer" / "config.json", merged / "transformer" / "config.json")
    asked = {"lora": (f"{file}:0.5",)}
    plain, with_it = (
        results(engine(kin).generate(request())),
        results(engine(kin).generate(request(**asked))),
    )
    into = results(engine(merged).generate(request()))
    assert apart(plain[0], with_it[0])[0] > 2
    assert apart(into[0], with_it[0])[0] <= 1


def test_presets_are_planned_without_any_files() -> None:
    for name in ("lumina-image-2.0", "neta-lumina", "netayume-lumina", "sakiko-lumina"):
        told = run("plan", "--preset", name, "--vram", "1GB")
        assert "gemma" in told
        assert "jina" not in told
    profile = lint_profile("netayume-lumina")
    assert (profile.limit, profile.system_xml) == (256, NETAYUME_LUMINA.drawing.system_xml)


def test_weights_are_heeded_as_other_programs_do(kin: Path) -> None:
    one, heavy = engine(kin), "1girl, (blue_hair:1.4)"
    plain, none, weighed = (
        event.result.picture.rgb
        for prompt in ("1girl, blue_hair", "1girl, (blue_hair:1)", heavy)
        for event in one.generate(replace(request(), prompt=prompt))
        if isinstance(event, Finished)
    )
    assert plain == none != weighed
    resolved = one.resolve(Request(heavy))
    assert resolved.weighting == "interpolate"
    assert one.plan(resolved).texts.sent.gemma.endswith("1girl, blue_hair")
    for model in ("netayume-lumina", str(kin)):
        assert lint_profile(model).weighting == "interpolate"
        assert not [each for each in findings(heavy, lint_profile(model)) if "weight" in each.rule]
    assert lint_profile("newbie-3.5b").weighting == lint_profile("chibi").weighting == "off"


@pytest.mark.parametrize(
    "shelves", [("", "", ""), ("diffusion_models", "text_encoders", "vae"), ("unet", "clip", "vae"),
                ("Unet", "Text Encoder", "VAE")], ids=str,
)  # fmt: skip
def test_single_files_open_where_their_makers_put_them(
    kin: Path, tmp_path: Path, shelves: tuple[str, str, str]
) -> None:
    """neta-art/Neta-Lumina has the last, older graph programs the one before."""
    model, made = tmp_path / "Neta-Lumina", tmp_path / "made"
    convert(kin, made, "single-file")
    for shelf, file, name in zip(
        shelves, ("diffusion_models/*", "text_encoders/*", "vae/*"),
        ("neta-lumina-v1.0", "gemma_2_2b_fp16", "ae"), strict=True,
    ):  # fmt: skip
        (model / shelf).mkdir(parents=True, exist_ok=True)
        (source,) = made.glob(file)
        shutil.copyfile(source, model / shelf / f"{name}.safetensors")
    shutil.copytree(kin / "tokenizer", model / "tokenizer")
    assert is_model(model)
    one = engine(model)
    assert one.model.drawing == NETA_LUMINA.drawing
    assert one.model.transformer == KIN.transformer
    assert len(set(pixels(one))) > 10
    assert lint_profile(str(model)).system_text == NETA_LUMINA.drawing.system_text


def test_a_transformer_as_gguf_is_the_same_model(kin: Path, tmp_path: Path) -> None:
    """The architecture and the names of ComfyUI-GGUF's converter."""
    tensors = {name: ("F32", value.numpy()) for name, value in original(KIN, 0).items()}
    file = write_gguf(tmp_path / "lumina.gguf", {"general.architecture": "lumina2"}, tensors)
    part = open_component(file, "transformer")
    assert part.spec.clip_text_dim == 0
    one = engine(None, transformer=str(file), gemma=str(kin / "text_encoder"), vae=str(kin / "vae"))
    original_file = tmp_path / "x" / "lumina.safetensors"
    original_file.parent.mkdir()
    save_file(original(KIN, 0), original_file, {"format": "pt"})
    other = engine(None, transformer=str(original_file), gemma=str(kin / "text_encoder"),
                   vae=str(kin / "vae"))  # fmt: skip
    assert pixels(one) == pixels(other)


@pytest.mark.parametrize(
    "said", ["[]", "{", '{"shift": NaN}', '{"shift": 1e999}', '{"shift": true}', '{"shift": -1}',
             '{"shift": {"a": 1}}', '{"shift": ' + "9" * 5000 + "}", "[" * 100_000],
)  # fmt: skip
def test_a_scheduler_that_means_harm_is_refused(copy: Path, said: str) -> None:
    (copy / "scheduler" / "scheduler_config.json").write_text(said)
    with pytest.raises(WeightsError):
        open_checkpoint(copy)
    lint_profile(str(copy))


@pytest.mark.parametrize("kind", [["gemma2"], {"a": 1}, 2, True, "gemma2" * 10_000])
def test_an_encoder_of_a_strange_kind_is_refused(copy: Path, kind: Any) -> None:
    config = gemma_config(KIN.gemma) | {"model_type": kind}
    write_json(copy / "text_encoder" / "config.json", config)
    with pytest.raises(SpecMismatch, match="model_type is"):
        open_checkpoint(copy)
    lint_profile(str(copy))
