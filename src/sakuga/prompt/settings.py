"""What a prompt says of the drawing but not of the picture: its negative, and settings texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from sakuga.prompt.nodes import Remark, Span
from sakuga.prompt.outline import outline
from sakuga.prompt.passage import Passage
from sakuga.prompt.regex import Regex
from sakuga.prompt.rules import Edit

STAYING = frozenset({"negative", "settings-text"})
"""The rules of what is left out of the prompt, but stays in the text until its author moves it."""

SETTING = (
    r"(?:(?:steps|seed|cfg(?: scale)?|guidance(?: scale)?|size|clip skip|denoising strength|ensd"
    r"|hires \w{1,20})\s{0,4}[:=]\s{0,4}-?\d[\dx.]{0,20}"
    r"|(?:sampler|sampling method|scheduler|schedule type|model(?: hash)?|vae(?: hash)?)"
    r"\s{0,4}:\s{0,4}\S[^\n]{0,80})\Z"
)
"""One setting as tags have it: `Steps: 20`."""

_QUOTED = 120  # characters of a negative that a message shows
_SETTING = Regex(SETTING, re.I)
_TAGS = Regex(r"</?[^<>]*>")
# In a text of small letters; each begins with a letter, so that others are passed over at once.
_NEGATIVE = Regex(
    r"(?:negative(?:(?<!\wnegative)[ _]?prompts?|(?<=^negative)|(?<=^[*_]negative)"
    r"|(?<=^[*_]{2}negative))|负面提示词?|負面提示詞?|反向提示[词詞]?|ネガティブ(?:プロンプト)?"
    r"|부정(?:적)? ?프롬프트|prompt n[ée]gatif|prompt negativo|негативный промпт)"
    r"[*_\])]{0,8}\s{0,4}[:：][*_]{0,8}"
    r"|[#*][ \t]{0,3}[*_]{0,2}(?:negatives?(?: prompts?)?|负面(?:提示词)?|ネガティブ)"
    r"[*_:： \t]{0,5}$",  # a heading of Markdown
    re.M,
)
_SIGNS = ("negativ", "负面", "負面", "反向", "ネガティブ", "부정", "gatif", "негатив")
_STEPS = Regex(
    r"Steps:(?<!\wSteps:) ?\d{1,5} ?,(?=[^\n]{0,300}?\b(?:Sampler|CFG scale|Seed|Size|Model)\b)"
)
# The same, a line each, as chat models and people write them.
_LINES = Regex(
    r"(?:^[*\- ]{0,4}(?:Steps|Seed|CFG(?: scale)?|Guidance|Sampler|Size|Model)[* ]{0,3}[:=]"
    r"[^\n,]{1,60}(?:\n|\Z)){2,}",
    re.I | re.M,
)
_BESIDE_STEPS = ("sampler", "cfg scale", "seed", "size", "model")
_KNOWN = {
    "--steps": Regex(r"\bSteps: ?(\d+)", re.I),
    "--guidance": Regex(r"\b(?:CFG(?: scale)?|Guidance): ?([\d.]+)", re.I),
    "--seed": Regex(r"\bSeed: ?(\d+)", re.I),
    "--size": Regex(r"\bSize: ?(\d+x\d+)", re.I),
}


def without_settings(passage: Passage) -> tuple[Passage, tuple[Remark, ...]]:
    """The prompt without what shall not be drawn, and what a linter says of that.

    It is not cut from the user's own text, for it says something: only elsewhere.
    """
    found = outline(passage.text)
    said = [(span, _element_remark(passage, span)) for span in found.negatives]
    said += _settings(passage, found.gaps or (Span(0, len(passage.text)),))
    if not said:
        return passage, ()
    said.sort(key=lambda one: one[0].start)
    edits = [Edit(span.start, span.end, "\n") for span, _ in said]
    return passage.edited(edits), tuple(remark for _, remark in said)


def _element_remark(passage: Passage, span: Span) -> Remark:
    text = passage.text[span.start : span.end]
    name = text[: text.index(">") + 1]
    reason = f"{name} says what shall not be seen, so it is not drawn, and not heeded either"
    fix = f"Give it apart: --negative {_quoted(_TAGS.compiled.sub(' ', text))}."
    return Remark("negative", passage.origin.span(span.start, span.end), reason, fix)


def begin_of_settings(text: str, gap: Span) -> int:
    """Where a settings text begins in a stretch outside of any block; its end if there is none."""
    found = _found_in(text, gap)
    return found[0].start if found else gap.end


def is_setting(tag: str) -> bool:
    """Whether a tag sets something of a drawing, and describes nothing."""
    return (":" in tag or "=" in tag) and _SETTING.compiled.match(tag) is not None


def says_negative(text: str) -> bool:
    """Whether a text has a heading for what shall not be seen."""
    return _NEGATIVE.compiled.search(_small(text)) is not None


@lru_cache(maxsize=4)  # of one text, every stretch is asked for
def _small(text: str) -> str:
    """A text in small letters, as long as it was."""
    return text.replace("İ", "I").lower()


def unlabelled(negative: str) -> str:
    """A negative prompt without a heading that says it is one."""
    bare = negative.lstrip().lstrip("*_")
    label = _NEGATIVE.compiled.match(_small(bare))
    text = bare[label.end() :] if label else negative
    return _TAGS.compiled.sub(" ", text) if outline(text).negatives else text


def _settings(passage: Passage, gaps: tuple[Span, ...]) -> Iterator[tuple[Span, Remark]]:
    for gap in gaps:
        if found := _found_in(passage.text, gap):
            yield found[0], _remark(passage, *found)


@lru_cache(maxsize=64)  # every step that looks beside a prompt asks again
def _found_in(text: str, gap: Span) -> tuple[Span, str, str] | None:
    """From `Negative prompt:` or `Steps: ..,` on, in a stretch outside of any block."""
    if not _may_have_settings(text):
        return None
    negative = _NEGATIVE.compiled.search(_small(text), gap.start, gap.end)
    begin = negative.end() if negative else gap.start
    steps = _STEPS.compiled.search(text, begin, gap.end)
    steps = steps or _LINES.compiled.search(text, begin, gap.end)
    first = negative or steps
    if first is None:
        return None
    end = steps.start() if steps else gap.end
    said = text[negative.end() : end] if negative else ""
    settings = text[steps.start() : gap.end] if steps else ""
    begin = gap.start + len(text[gap.start : first.start()].rstrip("*#_[("))
    return Span(begin, gap.end), said, settings


@lru_cache(maxsize=8)
def _may_have_settings(text: str) -> bool:
    lowered = text.lower()
    named = sum(f"{key}:" in lowered for key in ("steps", *_BESIDE_STEPS))
    return named > 1 or any(sign in lowered for sign in _SIGNS)


def _remark(passage: Passage, span: Span, negative: str, settings: str) -> Remark:
    flags = [f"--negative {_quoted(negative)}"] if negative.strip() else []
    flags += [
        f"{flag} {found[1]}"
        for flag, known in _KNOWN.items()
        if (found := known.compiled.search(settings))
    ]
    mark = " ".join(passage.text[span.start : span.start + 60].split())[:24]
    reason = f"{mark!r} begins a settings text, which is neither drawn nor heeded"
    fix = "Give the whole to --from-text" + (f", or add {' '.join(flags)}" if flags else "")
    return Remark("settings-text", passage.origin.span(span.start, span.end), reason, f"{fix}.")


def _quoted(text: str) -> str:
    text = " ".join(text.split()).strip(" ,").replace('"', "'")
    return f'"{text if len(text) <= _QUOTED else f"{text[: _QUOTED - 3]}..."}"'
