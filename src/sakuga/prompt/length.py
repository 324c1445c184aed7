"""Is a prompt longer than the encoder was trained on, and which word is the first past that?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from string import ascii_letters
from typing import TYPE_CHECKING

from sakuga.prompt import canonical as forms
from sakuga.prompt.nodes import Document, Span
from sakuga.prompt.rules import Found

if TYPE_CHECKING:
    from sakuga.tokenizer.tokens import Tokenizer

_WORD = re.compile(r"[^\s,]+")
# Close to what large vocabularies do: pieces of words; digits, signs and ideographs alone.
_LETTERS = dict.fromkeys(map(ord, ascii_letters), "a")
_ROUGH_TOKEN = re.compile(r"[A-Za-z]{1,7}|[^A-Za-z ]")


def check(
    document: Document,
    limit: int,
    tokenizer: Callable[[], Tokenizer] | None,
    systems: tuple[str, str],
) -> list[Found]:
    """Whether Gemma reads more than `limit` tokens; `systems` are the model's prompts.

    A text of fewer bytes than the limit passes uncounted and loads no tokenizer: a token is
    at least a byte. That is the text as given. What stands before it (a token that begins
    every text, a system prompt) may take one that is nearly as long, and a token to almost
    every byte, past the limit unnoticed; words take several bytes each, so prompts do not.
    """
    if len(document.source.encode()) < limit:
        return []
    lines = list(forms.lines(document))
    user = "\n".join(line.text for line in lines)
    system = forms.system_prompt(document, None, *systems)
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
    reason = f"{about}{count} tokens, {limit} were trained{how}; {word!r} is the first past that"
    return [Found("too-long", span, reason, "Shorten it, or put what matters first.")]


def _word_at(lines: list[forms.Line], offset: int) -> Span:
    """Where the word at an offset of the canonical text stands in the source.

    Canonical form changes space and commas, never the words or their order in a line.
    """
    span = Span(0, 0)
    for line in lines:
        words = list(_source_words(line))
        if words:
            before = sum(match.end() <= offset for match in _WORD.finditer(line.text, line.begin))
            span = words[min(before, len(words) - 1)]
            if offset <= len(line.text):
                break
        offset -= len(line.text) + 1
    return span


def _source_words(line: forms.Line) -> Iterator[Span]:
    for field in line.fields:
        for match in _WORD.finditer(field.text):
            yield field.locate(*match.span())


def _rough_tokens(text: str) -> int:
    """How many matches `_ROUGH_TOKEN` has, without making them: a text may have very many."""
    rough = text.translate(_LETTERS).replace("a" * 7, "b")
    for _ in range(3):  # what is left of a run of letters, six at most, becomes one
        rough = rough.replace("aa", "a")
    return len(rough) - rough.count(" ")


def _tokens(text: str, limit: int, tokenizer: Callable[[], Tokenizer] | None) -> tuple[int, int]:
    """How many tokens a text has, and where the first one past the limit begins."""
    if tokenizer is None:
        count = 1 + _rough_tokens(text)  # with the one that begins every text
        past = next(islice(_ROUGH_TOKEN.finditer(text), limit - 1, None), None)
        return count, past.start() if past else len(text)
    ranges = tokenizer().encode(text).offsets
    starts = (start for start, end in ranges[limit:] if end > start)
    return len(ranges), next(starts, len(text))
