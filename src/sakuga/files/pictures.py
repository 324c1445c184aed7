"""Pictures that come in: a file or bytes, checked before a pixel is decoded, then as sRGB.

A source is a text: a path, or a data URL that holds the file itself. Nothing of a stranger's
picture is trusted: its size is read and held against a cap first, then whether all of the file
is there, and only then are pixels made.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import re
import struct
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sakuga.errors import RequestError
from sakuga.files.png import chunks
from sakuga.printable import cut

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage

MOST_PIXELS = 4_200_000
MOST_BYTES = 64 << 20
TAIL = 1 << 16  # bytes at the end of a JPEG that are searched for the mark of its end
MOST_EXIF = 1 << 16
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP")
READ = "PNG, JPEG, WebP, AVIF, GIF or BMP"
DATA_URL = re.compile(r"data:[\w/+.-]*;base64,")
ORIENTATION = 0x0112
# How EXIF 2.32 numbers the ways a picture may lie in its file; by names of Pillow's what to do.
TURNS: Mapping[int, str] = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
    6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture is without its pixels; width and height as it is seen, turned."""

    name: str
    width: int
    height: int
    animated: bool

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """Which picture was drawn from: its file's name, SHA-256 and length in bytes."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """Pixels (H, W, 3), or (H, W) of a mask, uint8; `notes`: what to know of them."""

    pixels: NDArray[Any]
    notes: tuple[str, ...] = ()


def as_source(given: Any) -> Any:
    """Bytes of a file and pictures of Pillow as a source; anything else as it is."""
    if isinstance(given, (bytes, bytearray, memoryview)):
        return "data:;base64," + base64.b64encode(given).decode("ascii")
    pillow = sys.modules.get("PIL.Image")  # who has a picture of Pillow's has loaded it
    if pillow is not None and isinstance(given, pillow.Image):
        file = io.BytesIO()
        kept = given if given.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else None
        profile = given.info.get("icc_profile") if kept is not None else None
        (kept or given.convert("RGB")).save(
            file, "PNG", icc_profile=profile, exif=given.getexif().tobytes()
        )
        return as_source(file.getvalue())
    return given


def name_of(source: str) -> str:
    """What to call a picture."""
    return "the picture" if DATA_URL.match(source) else cut(Path(source).name, 80)


def look_at(source: str) -> Look:
    """Its size, without decoding. Raises RequestError for what cannot, or must not, be read."""
    with _opened(source) as (image, turn):
        width, height = image.size
        if turn >= 5:
            width, height = height, width
        return Look(name_of(source), width, height, bool(getattr(image, "is_animated", False)))


def record_of(source: str) -> PictureRecord:
    """The digest of its file, or of the bytes that were given. Raises RequestError."""
    with _file(source) as file:
        sha256 = hashlib.sha256()
        while block := file.read(1 << 20):
            sha256.update(block)
        return PictureRecord(name_of(source), sha256.hexdigest(), file.tell())


def load_rgb(source: str) -> Loaded:
    """Pixels in sRGB, as they are seen; what is transparent lies on white. Raises RequestError."""
    return _loaded(source, _srgb)


def load_rgba(source: str) -> Loaded:
    """Pixels in sRGB, and how opaque each is where that is said. Raises RequestError."""
    return _loaded(source, _srgba)


def load_grey(source: str) -> Loaded:
    """How bright each pixel is, as it is seen; transparent ones are black. Raises RequestError."""
    return _loaded(source, _grey)


def _loaded(source: str, read: Callable[[PILImage, list[str]], PILImage]) -> Loaded:
    import numpy as np  # noqa: PLC0415  # only a drawing from a picture needs it
    from PIL import Image  # noqa: PLC0415

    notes, name = list[str](), name_of(source)
    with _opened(source) as (image, turn):
        if getattr(image, "is_animated", False):
            notes.append(f"{name} is animated; its first frame is taken.")
        try:
            image.load()
            found = read(image, notes)
        except Exception:  # a damaged file makes its readers fail in any way
            raise _unsound(name, "damaged, or cut short") from None
        if turn in TURNS:
            found = found.transpose(Image.Transpose[TURNS[turn]])
        return Loaded(np.asarray(found), tuple(f"{name}: {note}" for note in notes))


@contextmanager
def _opened(source: str) -> Iterator[tuple[PILImage, int]]:
    """A picture whose header was read, and how it lies in its file, by EXIF."""
    from PIL import Image  # noqa: PLC0415

    name = name_of(source)
    with _file(source) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged tags, which are left out, and of its size
        try:
            image = Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError:
            raise _too_large(name, "far more") from None
        except Exception:  # as above
            raise _unsound(name, "not read as any of them") from None
        if image.width * image.height > MOST_PIXELS:
            raise _too_large(name, f"{image.width}x{image.height}")
        exif = _whole(file, str(image.format), name)
        yield image, _turn(image, exif)


@contextmanager
def _file(source: str) -> Iterator[BinaryIO]:
    """The file of a source, to be read from its beginning."""
    if match := DATA_URL.match(source):
        try:
            yield io.BytesIO(base64.b64decode(source[match.end() :], validate=True))
        except binascii.Error:
            raise RequestError(
                "a data URL holds base64", cut(repr(source), 60), "Give a path or bytes."
            ) from None
        return
    try:
        if not Path(source).is_file():
            raise _missing(source, "there is no such file")
        with Path(source).open("rb") as file:
            if os.fstat(file.fileno()).st_size > MOST_BYTES:
                raise _unsound(name_of(source), f"more than {MOST_BYTES >> 20} MiB")
            yield file
    except (OSError, ValueError) as error:
        raise _missing(source, getattr(error, "strerror", None) or str(error)) from None


def _whole(file: BinaryIO, kind: str, name: str) -> bytes:
    """Raise RequestError for a file cut short, as far as that shows; a PNG's EXIF, if it has any.

    Where a format does not say where it ends, decoding does.
    """
    back, found = file.tell(), b""
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    whole = True
    if kind == "PNG":
        for chunk, size in chunks(file, name):
            if chunk == b"eXIf" and size <= MOST_EXIF:
                found = file.read(size)
                size = 0  # noqa: PLW2901
            file.seek(size + 4, os.SEEK_CUR)
    elif kind == "JPEG":
        file.seek(max(0, length - TAIL))
        whole = b"\xff\xd9" in file.read()
    elif kind == "WEBP":
        whole = struct.unpack("<I", file.read(8)[4:])[0] + 8 <= length
    elif kind == "AVIF":
        whole = _boxes_end(file, length)
    file.seek(back)
    if not whole:
        raise _unsound(name, f"a {kind} cut short")
    return found


def _boxes_end(file: BinaryIO, length: int) -> bool:
    """Whether the boxes of an ISO media file end within it."""
    place = 0
    while place + 8 <= length:
        file.seek(place)
        (size,) = struct.unpack(">I4x", file.read(8))
        if size == 0:  # to the end of the file
            return True
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8).rjust(8, b"\0"))
        if size < 8:
            return False
        place += size
    return place <= length


def _turn(image: PILImage, exif: bytes) -> int:
    """The orientation that EXIF or XMP state, 1 without."""
    from PIL import Image  # noqa: PLC0415

    try:
        if exif:
            block = Image.Exif()
            block.load(exif)
        else:
            block = Image.Image.getexif(image)  # that of PNG would decode all pixels first
        turn = block.get(ORIENTATION, 1)
    except Exception:  # a damaged block says nothing
        return 1
    return turn if turn in TURNS else 1


def _srgb(image: PILImage, notes: list[str]) -> PILImage:
    from PIL import Image  # noqa: PLC0415

    image, alpha = _parted(image)
    image = _profiled(image, notes).convert("RGB")
    if alpha is None or alpha.getextrema() == (255, 255):
        return image
    notes.append("what is transparent lies on white.")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=alpha)
    return white


def _srgba(image: PILImage, notes: list[str]) -> PILImage:
    image, alpha = _parted(image)
    image = _profiled(image, notes).convert("RGB")
    if alpha is not None:
        image.putalpha(alpha)
    return image


def _grey(image: PILImage, notes: list[str]) -> PILImage:
    from PIL import Image  # noqa: PLC0415

    image, alpha = _parted(image)
    image = image.convert("L")
    if alpha is None:
        return image
    black = Image.new("L", image.size, 0)
    black.paste(image, mask=alpha)
    return black


def _parted(image: PILImage) -> tuple[PILImage, PILImage | None]:
    """Colours, in 8 bits and a mode that profiles are made for, and transparency, if any."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _eight_bits(image), None
    profile = image.info.get("icc_profile")
    alpha = None
    if image.has_transparency_data:
        grey = image.mode in ("1", "L", "LA", "La")
        image = image.convert("LA" if grey else "RGBA")
        alpha, image = image.getchannel("A"), image.convert("L" if grey else "RGB")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    image.info["icc_profile"] = profile
    return image, alpha


def _eight_bits(image: PILImage) -> PILImage:
    """Grey of 16 bits in 8."""
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    values = np.asarray(image).astype(np.uint32).clip(0, 65535)
    found = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    found.info["icc_profile"] = image.info.get("icc_profile")
    return found


def _profiled(image: PILImage, notes: list[str]) -> PILImage:
    """Colours in sRGB, from those of the profile that the picture brings."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    from PIL import ImageCms  # noqa: PLC0415

    try:
        found = ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        notes.append("its colour profile cannot be used; colours are taken as sRGB.")
        return image
    return image if found is None else found


def _unsound(name: str, what: str) -> RequestError:
    return RequestError(
        f"a picture to draw from must be a sound {READ} file", f"{name}: {what}", "Use another."
    )


def _missing(source: str, why: str) -> RequestError:
    return RequestError(
        "a picture to draw from must be a file that can be read", f"{cut(source, 200)}: {why}",
        "Check the path.",
    )  # fmt: skip


def _too_large(name: str, got: str) -> RequestError:
    return RequestError(
        f"a picture to draw from has at most {MOST_PIXELS:,} pixels", f"{name}: {got}",
        "Make it smaller first.",
    )  # fmt: skip
