"""Where tags begin and end, and how they are spelled."""

from __future__ import annotations

import pytest

from sakuga.prompt.canonical import Systems, canonical, encoder_texts
from sakuga.prompt.document import read
from sakuga.prompt.tags import pieces, spelled, spelling_of, tidied

WORDS = spelling_of(["pink_hair", "black_t-shirt", "black_t_shirt", "1girl", "two-tone_hair"])


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("a，b、c, d,e", ["a", "b", "c", "d", "e"]),
        ("blue hair\nlong hair\r\nred eyes", ["blue hair", "long hair", "red eyes"]),
        ("- a\n* b\n1. c\n2) d\n• e\n・f", ["a", "b", "c", "d", "e", "f"]),
        ("a; b;c；d", ["a", "b", "c", "d"]),
        ("1girl。蓝发｜smile｡x", ["1girl", "蓝发", "smile", "x"]),
        ("1,000 lamps, 1,2", ["1,000 lamps", "1", "2"]),
        (";), ;d, ;_;, &hearts;, 1-2, - b", [";)", ";d", ";_;", "&hearts;", "1-2", "- b"]),
        (",- a,,\n,b ,", ["a", "b"]),
        ("  ", []),
    ],
)
def test_what_separates_and_lists_tags_is_none_of_them(text: str, tags: list[str]) -> None:
    assert [text[start:end] for start, end in pieces(text)] == tags
    assert tidied(text) == ", ".join(tags)
    assert tidied(tidied(text)) == tidied(text)


@pytest.mark.parametrize("sign", ["，", "、", "；", "。", "｜"])
def test_signs_of_full_width_part_flat_tags_but_no_sentences(sign: str) -> None:
    assert canonical(read(f"1girl{sign}blue hair{sign}smile")) == "1girl, blue hair, smile"
    for prose in (
        "一个女孩，站在海边，微笑着。她很高兴。",
        "A girl，standing at the beach at dusk。",
    ):
        assert canonical(read(prose)) == prose


@pytest.mark.parametrize(
    ("tag", "written"),
    [
        ("pink hair", "pink_hair"),
        ("Pink  Hair", "pink_hair"),
        ("pink_hair", "pink_hair"),
        ("black t-shirt", "black_t-shirt"),
        ("black t shirt", "black_t_shirt"),
        ("two tone hair", "two-tone_hair"),
        ("(pink hair:1.2)", "(pink_hair:1.2)"),
        ("green hair", "green hair"),
    ],
)
def test_a_known_tag_is_spelled_as_its_model_does(tag: str, written: str) -> None:
    assert spelled(tag, WORDS) == written


def test_encoders_of_a_model_with_a_vocabulary_read_its_spelling() -> None:
    block = (
        "<character_1><n>pink hair</n><appearance>pink hair，red eyes</appearance></character_1>"
        "<caption>pink hair, blue</caption>"
    )
    sent = encoder_texts(block, "pink hair; x", systems=Systems(), spelling=WORDS)
    assert "<n>pink hair</n>\n<appearance>pink_hair, red eyes</appearance>" in sent.positive.jina
    assert "<caption>pink hair, blue</caption>" in sent.positive.jina
    assert sent.negative.jina == "pink_hair; x"
    assert "pink hair, red eyes" in canonical(read(block))
