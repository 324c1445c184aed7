"""A picture file holds its pixels and texts, and a stranger's file can do no harm."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from sakuga.errors import RequestError
from sakuga.files.png import Picture, encode_png
from sakuga.files.saving import shows
from sakuga.files.texts import read_texts

RGB = bytes(range(2 * 3 * 3))
PICTURE = Picture(2, 3, RGB)


def png(texts=None) -> bytes:
    return encode_png(PICTURE, texts or {})


def chunk(kind: bytes, body: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + crc


def with_chunk(extra: bytes) -> bytes:
    """A sound picture with a chunk of our making after its header."""
    data = png()
    return data[:33] + extra + data[33:]


def test_pixels_and_texts_come_back(tmp_path) -> None:
    path = tmp_path / "a.png"
    texts = {"sakuga": '{"a": 1}', "parameters": "初音ミク\nSteps: 2"}
    path.write_bytes(png(texts))
    with Image.open(path) as image:
        assert image.size == (2, 3)
        assert image.tobytes() == RGB
        assert image.text == texts
    assert read_texts(path) == texts


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_comes_back(tmp_path_factory, text) -> None:
    path = tmp_path_factory.getbasetemp() / "any.png"
    path.write_bytes(png({"sakuga": text}))
    assert read_texts(path) == {"sakuga": text}


def test_compressed_texts_are_read_as_pillow_reads_them(tmp_path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("plain", "a")
    info.add_text("packed", "b" * 99, zip=True)
    info.add_itxt("wide", "é", zip=True)
    path = tmp_path / "a.png"
    Image.frombytes("RGB", (2, 3), RGB).save(path, pnginfo=info)
    with Image.open(path) as image:
        assert read_texts(path) == image.text


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "none of them"),
        (b"GIF89a" + bytes(50), "none of them"),
        (png()[:-20], "cut short"),
        (with_chunk(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(64 << 20)))), "1 MiB"),
        (with_chunk(chunk(b"tEXt", b"k\0" + b"x" * (1 << 20))), "1 MiB"),
        (with_chunk(struct.pack(">I4s", 2**31 - 1, b"iTXt")), "1 MiB"),
        (with_chunk(chunk(b"zTXt", b"k\0\0junk")), "damaged"),
        (with_chunk(chunk(b"tEXt", b"k\0v")[:-1] + b"!"), "damaged"),
    ],
)
def test_a_file_that_is_not_sound_is_refused(tmp_path, data, complaint) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(RequestError, match=complaint):
        read_texts(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(RequestError):
            read_texts(path)


def test_a_file_shows_its_picture_and_no_other(tmp_path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    assert shows(path, PICTURE, {})
    assert not shows(path, Picture(2, 3, RGB[::-1]), {})
    assert not shows(path, Picture(3, 2, RGB), {})
    path.write_bytes(png()[:45])
    assert not shows(path, PICTURE, {})


def test_pillow_reads_what_we_write(tmp_path) -> None:
    with Image.open(io.BytesIO(png({"k": "v"})), formats=["PNG"]) as image:
        image.load()
        assert image.mode == "RGB"


def test_texts_are_tEXt_where_latin_1_has_their_characters(tmp_path) -> None:  # noqa: N802
    data = png({"parameters": "é, smile\nSteps: 2", "sakuga": "初音"})
    assert b"tEXtparameters\0" + "é, smile\nSteps: 2".encode("latin-1") in data
    assert b"iTXtsakuga\0" in data


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 1), (12_000, 12_000)])
def test_a_header_that_claims_a_huge_picture_is_just_another_picture(tmp_path, size) -> None:
    path = tmp_path / "a.png"
    data = png()
    path.write_bytes(data[:8] + chunk(b"IHDR", struct.pack(">II", *size) + data[24:29]) + data[33:])
    assert not shows(path, PICTURE, {})
    path.write_bytes(with_chunk(chunk(b"IHDR", struct.pack(">II", *size) + data[24:29])))
    assert not shows(path, PICTURE, {})
