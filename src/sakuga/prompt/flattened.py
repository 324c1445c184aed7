"""XML as flat tags: counts, then the tags of each character, then those of the picture"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal

from sakuga.prompt import canonical
from sakuga.prompt.canonical import Section
from sakuga.prompt.mention import mention
from sakuga.prompt.names import CAPTION, GENERAL
from sakuga.prompt.nodes import Document, Field
from sakuga.prompt.tags import normal, pieces

Joint = Literal["comma", "bar", "break"]
JOINTS: Mapping[Joint, str] = MappingProxyType({"comma": ", ", "bar": " | ", "break": " BREAK "})
"""What stands between the characters: nothing of its own, NovelAI's bars, A1111's BREAK."""

# Who it is comes first, then what is seen of it.
_ORDER = (
    "n", "gender", "position", "appearance", "body_type", "clothing", "expression", "action",
    "interaction",
)  # fmt: skip
_BEHIND = ("quality",)  # of the picture, after all else


def flattened(document: Document, *, spaces: bool = False, joint: Joint = "comma") -> str:
    """A document as flat tags; what has no blocks as it is in canonical form.

    With commas alone a character who has a name or stands on a side begins with that; another is
    told apart by its tags, as far as they tell.
    """
    if not document.structured:
        return canonical.canonical(document)
    sections = canonical.sections(document)
    people = [section for section in sections if section.number is not None and section.parts]
    joint = joint if len(people) > 1 else "comma"
    general = [tag for section in sections if section.name == GENERAL for tag in _of(section)]
    counts = [tag for field, tag in general if field == "count"]
    parts = [_character(section, counted=joint == "comma" and bool(counts)) for section in people]
    behind = [tag for field, tag in general if field not in {"count", *_BEHIND}]
    last = [tag for field, tag in general if field in _BEHIND]
    captions = [part.text for s in sections if s.name == CAPTION for part in s.parts]
    if joint == "comma":
        groups = [counts, *parts, [*behind, *last]]
    else:
        groups = [[*counts, *behind, *last], *parts]
    written = [", ".join(_written(dict.fromkeys(group), spaces)) for group in groups]
    return ", ".join(filter(None, [JOINTS[joint].join(filter(None, written)), *captions]))


def _character(section: Section, *, counted: bool) -> list[str]:
    """Tags of a character in order; without its gender where counts at the begin tell of it."""
    found = sorted(
        _of(section), key=lambda one: _ORDER.index(one[0]) if one[0] in _ORDER else len(_ORDER)
    )
    return [tag for field, tag in found if not (counted and field == "gender")]


def _of(section: Section) -> Iterator[tuple[str, str]]:
    """The tags of a section, each with its field."""
    for part in section.parts:
        for start, end in pieces(part.text):
            tag = part.text[start:end]
            plain = part.name == "artists" and mention(tag, Field("", tag), 0)[0].field != "artists"
            yield part.name, f"artist:{tag}" if plain else tag


def _written(tags: Iterable[str], spaces: bool) -> Iterator[str]:
    """Tags with underscores or spaces; faces such as >_< keep theirs."""
    for tag in tags:
        wordy = any(word.isalpha() for word in normal(tag).split("_"))
        yield (tag.replace("_", " ") if spaces else tag.replace(" ", "_")) if wordy else tag
