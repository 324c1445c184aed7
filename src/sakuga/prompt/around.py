"""What stands around a prompt and is no part of it, taken away step by step.

Prompts come out of chat models, web pages and programs: behind a sentence, inside a Markdown
fence, a string or a wrapper, with their brackets escaped. Each step finds one such thing and the
edits that take it away; the steps are repeated until none finds anything, so that what is left
reads the same when it is read again. Where a sentence might describe the picture it stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from sakuga.printable import LISTED
from sakuga.prompt import escapes, speech
from sakuga.prompt.annotation import annotation_range, request_range
from sakuga.prompt.fences import chosen, fences
from sakuga.prompt.nodes import Remark, Span
from sakuga.prompt.outline import outline
from sakuga.prompt.passage import Passage
from sakuga.prompt.regex import Regex
from sakuga.prompt.rules import Edit, Found
from sakuga.prompt.settings import begin_of_settings, says_negative

_MOST_ROUNDS = 12
_QUOTED = 60  # characters of what is left out that a message shows

_JOINED = "\u0600-\u109f\u1780-\u18af\ua840-\uabff\u2190-\u2bff\U0001f000-\U0001faff"
_ZERO_WIDTH = Regex(
    # Joiners belong between letters of some scripts, and between the parts of an emoji.
    f"(?:[\u200b\u2060\ufeff]|[\u200c\u200d](?:(?<![{_JOINED}\ufe0f][\u200c\u200d])"
    f"|(?![{_JOINED}])))++"
)
_REASONING = "think|thinking|thoughts?|reason|reasoning|reflection|analysis|scratchpad"
_REASON_SIGNS = ("think", "thought", "reason", "reflection", "analysis", "scratchpad")
_REASON = Regex(rf"<(/?)({_REASONING})\s*+>", re.I | re.A)
_CHANNEL = "<|channel|>final<|message|>"
_TOKEN = Regex(
    r"<\|(?!>)[A-Za-z_]{2,30}\|>(?:assistant|user|system|final)?|\[/?INST\]|</s>\s*\Z"
    r"|<(?:start|end)_of_turn>(?:model|user)?"
)
_SYSTEM = Regex(r"^[ \t]*You are [^<]{0,2000}?<Prompt Start>", re.M)
_QUOTE_MARK = Regex(r"^[ \t]*>(?: |(?=<)|$)", re.M)
_LORA = Regex(
    r"<(?:lora|lyco|lycoris|loha|locon|hypernet|hypernetwork)\s*+:\s*+(?P<name>[^<>:\n]{1,200})"
    r"(?::(?P<strength>[^<>\n]{0,100}))?>"
    # Other programs have more such orders, each with a strength behind a name.
    r"|<[A-Za-z_]\w{0,30}:(?P<other>[^<>:\n]{1,200}):(?P<times>[+-]?\d{0,3}\.?\d{1,4})"
    r"(?::[^<>\n]{0,80})?>",
    re.I | re.A,
)
_PROMPT_START = "<Prompt Start>"
_ASKED = {"steps": "--steps", "seed": "--seed", "cfg_scale": "--guidance",
          "guidance_scale": "--guidance", "width": "--width", "height": "--height"}  # fmt: skip
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "「": "」", "『": "』", "«": "»"}
_XML = Regex(r"\s*<\?xml\s[^<>]*\?>")
_BLANK = " \t\u3000"


Step = Callable[[str], Found | None]


def peel(whole: Passage, steps: Sequence[Step] | None = None) -> tuple[Passage, tuple[Remark, ...]]:
    """The prompt without what stands around it, and what a linter says of that.

    `steps`: those that are taken; all of them by default.
    """
    passage = whole
    remarks: dict[tuple[str, str], Remark] = {}
    for _ in range(_MOST_ROUNDS):
        before = passage
        within = WITHIN if steps is None and annotation_range(passage.text) is None else ()
        for step in (*(steps or AROUND), *within):
            cut = step(passage.text)
            if cut is None:
                continue
            span = passage.origin.span(cut.span.start, cut.span.end)
            remark = Remark(cut.rule, span, cut.reason, cut.fix)
            remarks.setdefault((cut.rule, step.__name__), remark)
            passage = passage.edited(cut.edits)
        if passage is before:
            return passage, tuple(remarks.values())
    return whole, ()


def _cut(rule: str, edits: Sequence[Edit], reason: str, fix: str) -> Found:
    return Found(rule, Span(edits[0].start, edits[0].end), reason, fix, tuple(edits))


def _left_out(text: str, spans: Iterator[Span] | list[Span], what: str) -> Found | None:
    """A cut of whole stretches; each leaves a line break, so that nothing grows together."""
    found = [span for span in spans if text[span.start : span.end].strip()]
    if not found:
        return None
    quotes = _quoted(" ... ".join(text[span.start : span.end].strip() for span in found))
    reason = f"{what} is no part of the prompt and is left out: {quotes}"
    edits = tuple(Edit(span.start, span.end, "\n") for span in _joined(found))
    negative = says_negative("\n".join(text[span.start : span.end] for span in found))
    fix = "Give what shall not be seen as --negative, and remove it." if negative else "Remove it."
    return _cut("around-prompt", edits, reason, fix)


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    """Spans in reading order, those that touch as one: a text may have very many."""
    start = end = 0
    for span in spans:
        if span.start > end:
            if end:
                yield Span(start, end)
            start = span.start
        end = max(span.end, end)
    if end:
        yield Span(start, end)


def _quoted(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= _QUOTED else f"{text[: _QUOTED - 3]}...")


def zero_width(text: str) -> Found | None:
    """Characters that nobody sees, but encoders do."""
    if text.isascii():
        return None
    edits = [Edit(*match.span(), "") for match in _ZERO_WIDTH.compiled.finditer(text)]
    if not edits:
        return None
    number = sum(edit.end - edit.start for edit in edits)
    more = f" (and {number - 1} more)" if number > 1 else ""
    reason = f"a character without width, U+{ord(text[edits[0].start]):04X}, is left out{more}"
    return _cut("zero-width", edits, reason, "Remove it.")


def reasoning(text: str) -> Found | None:
    """What a chat model thought before it answered."""
    lowered = text.lower()
    if not any(sign in lowered for sign in _REASON_SIGNS):
        return None
    spans: list[Span] = []
    name, start = "", 0
    if (channel := text.rfind(_CHANNEL)) >= 0:
        spans.append(Span(0, channel + len(_CHANNEL)))
    else:
        for match in _REASON.compiled.finditer(text):
            if not match[1] and not name:
                name, start = match[2].lower(), match.start()
            elif match[1] and not name:  # some models show the end alone
                spans = [Span(0, match.end())]
            elif match[1] and match[2].lower() == name:
                spans.append(Span(start, match.end()))
                name = ""
    return _left_out(text, spans, "a model's reasoning")


def tokens(text: str) -> Found | None:
    """Marks of a chat model's own format."""
    if not any(sign in text for sign in ("<|", "INST]", "</s>", "_of_turn>")):
        return None
    spans = [Span(*match.span()) for match in _TOKEN.compiled.finditer(text)]
    return _left_out(text, spans, "a mark of a chat model")


