"""Where characters should stand: by the box of their block, or by the name of their place.

    <character_1 box="0,0,0.5,1">      fractions of the picture: left, top, right, bottom
    <character_1 bbox="0,0,500,1000">  thousandths, as the annotations of the dataset have them
    <position>left</position>          the part of the picture that PLACES has

Boxes are for the drawing alone: no encoder reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sakuga.errors import RequestError
from sakuga.printable import cut
from sakuga.prompt.canonical import sections
from sakuga.prompt.document import read, write
from sakuga.prompt.names import character_number, lowered
from sakuga.prompt.nodes import Block, Field

Box = tuple[float, float, float, float]
WHOLE: Mapping[str, float] = {
    "box": 1.0,
    "bbox": 1000.0,
}  # fields, and what counts as all of a side
POSITION = "position"
PLACES: Mapping[str, Box] = {
    "left": (0.0, 0.0, 0.4, 1.0),
    "center_left": (0.15, 0.0, 0.55, 1.0),
    "center": (0.25, 0.0, 0.75, 1.0),
    "middle": (0.25, 0.0, 0.75, 1.0),
    "center_right": (0.45, 0.0, 0.85, 1.0),
    "right": (0.6, 0.0, 1.0, 1.0),
    "background_left": (0.05, 0.1, 0.5, 0.8),
    "background_right": (0.5, 0.1, 0.95, 0.8),
    "top": (0.0, 0.0, 1.0, 0.5),
    "bottom": (0.0, 0.5, 1.0, 1.0),
    "top_left": (0.0, 0.0, 0.5, 0.5),
    "top_right": (0.5, 0.0, 1.0, 0.5),
    "bottom_left": (0.0, 0.5, 0.5, 1.0),
    "bottom_right": (0.5, 0.5, 1.0, 1.0),
}
WORDS = (  # for the middle of a box: up to here, this
    (0.3, "left"), (0.45, "center_left"), (0.55, "center"), (0.7, "center_right"), (1.0, "right"),
)  # fmt: skip
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Region:
    """A box of a picture, and which part of a text tells of who is in it."""

    box: Box
    begin: int
    end: int


def regions_of(prompt: str, sent: str) -> tuple[Region, ...]:
    """The characters of a prompt that have a place, and the range of each in the text sent.

    Raises RequestError for a box that is none, PromptRefused as `document.read` does.
    """
    document, found = read(prompt), list[Region]()
    for section in sections(document):
        box = None if section.number is None else box_of(section.blocks[0].fields)
        match = re.search(f"<{section.name}>.*?</{section.name}>", sent, re.DOTALL)
        if box and match:
            found.append(Region(box, *match.span()))
    return tuple(found)


def placed(prompt: str) -> str:
    """A prompt in which a character with a box and no position has the word nearest to it.

    Models were trained on words for places, and on no boxes.
    """
    document = read(prompt)
    blocks = [_placed(block) for block in document.blocks]
    changed = any(one is not other for one, other in zip(blocks, document.blocks, strict=True))
    return write(replace(document, blocks=tuple(blocks))) if changed else prompt


def _placed(block: Block) -> Block:
    named = any(lowered(part.name) == POSITION and part.text.strip() for part in block.fields)
    box = None if named or character_number(block.name) is None else box_of(block.fields)
    if box is None:
        return block
    middle = (box[0] + box[2]) / 2
    word = next(name for end, name in WORDS if middle <= end)
    return replace(block, fields=(*block.fields, Field(POSITION, word)))


def box_of(fields: Iterable[Field]) -> Box | None:
    """Where a block's own fields place it; a box wins over a name. Raises RequestError."""
    named: Box | None = None
    for part in fields:
        if lowered(part.name) in WHOLE:
            return read_box(part.text, WHOLE[lowered(part.name)])
        if lowered(part.name) == POSITION:
            named = PLACES.get(re.sub(r"[\s-]+", "_", part.text.strip().lower()), named)
    return named


def read_box(text: str, whole: float = 1.0) -> Box:
    """Four numbers as a box. Raises RequestError for any that is none within the picture."""
    numbers = [float(one) / whole for one in _NUMBER.findall(text)[:5]]
    if len(numbers) == 4:
        left, top, right, bottom = numbers
        if 0 <= left < right <= 1 and 0 <= top < bottom <= 1:
            return left, top, right, bottom
    raise RequestError(
        f"a box is left, top, right and bottom, from 0 to {whole:g}", cut(repr(text), 60),
        f'Write box="0,0,{0.5:g},1" for the left half.',
    )  # fmt: skip
