"""Prompts for Hypothesis: well-kept documents, and text as wild as people write it."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from sakuga.prompt.names import ALIASES, CAPTION, CHARACTER_FIELDS, GENERAL, GENERAL_FIELDS
from sakuga.prompt.nodes import Block, Document, Field

TAGS = (
    "blue_hair", "red_eyes", "long hair", "(blue_eyes:1.2)", "heterochromia", "school_uniform",
    "1girl", "2girls", "standing", "smile", ">_<", "<3", ":<", "cats & dogs", "&hearts;", "&amp;",
    "aris_\\(blue archive\\)", "蓝发，双马尾", "青い目", "😀", "<b>", "</n>", "]]>", "1,000",
    "&#38;lt;",
)  # fmt: skip
FRAGMENTS = (
    *TAGS, "<", ">", "&", ";", "/", "\n", " ", ",", '"', "'", "=", "{", "}", "<!--", "-->",
    "<![CDATA[", "<?pi", "?>", "<x/>", "<a b='&'>", "</a>", "<character_1>", "</character_1>",
    "<character>", "</character>", "<character_2 name='rin'>", "</character_2>", "<appearance>",
    "</appearance>", "<pose>", "</pose>", "<n>", "<name></name>", "<general_tags>",
    "</general_tags>", "<style>", "</style>", "<count>2girls,</count>", "<image>", "</image>",
    "<img>", "</img>", "<caption>", "</caption>", '{"image": {"tags": "', '"}}', "\\n", "\\u00e9",
    "You are ", "<Prompt Start>", "<?xml version='1.0'?>", "\r\n", "\ufeff", "\u3000", "\x00",
    "```xml\n", "```", "\n~~~\n", "<think>", "</think>", "Here is your prompt:\n", "Enjoy!", "> ",
    "&lt;character_1&gt;", "&lt;/character_1&gt;", "＜n＞", "＜/n＞", "\u200b", "\u200d", "<br>",
    "<negative>", "</negative>", "\nNegative prompt: ", "Steps: 28, Sampler: x", "\n- ", "1. ",
    "，", "、", "; ", "<document>", "</document>", "<prompt>", "</prompt>", "<o>_<o>", 'p = """',
    '"""', "\ud800", "&#13;", "&#0;", "&#x41;", "<lora:x:0.8>", "<角色>", "</角色>",
)  # fmt: skip

# XML can carry no control characters.
texts = st.one_of(
    st.sampled_from(TAGS),
    st.lists(st.sampled_from(TAGS), min_size=1, max_size=4).map(", ".join),
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t\r<>&;"), max_size=30
    ),
).map(str.strip)
unknown_names = st.text(string.ascii_lowercase, min_size=1, max_size=6).map("u_".__add__)
nested_texts = st.tuples(unknown_names, texts).map(
    lambda pair: f"<{pair[0]}>{_plain(pair[1])}</{pair[0]}>"
)


def _plain(text: str) -> str:
    return text.translate({ord(c): None for c in "<>&\r"})


def fields(names: tuple[str, ...]) -> st.SearchStrategy[Field]:
    """One field under a known name, an alias or an unknown name, now and then nested."""
    known = st.sampled_from((*names, *(old for old, new in ALIASES.items() if new in names)))
    weights = st.sampled_from((1.0, 1.0, 1.0, 0.0, 0.85, 1.2))
    flat = st.builds(Field, known | unknown_names, texts, st.just(False), weights)
    nested = st.builds(Field, unknown_names, nested_texts, st.just(True))
    return st.one_of(flat, flat, flat, nested)


def _distinct(field: Field) -> str:
    return ALIASES.get(field.name, field.name)


def blocks(name: str, names: tuple[str, ...]) -> st.SearchStrategy[Block]:
    """A block whose fields have distinct meanings."""
    return st.lists(fields(names), max_size=6, unique_by=_distinct).map(
        lambda found: Block(name, tuple(found))
    )


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A structured document with distinct numbers, names and blocks, in any order."""
    numbers = draw(st.lists(st.integers(0, 99), max_size=5, unique=True))
    found = [draw(blocks(f"character_{number}", CHARACTER_FIELDS)) for number in numbers]
    if draw(st.booleans()):
        found.append(draw(blocks(GENERAL, GENERAL_FIELDS)))
    if draw(st.booleans()):
        text = draw(texts)
        found.append(Block(CAPTION, (Field("", text),) if text else ()))
    for name in draw(st.lists(unknown_names, max_size=2, unique=True)):
        found.append(draw(blocks(name, ("x", "y"))))
    if not found:
        found.append(Block("u_only", ()))
    return Document("xml", tuple(draw(st.permutations(found))))


@st.composite
def rearranged(draw: st.DrawFn) -> tuple[Document, Document]:
    """A document and the same with its blocks and their fields in another order."""
    document = draw(documents())
    shuffled = [
        Block(block.name, tuple(draw(st.permutations(block.fields)))) for block in document.blocks
    ]
    return document, Document(document.kind, tuple(draw(st.permutations(shuffled))))


wild = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join),
    st.text(max_size=60),
    st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=8), max_size=25).map("".join),
)
"""Any text at all, prompt-like more often than not; it may declare a DTD by chance only."""