def before_system(text: str) -> Found | None:
    """What stands in front of a system prompt; or the mark that ends one, without one."""
    if _PROMPT_START not in text:
        return None
    if match := _SYSTEM.compiled.search(text):
        return _left_out(text, [Span(0, match.start())], "what precedes it")
    start = len(text) - len(text.lstrip())
    if not text.startswith(_PROMPT_START, start):
        return None
    mark = Span(start, start + len(_PROMPT_START))
    return _left_out(text, [mark], "the end of a system prompt")


def fenced(text: str) -> Found | None:
    """A Markdown fence, and what is outside of it."""
    found = fences(text)
    inside = chosen(text, found)
    if inside:
        spans = [
            Span(before.start, after.start)
            for before, after in zip(
                (Span(0, 0), *(Span(one.inner.end, 0) for one in inside)),
                (*(one.inner for one in inside), Span(len(text), 0)),
                strict=True,
            )
        ]
        return _left_out(text, spans, "a Markdown fence, with what is outside of it,")
    marks = [
        span
        for one in found
        for span in (
            Span(one.outer.start, one.inner.start),
            Span(one.inner.end, one.outer.end),
        )
    ]
    return _left_out(text, marks, "a Markdown fence")


def quoted(text: str) -> Found | None:
    """The marks of a quotation before every line."""
    if not text.lstrip().startswith(">") or not outline(text).structured:
        return None
    if not all(_QUOTE_MARK.compiled.match(line) for line in text.splitlines() if line.strip()):
        return None
    spans = [Span(*match.span()) for match in _QUOTE_MARK.compiled.finditer(text)]
    return _left_out(text, spans, "a quotation's mark")


