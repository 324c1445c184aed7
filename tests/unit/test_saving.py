"""Every kind of file that is written holds its picture and its texts, where others look too."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sd_parsers import ParserManager

from pictures import noise
from receipts import asking
from sakuga.api.events import Result
from sakuga.api.said import receipt_from, said_by, texts_of
from sakuga.errors import RequestError
from sakuga.files.png import Picture
from sakuga.files.saving import KINDS, encode_picture, left_out, shows
from sakuga.files.texts import read_texts

RGB = noise(64, 48)
PICTURE = Picture(64, 48, RGB.tobytes())
RECEIPT = asking('1girl, smile, ★ <3 & "x": y', "low: quality")
RESULT = Result(PICTURE, RECEIPT, 1.0)
WRITTEN = [
    ("png", None), ("webp", None), ("webp", 80), ("jpeg", None), ("jpeg", 40), ("avif", None),
    ("avif", 60),
]  # fmt: skip
LOSSLESS = WRITTEN[:2]
each = pytest.mark.parametrize(("kind", "quality"), WRITTEN)


@pytest.fixture
def path(tmp_path, kind, quality):
    """A file of the picture."""
    place = tmp_path / f"a{KINDS[kind].suffix}"
    return RESULT.save(place, quality=quality)


@each
def test_the_receipt_and_the_pixels_come_back(path, kind, quality) -> None:
    texts = read_texts(path)
    assert receipt_from(texts, path.name) == RECEIPT
    assert said_by(texts).text.prompt == RECEIPT.request.prompt
    assert shows(path, PICTURE, texts)
    assert not shows(path, replace(PICTURE, rgb=PICTURE.rgb[::-1]), texts)
    with Image.open(path) as image:
        assert (image.format.lower(), image.size, image.mode) == (kind, (64, 48), "RGB")
        apart = np.abs(np.asarray(image).astype(int) - RGB)
    assert apart.max() == 0 if (kind, quality) in LOSSLESS else 0 < apart.mean() < 30


@each
def test_exiftool_finds_both_texts(path, kind, quality) -> None:
    tool = shutil.which("exiftool") or pytest.skip("exiftool is not installed")
    said = subprocess.run([tool, "-json", "-b", str(path)], capture_output=True, check=True)
    (found,) = json.loads(said.stdout)
    ours, theirs = ("Sakuga", "Parameters") if kind == "png" else ("Receipt", "UserComment")
    assert "Error" not in found
    assert "Warning" not in found
    texts = texts_of(RECEIPT)
    receipt = found[ours]
    assert (json.dumps(receipt) if isinstance(receipt, dict) else receipt).replace(
        " ", ""
    ) == texts["sakuga"].replace(" ", "")
    assert found[theirs].splitlines() == texts["parameters"].splitlines()


# sd-parsers reads no AVIF
@pytest.mark.parametrize(("kind", "quality"), WRITTEN[:5])
def test_another_programs_parser_reads_the_infotext(path, kind, quality) -> None:
    found = ParserManager().parse(path)
    assert [one.value for one in found.prompts] == [RECEIPT.request.prompt]
    assert [one.value for one in found.negative_prompts] == [RECEIPT.request.negative]
    (sampler,) = found.samplers
    assert sampler.parameters["seed"] == str(RECEIPT.seed)


@each
def test_without_metadata_there_is_none(tmp_path, kind, quality) -> None:
    data = RESULT.encoded(kind, quality, metadata=False)
    place = tmp_path / "a"
    place.write_bytes(data)
    assert read_texts(place) == {}
    assert b"smile" not in data
    assert b"sakuga" not in data


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60))
def test_any_text_comes_back(tmp_path_factory, text) -> None:
    path = tmp_path_factory.getbasetemp() / "any.webp"
    path.write_bytes(encode_picture(PICTURE, {"sakuga": text}, KINDS["webp"]))
    assert read_texts(path)["sakuga"] == text


def test_a_jpeg_says_what_it_has_no_room_for(tmp_path) -> None:
    texts = texts_of(asking("word " * 14_000))
    assert left_out(texts, KINDS["jpeg"]) == ("parameters", "sakuga")
    assert left_out(texts, KINDS["webp"]) == ()
    path = tmp_path / "a.jpg"
    path.write_bytes(encode_picture(PICTURE, texts, KINDS["jpeg"]))
    assert read_texts(path) == {}
    short = {"parameters": "word", "sakuga": "x" * 70_000}
    path.write_bytes(encode_picture(PICTURE, short, KINDS["jpeg"]))
    assert read_texts(path) == {"UserComment": "word"}


def test_quality_is_said_of_what_loses_something() -> None:
    with pytest.raises(RequestError, match="quality is said of"):
        RESULT.encoded("png", 90)
    with pytest.raises(RequestError, match="kind"):
        RESULT.encoded("tiff")
