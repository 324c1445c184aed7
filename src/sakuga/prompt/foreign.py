"""Syntax of other programs, which these encoders read as text: one table of patterns.

Every quantifier is bounded or possessive, so that no text takes long. Patterns are tried in the
order of the table; what one has matched is not matched again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sakuga.prompt.emphasis import brackets_of
from sakuga.prompt.names import CAPTION, lowered, standard_name
from sakuga.prompt.nodes import Document, Field
from sakuga.prompt.regex import Regex
from sakuga.prompt.rules import Found
from sakuga.prompt.settings import SETTING
from sakuga.prompt.tags import tags

WEIGHTS = "weighted-tag"
OTHER = "other-syntax"
UNHEEDED = "unheeded-weight"
_LOOKED_AT = (
    16_384  # characters of a field: models read an eighth, and `too-long` tells of the rest
)
HEED = "Remove it, or draw with --weighting interpolate."

Hit = tuple[Field, int, int]  # where in which field


@dataclass(frozen=True, slots=True)
class Pattern:
    """What other programs take a piece of text for, and what is said where it is met.

    `signs`: one of them is in every text that has it. `%s` in a reason is the piece as written.
    Patterns that are not of `prose` do not look at captions; those `of_tags` are matched against
    each tag, others are searched for.
    """

    rule: str
    signs: str
    pattern: Regex
    reason: str
    fix: str
    prose: bool = True
    of_tags: bool = False


PATTERNS = (
    Pattern(
        OTHER,
        "[",
        Regex(r"\[[^\[\]:|,\n]{0,80}[:|][^\[\]\n]{0,160}\]"),
        "%s changes a tag between steps elsewhere; here all of it is read as text",
        "Write the tag that is meant.",
        prose=False,
    ),
    Pattern(
        OTHER,
        "|",
        Regex(r"\{[^{}|\n]{0,160}\|[^{}\n]{0,400}\}"),
        "%s is a choice elsewhere; here all of it is read as text",
        "Write one of them.",
    ),
    Pattern(
        OTHER,
        "__",
        Regex(r"__(?<![\w/]__)[A-Za-z0-9*][\w*/ .\-]{0,60}?__(?!\w)"),
        "%s stands for a line of a file elsewhere; here it is read as text",
        "Write the words that are meant.",
    ),
    Pattern(
        OTHER,
        "--",
        Regex(r"--(?<![^\s,，]--)[A-Za-z]{1,20}(?:[ =]\d[\w:./]{0,20})?"),
        "%s is a setting elsewhere; here it is read as text",
        "Give settings as flags of the command: --size, --steps, --seed, --negative.",
    ),
    Pattern(
        OTHER,
        "BREAK AND ADD",
        Regex(r"(?<![^\s,，])(?:BREAK|AND|ADD(?:COMM|BASE|ROW|COL))(?![^\s,，])"),
        "%s parts a prompt elsewhere; here it is read as text",
        "Remove it; what belongs to one character goes into one block.",
        prose=False,
    ),
    Pattern(
        OTHER,
        "// # /*",
        Regex(
            r"//(?<![:\w/\\]//)(?![/\\])[^\n]*+|#(?<![^\n]#)#{0,5}[ \t][^\n]*+"
            r"|/\*[^*]*+(?:\*(?!/)[^*]*+)*+(?:\*/|\Z)"
        ),
        "%s is a comment elsewhere; here it is read as text",
        "Remove it, or write <!-- -->.",
    ),
    Pattern(
        OTHER,
        ":",
        Regex(
            r"<(?!https?:|mailto:)[A-Za-z_]\w{0,30}(?:\[[^\[\]<>\n]{0,80}\])?:[^<>\n]{1,200}>",
            re.A,
        ),
        "%s is an order to another program; here all of it is read as text",
        "Write the words that are meant.",
    ),
    Pattern(
        OTHER,
        "$",
        Regex(r"\$\{[A-Za-z_][^{}\n]{0,160}\}|\$(?<![\w$]\$)[A-Za-z_]\w{0,40}+(?![\w$])"),
        "%s is a variable elsewhere; here it is read as text",
        "Write what it stands for.",
    ),
    Pattern(
        OTHER,
        ": =",
        Regex(SETTING, re.I),
        "%s is a setting elsewhere; here it is read as text",
        "Give settings as flags of the command: --size, --steps, --seed, --negative.",
        prose=False,
        of_tags=True,
    ),
    Pattern(
        "lora-tag",
        "mbedding:",
        Regex(r"embedding:[\w.\-/\\]{1,100}", re.I),
        "no embedding is loaded by %s, which is read as text",
        "Remove it; adapters are given as --lora FILE:STRENGTH.",
    ),
    Pattern(
        WEIGHTS,
        "( [ { :",
        Regex(
            r"(?!\d+:\d+\Z).*(?:[^\s:]:\s*+[0-9]{0,4}\.?[0-9]{1,4}[)\]}]*\Z|::)"
            r"|(?:\(\(|\[\[|\{)|[(\[](?=[^,]*[^\W\d_]{2})[^()\[\]]++[)\]]\Z",
            re.S,
        ),
        "the encoders read %s as text, not as a weight",
        "Write the tag alone, or (tag:1.2) with --weighting interpolate.",
        prose=False,
        of_tags=True,
    ),
)


def foreign(document: Document, *, weighted: bool = False) -> Iterator[Found]:
    """What other programs would obey; of each kind the first, with how many there are.

    weighted: weights that people type, and those of elements, are heeded.
    """
    hits: dict[int, list[Hit]] = {}
    unheeded: list[Hit] = []
    for part, prose in _parts(document):
        taken = bytearray(len(part.text))
        for one in brackets_of(part.text, prose=prose):
            if weighted:
                taken[one.start] = taken[one.end - 1] = 1
            elif one.numbered:
                unheeded.append((part, one.start, one.end))
                taken[one.start : one.end] = b"x" * (one.end - one.start)
        for index, kind in enumerate(PATTERNS):
            for start, end in _matches(kind, part) if kind.prose or not prose else ():
                if not any(taken[start:end]):
                    hits.setdefault(index, []).append((part, start, end))
                    taken[start:end] = b"x" * (end - start)
    for index in sorted(hits):
        kind = PATTERNS[index]
        yield _found(kind.rule, kind.reason, kind.fix, hits[index])
    if unheeded:
        yield _found(UNHEEDED, "the encoders read %s as text, not as a weight", HEED, unheeded)
    elif not weighted:
        yield from _elements(document)


def _elements(document: Document) -> Iterator[Found]:
    """The first element with a weight."""
    for block in document.blocks:
        for part in block.fields:
            if part.weight != 1:
                reason = f"the weight {part.weight:g} of <{part.name or CAPTION}> is not heeded"
                yield Found(UNHEEDED, part.span, reason, HEED)
                return


def _matches(kind: Pattern, part: Field) -> Iterator[tuple[int, int]]:
    if not any(sign in part.text for sign in kind.signs.split()):
        return
    if not kind.of_tags:
        yield from (match.span() for match in kind.pattern.compiled.finditer(part.text))
    else:
        yield from (
            (tag.start, tag.start + len(tag.text))
            for tag in tags(part)
            if kind.pattern.compiled.match(tag.text)
        )


def _found(rule: str, reason: str, fix: str, hits: list[Hit]) -> Found:
    part, start, end = hits[0]
    text = " ".join(part.text[start:end].split())
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    more = f" (and {len(hits) - 1} more)" if len(hits) > 1 else ""
    return Found(rule, part.locate(start, end), reason % shown + more, fix)


def _parts(document: Document) -> Iterator[tuple[Field, bool]]:
    """The texts of a prompt, each with whether it is prose; names are not looked at."""
    for block in document.blocks:
        for part in block.fields:
            caption = CAPTION in (lowered(block.name), lowered(part.name))
            if not part.nested and standard_name(part.name) != "n":
                looked_at = replace(part, text=part.text[:_LOOKED_AT])
                yield looked_at, caption or (document.structured and not block.name)
