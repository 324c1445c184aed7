"""Tags written so that programs would not read them as tags, and what each stands for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sakuga.prompt.outline import outline
from sakuga.prompt.regex import Regex
from sakuga.prompt.rules import Edit

_BLOCK = r"(?:char(?:acter)?\\?[_\-]?[0-9]{0,3}|general\\?_tags|caption)(?!\w)"
_BEGIN = Regex(rf"<[/／]?{_BLOCK}", re.I | re.A)
_ENTITIES = {
    "amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "nbsp": " ",
    "#34": '"', "#39": "'", "#60": "<", "#62": ">", "#x3c": "<", "#x3e": ">",
}  # fmt: skip
_WIDE = dict(zip("＜〈﹤⟨‹《＞〉﹥⟩›》／", "<<<<<<>>>>>>/", strict=True))
_OPEN, _CLOSE = "[<＜〈﹤⟨‹《]", "[>＞〉﹥⟩›》]"
_WIDE_TAG = rf"{_OPEN}[/／]?[^\W\d][\w.\-]{{0,40}}[ \t]{{0,8}}[/／]?{_CLOSE}"
_LETTERS = {"u003c": "<", "u003e": ">", "u0026": "&", "u0022": '"', "u0027": "'"}
_BREAKS = {"n": "\n", "r": "\n", "t": "\t", '"': '"'}
_BETWEEN = Regex(r"(?:(?<=>)|\A[\"']?)[ \t]{0,8}(?:\\[nrt][ \t]{0,8}){1,8}(?=<|\Z)")
_HTML_BREAK = Regex(r"<br\s{0,8}/?>", re.I)


@dataclass(frozen=True, slots=True)
class Spelling:
    """A way to write tags: what shows it, what is replaced then, and by what.

    `sign` is in every text that is written so.
    """

    sign: str
    shown: Regex
    replaced: Regex
    meant: Callable[[str], str]
    what: str


def _looked_up(
    table: Mapping[str, str], begin: int, end: int | None = None
) -> Callable[[str], str]:
    return lambda written: table[written[begin:end].lower()]


SPELLINGS = (
    Spelling(
        "&",
        Regex(rf"&(?:amp;){{0,4}}(?:lt|#60|#x3c);/?{_BLOCK}", re.I | re.A),
        Regex(rf"&(?:{'|'.join(_ENTITIES)});", re.I | re.A),
        _looked_up(_ENTITIES, 1, -1),
        "with escaped brackets",
    ),
    Spelling(
        "",
        Regex(rf"[＜〈﹤⟨‹《][/／]?{_BLOCK}", re.I | re.A),
        Regex(_WIDE_TAG),
        lambda written: "".join(_WIDE.get(letter, letter) for letter in written),
        "with full-width brackets",
    ),
    Spelling(
        "\\",
        Regex(rf"\\<\\?/?{_BLOCK}", re.I | re.A),
        Regex(r"\\[<>/_*]"),
        lambda written: written[1:],
        "with a backslash before their brackets",
    ),
    Spelling(
        "\\u",
        Regex(rf"\\u003c/?{_BLOCK}", re.I | re.A),
        Regex(r"\\u(?:003[cCeE]|002[267])"),
        _looked_up(_LETTERS, 1),
        "with their brackets as numbers",
    ),
)


def written(text: str) -> tuple[str, tuple[Edit, ...]] | None:
    """How the tags of a text are escaped, and the edits that make them tags; None if not."""
    found = outline(text)
    if found.blocks:
        return _breaks(text)
    for spelling in SPELLINGS:
        if spelling.sign in text and spelling.shown.compiled.search(text):
            return spelling.what, tuple(
                Edit(*match.span(), meant)
                for match in spelling.replaced.compiled.finditer(text)
                if (meant := spelling.meant(match[0])) != match[0]
            )
    return None


def begins_block(text: str, at: int) -> bool:
    """Whether a bracket there, were it escaped, would be read as that of a block."""
    return _BEGIN.compiled.match(text, at) is not None


def _breaks(text: str) -> tuple[str, tuple[Edit, ...]] | None:
    r"""Line breaks between tags that a string of a program has as \n, or a page as <br>."""
    edits = [Edit(*match.span(), "\n") for match in _HTML_BREAK.compiled.finditer(text)]
    if "\\" in text and _between_elements(text):
        for match in re.finditer(r"(?:\\[nr](?!/))++|\\[t\"](?!/)", text):
            edits.append(Edit(*match.span(), _BREAKS[match[0][1]]))
    what = "with line breaks between them that are spelled out"
    return (what, tuple(sorted(edits, key=lambda edit: edit.start))) if edits else None


def _between_elements(text: str) -> bool:
    r"""Whether a \n stands between two elements, not inside of one."""
    for match in _BETWEEN.compiled.finditer(text):
        opened = text.rfind("<", max(match.start() - 200, 0), match.start())
        if text.startswith("</", opened) or not text.startswith("</", match.end()):
            return True
    return False
