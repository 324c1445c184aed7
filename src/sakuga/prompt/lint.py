"""What a prompt gets wrong: where, why, and how to mend it.

Errors are what the model cannot be expected to draw, warnings what it probably draws
otherwise than meant, infos what is read in a way the author may not expect. Only a fix that
leaves the canonical text as it is carries edits; `fix` applies those.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, takewhile
from string import ascii_letters
from typing import TYPE_CHECKING

from sakuga.errors import PromptRefused
from sakuga.printable import cut
from sakuga.prompt import canonical, counts, structure_rules, tag_rules
from sakuga.prompt.document import MAX_BYTES, bytes_of, clean, read
from sakuga.prompt.foreign import foreign
from sakuga.prompt.nodes import Document, Field, Span
from sakuga.prompt.reader import find_declaration
from sakuga.prompt.rules import RULES, Edit, Form, Found, Severity
from sakuga.prompt.settings import STAYING
from sakuga.prompt.tags import SEPARATORS

if TYPE_CHECKING:
    from sakuga.tokenizer.tokens import Tokenizer

_WORD = re.compile(rf"[^\s{SEPARATORS}]+")
# Close to what large vocabularies do: pieces of words; digits, signs and ideographs alone.
_LETTERS = bytes.maketrans(ascii_letters.encode(), b"a" * len(ascii_letters))
_LATER_BYTES = bytes(range(0x80, 0xC0))  # of a character in UTF-8, all but the first
_ROUGH_TOKEN = re.compile(r"[A-Za-z]{1,7}|[^A-Za-z ]")

__all__ = ["RULES", "Edit", "Finding", "Severity", "fix", "lint", "rough_tokens"]


def check_length(
    document: Document,
    limit: int,
    tokenizer: Callable[[], Tokenizer] | None,
    systems: tuple[str, str],
    weighted: bool = False,
) -> list[Found]:
    """Whether Gemma reads more than `limit` tokens; `systems` are the model's prompts.

    A text of fewer bytes than the limit passes uncounted and loads no tokenizer: a token is
    at least a byte. That is the text as given. What stands before it (a token that begins
    every text, a system prompt) may take one that is nearly as long, and a token to almost
    every byte, past the limit unnoticed; words take several bytes each, so prompts do not.
    """
    if len(document.source.encode()) < limit:
        return []
    lines = list(canonical.plain_lines(document, weighted=weighted))
    user = "\n".join(line.text for line in lines)
    system = canonical.system_prompt(document, None, *systems)
    count, past = _tokens(system + user, limit, tokenizer)
    about = "" if tokenizer else "about "
    how = "" if tokenizer else " (estimated: the model's tokenizer is not here)"
    if count <= limit:
        if tokenizer:
            return []
        reason = f"about {count} of {limit} tokens{how}"
        span = Span(0, len(document.source))
        return [
            Found(
                "length-estimated",
                span,
                reason,
                "Give the folder of the model's files as --model for the exact count.",
            )
        ]
    span = _word_at(lines, max(past - len(system), 0))
    word = document.source[span.start : span.end]
    reason = (
        f"{about}{count} tokens, {limit} were trained{how}; {cut(word)!r} is the first past that"
    )
    return [Found("too-long", span, reason, "Shorten it, or put what matters first.")]


def _word_at(lines: list[canonical.Line], offset: int) -> Span:
    """Where the word at an offset of the canonical text stands in the source.

    Canonical form changes space and commas, never the words or their order in a line.
    """
    at = 0
    while at < len(lines) - 1 and offset > len(lines[at].text):
        offset -= len(lines[at].text) + 1
        at += 1
    # A line may have no words: then the first of those behind, else the last of those before.
    behind = ((line, 0) for line in lines[at + 1 :])
    before = ((line, len(line.text)) for line in reversed(lines[:at]))
    here = ((line, offset) for line in lines[at : at + 1])
    for line, reach in chain(here, behind, before):
        words = takewhile(partial(_ends_by, reach), _WORD.finditer(line.text, line.begin))
        near = deque(islice(_source_words(line), 1 + sum(1 for _ in words)), maxlen=1)
        if near:
            field, start, end = near.pop()
            return field.locate(start, end)
    return Span(0, 0)


def _ends_by(offset: int, word: re.Match[str]) -> bool:
    return word.end() <= offset


def _source_words(line: canonical.Line) -> Iterator[tuple[Field, int, int]]:
    for field in line.fields:
        for match in _WORD.finditer(field.text):
            yield field, *match.span()


def rough_tokens(text: str) -> int:
    """About how many tokens a text has: `_ROUGH_TOKEN`s, counted without making them."""
    rough = text.encode("utf-8", "surrogatepass").translate(_LETTERS, _LATER_BYTES)
    rough = rough.replace(b"a" * 7, b"b")
    for _ in range(3):  # what is left of a run of letters, six at most, becomes one
        rough = rough.replace(b"aa", b"a")
    return len(rough) - rough.count(b" ")


def _tokens(text: str, limit: int, tokenizer: Callable[[], Tokenizer] | None) -> tuple[int, int]:
    """How many tokens a text has, and where the first one past the limit begins."""
    if tokenizer is None:
        count = 1 + rough_tokens(text)  # with the one that begins every text
        past = next(islice(_ROUGH_TOKEN.finditer(text), limit - 1, None), None)
        return count, past.start() if past else len(text)
    ranges = tokenizer().encode(text).offsets
    starts = (start for start, end in ranges[limit:] if end > start)
    return len(ranges), next(starts, len(text))


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark. Lines and columns count characters from 1; the end is just past the span.

    `edits`, when there are any, make the fix without changing what the encoders read.
    """

    rule: str
    severity: Severity
    line: int
    column: int
    end_line: int
    end_column: int
    reason: str
    fix: str
    edits: tuple[Edit, ...] = ()


