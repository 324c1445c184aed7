"""What a picture says comes back, whatever the prompt; and no stranger's text can do harm."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from receipts import RECEIPT, asking
from sakuga.api.codec import plain
from sakuga.api.infotext import read_infotext
from sakuga.api.page import describe_picture
from sakuga.api.parameters import write_infotext
from sakuga.api.receipt import AdapterRecord
from sakuga.api.request import Request
from sakuga.api.resolved import resolve
from sakuga.api.said import receipt_from, said_by, texts_of
from sakuga.api.taken import taken_from
from sakuga.errors import RequestError
from sakuga.files.png import Picture, encode_png
from sakuga.files.texts import read_texts
from sakuga.model.spec import CHIBI
from sakuga.prompt.canonical import canonical
from sakuga.prompt.document import read

FRAGMENTS = (
    "1girl, smile", "<n>rin</n>", "<lora:style:0.8>", " <lora:", ">", "初音ミク", "é", "😀", '"',
    "\\", "\\\\", "Steps: 99", "\nSteps: 99, Seed: 1, Sampler: x", "Steps\\: 9", "Negative prompt:",
    "\nNegative prompt: x", "Negative prompt\\:", "negative prompt:", "\\u001b", "u001b", "\x1b",
    "\x00", "\n", "\r\n", "\r", "\t", "  ", "\u2028", "\x85", "\ufeff", "\ud800", ":", ", ",
    "Version: sakuga 0.1", 'Lora hashes: "a: b, c: d"', "Hashes: {", "BREAK", "Size: 1x1",
)  # fmt: skip
prompts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=8).map("".join)
adapters = st.lists(
    st.builds(
        AdapterRecord,
        prompts.map("{}.safetensors".format),
        st.just("ab" * 32),
        st.sampled_from((0.8, -1.0, 1e-9, 12345678.0)),
    ),
    max_size=3,
).map(tuple)


@given(prompts, prompts, adapters, prompts)
def test_what_we_write_comes_back_from_the_text_alone(prompt, negative, loras, model) -> None:
    receipt = replace(asking(prompt, negative), adapters=loras, model=model)
    text = write_infotext(receipt)
    assert text.count("Steps:") == 1
    assert text.count("Negative prompt:") == bool(negative)
    assert sum(line.startswith("Steps: 16, ") for line in text.split("\n")) == 1
    assert text.split("\n")[-1].startswith("Steps: 16, ")
    found = read_infotext(text)
    assert (found.prompt, found.negative) == (receipt.request.prompt, receipt.request.negative)
    assert len(found.loras) == len(loras)
    taken = taken_from(found)
    again = resolve(replace(Request("", **taken.values) if "prompt" not in taken.values
                            else Request(**taken.values)), CHIBI.drawing)  # fmt: skip
    assert again == replace(receipt.request, seed=receipt.seed, number=1)


@given(prompts)
def test_a_text_that_went_through_a_clipboard_is_the_same_prompt(prompt) -> None:
    text = write_infotext(asking(prompt))
    pasted = read_infotext(text.replace("\r\n", "\n").replace("\n", "\r\n"))
    before = canonical(read(asking(prompt).request.prompt.replace("\r\n", "\n")))
    assert canonical(read(pasted.prompt)) == before


@given(prompts, prompts, adapters)
def test_a_file_gives_its_receipt_to_the_bit(tmp_path_factory, prompt, negative, loras) -> None:
    path = tmp_path_factory.getbasetemp() / "any.png"
    receipt = replace(asking(prompt, negative), adapters=loras)
    path.write_bytes(encode_png(Picture(1, 1, b"abc"), texts_of(receipt)))
    assert receipt_from(read_texts(path), "any.png") == receipt


VALUES = (
    None, True, -1, 0, 9, 2**63, 10**400, 1.5, float("nan"), float("inf"), "", "\x1b]0;x\x07", [],
    {}, [[]], {"a": []}, ["1", 0], [{}, 0], "x" * 10_000, "Steps: 1, Seed: 2", "\ud800",
)  # fmt: skip
GRAPH = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20, "cfg": 5.5,
          "sampler_name": "euler", "positive": ["2", 0], "negative": ["3", 0], "model": ["4", 0],
          "latent_image": ["5", 0]}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": ["6", 0]}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "low"}},
    "4": {"class_type": "LoraLoader", "inputs": {"lora_name": "a", "model": ["7", 0]}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 8, "height": ["6", 0]}},
    "6": {"class_type": "Primitive", "inputs": {"value": 8, "text": "1girl"}},
    "nodes": [{"id": 1, "type": "KSampler", "widgets_values": [1, 2], "inputs": [
        {"name": "positive", "link": 1}]}, {"id": 2, "type": "Text", "widgets_values": ["a"]}],
    "links": [[1, 2, 0, 1, 0, "C"]],
}  # fmt: skip
NAI = {"steps": 28, "sampler": "k_euler", "seed": 5, "scale": 5.0, "uc": "low", "width": 832,
       "height": 1216, "prompt": "1girl"}  # fmt: skip


def spoil(random: Random, form: object) -> object:
    """A copy of a JSON value with some of its places changed."""
    form = copy.deepcopy(form)
    for _ in range(random.randint(1, 3)):
        place = form
        while isinstance(place, (dict, list)) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = random.choice(keys)
            inner = place[key]
            if random.random() < 0.4 or not (isinstance(inner, (dict, list)) and inner):
                if random.random() < 0.2:
                    del place[key]
                else:
                    place[key] = copy.deepcopy(random.choice(VALUES))
                break
            place = inner
    return form


def told(texts: dict[str, str]) -> str:
    """Tell everything that is ever told of the texts of a picture; give the refusal, if any."""
    if "sakuga" in texts:
        try:
            receipt = receipt_from(texts, "a.png")
        except RequestError as error:
            return str(error)
        list(describe_picture(receipt))
        texts_of(receipt)
    elif (said := said_by(texts)) is not None:
        taken_from(said.text)
        json.dumps(plain(said))
    return ""


@given(st.integers(0, 2**32))
def test_no_spoilt_text_does_more_than_be_refused(seed) -> None:
    random = Random(seed)
    graph = json.dumps(spoil(random, GRAPH))
    whole = write_infotext(asking(random.choice(FRAGMENTS), random.choice(FRAGMENTS)))
    begin, length = random.randrange(len(whole)), random.randrange(9)
    info = whole[:begin] + random.choice(FRAGMENTS) + whole[begin + length :]
    form = json.dumps(spoil(random, NAI))
    for texts in (
        {"sakuga": json.dumps(spoil(random, plain(RECEIPT)))},
        {"prompt": graph}, {"workflow": graph}, {"UserComment": graph},
        {"Model": f"prompt:{graph}"},
        {"parameters": info}, {"UserComment": info},
        {"Comment": form}, {"Comment": form, "Description": "x"}, {"UserComment": form},
    ):  # fmt: skip
        refusal = told(texts)
        assert refusal.isprintable()
        assert len(refusal) < 1500
