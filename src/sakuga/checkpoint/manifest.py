"""manifest.json at the root of a model: what every file should be, to be compared later.

{"files": {"vae/config.json": {"sha256": "...", "bytes": 664}, ...}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sakuga.api.codec import plain, typed
from sakuga.errors import CorruptFile, RequestError
from sakuga.files.atomic import write_atomically
from sakuga.weights.sha256 import hash_file
from sakuga.weights.untrusted import read_json

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Promise:
    """The digest, in hex, and the size that a file should have."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Promises by path, relative to the folder of the model, with forward slashes."""

    files: dict[str, Promise]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a model; None where there is none.

    Raises CorruptFile where it is no manifest, or names a file outside the folder.
    """
    file = folder / MANIFEST
    if not file.is_file():
        return None
    rule = "a manifest maps files of its folder to sha256 and bytes"
    fix = "Delete it, or write it anew with `sakuga convert`"
    try:
        manifest = typed(Manifest, read_json(file, folder))
    except RequestError as error:
        raise CorruptFile(rule, f"{error.got} in {file}", fix) from None
    for name, promise in manifest.files.items():
        inside = name and not re.search(r"\\|:|^/|(^|/)\.\.?(/|$)", name)
        if not inside or not re.fullmatch("[0-9a-f]{64}", promise.sha256):
            raise CorruptFile(rule, f"{name!r}: {promise.sha256[:80]!r} in {file}", fix)
    return manifest


def write_manifest(
    folder: Path,
    files: Iterable[Path],
    digests: Mapping[str, str] | None = None,
    name: str = MANIFEST,
) -> Manifest:
    """Write what `files`, which lie in `folder`, are. Raises OSError.

    digests: the SHA-256 of those that need not be hashed again, by path within the folder.
    """
    promised = {}
    for file in sorted(files):
        place = file.relative_to(folder).as_posix()
        digest = (digests or {}).get(place) or hash_file(file)
        promised[place] = Promise(digest, file.stat().st_size)
    manifest = Manifest(promised)
    text = json.dumps(plain(manifest), indent=2) + "\n"
    write_atomically(folder / name, text.encode(), replace=True)
    return manifest
