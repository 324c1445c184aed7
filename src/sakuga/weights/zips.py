"""Reads the directory of a zip file whose entries are to be used where they lie.

One reading only: whatever would let two readers see two archives (data before the first
entry or after the last record, two entries of one name, entries that overlap, a local
header that says otherwise than the directory) is refused. Nothing is ever unpacked.
Source: the ZIP file format specification, PKWARE APPNOTE 6.3.10, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from sakuga.errors import CorruptFile
from sakuga.weights.untrusted import SAVE_AGAIN, corrupt

MAGIC = b"PK\x03\x04"
MAX_DIRECTORY = 1 << 24  # bytes; the directory of a model of 2,000 tensors has 150 kB
MAX_ENTRIES = 50_000

_END = struct.Struct("<4s4H2LH")  # signature, disks and counts, size, offset, comment
_LOCATOR = struct.Struct("<4sLQL")  # signature, disk, offset of the end record, disks
_END64 = struct.Struct("<4sQ2H2L4Q")  # signature, size, versions, disks, counts, size, offset
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ZIP64 = 1  # the extra field that holds what does not fit into 32 bits
_FULL = 0xFFFFFFFF
_ENCRYPTED = 1  # a bit of the flags


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """Where the bytes of one entry lie: `size` of them from the absolute offset `start`.

    `crc` is their checksum, None where the writer left out the checksums of a whole file.
    Where `packed`, they are compressed or encrypted, and of no use here.
    """

    name: str
    start: int
    size: int
    crc: int | None
    packed: bool

    def check(self, file: Path, data: bytes | memoryview) -> None:
        """Raise CorruptFile where `data`, read from there, is not what was written."""
        if len(data) != self.size or (self.crc is not None and zlib.crc32(data) != self.crc):
            raise _bad_zip(file, "an entry has its length and checksum", self.name.encode())


@dataclass(frozen=True, slots=True)
class _Listed:
    """What the directory says of an entry; `header` is the offset of its local header."""

    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    header: int


def read_entries(file: Path, most: int = MAX_ENTRIES) -> dict[str, ZipEntry]:
    """Every entry of a zip file by name, in the order in which they lie there.

    Raises CorruptFile with the rule broken: at most `most` entries in a directory of at most
    16 MiB at the very end, no entry within another, names that lead nowhere else, local
    headers that say the same.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start, length, count = _find_directory(file, stream, size, most)
        listed = sorted(_listed(file, _read(stream, start, length), count), key=_by_header)
        entries: dict[str, ZipEntry] = {}
        end = 0
        for each in listed:
            if each.header < end or (not entries and each.header):
                raise _bad_zip(file, "entries follow each other from the first byte", each.name)
            entry = _entry(file, stream, each)
            end = entry.start + entry.size
            if end > start:
                raise _bad_zip(file, "entries lie before the directory", each.name)
            if entry.name in entries:
                raise _bad_zip(file, "an entry is there once", each.name)
            entries[entry.name] = entry
    if not any(entry.crc for entry in entries.values()):
        return {name: replace(entry, crc=None) for name, entry in entries.items()}
    return entries


def _find_directory(file: Path, stream: BinaryIO, size: int, most: int) -> tuple[int, int, int]:
    """Offset, length and number of entries of the directory, from the records at the end."""
    tail = _read(stream, max(0, size - _END64.size - _LOCATOR.size - _END.size), size)
    end = tail[-_END.size :]
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06"):
        raise _bad_zip(file, "the end record comes last", "none there: it may be cut short")
    _, _, _, _, count, length, start, comment = _END.unpack(end)
    after = size - _END.size
    locator = tail[-_LOCATOR.size - _END.size : -_END.size]
    if locator.startswith(b"PK\x06\x07"):
        after -= _LOCATOR.size + _END64.size
        record = tail[: _END64.size]
        if len(record) < _END64.size or not record.startswith(b"PK\x06\x06"):
            raise _bad_zip(file, "the zip64 record lies before its locator", "another thing")
        *_, count, length, start = _END64.unpack(record)
        if _LOCATOR.unpack(locator)[2] != after:
            raise _bad_zip(file, "the locator points at the zip64 record", "another offset")
    if comment or start + length != after:
        got = f"{length} bytes at {start}, records at {after}"
        raise _bad_zip(file, "the directory lies right before the end records", got)
    if length > MAX_DIRECTORY or count > most:
        rule = f"a directory has at most {most} entries in {MAX_DIRECTORY} bytes"
        raise _bad_zip(file, rule, f"{count} in {length}")
    return start, length, count


