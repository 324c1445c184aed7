"""Whether files are, to the bit, what their makers sent."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sakuga.checkpoint.hub import stored_digest
from sakuga.checkpoint.manifest import MANIFEST, read_manifest
from sakuga.commands.doctor.files import Components, some
from sakuga.commands.doctor.finding import Report, green, red, yellow
from sakuga.printable import readable
from sakuga.weights.access import confine
from sakuga.weights.sha256 import hash_file

FIX = "Download or convert the file again."


def digests(folder: Path, components: Components) -> Report:
    """Compare files with the manifest, or with what the cache of the hub calls them."""
    manifest = read_manifest(folder)
    promised = {} if manifest is None else {
        folder / name: promise.sha256 for name, promise in manifest.files.items()
    }  # fmt: skip
    weights = [file for component in components.values() for file in component.store.files]
    for file in (*weights, *_linked(folder)):
        if file not in promised and (digest := stored_digest(file)):
            promised[file] = digest
    right, size = 0, 0
    for file, digest in promised.items():
        name = file.relative_to(folder).as_posix()
        if not file.is_file():
            yield red("hashes", f"{name} is missing, which {MANIFEST} promises", FIX)
            continue
        confine(file, folder)
        got = hash_file(file) if len(digest) == 64 else _git_digest(file)
        if got != digest:
            yield red("hashes", f"{name} is {got[:16]}..., promised as {digest[:16]}...", FIX)
            continue
        right, size = right + 1, size + file.stat().st_size
    if right:
        yield green("hashes", f"{right} files are as promised, {readable(size)}")
    unknown = [file for file in weights if file not in promised]
    if unknown:
        found = some([f"{file.parent.name}/{file.name} {hash_file(file)}" for file in unknown])
        fix = f"Compare them by hand; `sakuga convert` writes a {MANIFEST} to compare with later."
        yield yellow("hashes", f"nothing says what to expect of {found}", fix)


def _linked(folder: Path) -> list[Path]:
    """The small files of a snapshot in the hub's cache."""
    return sorted(file for file in folder.glob("**/*.json") if file.is_symlink())


def _git_digest(file: Path) -> str:
    """The SHA-1 by which git, and the hub's cache, name a small file."""
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
