"""Texts are found in the pictures of other programs: JPEG, WebP, AVIF, and EXIF within PNG."""

from __future__ import annotations

import contextlib
import struct

import pytest
from PIL import Image

from sakuga.errors import RequestError
from sakuga.files.texts import read_texts

TEXT = "初音ミク, 1girl\nNegative prompt: low\nSteps: 20, Sampler: Euler a, Seed: 1"
KINDS = ("jpg", "webp", "avif", "png")
COMMENTS = {
    "big": b"UNICODE\0" + TEXT.encode("utf-16-be"),
    "little": b"UNICODE\0" + TEXT.encode("utf-16-le"),
    "marked": b"UNICODE\0" + TEXT.encode("utf-16"),
    "jis": b"JIS\0\0\0\0\0" + TEXT.encode("iso2022_jp"),
    "ascii, though it is UTF-8": b"ASCII\0\0\0" + TEXT.encode(),
    "undefined": bytes(8) + TEXT.encode(),
}


def exif_of(comment: bytes, order: str = ">", description: bytes = b"") -> bytes:
    """A block of EXIF, made by hand: Pillow writes no such comment."""
    entry, mark = f"{order}HHII", b"MM\0*" if order == ">" else b"II*\0"
    first = 8 + 2 + 2 * 12 + 4
    second = first + 2 + 12 + 4
    text = description or b"none\0"
    return b"".join((
        b"Exif\0\0", mark, struct.pack(f"{order}I", 8),
        struct.pack(f"{order}H", 2),
        struct.pack(entry, 0x010E, 2, len(text), second + len(comment)),
        struct.pack(entry, 0x8769, 4, 1, first), bytes(4),
        struct.pack(f"{order}H", 1), struct.pack(entry, 0x9286, 7, len(comment), second), bytes(4),
        comment, text,
    ))  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COMMENTS)
def test_a_comment_is_read_in_any_character_set(tmp_path, kind, name) -> None:
    for order in "<>":
        path = tmp_path / f"a.{kind}"
        Image.new("RGB", (16, 16)).save(path, exif=exif_of(COMMENTS[name], order))
        assert read_texts(path)["UserComment"] == TEXT


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_is_read_as_utf_8(tmp_path, kind) -> None:
    path = tmp_path / f"a.{kind}"
    exif = exif_of(b"ASCII\0\0\0", description=TEXT.encode() + b"\0")
    Image.new("RGB", (16, 16)).save(path, exif=exif)
    assert read_texts(path) == {"ImageDescription": TEXT}


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_without_texts_has_none(tmp_path, kind) -> None:
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (16, 16)).save(path)
    assert read_texts(path) == {}


@pytest.mark.parametrize("kind", ["jpg", "webp", "avif"])
def test_a_damaged_picture_is_refused_or_says_nothing(tmp_path, kind) -> None:
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (16, 16)).save(path, exif=exif_of(COMMENTS["big"]))
    data = path.read_bytes()
    for length in range(12, len(data), 7):
        path.write_bytes(data[:length])
        with contextlib.suppress(RequestError):
            read_texts(path)
    path.write_bytes(data[:20])
    with pytest.raises(RequestError, match=r"a damaged (JPEG|WEBP|AVIF)"):
        read_texts(path)


def test_a_directory_whose_entries_share_their_bytes_is_read_once(tmp_path) -> None:
    size, count = 400_000, 30_000
    entries = b"".join(struct.pack(">HHII", tag, 7, size, 8) for tag in range(1, count + 1))
    block = b"MM\0*" + struct.pack(">IH", 8, count) + entries + bytes(4)
    path = tmp_path / "a.webp"
    Image.new("RGB", (16, 16)).save(path, exif=block.ljust(size + 8, b"x"))
    read_texts(path)  # were each of them copied, it would take 12 GB