def _listed(file: Path, directory: bytes, count: int) -> Iterator[_Listed]:
    """The entries of the directory, which must be `count` and fill it."""
    at = 0
    for _ in range(count):
        fields = directory[at : at + _ENTRY.size]
        if len(fields) < _ENTRY.size or not fields.startswith(b"PK\x01\x02"):
            raise _bad_zip(file, "the directory lists every entry", f"another thing at {at}")
        _, _, _, flags, method, _, _, crc, packed, size, *lengths, _, _, _, header = _ENTRY.unpack(
            fields
        )
        at += _ENTRY.size
        name, extra = directory[at : at + lengths[0]], directory[at + lengths[0] :][: lengths[1]]
        at += sum(lengths)
        wide = _wide(file, extra, [size, packed, header])
        yield _Listed(name, flags, method, crc, wide[1], wide[0], wide[2])
    if at != len(directory):
        raise _bad_zip(file, "the entries fill the directory", f"{len(directory) - at} bytes more")


def _wide(file: Path, extra: bytes, values: list[int]) -> list[int]:
    """The values, those of all ones replaced by what the zip64 field holds, in order."""
    wanted = values.count(_FULL)
    while wanted and len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == _ZIP64 and length >= 8 * wanted and len(extra) >= 4 + length:
            numbers = iter(struct.unpack_from(f"<{wanted}Q", extra, 4))
            return [next(numbers) if value == _FULL else value for value in values]
        extra = extra[4 + length :]
    if wanted:
        raise _bad_zip(file, "sizes beyond 32 bits stand in a zip64 field", "none")
    return values


def _entry(file: Path, stream: BinaryIO, listed: _Listed) -> ZipEntry:
    """An entry whose local header agrees with the directory."""
    packed = bool(listed.method or listed.packed != listed.size or listed.flags & _ENCRYPTED)
    name = _name(file, listed.name)
    header = _read(stream, listed.header, _LOCAL.size + len(listed.name))
    if len(header) < _LOCAL.size + len(listed.name) or not header.startswith(MAGIC):
        raise _bad_zip(file, "an entry starts with its local header", listed.name)
    _, _, flags, method, *_, length, extra = _LOCAL.unpack_from(header)
    same = (method, flags & _ENCRYPTED) == (listed.method, listed.flags & _ENCRYPTED)
    if not same or header[_LOCAL.size :][:length] != listed.name:
        raise _bad_zip(file, "a local header says what the directory says", listed.name)
    start = listed.header + _LOCAL.size + length + extra
    return ZipEntry(name, start, listed.packed, listed.crc, packed)


def _name(file: Path, name: bytes) -> str:
    """A name that would stay within any folder. Nothing is ever written under it."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad_zip(file, "names are UTF-8", name) from None
    parts = text.split("/")
    if "\\" in text or "\0" in text or not set(parts).isdisjoint({"", ".", ".."}):
        raise _bad_zip(file, "names lead nowhere else", name)
    return text


def _by_header(listed: _Listed) -> int:
    return listed.header


def _read(stream: BinaryIO, start: int, size: int) -> bytes:
    stream.seek(start)
    return stream.read(size)


def _bad_zip(file: Path, rule: str, got: str | bytes) -> CorruptFile:
    what = got if isinstance(got, str) else f"entry {got[:80]!r}"
    return corrupt(file, f"in a zip file, {rule}", what, SAVE_AGAIN)
