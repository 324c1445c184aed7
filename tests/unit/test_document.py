"""Reading what people write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sakuga.errors import PromptRefused
from sakuga.prompt.document import MAX_BYTES, read, write
from sakuga.prompt.nodes import Block, Document, Offsets, Span
from sakuga.prompt.reader import _Reader

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.*"))


def content(document: Document) -> list[tuple[str, list[tuple[str, str]]]]:
    return [(b.name, [(f.name, f.text) for f in b.fields]) for b in document.blocks]


def cut(text: str, span: Span) -> str:
    return text[span.start : span.end]


def field_text(text: str) -> str:
    (block,) = read(f"<character_1><n>{text}</n></character_1>").blocks
    (field,) = block.fields
    return field.text


def test_several_roots_are_blocks_in_reading_order() -> None:
    text = "<character_1><n>miku</n><gender>1girl</gender></character_1>\n<caption>hi</caption>"
    assert content(read(text)) == [
        ("character_1", [("n", "miku"), ("gender", "1girl")]),
        ("caption", [("", "hi")]),
    ]


@pytest.mark.parametrize("wrapper", ["image", "img", "IMG"])
def test_a_wrapper_is_no_level(wrapper: str) -> None:
    inside = "<character_1><n>miku</n></character_1>"
    assert read(f"<{wrapper}>\n{inside}\n</{wrapper}>") == read(inside)


@pytest.mark.parametrize(
    "text", ["1girl, blue_hair", "少女、青い髪", "A girl & her cat >_<", "1girl"]
)
def test_text_without_tags_is_plain(text: str) -> None:
    document = read(f"\n {text} \n")
    assert document.kind == "text"
    assert document.fault is None
    assert content(document) == [("", [("", text)])]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("<image> 1girl </image>", "1girl"),
        ("<img><image>a &amp; b</image></img>", "a &amp; b"),
        ("<img>a</img> b", "<img>a</img> b"),
        ("<img>a</img><img>b</img>", "<img>a</img><img>b</img>"),
    ],
)
def test_plain_text_comes_out_of_its_wrappers(text: str, meant: str) -> None:
    assert content(read(text)) == [("", [("", meant)])]


def test_an_empty_text_is_an_empty_document() -> None:
    assert read(" \n").blocks == ()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("cats & dogs", "cats & dogs"),
        ("cats &amp; dogs", "cats & dogs"),
        ("&hearts;", "&hearts;"),
        ("&amp;hearts;", "&hearts;"),
        (">_<", ">_<"),
        ("<3 </3 :< <-", "<3 </3 :< <-"),
        ("a < b", "a < b"),
        ("]]>", "]]>"),
        ("<o>_<o>, <|>_<|>, =<, 3<, :<", "<o>_<o>, <|>_<|>, =<, 3<, :<"),
        ("<Prompt Start>", "<Prompt Start>"),
        ("&#65;&#x42;", "AB"),
        ("<![CDATA[a <b> & c]]>", "a <b> & c"),
        ("a<!-- not <b> seen -->c", "ac"),
        ("aris_\\(blue archive\\)", "aris_\\(blue archive\\)"),
        ("蓝发，双马尾 😀", "蓝发，双马尾 😀"),
    ],
)
def test_bare_markup_is_text(written: str, meant: str) -> None:
    assert field_text(written) == meant


def test_text_outside_of_tags_is_nameless() -> None:
    text = "before <character_1>inside <n>miku</n> after</character_1> behind"
    assert content(read(text)) == [
        ("", [("", "before")]),
        ("character_1", [("", "inside"), ("n", "miku"), ("", "after")]),
        ("", [("", "behind")]),
    ]


def test_attributes_of_a_block_are_fields() -> None:
    text = "<character_1 name='miku &amp; rin' gender=\"1girl\"><n lang='en'>x</n></character_1>"
    document = read(text)
    expected = [("name", "miku & rin"), ("gender", "1girl"), ("n", "x")]
    assert content(document) == [("character_1", expected)]
    assert [cut(text, span) for span in document.attributes] == [
        text[: text.index("<n")],
        "<n lang='en'>",
    ]


def test_tags_below_a_field_stay_as_written() -> None:
    text = "<character_1><info><hair a='&'>blue &amp; red</hair></info></character_1>"
    (field,) = read(text).blocks[0].fields
    assert field.nested
    assert field.text == "<hair a='&'>blue &amp; red</hair>"
    assert field.deep is not None
    assert cut(text, field.deep) == "<hair a='&'>"


def test_a_caption_may_hold_tags() -> None:
    document = read("<caption>a <b>bold</b> girl</caption>")
    assert content(document) == [("caption", [("", "a <b>bold</b> girl")])]
    assert document.blocks[0].fields[0].deep is None


@pytest.mark.parametrize(
    ("text", "reason", "where"),
    [
        ("<n>miku", "<n> is never closed", "<n>"),
        ("<a><n>miku</a>", "</a> comes before <n> is closed", "</a>"),
        ("miku</n>", "</n> closes a tag that was never opened", "</n>"),
        ("<n>&#0;</n>", "reference to invalid character number", "&"),
        ("<n>a<!-- b</n>", "unclosed token", "<"),
    ],
)
def test_what_is_not_well_formed_is_plain_text_with_the_reason(
    text: str, reason: str, where: str
) -> None:
    document = read(text)
    assert content(document) == [("", [("", text)])]
    assert document.fault is not None
    assert document.fault.rule == "not-well-formed"
    assert reason in document.fault.reason
    span = document.fault.span
    assert cut(text, span) == where


def test_the_annotation_json_is_its_prompt() -> None:
    tags = '<character_1>\n<n>"rin" é</n>\n</character_1>'
    text = json.dumps(
        {"character_1": {"bbox": [0, 0, 1, 1]}, "image": {"tags": tags, "caption": "a\nb < 😀"}}
    )
    document = read(text)
    assert document.kind == "json"
    assert content(document) == [
        ("character_1", [("n", '"rin" é')]),
        ("caption", [("", "a\nb < 😀")]),
    ]
    name, caption = (block.fields[0] for block in document.blocks)
    assert cut(text, name.locate(1, 4)) == "rin"
    assert cut(text, name.locate(4, 5)) == '\\"'
    assert cut(text, caption.locate(6, 7)) == "\\ud83d\\ude00"
    assert cut(text, name.names[0]) == "n"


@pytest.mark.parametrize(
    "text",
    ['{"image": 1}', '{"a": "b"}', '{"image": {"tags": 1}}', "{1girl}, blue_hair", "{" * 60_000],
)
def test_other_braces_are_plain_text(text: str) -> None:
    assert read(text).kind == "text"


def test_a_system_prompt_in_front_is_set_apart() -> None:
    system = "You are an assistant designed to draw. <Prompt Start>"
    document = read(f" {system}\n<character_1><n>x</n></character_1>")
    assert document.system == system
    assert [block.name for block in document.blocks] == ["character_1"]
    assert document.source[document.system_span.start : document.system_span.end] == system


def test_an_xml_declaration_and_a_byte_order_mark_are_skipped() -> None:
    text = "\ufeff<?xml version='1.0' encoding='UTF-8'?>\n<n>miku</n>"
    assert content(read(text)) == [("n", [("", "miku")])]


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        "<!doctype html><p>hi</p>",
        "1girl <!ENTITY x SYSTEM 'file:///etc/passwd'>",
        '{"image": {"tags": "\\u003c!DOCTYPE a><n>x</n>"}}',
    ],
)
def test_a_declaration_is_refused(text: str) -> None:
    with pytest.raises(PromptRefused, match="no document type"):
        read(text)


def test_the_parser_itself_refuses_declarations() -> None:
    # The text is searched first; this holds the second line of defence.
    reader = _Reader("", Offsets(0, 0))
    reader._bytes = b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    with pytest.raises(PromptRefused):
        reader.read()


def test_64_kib_is_the_most() -> None:
    assert len(read("é" * (MAX_BYTES // 2)).blocks) == 1
    with pytest.raises(PromptRefused, match="64 KiB"):
        read("é" * (MAX_BYTES // 2) + "x")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("<a>" * 40 + "</a>" * 40, "too-deep"),
        ("<a/>" * 2_001, "not-well-formed"),
        ("<a " + " ".join(f"b{i}=''" for i in range(65)) + "/>", "not-well-formed"),
    ],
)
def test_past_the_limits_of_shape_it_is_plain_text(text: str, rule: str) -> None:
    document = read(text)
    assert document.kind == "text"
    assert document.fault is not None
    assert document.fault.rule == rule


def test_a_lone_surrogate_is_replaced() -> None:
    assert content(read("\ud800 x")) == [("", [("", "\ufffd x")])]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_reads_without_fault_and_back(path: Path) -> None:
    document = read(path.read_text(encoding="utf-8"))
    assert document.fault is None
    assert read(write(document)) == document


def test_documents_are_equal_by_what_they_say() -> None:
    assert read("<n>x</n>") == read(" <n> x </n> ")
    assert read("<n>x</n>") != read("<n>y</n>")
    assert Block("a", ()) == Block("a", (), Span(1, 2))
