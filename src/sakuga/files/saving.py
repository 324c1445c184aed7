"""Pictures as files of any kind that is written: PNG, WebP, JPEG or AVIF, with their texts.

A PNG has its texts in chunks. Elsewhere `parameters` is the comment of the user in EXIF, where
A1111's readers look, and what is ours stands in XMP, which is made for what other programs do not
know. A file that loses something says by SHA-256 which pixels it was made of.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from sakuga.errors import RequestError
from sakuga.files.png import Picture, encode_png, image_of
from sakuga.files.texts import EXIF_IFD, OURS, SPACE, USER_COMMENT

PARAMETERS = "parameters"
PIXELS = "sakuga-pixels"
MOST_JPEG = 65_000  # bytes of one block of metadata; the format's own end is at 65,533
PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    f'<rdf:Description rdf:about="" xmlns:sakuga="{SPACE}">%s</rdf:Description></rdf:RDF>'
    '</x:xmpmeta><?xpacket end="r"?>'
)


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file: its name, how its files' names end, and Pillow's options to write it.

    `lossless`: None if it always loses something; `lossy`: None if it never does. `quality`: the
    one that is taken where it loses something and nobody says. `most`: bytes of a block of
    texts. `opaque`: no pixel can be transparent.
    """

    name: str
    suffixes: tuple[str, ...]
    lossless: Mapping[str, Any] | None = None
    lossy: Mapping[str, Any] | None = None
    quality: int = 95
    most: int = 1 << 20
    opaque: bool = False

    @property
    def suffix(self) -> str:
        """How the name of a new file ends."""
        return self.suffixes[0]

    def options(self, quality: int | None) -> dict[str, Any]:
        """Pillow's. Raises RequestError for a quality where nothing is lost."""
        if self.lossy is None and quality is not None:
            raise RequestError(
                "quality is said of what loses something", f"{quality} for {self.name}",
                "Leave it out, or write WebP, JPEG or AVIF.",
            )  # fmt: skip
        if self.lossless is not None and quality is None:
            return dict(self.lossless)
        return {**(self.lossy or {}), "quality": quality or self.quality}


KINDS: Mapping[str, FileKind] = {
    kind.name: kind
    for kind in (
        FileKind("png", (".png",), lossless={}),
        FileKind("webp", (".webp",), lossless={"lossless": True}, lossy={"method": 4}),
        FileKind("jpeg", (".jpg", ".jpeg"), None, {"subsampling": 0}, most=MOST_JPEG, opaque=True),
        FileKind("avif", (".avif",), lossy={"subsampling": "4:4:4"}, quality=90),
    )
}  # fmt: skip
PNG = KINDS["png"]
SUFFIXES = {suffix: kind for kind in KINDS.values() for suffix in kind.suffixes}


def kind_of(name: str) -> FileKind | None:
    """The kind of a file's name, None of any other."""
    return next((kind for end, kind in SUFFIXES.items() if name.lower().endswith(end)), None)


def encode_picture(
    picture: Picture,
    texts: Mapping[str, str],
    kind: FileKind = PNG,
    quality: int | None = None,
    alpha: bytes | None = None,
) -> bytes:
    """A file of a picture with its texts; what of them has no room is left out, see `left_out`.

    quality: 1 to 100 of a kind that loses something; without it WebP loses nothing. alpha: how
    opaque each pixel is; a JPEG cannot say it.
    """
    options = kind.options(quality)
    if kind is PNG:
        return encode_png(picture, texts, alpha)
    lossy = options.get("quality") is not None
    out = left_out(texts, kind)
    told = {key: text for key, text in texts.items() if key not in out}
    exif = _exif(told.pop(PARAMETERS, None))
    if told and lossy:
        told[PIXELS] = pixels_sha256(picture)
    if told:
        options["xmp"] = _xmp(told)
    file = io.BytesIO()
    image = image_of(picture, None if kind.opaque else alpha)
    image.save(file, kind.name.upper(), **options, **({"exif": exif} if exif else {}))
    return file.getvalue()


def left_out(texts: Mapping[str, str], kind: FileKind) -> tuple[str, ...]:
    """The texts that a file of a kind has no room for."""
    if kind is PNG:
        return ()
    sizes = {
        key: len(_exif(text)) if key == PARAMETERS else len(_xmp({key: text, PIXELS: "0" * 64}))
        for key, text in texts.items()
    }
    return tuple(key for key, size in sizes.items() if size > kind.most)


def pixels_sha256(picture: Picture) -> str:
    """Which pixels a picture has."""
    return hashlib.sha256(picture.rgb).hexdigest()


def shows(path: Any, picture: Picture, texts: Mapping[str, str]) -> bool:
    """Whether a file has the pixels of a picture, or says that it was made of them.

    Nothing is decoded before the sizes are known to agree. texts: of the file.
    """
    from PIL import Image  # noqa: PLC0415

    try:
        with Image.open(path, formats=[kind.name.upper() for kind in KINDS.values()]) as image:
            if image.size != (picture.width, picture.height) or image.mode != "RGB":
                return False
            made_of = texts.get(PIXELS)
            return made_of == pixels_sha256(picture) if made_of else image.tobytes() == picture.rgb
    except Exception:  # a damaged file, or one of a huge size, makes Pillow fail in many ways
        return False


def _exif(comment: str | None) -> bytes:
    """EXIF with a comment of the user: UTF-16 in the order of the block itself."""
    if comment is None:
        return b""
    from PIL import Image  # noqa: PLC0415

    exif = Image.Exif()
    exif.endian = ">"
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = b"UNICODE\0" + comment.encode("utf-16-be")
    return exif.tobytes()


def _xmp(texts: Mapping[str, str]) -> bytes:
    """A packet of XMP with texts of ours."""
    held = "".join(
        f"<sakuga:{OURS[key]}>{escape(text)}</sakuga:{OURS[key]}>" for key, text in texts.items()
    )
    return (PACKET % held).encode()