def beside_annotation(text: str) -> Found | None:
    """What stands around the annotation JSON."""
    inside = annotation_range(text)
    if inside is None:
        return None
    spans = [Span(0, inside.start), Span(inside.end, len(text))]
    return _left_out(text, spans, "what stands around the annotation")


def in_request(text: str) -> Found | None:
    """A JSON object as other programs are sent one; what else it says is asked for by flags."""
    found = None if annotation_range(text) else request_range(text)
    if found is None:
        return None
    inside, whole = found
    cut = _left_out(text, [Span(0, inside.start), Span(inside.end, len(text))], "JSON around it")
    negative = next((value for key, value in whole.items() if "negative" in key.lower()), "")
    more = [f"--negative {_quoted(negative)}"] if isinstance(negative, str) and negative else []
    more += [
        f"{flag} {value}" for key, flag in _ASKED.items()
        if isinstance(value := whole.get(key), (int, float)) and not isinstance(value, bool)
    ]  # fmt: skip
    return (
        replace(cut, fix=f"Give the prompt alone, and {' '.join(more)}.") if cut and more else cut
    )


def in_quotes(text: str) -> Found | None:
    """One pair of quotation marks around plain tags or sentences."""
    bare = text.strip()
    closing = _QUOTES.get(bare[:1])
    if not closing or len(bare) < 3 or bare[-1] != closing or outline(text).tagged:
        return None
    inside = bare[1:-1]
    # A single word in quotation marks may be meant so.
    if bare[0] in inside or closing in inside or not speech.divides(inside):
        return None
    start = text.index(bare[0])
    end = text.rindex(closing)
    edits = (Edit(start, start + 1, ""), Edit(end, end + 1, ""))
    reason = f"quotation marks around the whole are left out: {bare[0]} {closing}"
    return _cut("around-prompt", edits, reason, "Remove them.")


def unescaped(text: str) -> Found | None:
    """Tags whose brackets are escaped or of full width."""
    found = escapes.written(text)
    if found is None:
        return None
    what, edits = found
    reason = f"these are tags {what}, and are read as tags"
    return _cut("escaped-tags", edits, reason, "Write < and >.")


def wrappers(text: str) -> Found | None:
    """Tags around blocks that are none themselves."""
    spans = outline(text).spare
    if not spans:
        return None
    first = text[spans[0].start : spans[0].end]
    edits = tuple(Edit(span.start, span.end, "\n") for span in spans)
    reason = f"{_quoted(first)[1:-1]} is no block; it only stands around the prompt and is left out"
    return _cut("wrapper", edits, reason, "Remove it.")


def beside_image(text: str) -> Found | None:
    """Text outside of the <img> or <image> that holds the blocks."""
    found = outline(text)
    if not found.frames:
        return None
    inside = [Span(one.open.start, one.end) for one in found.frames]
    spans = [
        span
        for gap in found.gaps
        if not any(frame.start <= gap.start < frame.end for frame in inside)
        for span in _without_markup(text, gap)
    ]
    return _left_out(text, spans, f"what is outside of <{found.frames[0].name}>")


def beside_blocks(text: str) -> Found | None:
    """Program text, brackets and sentences of a chat model between and around blocks."""
    found = outline(text)
    if not found.structured:
        return None
    gaps = [span for gap in found.gaps for span in _without_markup(text, gap)]
    return _left_out(text, list(_meaningless(text, gaps)), "text beside the blocks")


def beside_caption(text: str) -> Found | None:
    """What `beside_blocks` finds, in a text that is as a whole beside a caption."""
    return _left_out(text, list(_meaningless(text, [Span(0, len(text))])), "text beside a caption")


def _meaningless(text: str, gaps: list[Span]) -> Iterator[Span]:
    opened = False
    for gap in gaps:
        part = text[gap.start : gap.end]
        if not part.strip():
            continue
        last = gap is gaps[-1]
        program = speech.opens_text(part) or (last and opened) or speech.closes_text(part)
        opened |= speech.opens_text(part)
        if program or speech.is_marks(part) or speech.is_chat(part):
            yield gap
            continue
        yield from speech.lines_of_marks(text, gap)


def _blanks(text: str, start: int) -> int:
    """How many characters of space stand there."""
    return len(text) - start - len(text[start:].lstrip())


