"""A1111's text of a drawing, read: the prompt, its negative and a line of settings.

    1girl, smile <lora:style:0.8>
    Negative prompt: lowres
    Steps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 5.5, Seed: 7, ...

Readers look for `Negative prompt:` and `Steps:` wherever they stand, so in a text of ours neither a
prompt nor a name holds them: a backslash goes before the colon, and is taken away when the text
is read back. Other programs' texts are read too, and trusted with nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

_MARKS = re.compile(r"(Negative prompt|Steps)(\\*+):", re.IGNORECASE)
_BROKEN = re.compile(r"(Negative prompt|Steps)\\(\\*+):", re.IGNORECASE)
_CONTROL = r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]"
_UNPRINTED = re.compile(rf"(?<!\\)(\\*+)(?:({_CONTROL})|(?=u[0-9a-f]{{4}}))")
_PRINTED = re.compile(r"(?<!\\)(\\++)u([0-9a-f]{4})")
_SETTINGS = re.compile(r"[^\S\n]*+Steps: *+[0-9]")
_NEGATIVE = re.compile(r"^[^\S\n]*+Negative prompt: ?", re.IGNORECASE | re.MULTILINE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"')
_LORA = re.compile(r"<(?:lora|lyco):([^<>:]{1,200}):?([^<>]{0,200})>")
KNOWN = frozenset(("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model hash", "Model"))

MAX_SETTINGS = 500  # people's texts have twenty


@dataclass(frozen=True, slots=True)
class Infotext:
    """A drawing as such a text tells it. `settings`: by their A1111 names, as they were written.

    `loras`: NAME:STRENGTH each; they are no part of the prompt. Without settings the text was
    none of a drawing, but for a negative it may have.
    """

    prompt: str
    negative: str
    settings: Mapping[str, str]
    loras: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether sakuga wrote it."""
        return self.settings.get("Version", "").startswith("sakuga")


def read_infotext(text: str) -> Infotext:
    """Any text as one of a drawing: prompt, negative, settings. What sakuga wrote comes exactly."""
    if text.count("\n") == text.count("\r\n"):  # it came through a clipboard of Windows
        text = text.replace("\r\n", "\n")
    at = _settings_at(text)
    settings = dict(islice(_pairs(text[at:].replace("\n", " ")), MAX_SETTINGS))
    body = text[: max(at - 1, 0)] if settings else text
    match = _NEGATIVE.search(body)
    prompt = body[: max(match.start() - 1, 0)] if match else body
    negative = body[match.end() :] if match else ""
    found = Infotext(prompt, negative, settings)
    return _of_ours(found) if found.ours else _of_others(found)


def _of_ours(found: Infotext) -> Infotext:
    """The prompt as it was asked for: our tags at its end are as many as there are hashes."""
    names = [pair for pair in found.settings.get("Lora hashes", "").split(", ") if pair]
    prompt, *tags = found.prompt.rsplit(" <lora:", len(names))
    loras = tuple(tag.removesuffix(">") for tag in tags)
    return Infotext(_joined(prompt), _joined(found.negative), found.settings, loras)


def _of_others(found: Infotext) -> Infotext:
    tags = islice(_LORA.finditer(found.prompt), MAX_SETTINGS)
    loras = tuple(f"{one[1]}:{one[2] or '1'}" for one in tags)
    return Infotext(
        _LORA.sub("", found.prompt).strip(), found.negative.strip(), found.settings, loras
    )


def broken_up(text: str) -> str:
    """The text without what a reader could take for something else than a prompt."""

    def printed(match: re.Match[str]) -> str:
        return match[1] * 2 + (f"\\u{ord(match[2]):04x}" if match[2] else "")

    return _MARKS.sub(r"\1\2\\:", _UNPRINTED.sub(printed, sound(text)))


def _joined(text: str) -> str:
    """What `broken_up` was given."""

    def unprinted(match: re.Match[str]) -> str:
        pairs, odd = divmod(len(match[1]), 2)
        return "\\" * pairs + (chr(int(match[2], 16)) if odd else f"u{match[2]}")

    return _PRINTED.sub(unprinted, _BROKEN.sub(r"\1\2:", text))


def quoted(value: str) -> str:
    """A value as JSON where it holds what ends one. Its colons are escaped: they make keys."""
    value = sound(value)
    if not re.search(rf'[,:\\"\n\r]|{_CONTROL}|^[\s{{\[]|\s$', value):
        return value
    text = json.dumps(value, ensure_ascii=False).replace(":", "\\u003a")
    return re.sub(_CONTROL, lambda match: f"\\u{ord(match[0]):04x}", text)


def sound(text: str) -> str:
    """The text without lone surrogates, which no file can hold."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _settings_at(text: str) -> int:
    """Where the settings begin: at the last line that starts as they do, or else looks so."""
    end = len(text)
    while (found := text.rfind("Steps:", 0, end)) >= 0:
        begin = text.rfind("\n", 0, found) + 1
        if _SETTINGS.match(text, begin):
            return begin
        end = begin
    begin = text.rfind("\n", 0, len(text.rstrip())) + 1
    known = sum(key in KNOWN for key, _ in islice(_pairs(text[begin:]), MAX_SETTINGS))
    return begin if known >= 3 else len(text)


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """KEY: VALUE, KEY: VALUE ..., in one pass; values may be quoted, or JSON."""
    place, sound = 0, True
    while (colon := line.find(":", place)) >= 0:
        key = line[place:colon].rpartition(",")[2].strip()
        begin = colon + 1
        while line[begin : begin + 1].isspace():
            begin += 1
        end: int | None = begin
        if quoted := _QUOTED.match(line, begin):
            end = quoted.end()
        elif sound and line[begin : begin + 1] in ("{", "["):
            end = _end_of_json(line, begin)
            sound = end is not None  # what is broken once is not tried at every bracket
        comma = line.find(",", begin if end is None else end)
        place = comma + 1 if comma >= 0 else len(line)
        if key:
            yield key, _unquoted(line[begin : comma if comma >= 0 else None].strip())


def _end_of_json(line: str, begin: int) -> int | None:
    try:
        return json.JSONDecoder().raw_decode(line, begin)[1]
    except (ValueError, RecursionError):
        return None


def _unquoted(value: str) -> str:
    if value[:1] != '"':
        return value
    try:
        text = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return sound(text) if isinstance(text, str) else value