def lint(
    text: str,
    *,
    limit: int = 512,
    tokenizer: Callable[[], Tokenizer] | None = None,
    vocabulary: frozenset[str] | None = None,
    system_xml: str = "",
    system_text: str = "",
    weighted: bool = False,
    form: Form = "as given",
) -> tuple[Finding, ...]:
    """Findings in reading order. Never raises: what `read` refuses is a finding, too.

    `limit` is the trained length in Gemma tokens, the model's system prompt (`system_xml`
    or `system_text`) included. `tokenizer` is called only for a text of `limit` bytes or
    more; without one its length is estimated. Words outside `vocabulary` are remarked on,
    unless it is None. `weighted`: the weights of tags are heeded. `form`: how it is drawn, or
    that the model was trained on XML; of a flat prompt drawn as XML it is told what was not sure
    of whom.
    """
    try:
        document = read(text)
    except PromptRefused as refused:
        return tuple(_placed([_refusal(text, refused)], text))
    found = _found(document, weighted)
    if any(one.rule not in STAYING for one in document.around):
        # It is cleaned first; until then edits may lie inside what goes.
        found = [replace(one, edits=()) for one in found]
    found += _form(document, form)
    found += check_length(document, limit, tokenizer, (system_xml, system_text), weighted)
    if vocabulary is None:
        found += tag_rules.other_names(document)
    else:
        found += tag_rules.unknown_words(document, vocabulary)
    return tuple(_placed(found, text))


def _form(document: Document, form: Form) -> Iterable[Found]:
    """What there is to say of flat tags that are, or could be, drawn as XML."""
    flat = tag_rules.flat_tags(document) if form != "as given" else []
    if len(flat) < 2:  # `1girl` alone has no tags that could be another's
        return ()
    if form == "as xml":
        from sakuga.prompt.structured import structured  # only such prompts need it

        return structured(document).found
    span = Span(flat[0].span.start, flat[-1].span.end)
    reason = "these are flat tags, and the model was trained on XML, which says what is whose"
    fix = "Draw with --as-xml, or see what it draws then: `sakuga convert-prompt`."
    return (Found("flat-prompt", span, reason, fix),)


def _found(document: Document, weighted: bool) -> list[Found]:
    """Everything that can be said without knowing the model."""
    sections = canonical.sections(document) if document.structured else []
    drawn = [section for section in sections if section.number is not None and section.parts]
    flat = tag_rules.flat_tags(document)
    return [
        *structure_rules.unread(document),
        *structure_rules.strays(document),
        *structure_rules.character_names(sections),
        *counts.numbers(flat, sections, drawn),
        *tag_rules.slots(document, flat, drawn),
        *structure_rules.names(sections),
        *tag_rules.tag_homes(sections, bool(drawn)),
        *foreign(document, weighted=weighted),
        *structure_rules.inner_captions(document),
        *structure_rules.spare_commas(document),
        *structure_rules.empty_elements(document, sections),
    ]


def fix(text: str) -> str:
    """The text with every mechanical fix applied; the encoders read the same as before."""
    try:
        text = clean(text)
    except PromptRefused:
        return text
    while edits := _compatible(lint(text)):
        pieces: list[str] = []
        done = 0
        for edit in edits:
            pieces += text[done : edit.start], edit.replacement
            done = edit.end
        text = "".join([*pieces, text[done:]])
    return text


def _compatible(findings: Iterable[Finding]) -> list[Edit]:
    """The edits of as many findings as fit without overlap, in reading order.

    A finding's edits are made together or, when one of them overlaps, in the next round.
    """
    chosen: list[Edit] = []
    taken: set[int] = set()
    for finding in findings:
        touched = {at for edit in finding.edits for at in range(edit.start, edit.end)}
        if taken.isdisjoint(touched):
            taken |= touched
            chosen += finding.edits
    return sorted(chosen, key=lambda edit: edit.start)


def _refusal(text: str, refused: PromptRefused) -> Found:
    reason = f"{refused.rule}; here is {refused.got}"
    if bytes_of(text) > MAX_BYTES:
        return Found("too-large", Span(0, 0), reason, refused.fix)
    span = find_declaration(text) or Span(0, len(text))
    return Found("declaration", span, reason, refused.fix)


def _placed(found: list[Found], text: str) -> Iterator[Finding]:
    last = max((one.span.end for one in found), default=0)
    starts = [0, *(match.end() for match in re.finditer("\n", text[:last]))]

    def place(offset: int) -> tuple[int, int]:
        line = bisect_right(starts, offset)
        return line, offset - starts[line - 1] + 1

    for one in sorted(found, key=lambda one: (one.span.start, one.span.end)):
        where = *place(one.span.start), *place(one.span.end)
        yield Finding(one.rule, RULES[one.rule], *where, one.reason, one.fix, one.edits)