def _without_markup(text: str, gap: Span) -> Iterator[Span]:
    """The text of a gap without a system prompt, an XML declaration and a settings text."""
    start = gap.start
    marker = text.rfind(_PROMPT_START, gap.start, gap.end)
    if marker >= 0 and text.startswith("You are ", start + _blanks(text, start)):
        start = marker + len(_PROMPT_START)
    declaration = _XML.compiled.match(text, start, gap.end)
    start = declaration.end() if declaration else start
    yield Span(start, begin_of_settings(text, Span(start, gap.end)))


def beside_tags(text: str) -> Found | None:
    """Sentences of a chat model, or a program's assignment, around plain tags."""
    if outline(text).tagged:
        return None
    assigned = _ASSIGNMENT.compiled.fullmatch(text) or _LABELLED.compiled.match(text)
    if assigned:
        spans = [Span(0, assigned.start("text")), Span(assigned.end("text"), len(text))]
        return _left_out(text, spans, "what says that a prompt follows")
    if "\n" not in text.strip():
        return None
    end = begin_of_settings(text, Span(0, len(text)))
    lines = text[:end].splitlines(keepends=True)
    spoken, at, rest = [], 0, False
    for line in lines:
        said = speech.end_of_introduction(line) if speech.is_introduction(line) else 0
        if said:
            spoken.append(Span(at, at + said))
        rest |= not line[said:].isspace() and said < len(line)
        at += len(line)
    return _left_out(text, spoken, "a sentence about the prompt") if rest else None


_LABELLED = Regex(
    r"\s*+(?:/imagine\s++)?(?P<heading>[*_#][*_#\s]*+)?+"
    r"(?:(?:positive |image )?prompt|positive|正[面向]提示词|提示词|プロンプト)"
    r"(?:[*_\s]*+[:：][*_]*+|(?(heading)[*_ \t]*+\n|(?!)))(?P<text>.++)",
    re.I | re.S,
)
_ASSIGNMENT = Regex(
    r"\s*+(?:[A-Za-z_]\w*+\s*+=\s*+|print\s*+)\(?\s*+[rRfFbBuU]{0,2}"
    r"(?P<quote>\"\"\"|'''|[\"'])(?P<text>[^\"']*+)(?P=quote)\s*+\)?\s*+[;,]?\s*+"
)


def loras(text: str) -> Found | None:
    """What other programs read as an order to load a LoRA."""
    if ":" not in text or "<" not in text:
        return None
    found = list(_LORA.compiled.finditer(text))
    if not found:
        return None
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    reason = f"no LoRA is loaded by {_quoted(found[0][0])[1:-1]}, which is left out{more}"
    flags = " ".join(map(_lora_flag, found[:LISTED]))
    rest = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    fix = f"Give {'their files' if len(found) > 1 else 'its file'}: {flags}{rest}."
    done, edits = 0, []
    for match in found:
        edit = _with_comma(text, Edit(*match.span(), ""))
        edits.append(Edit(max(edit.start, done), edit.end, ""))
        done = edit.end
    return _cut("lora-tag", edits, reason, fix)


def _lora_flag(order: re.Match[str]) -> str:
    name = (order["name"] or order["other"]).strip()
    strength = (order["strength"] or order["times"] or "1").split(":")[0].strip() or "1"
    return f"--lora {name}.safetensors:{strength}"


def _with_comma(text: str, edit: Edit) -> Edit:
    """An edit that takes one of the commas beside it along."""
    after = edit.end
    while after < len(text) and text[after] in _BLANK:
        after += 1
    if text[after : after + 1] in {",", "，", "、"}:
        after += 1
        while after < len(text) and text[after] in _BLANK:
            after += 1
        return Edit(edit.start, after, "")
    before = edit.start
    while before and text[before - 1] in _BLANK:
        before -= 1
    if before and text[before - 1] in ",，、":
        return Edit(before - 1, edit.end, "")
    return edit


AROUND: tuple[Step, ...] = (
    zero_width,
    reasoning,
    tokens,
    before_system,
    fenced,
    beside_annotation,
    in_request,
)
# What is inside of an annotation's strings is looked at when they are read.
WITHIN: tuple[Step, ...] = (
    quoted,
    unescaped,
    wrappers,
    beside_image,
    beside_blocks,
    beside_tags,
    in_quotes,
    loras,
)
# A caption is prose: only what is no text at all goes.
OF_CAPTIONS: tuple[Step, ...] = (zero_width, reasoning, tokens, fenced, loras)
