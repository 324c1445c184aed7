"""What a picture says of itself: our receipt to the bit, and what other programs write."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipts import RECEIPT, asking
from sakuga.api.codec import plain
from sakuga.api.said import receipt_from, said_by, texts_of
from sakuga.api.taken import taken_from
from sakuga.errors import RequestError
from sakuga.files.png import Picture, encode_png
from sakuga.files.texts import read_texts


@given(st.text(), st.text())
def test_any_prompt_comes_back_from_a_file(tmp_path_factory, prompt, negative) -> None:
    path = tmp_path_factory.getbasetemp() / "any.png"
    receipt = asking(prompt, negative)
    path.write_bytes(encode_png(Picture(1, 1, b"abc"), texts_of(receipt)))
    assert receipt_from(read_texts(path), "any.png") == receipt


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model": 1}', "[" * 100_000])
def test_a_receipt_that_is_none_is_refused(text) -> None:
    with pytest.raises(RequestError):
        receipt_from({"sakuga": text}, "a.png")


def test_a_key_nobody_knows_is_refused() -> None:
    form = json.loads(texts_of(RECEIPT)["sakuga"]) | {"sead": 1}
    with pytest.raises(RequestError, match="Did you mean 'seed'"):
        receipt_from({"sakuga": json.dumps(form)}, "a.png")


def test_a_receipt_from_before_there_were_adapters_is_read() -> None:
    form = json.loads(texts_of(RECEIPT)["sakuga"])
    del form["adapters"]
    assert receipt_from({"sakuga": json.dumps(form)}, "a.png") == RECEIPT


def test_a_receipt_is_ascii_so_that_every_program_keeps_it() -> None:
    assert texts_of(asking("\u521d\u97f3\u30df\u30af", "\U0001f600"))["sakuga"].isascii()


def edited(**changes) -> dict[str, str]:
    """The texts of a picture whose receipt somebody changed; `request__width` is within it."""
    form = plain(RECEIPT)
    for path, value in changes.items():
        *way, name = path.split("__")
        place = form
        for step in way:
            place = place[step]
        place[name] = value
    return {"sakuga": json.dumps(form)}


@pytest.mark.parametrize(
    "changes",
    [
        {"request__width": None},
        {"request__height": None},
        {"index": 9},
        {"index": 2},
        {"index": -1},
        {"request__number": 0},
        {"plan__limit": 10**400},
        {"request__guidance": 10**400},
        {"plan__stages": [{"stage": 1}]},
        {"weights": {"x" * 500_000: 1}},
        {"adapters": [{"file": "a" * 500_000}]},
        {"model": ["\x1b[2J" * 1000]},
        {"x" * 500_000: 1},
    ],
)
def test_an_edited_receipt_is_refused_in_a_few_words(changes) -> None:
    with pytest.raises(RequestError) as caught:
        receipt_from(edited(**changes), "a.png")
    assert len(str(caught.value)) < 1500
    assert "\x1b" not in str(caught.value)


PROMPT = "1girl\nblue hair"
A1111 = f"{PROMPT}\nNegative prompt: low\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 123"
NOVELAI = {
    "Software": "NovelAI",
    "Source": "NovelAI Diffusion V4.5 4F6AB8C5",
    "Description": "1girl, blue hair",
    "Comment": json.dumps({"steps": 28, "sampler": "k_euler", "seed": 5, "scale": 5.0,
                           "uc": "lowres", "width": 832, "height": 1216}),
}  # fmt: skip


@pytest.mark.parametrize("key", ["parameters", "UserComment", "ImageDescription"])
def test_the_text_of_a1111_is_read_wherever_it_stands(key) -> None:
    said = said_by({key: A1111})
    assert said is not None
    assert (said.program, said.text.prompt, said.text.negative) == (
        "A1111 or its like", PROMPT, "low",
    )  # fmt: skip
    assert said.text.settings["Sampler"] == "Euler a"


def test_our_own_text_is_known_without_the_receipt() -> None:
    said = said_by({"parameters": texts_of(RECEIPT)["parameters"]})
    assert said is not None
    assert said.program == "sakuga"


def test_novelai_is_read_from_texts_and_from_a_comment() -> None:
    for texts in (NOVELAI, {"UserComment": json.dumps(NOVELAI)}):
        said = said_by(texts)
        assert said is not None
        assert (said.program, said.text.prompt, said.text.negative) == (
            "NovelAI", "1girl, blue hair", "lowres",
        )  # fmt: skip
        assert said.text.settings == {
            "Steps": "28", "Sampler": "k_euler", "CFG scale": "5.0", "Seed": "5",
            "Size": "832x1216", "Model": "NovelAI Diffusion V4.5 4F6AB8C5",
        }  # fmt: skip


@pytest.mark.parametrize(
    "texts",
    [
        {},
        {"Comment": "made with GIMP"},
        {"Comment": "[" * 100_000},
        {"Comment": '{"uc": 1}', "Description": "a"[:0]},
        {"UserComment": "{" * 100_000},
        {"UserComment": '{"a": {"b": [1]}}'},
        {"prompt": "null", "workflow": "[]"},
        {"prompt": '{"1": 2, "2": {"inputs": []}}'},
    ],
)
def test_what_says_nothing_is_nothing(texts) -> None:
    assert said_by(texts) is None


GRAPH = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 2, "positive": ["2", 0]}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "1girl"}},
}
SCREEN = {
    "links": [[1, 2, 0, 1, 0, "CONDITIONING"]],
    "nodes": [
        {"id": 1, "type": "KSampler", "widgets_values": [5, "fixed", 2],
         "inputs": [{"name": "positive", "link": 1}]},
        {"id": 2, "type": "CLIPTextEncode", "widgets_values": ["1girl"]},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "texts",
    [
        {"prompt": json.dumps(GRAPH)},
        {"workflow": json.dumps(SCREEN)},
        {"prompt": "broken", "workflow": json.dumps(SCREEN)},
        {"Model": f"prompt:{json.dumps(GRAPH)}"},
        {"ImageDescription": f"Workflow: {json.dumps(SCREEN, indent=1)}"},
        {"UserComment": json.dumps(GRAPH)},
        {"UserComment": json.dumps({"prompt": GRAPH, "workflow": {}})},
    ],
)
def test_a_graph_of_comfyui_is_found_wherever_it_stands(texts) -> None:
    said = said_by(texts)
    assert said is not None
    assert (said.program, said.text.prompt) == ("ComfyUI", "1girl")
    assert said.text.settings == {"Steps": "2", "Seed": "5"}


INVOKE = {
    "positive_prompt": "1girl, red hair", "negative_prompt": "lowres", "seed": 7, "steps": 30,
    "cfg_scale": 5.5, "width": 832, "height": 1216, "scheduler": "euler",
    "model": {"key": "k", "name": "anime", "base": "sdxl"},
}  # fmt: skip
SWARM = {
    "sui_image_params": {
        "prompt": "1girl, red hair", "negativeprompt": "lowres", "seed": 7, "steps": 30,
        "cfgscale": 5.5, "width": 832, "height": 1216, "sampler": "euler", "model": "anime",
    },
    "sui_extra_data": {"date": "today"},
}  # fmt: skip
FOOOCUS = {
    "prompt": "1girl, red hair", "negative_prompt": "lowres", "seed": "7", "steps": 30,
    "guidance_scale": 5.5, "resolution": "(832, 1216)", "sampler": "euler", "base_model": "anime",
    "full_prompt": ["1girl, red hair, masterpiece"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("program", "texts"),
    [
        ("InvokeAI", {"invokeai_metadata": json.dumps(INVOKE)}),
        ("SwarmUI", {"parameters": json.dumps(SWARM)}),
        ("SwarmUI", {"UserComment": json.dumps(SWARM)}),
        ("Fooocus", {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"}),
        ("Fooocus", {"UserComment": json.dumps(FOOOCUS)}),
    ],
)
def test_one_object_of_json_is_read_whoever_wrote_it(program: str, texts: dict[str, str]) -> None:
    said = said_by(texts)
    assert said is not None
    assert said.program == program
    assert (said.text.prompt, said.text.negative) == ("1girl, red hair", "lowres")
    assert dict(said.text.settings) == {
        "Steps": "30", "Sampler": "euler", "CFG scale": "5.5", "Seed": "7", "Model": "anime",
        "Size": "832x1216",
    }  # fmt: skip
    taken = taken_from(said.text)
    assert taken.values["guidance"] == 5.5
    assert taken.values["width"] == 832


def test_people_that_novelai_keeps_apart_are_read_too() -> None:
    people = [{"char_caption": "girl, red hair"}, {"char_caption": ""}, {"char_caption": "boy"}]
    comment = {
        "prompt": "beach", "uc": "", "steps": 28, "sampler": "k_euler", "scale": 5,
        "v4_prompt": {"caption": {"base_caption": "beach", "char_captions": people}},
    }  # fmt: skip
    said = said_by({"Comment": json.dumps(comment), "Description": "beach"})
    assert said is not None
    assert said.text.prompt == "beach\ngirl, red hair\nboy"


@pytest.mark.parametrize("odd", [[], "x", {"caption": 3}, {"caption": {"char_captions": [1, {}]}}])
def test_odd_objects_are_no_reason_to_fail(odd: object) -> None:
    form = {"prompt": ["x"], "uc": {}, "steps": [], "sampler": {"name": 3}, "scale": None}
    said = said_by({"Comment": json.dumps({**form, "v4_prompt": odd})})
    assert said is not None
    assert said.text.prompt == ""
