"""Prompts broken at random: run by hand for many, `python tests/property/mutations.py 100000`.

What is tried: lint and fix never raise, spans lie in the text, the canonical form is a fixed
point, and no text takes long for its size.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sakuga.errors import PromptRefused
from sakuga.prompt.canonical import canonical
from sakuga.prompt.document import MAX_BYTES, bytes_of, read
from sakuga.prompt.lint import fix, lint
from sakuga.prompt.outline import outline

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.*"))
PIECES = (
    "<character_1>", "</character_1>", "<general_tags>", "</general_tags>", "<caption>",
    "</caption>", "<n>", "</n>", "<img>", "</img>", "<negative>", "</negative>", "<doc>",
    "</doc>", "```xml\n", "```", "<think>", "</think>", "Here is your prompt:\n", "prompt = '''",
    "'''", '"', "{", "}", "|", "::", "&lt;n&gt;", "&", "<", ">", "\\n", "\\<n>", "\\u003cn",
    "＜n＞", "\u200b", "\u200d", "<lora:x:1>", "Negative prompt: ", "Steps: 28, Sampler: x",
    "BREAK", "//", "/*", "#", " # ", "--ar 2:3", "__a__", "(a:1.2)", "((", "))", "[a:b:0.5]",
    "1.2::", ", ", "，", "、", ";", "\n", "\n- ", "1. ", "<o>_<o>", '{"image": {"tags": "',
    '"}}', "You are ", "<Prompt Start>", "<!--", "-->", "<![CDATA[", "]]>", "<br>",
    "embedding:x", "<|a|>", "<character id='2'>", "</character>", "1girl", "blue hair", "é",
    "😀", "\x00",
)  # fmt: skip


def mutated(source: random.Random, most: int = MAX_BYTES) -> str:
    """An example, or nothing, with pieces put in, cut out, doubled and repeated."""
    text = source.choice(["", *(path.read_text(encoding="utf-8") for path in EXAMPLES)])
    for _ in range(source.randrange(1, 12)):
        at, end = sorted((source.randrange(len(text) + 1), source.randrange(len(text) + 1)))
        piece = source.choice(PIECES)
        kind = source.randrange(6)
        if kind == 0:
            text = text[:at] + text[end:]
        elif kind == 1:
            text = text[:end] + text[at:]
        elif kind == 2:
            times = source.choice((2, 20, 300, most // max(len(piece.encode()), 1)))
            text = text[:at] + piece * times + text[at:]
        else:
            text = text[:at] + piece + text[at:]
    return text.encode()[:most].decode(errors="ignore")


def lint_seconds(text: str) -> float:
    """The seconds that lint takes of this process for a text it has not seen."""
    for cached in (read, outline):
        cached.cache_clear()
    begun = time.process_time()
    lint(text, vocabulary=frozenset({"1girl"}))
    return time.process_time() - begun


def check(text: str) -> float:
    """Check one prompt; the seconds that lint took of this process."""
    took = lint_seconds(text)
    found = lint(text, vocabulary=frozenset({"1girl"}))
    rows = text.split("\n")
    for one in found:
        assert 1 <= one.line <= one.end_line <= len(rows)
        assert one.column <= len(rows[one.line - 1]) + 1
    try:
        once = canonical(read(text))
    except PromptRefused:
        return took
    assert bytes_of(once) > MAX_BYTES or canonical(read(once)) == once
    mended = fix(text)
    assert bytes_of(mended) > MAX_BYTES or canonical(read(mended)) == once
    return took


def failures(number: int, seed: int) -> Iterator[tuple[str, str]]:
    """What fails of some prompts, and the slowest of them."""
    source = random.Random(seed)
    slowest, text = 0.0, ""
    for _ in range(number):
        prompt = mutated(source, source.choice((300, 3_000, MAX_BYTES)))
        try:
            took = check(prompt)
        except (Exception, RecursionError) as error:
            yield repr(error)[:200], prompt
            continue
        if took > slowest:
            slowest, text = took, prompt
    yield f"the slowest took {slowest:.3f} s for {len(text.encode()):,} bytes", text


if __name__ == "__main__":
    for what, prompt in failures(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 0):
        sys.stdout.write(f"{what}\n  {prompt[:300]!r}\n")
