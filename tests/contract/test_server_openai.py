"""The OpenAI Images routes, asked by OpenAI's own library."""

from __future__ import annotations

import asyncio
import base64
import io
import urllib.request
from typing import Any

import openai
import pytest
from PIL import Image

from servers import RunningServer

FAST = {"num_inference_steps": 1, "seed": 7}


@pytest.fixture
def client(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


def generated(client: openai.OpenAI, **asked: Any) -> Any:
    extra = {**FAST, **asked.pop("extra_body", {})}
    return client.images.generate(
        **{"prompt": "1girl, red_hair", "size": "128x128", "extra_body": extra, **asked}
    )


def picture(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_a_picture_comes_both_ways_where_nobody_says_how(client) -> None:
    answer = generated(client)
    (item,) = answer.data
    with urllib.request.urlopen(item.url) as file:
        assert file.read() == base64.b64decode(item.b64_json)
    found = picture(item.b64_json)
    assert (found.size, found.format) == ((128, 128), "PNG")
    assert "parameters" in found.text
    assert answer.usage.input_tokens > 0
    assert answer.size == "128x128"


@pytest.mark.parametrize(("asked", "other"), [("b64_json", "url"), ("url", "b64_json")])
def test_a_picture_comes_as_asked(client, asked: str, other: str) -> None:
    (item,) = generated(client, response_format=asked).data
    assert getattr(item, asked)
    assert getattr(item, other) is None


def test_several_pictures_have_seeds_of_their_own(client) -> None:
    answer = generated(client, n=2)
    assert [item.seed for item in answer.data] == [7, 8]
    assert answer.data[0].b64_json != answer.data[1].b64_json


def test_a_stream_has_partial_pictures_then_the_same_bytes(client) -> None:
    extra = {"num_inference_steps": 4}
    events = list(generated(client, stream=True, partial_images=2, extra_body=extra))
    kinds = [event.type.rpartition(".")[2] for event in events]
    assert kinds[-1] == "completed"
    assert set(kinds[:-1]) <= {"partial_image"}
    partial = events[:-1]
    assert 1 <= len(partial) <= 2  # who is slow misses one, never the last
    assert [event.partial_image_index for event in partial] == list(range(len(partial)))
    for event in partial:
        assert len(event.b64_json) < 64_000
        picture(event.b64_json).load()
    (whole,) = generated(client, extra_body=extra).data
    assert events[-1].b64_json == whole.b64_json


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_other_formats(client, kind: str) -> None:
    answer = generated(client, output_format=kind, response_format="b64_json")
    assert picture(answer.data[0].b64_json).format == kind.upper()
    assert answer.output_format == kind


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"size": "banana"}, "WIDTHxHEIGHT"),
        ({"size": "130x128"}, "multiple of 16"),
        ({"n": 11}, "less than or equal to 10"),
        ({"n": "many"}, "n is"),
        ({"prompt": '<!DOCTYPE a [<!ENTITY b "c">]>'}, "DOCTYPE"),
        ({"prompt": "a" * 70_000}, "64 KiB"),
        ({"output_format": "gif"}, "png, jpeg or webp"),
        ({"extra_body": {"num_inference_steps": 0}}, "steps must be 1 to 200"),
        ({"extra_body": {"guidance_scale": 99}}, "guidance must be 0 to 20"),
        ({"extra_body": {"seed": 2**70}}, "64 bits"),
        ({"extra_body": {"lora": {"name": "../../etc/passwd", "scale": 1}}}, "has none"),
        ({"extra_body": {"solver": "ddim"}}, "solver"),
    ],
)
def test_what_cannot_be_drawn_is_a_bad_request(client, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        generated(client, **asked)
    assert told in str(error.value)
    assert error.value.type == "invalid_request_error"
    assert error.value.request_id.startswith("req-")


def test_models_are_told_and_asked_for_by_name(client) -> None:
    assert [one.id for one in client.models.list()] == ["chibi"]
    assert client.models.retrieve("chibi").limits["max_pixels"] == 512 * 512
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("org/other")
    for name in ("dall-e-3", "gpt-image-1", "sakuga"):
        assert generated(client, model=name, response_format="url").data
    with pytest.raises(openai.NotFoundError, match="chibi"):
        generated(client, model="flux")


def test_fields_of_others_are_ignored_and_said(client) -> None:
    answer = generated(client, extra_body={"frame_count": 3}, quality="hd", user="somebody")
    assert "frame_count" in answer.warnings[0]
    assert answer.quality == "high"


def test_an_edit_draws_where_the_mask_is_transparent(client) -> None:
    start = file_of(Image.new("RGB", (128, 128), "navy"))
    hole = Image.new("RGBA", (128, 128), (0, 0, 0, 255))
    hole.paste((0, 0, 0, 0), (0, 0, 48, 128))
    answer = client.images.edit(
        image=start, mask=file_of(hole), prompt="1girl", n=1, response_format="b64_json",
        extra_body={**FAST, "num_inference_steps": 2},
    )  # fmt: skip
    found = picture(answer.data[0].b64_json)
    assert found.getpixel((120, 64)) == (0, 0, 128)
    assert found.getpixel((10, 64)) != (0, 0, 128)
    whole = client.images.edit(image=[start], prompt="1girl", extra_body={**FAST, "strength": 0.5})
    assert picture(whole.data[0].b64_json).size == (128, 128)


def file_of(image: Image.Image) -> tuple[str, bytes, str]:
    file = io.BytesIO()
    image.save(file, "PNG")
    return "picture.png", file.getvalue(), "image/png"


def test_an_edit_of_no_picture_is_a_bad_request(client) -> None:
    with pytest.raises(openai.BadRequestError, match="PNG"):
        client.images.edit(image=("a.png", b"<svg/>", "image/png"), prompt="1girl")
    with pytest.raises(openai.BadRequestError, match="one image"):
        client.images.edit(image=[file_of(Image.new("RGB", (64, 64)))] * 2, prompt="1girl")


def test_the_asynchronous_client(server: RunningServer) -> None:
    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any") as client:
            return await client.images.generate(
                prompt="1girl", size="128x128", extra_body=FAST, response_format="b64_json"
            )

    assert picture(asyncio.run(ask()).data[0].b64_json).size == (128, 128)
