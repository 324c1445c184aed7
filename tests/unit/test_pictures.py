"""Pictures that come in: what is read of each kind, and what is refused, at what price."""

from __future__ import annotations

import io
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms

from pictures import file_of, noise
from sakuga.errors import RequestError
from sakuga.files.pictures import (
    TURNS,
    as_source,
    load_grey,
    load_rgb,
    look_at,
    record_of,
)

PIXELS = noise(48, 32)


def refused(source: str) -> RequestError:
    """The error of a picture, which has to come soon and to take little."""
    begin = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(RequestError) as caught:
        load_rgb(source)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.perf_counter() - begin < 1  # a tenth of that where nobody else computes
    assert most < 16 << 20
    assert all((caught.value.rule, caught.value.got, caught.value.fix))
    return caught.value


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_what_is_lossless_comes_in_as_it_is(kind, tmp_path) -> None:
    data = file_of(PIXELS, kind, **({"lossless": True} if kind == "WEBP" else {}))
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    for given in (str(path), as_source(data), as_source(Image.fromarray(PIXELS))):
        assert look_at(given).size == (48, 32)
        assert (load_rgb(given).pixels == PIXELS).all()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "GIF"])
def test_what_loses_something_comes_in_near_it(kind) -> None:
    smooth = np.asarray(Image.fromarray(PIXELS).resize((6, 4)).resize((48, 32)))
    loaded = load_rgb(as_source(file_of(smooth, kind)))
    assert np.abs(loaded.pixels.astype(int) - smooth).mean() < 12
    assert loaded.notes == ()


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_it_is_turned_as_exif_says(kind, turn) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    source = as_source(file_of(PIXELS, kind, exif=exif))
    expected = np.asarray(Image.fromarray(PIXELS).transpose(Image.Transpose[TURNS[turn]]))
    pixels = load_rgb(source).pixels
    assert look_at(source).size == pixels.shape[1::-1] == expected.shape[1::-1]
    assert np.abs(pixels.astype(int) - expected).mean() < (25 if kind == "JPEG" else 0.01)


def test_exif_behind_the_pixels_of_a_png_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file_of(PIXELS, exif=exif)
    begin = data.index(b"eXIf") - 4
    length = int.from_bytes(data[begin : begin + 4], "big") + 12
    chunk, rest = data[begin : begin + length], data[:begin] + data[begin + length :]
    moved = as_source(rest[:-12] + chunk + rest[-12:])
    assert look_at(moved).size == (32, 48)
    assert load_rgb(moved).pixels.shape == (48, 32, 3)


def test_its_colour_profile_is_honoured() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    image = Image.new("RGB", (16, 16), (200, 30, 60))
    assert load_rgb(as_source(file_of(image, icc_profile=profile.tobytes()))).notes  # of no RGB
    linear = _with_gamma(1.0)
    loaded = load_rgb(as_source(file_of(image, icc_profile=linear)))
    assert not loaded.notes
    expected = ImageCms.profileToProfile(
        image, io.BytesIO(linear), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert (loaded.pixels == np.asarray(expected)).all()
    assert tuple(loaded.pixels[0, 0]) != (200, 30, 60)


def _with_gamma(gamma: float) -> bytes:
    """The sRGB profile with another curve: the parameters of its three curves are replaced."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    place = data.index(b"para\0\0\0\0")
    curve = b"para\0\0\0\0" + b"\0\0\0\0" + int(gamma * 65536).to_bytes(4, "big")
    data[place : place + len(curve)] = curve
    return bytes(data)


def test_cmyk_and_16_bits_are_converted() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = load_rgb(as_source(file_of(cmyk, "JPEG"))).pixels[0, 0]
    assert red[0] > 200
    assert red[1] < 60
    deep = np.linspace(0, 65535, 16 * 16).reshape(16, 16).astype(np.uint16)
    for load in (load_rgb, load_grey):
        pixels = load(as_source(file_of(deep))).pixels.reshape(16, 16, -1)
        assert np.abs(pixels[..., 0].astype(int) - deep / 257).max() <= 0.5


def test_what_is_transparent_lies_on_white_and_hides_nothing_of_a_mask() -> None:
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    loaded = load_rgb(as_source(file_of(image)))
    assert tuple(loaded.pixels[0, 0]) == (10, 20, 30)
    assert tuple(loaded.pixels[1, 1]) == (255, 255, 255)
    assert "white" in loaded.notes[0]
    grey = load_grey(as_source(file_of(Image.new("RGBA", (4, 4), (255, 255, 255, 0)))))
    assert not grey.pixels.any()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animated_one_the_first_frame_is_taken_and_told(kind) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    data = file_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    loaded = load_rgb(as_source(data))
    assert loaded.pixels[8, 8, 0] > 200 > loaded.pixels[8, 8, 2]
    assert "animated" in loaded.notes[0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_one_cut_short_is_refused(kind, share, tmp_path) -> None:
    data = file_of(noise(512, 512), kind)
    path = tmp_path / "cut.bin"
    path.write_bytes(data[: int(len(data) * share)])
    assert "cut.bin" in str(refused(str(path)))


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path) -> None:
    path = tmp_path / "bomb.png"
    for side in (3000, 12000, 60000):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head = file_of(Image.new("1", (8, 8)))
        width = side.to_bytes(4, "big")
        body = b"IHDR" + width + width + head[24:29]
        import zlib

        path.write_bytes(head[:12] + body + zlib.crc32(body).to_bytes(4, "big") + head[33:])
        assert "4,200,000 pixels" in refused(str(path)).rule


@pytest.mark.parametrize(
    "data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBPVP8 "]
)
def test_what_is_no_picture_is_refused(data, tmp_path) -> None:
    refused(as_source(data))
    path = tmp_path / "x.png"
    path.write_bytes(data)
    refused(str(path))


@pytest.mark.parametrize("place", ["missing.png", "", ".", "a\0b", "data:;base64,@@", "x" * 5000])
def test_a_path_that_leads_to_none_is_refused(place) -> None:
    refused(place)


def test_damage_within_is_refused() -> None:
    data = bytearray(file_of(noise(256, 256)))
    data[len(data) // 2] ^= 255
    refused(as_source(bytes(data)))


def test_a_record_is_the_digest_of_the_file(tmp_path) -> None:
    import hashlib

    data = file_of(PIXELS)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    record = record_of(str(path))
    assert (record.file, record.bytes) == ("a.png", len(data))
    assert record.sha256 == hashlib.sha256(data).hexdigest() == record_of(as_source(data)).sha256
