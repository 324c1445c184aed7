"""What a generator answers, event by event, and the one interface between it and the world.

    Queued -> Planned -> Encoded -> Stepped ... -> Decoded -> Finished (one per picture)

with `Warned` anywhere. All of it is frozen and makes a round trip through JSON (`api.codec`),
and none of it knows torch.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from sakuga.api.codec import plain, typed, unknown
from sakuga.api.receipt import AdapterRecord, Plan, Receipt, TokenCounts
from sakuga.api.request import Request
from sakuga.api.resolved import Resolved
from sakuga.api.said import texts_of
from sakuga.files.atomic import write_atomically
from sakuga.files.png import Picture, image_of
from sakuga.files.saving import KINDS, PNG, encode_picture, kind_of

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


@dataclass(frozen=True, slots=True)
class Result:
    """A finished picture, its receipt and the seconds since the request began."""

    picture: Picture
    receipt: Receipt
    seconds: float

    @property
    def png(self) -> bytes:
        """A PNG file of the picture, its receipt inside."""
        return self.encoded()

    @property
    def image(self) -> PILImage:
        """The picture as an image of Pillow."""
        return image_of(self.picture)

    def show(self) -> None:
        """Show the picture in the viewer of this desktop."""
        self.image.show()

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.png

    def encoded(
        self, kind: str = "png", quality: int | None = None, metadata: bool = True
    ) -> bytes:
        """A file of the picture: png, webp, jpeg or avif, its receipt inside unless told not to.

        quality: 1 to 100; without it webp loses nothing. Raises RequestError.
        """
        if kind not in KINDS:
            raise unknown("kind", str(kind), tuple(KINDS))
        texts = texts_of(self.receipt) if metadata else {}
        return encode_picture(self.picture, texts, KINDS[kind], quality)

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        quality: int | None = None,
        metadata: bool = True,
    ) -> Path:
        """Write a file of the kind that its name says, PNG if none, whole or not at all.

        Raises RequestError, OutputExists, OSError.
        """
        data = self.encoded((kind_of(str(path)) or PNG).name, quality, metadata)
        write_atomically(Path(path), data, replace=overwrite)
        return Path(path)


@dataclass(frozen=True, slots=True)
class Queued:
    """Accepted; it waits until the `position` requests before it are drawn."""

    position: int
    event: Literal["queued"] = "queued"


@dataclass(frozen=True, slots=True)
class Planned:
    """The request in full, how it will be run, and with what.

    `model`: its name. `weights`: the SHA-256 of each component's weights. `adapters`: what
    changes the transformer, in order.
    """

    request: Resolved
    plan: Plan
    model: str
    weights: Mapping[str, str]
    adapters: tuple[AdapterRecord, ...] = ()
    event: Literal["planned"] = "planned"


@dataclass(frozen=True, slots=True)
class Encoded:
    """The texts are read."""

    tokens: TokenCounts
    event: Literal["encoded"] = "encoded"


@dataclass(frozen=True, slots=True)
class Stepped:
    """Step `index` of `of` is done (1 is the first); one small preview per picture under way.

    Where pictures are denoised in groups, the steps of all groups count. `memory`: bytes that
    are allocated on the device now.
    """

    index: int
    of: int
    previews: tuple[Picture, ...]
    memory: int = 0
    event: Literal["stepped"] = "stepped"


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels are there."""

    event: Literal["decoded"] = "decoded"


@dataclass(frozen=True, slots=True)
class Finished:
    """One picture; the last one ends the request."""

    result: Result
    event: Literal["finished"] = "finished"


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know that stopped nothing."""

    code: str
    message: str
    event: Literal["warned"] = "warned"


Event: TypeAlias = Queued | Planned | Encoded | Stepped | Decoded | Finished | Warned

EVENTS: Mapping[str, type[Event]] = {
    "queued": Queued, "planned": Planned, "encoded": Encoded, "stepped": Stepped,
    "decoded": Decoded, "finished": Finished, "warned": Warned,
}  # fmt: skip


def event_from(data: Mapping[str, Any]) -> Event:
    """An event from its JSON form (`api.codec.plain`). Raises RequestError."""
    name = str(data.get("event"))
    if name not in EVENTS:
        raise unknown("event", name, tuple(EVENTS))
    return typed(EVENTS[name], data)


def summary(event: Event) -> dict[str, Any]:
    """JSON form of an event for a log: all but the pixels."""
    if isinstance(event, Stepped):
        return {"event": event.event, "index": event.index, "of": event.of}
    if isinstance(event, Finished):
        receipt = plain(event.result.receipt)
        return {"event": event.event, "seconds": event.result.seconds, "receipt": receipt}
    return {"event": event.event, **plain(event)}


class ImageGenerator(Protocol):
    """The one seam: an engine offers it, wherever it runs; the command line and servers use it."""

    def generate(self, request: Request) -> Generator[Event, None, None]:
        """Draw. The consumer may stop after any event, by `close`; everything is released then."""
        ...
