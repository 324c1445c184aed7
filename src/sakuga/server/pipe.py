"""Messages between a server and its workers: JSON, and bytes beside it. Nothing is unpickled."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

HEAD = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: what it says, and the bytes that go with it."""

    said: Mapping[str, Any]
    blobs: Sequence[bytes] = field(default=())


def send(file: BinaryIO, message: Message) -> None:
    """Write a message. Raises OSError, ValueError where nobody reads any more."""
    sizes = [len(blob) for blob in message.blobs]
    head = json.dumps({"said": message.said, "sizes": sizes}).encode()
    file.write(b"".join((HEAD.pack(len(head)), head, *message.blobs)))
    file.flush()


def receive(file: BinaryIO) -> Message | None:
    """Read a message; None where the other side is gone, also in the middle of one."""
    length = file.read(HEAD.size)
    if len(length) < HEAD.size:
        return None
    head = file.read(HEAD.unpack(length)[0])
    if len(head) < HEAD.unpack(length)[0]:
        return None
    found = json.loads(head)
    blobs = [file.read(size) for size in found["sizes"]]
    if any(len(blob) < size for blob, size in zip(blobs, found["sizes"], strict=True)):
        return None
    return Message(found["said"], blobs)
