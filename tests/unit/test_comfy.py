"""Graphs of ComfyUI are followed to what was drawn, and no graph can do harm."""

from __future__ import annotations

import json
import time

import pytest

from sakuga.api.comfy import read_graph, read_workflow


def node(kind: str, **inputs) -> dict[str, object]:
    return {"class_type": kind, "inputs": inputs}


PLAIN = {
    "3": node("KSampler", seed=5, steps=20, cfg=5.5, sampler_name="res_multistep",
              scheduler="simple", denoise=1.0, model=["11", 0], positive=["6", 0],
              negative=["7", 0], latent_image=["5", 0]),
    "4": node("UNETLoader", unet_name="newbie.safetensors"),
    "11": node("LoraLoaderModelOnly", lora_name="style.safetensors", strength_model=0.8,
               model=["12", 0]),
    "12": node("ModelSamplingAuraFlow", shift=6.0, model=["4", 0]),
    "5": node("EmptySD3LatentImage", width=1024, height=1536, batch_size=1),
    "6": node("CLIPTextEncode", text=["20", 0], clip=["13", 0]),
    "7": node("CLIPTextEncode", text="lowres", clip=["13", 0]),
    "13": node("DualCLIPLoader", clip_name1="gemma", text="not this"),
    "20": node("StringConcatenate", string_a="You are", string_b="<n>rin</n>"),
    "9": node("SaveImage", images=["8", 0]),
    "8": node("VAEDecode", samples=["3", 0]),
}  # fmt: skip
GUIDED = {
    "1": node("SamplerCustomAdvanced", noise=["2", 0], guider=["3", 0], sampler=["4", 0],
              sigmas=["5", 0], latent_image=["6", 0]),
    "2": node("RandomNoise", noise_seed=["12", 0]),
    "3": node("CFGGuider", positive=["7", 0], negative=["8", 0], cfg=3.5, model=["9", 0]),
    "4": node("KSamplerSelect", sampler_name="euler"),
    "5": node("BasicScheduler", scheduler="simple", steps=28, denoise=1.0, model=["9", 0]),
    "6": node("EmptyLatentImage", width=["10", 0], height=["10", 0]),
    "7": node("ControlNetApplyAdvanced", positive=["71", 0], negative=["8", 0], image=["99", 0]),
    "71": node("CLIPTextEncode", text="1girl"),
    "8": node("CLIPTextEncode", text="lowres"),
    "9": node("CheckpointLoaderSimple", ckpt_name="some.safetensors"),
    "10": node("PrimitiveInt", value=512),
    "12": node("PrimitiveInt", value=2**63),
}  # fmt: skip


def test_a_plain_graph_is_followed() -> None:
    found = read_graph(PLAIN)
    assert found is not None
    assert (found.prompt, found.negative) == ("You are\n<n>rin</n>", "lowres")
    assert found.settings == {
        "Steps": "20", "Sampler": "res_multistep", "Schedule type": "simple", "CFG scale": "5.5",
        "Seed": "5", "Size": "1024x1536", "Model": "newbie.safetensors",
    }  # fmt: skip
    assert found.loras == ("style.safetensors:0.8",)


def test_a_sampler_in_parts_is_followed() -> None:
    found = read_graph(GUIDED)
    assert found is not None
    assert (found.prompt, found.negative) == ("1girl", "lowres")
    assert found.settings == {
        "Steps": "28", "Sampler": "euler", "Schedule type": "simple", "CFG scale": "3.5",
        "Seed": str(2**63), "Size": "512x512", "Model": "some.safetensors",
    }  # fmt: skip


def test_of_two_passes_the_first_is_told() -> None:
    second = node("KSampler", seed=9, steps=8, cfg=1, sampler_name="heun", scheduler="simple",
                  positive=["6", 0], negative=["7", 0], latent_image=["3", 0])  # fmt: skip
    found = read_graph({"0": second, **PLAIN})
    assert found is not None
    assert found.settings["Steps"] == "20"


def test_a_negative_of_zeros_and_none_at_all_are_empty() -> None:
    zeros = {**PLAIN, "7": node("ConditioningZeroOut", conditioning=["6", 0])}
    guided = {**GUIDED, "3": node("BasicGuider", conditioning=["71", 0])}
    for graph in (zeros, guided):
        found = read_graph(graph)
        assert found is not None
        assert found.prompt
        assert found.negative == ""


def test_a_workflow_is_followed_by_its_widgets() -> None:
    def link(name: str, number: int) -> dict[str, object]:
        return {"name": name, "type": "X", "link": number}

    workflow = {
        "links": [[1, 6, 0, 3, 1, "C"], [2, 7, 0, 3, 2, "C"], [3, 5, 0, 3, 3, "L"], None, [4]],
        "nodes": [
            {"id": 3, "type": "KSampler", "inputs": [link("positive", 1), link("negative", 2),
             link("latent_image", 3), None, link("model", 99)],
             "widgets_values": [7, "randomize", 20, 5.5, "euler", "simple", 1]},
            {"id": 6, "type": "CLIPTextEncode", "widgets_values": ["1girl"]},
            {"id": 7, "type": "CLIPTextEncode", "widgets_values": {"text": "low"}},
            {"id": 5, "type": "EmptyLatentImage", "widgets_values": [512, 768, 1]},
            None, {"id": None}, {"id": 8, "inputs": 3, "widgets_values": 5},
        ],
    }  # fmt: skip
    found = read_workflow(workflow)
    assert found is not None
    assert (found.prompt, found.negative) == ("1girl", "low")
    assert found.settings == {
        "Steps": "20", "Sampler": "euler", "Schedule type": "simple", "CFG scale": "5.5",
        "Seed": "7", "Size": "512x768",
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"6": node("CLIPTextEncode", text=["6", 0])},
        {"6": node("A", x=["7", 0]), "7": node("B", y=["6", 0], positive=["6", 0])},
        {"6": None},
        {"6": {"class_type": "A"}},
        {"6": {"class_type": ["A"], "inputs": {"text": {"a": 1}}}},
        {"3": node("KSampler", positive=["nowhere", 0], steps=True, seed=None, cfg=[1, 2, 3])},
        {"20": node("S", string_a=["20", 0], string_b=[["20"], 0])},
        {"5": node("E", width=["5", 0], height=[{}, []])},
    ],
)
def test_a_broken_graph_is_harmless(change) -> None:
    read_graph({**PLAIN, **change})


@pytest.mark.parametrize("form", [{}, {"1": 2}, {"1": node("SaveImage", images=["1", 0])}])
def test_what_draws_nothing_is_no_drawing(form) -> None:
    assert read_graph(form) is None
    assert read_workflow(form) is None


def test_a_huge_graph_takes_little_time() -> None:
    chain = {str(i): node("A", positive=[str(i + 1), 0], steps=1, seed=1) for i in range(20_000)}
    wide = {"0": node("K", seed=1, steps=1, **{f"positive{i}": [str(i), 0] for i in range(20_000)})}
    started = time.perf_counter()
    read_graph(json.loads(json.dumps(chain)))
    read_graph({**wide, **{str(i): node("B", x=["0", 0]) for i in range(1, 20_000)}})
    assert time.perf_counter() - started < 2
