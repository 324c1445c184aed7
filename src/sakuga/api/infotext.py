"""A1111's text of a drawing: the prompt, its negative and one line of settings, written and read.

    1girl, smile <lora:style:0.8>
    Negative prompt: lowres
    Steps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 5.5, Seed: 7, ...

Readers look for `Negative prompt:` and `Steps:` wherever they stand, so neither a prompt nor a
name may hold them: a backslash goes before the colon, and is taken away when the text is read
back. Other programs' texts are read too, and trusted with nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from sakuga.api.options import option_of
from sakuga.api.receipt import AdapterRecord, Receipt
from sakuga.api.request import Request

# What is ours is here named as others know it; what has no counterpart keeps its name.
SAMPLERS: Mapping[str, str] = {"euler": "Euler", "heun2": "Heun", "dpm2": "DPM++ 2M"}
SCHEDULES: Mapping[str, str] = {"shifted": "Simple"}
# Fields that others have no word for: they are written where they say something.
OWN = ("shift", "renorm", "truncation", "uncond", "text_mode", "system", "verbatim", "max_tokens")

_MARKS = re.compile(r"(Negative prompt|Steps)(\\*+):", re.IGNORECASE)
_BROKEN = re.compile(r"(Negative prompt|Steps)\\(\\*+):", re.IGNORECASE)
_CONTROL = r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]"
_UNPRINTED = re.compile(rf"(?<!\\)(\\*+)(?:({_CONTROL})|(?=u[0-9a-f]{{4}}))")
_PRINTED = re.compile(r"(?<!\\)(\\++)u([0-9a-f]{4})")
_SETTINGS = re.compile(r"\s*Steps: *[0-9]")
_NEGATIVE = re.compile(r"\s*Negative prompt: ?", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"')
_LORA = re.compile(r"<(?:lora|lyco):([^<>:]{1,200}):?([^<>]{0,200})>")
_KNOWN = frozenset(("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model hash", "Model"))


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


def write_infotext(receipt: Receipt) -> str:
    """The text of a picture. Values with commas, colons or breaks are quoted as A1111 does."""
    request = receipt.request
    loras = tuple((_lora_name(one), one) for one in receipt.adapters)
    tags = (f"<lora:{name}:{one.strength:g}>" for name, one in loras)
    lines = [" ".join((_broken_up(request.prompt), *tags))]
    if request.negative:
        lines.append(f"Negative prompt: {_broken_up(request.negative)}")
    hashes = ", ".join(f"{name}: {one.sha256[:10]}" for name, one in loras)
    settings = {
        "Steps": request.steps,
        "Sampler": SAMPLERS.get(request.solver, request.solver),
        "Schedule type": SCHEDULES.get(request.schedule, request.schedule),
        "CFG scale": request.guidance,
        "Seed": receipt.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": receipt.weights.get("transformer", "")[:10],
        "Model": receipt.model,
    }
    told = [f"{key}: {_quoted(str(value))}" for key, value in settings.items() if value != ""]
    told += [f'Lora hashes: "{hashes}"'] if hashes else []
    told += [f"{_key(name)}: {_quoted(str(value))}" for name, value in _own(request)]
    version = f"sakuga {receipt.versions.get('sakuga', '')}".strip()
    told.append(f"Version: {_quoted(version)}")
    lines.append(", ".join(told))
    return "\n".join(lines)


def read_infotext(text: str) -> Infotext:
    """Any text as one of a drawing: prompt, negative, settings. What sakuga wrote comes exactly."""
    if text.count("\n") == text.count("\r\n"):  # it came through a clipboard of Windows
        text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    at = _settings_line(lines)
    settings = dict(_pairs(" ".join(lines[at:])))
    begin = next((i for i, line in enumerate(lines[:at]) if _NEGATIVE.match(line)), at)
    prompt, negative = "\n".join(lines[:begin]), _NEGATIVE.sub("", "\n".join(lines[begin:at]), 1)
    found = Infotext(prompt, negative, settings)
    return _of_ours(found) if found.ours else _of_others(found)


def own_fields(settings: Mapping[str, str]) -> dict[str, str]:
    """The fields of a request that no other program has, by name, as a text of ours has them."""
    return {name: settings[_key(name)] for name in OWN if _key(name) in settings}


def _of_ours(found: Infotext) -> Infotext:
    """The prompt as it was asked for: our tags at its end are as many as there are hashes."""
    names = [pair for pair in found.settings.get("Lora hashes", "").split(", ") if pair]
    prompt, *tags = found.prompt.rsplit(" <lora:", len(names))
    loras = tuple(tag.removesuffix(">") for tag in tags)
    return Infotext(_joined(prompt), _joined(found.negative), found.settings, loras)


def _of_others(found: Infotext) -> Infotext:
    loras = tuple(f"{one[1]}:{one[2] or '1'}" for one in _LORA.finditer(found.prompt))
    return Infotext(
        _LORA.sub("", found.prompt).strip(), found.negative.strip(), found.settings, loras
    )


def _own(request: Request) -> Iterator[tuple[str, object]]:
    """The fields only sakuga has, where they are not what they would be anyway."""
    for declared in fields(Request):
        value = getattr(request, declared.name)
        usual = option_of(declared).otherwise
        if declared.name in OWN and value not in (None, False) and value != usual:
            yield declared.name, value


def _key(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _lora_name(adapter: AdapterRecord) -> str:
    """The name others know an adapter by: its file's stem, fit for a tag and for no setting."""
    stem = re.sub(r"\.(safetensors|pt|bin|ckpt)$", "", adapter.file)
    name = re.sub(r"[<>:,\"\\\s\x00-\x1f\x7f-\x9f\ud800-\udfff]", "_", stem)[:200] or "_"
    return f"{name}_" if name in _KNOWN else name


def _broken_up(text: str) -> str:
    """The text without what a reader could take for something else than a prompt."""

    def printed(match: re.Match[str]) -> str:
        return match[1] * 2 + (f"\\u{ord(match[2]):04x}" if match[2] else "")

    return _MARKS.sub(r"\1\2\\:", _UNPRINTED.sub(printed, _sound(text)))


def _joined(text: str) -> str:
    """What `_broken_up` was given."""

    def unprinted(match: re.Match[str]) -> str:
        pairs, odd = divmod(len(match[1]), 2)
        return "\\" * pairs + (chr(int(match[2], 16)) if odd else f"u{match[2]}")

    return _PRINTED.sub(unprinted, _BROKEN.sub(r"\1\2:", text))


def _quoted(value: str) -> str:
    """A value as JSON where it holds what ends one. Its colons are escaped: they make keys."""
    value = _sound(value)
    if not re.search(rf'[,:\\"\n\r]|{_CONTROL}|^[\s{{\[]|\s$', value):
        return value
    text = json.dumps(value, ensure_ascii=False).replace(":", "\\u003a")
    return re.sub(_CONTROL, lambda match: f"\\u{ord(match[0]):04x}", text)


def _sound(text: str) -> str:
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _settings_line(lines: list[str]) -> int:
    """Where the settings begin: at the last line that starts as they do, or else looks so."""
    for at in reversed(range(len(lines))):
        if _SETTINGS.match(lines[at]):
            return at
    last = next((at for at in reversed(range(len(lines))) if lines[at].strip()), 0)
    known = sum(key in _KNOWN for key, _ in _pairs(lines[last]))
    return last if known >= 3 else len(lines)


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
    return _sound(text) if isinstance(text, str) else value
