"""The canonical text: one for every arrangement, and a fixed point."""

from __future__ import annotations

from hypothesis import assume, given
from strategies import documents, rearranged, wild

from sakuga.prompt.canonical import (
    Systems,
    blocks_apart,
    canonical,
    encoder_texts,
    lines,
    unweighted,
)
from sakuga.prompt.document import read, write
from sakuga.prompt.nodes import Document
from sakuga.prompt.reader import find_declaration
from sakuga.prompt.tags import SEPARATORS


@given(rearranged())
def test_order_of_blocks_and_fields_changes_nothing(pair: tuple[Document, Document]) -> None:
    first, second = pair
    assert canonical(first) == canonical(second)
    assert canonical(read(write(first))) == canonical(read(write(second)))


@given(documents())
def test_canonical_form_of_a_document_is_a_fixed_point(document: Document) -> None:
    text = canonical(document)
    assert canonical(read(text)) == text


@given(wild)
def test_canonical_form_of_any_text_is_a_fixed_point(text: str) -> None:
    assume(find_declaration(text) is None)
    once = canonical(read(text))
    assert canonical(read(once)) == once


@given(wild)
def test_writing_changes_no_canonical_text(text: str) -> None:
    assume(find_declaration(text) is None)
    document = read(text)
    assert canonical(read(write(document))) == canonical(document)


@given(documents())
def test_lines_hold_the_words_of_their_fields_in_order(document: Document) -> None:
    for line in lines(document):
        if line.fields and not any(part.nested or "&" in part.text for part in line.fields):
            words = _parted(" ".join(part.text for part in line.fields))
            end = line.text.rfind("</") if line.begin else len(line.text)
            assert _parted(line.text[line.begin : end].replace("&lt;", "<")) == words


def _parted(text: str) -> list[str]:
    return text.translate(dict.fromkeys(map(ord, SEPARATORS), " ")).split()


@given(wild)
def test_both_encoders_read_the_user_and_only_gemma_the_system(text: str) -> None:
    assume(find_declaration(text) is None)
    sent = encoder_texts(text, systems=Systems("X ", "T ")).positive
    assert sent.gemma.endswith(sent.jina)
    plain = canonical(unweighted(read(text)))
    assert sent.jina == (plain if text.strip() else "")


@given(documents())
def test_weights_change_no_letter_of_what_is_read(document: Document) -> None:
    text = write(document)
    plain = encoder_texts(write(unweighted(document)), systems=Systems("X ", "T ")).positive
    off = encoder_texts(text, systems=Systems("X ", "T ")).positive
    assert off == plain
    assert "".join(blocks_apart(document)) == plain.jina or not text.strip()
    for one in encoder_texts(text, systems=Systems("X "), weighted=True).positive.emphases:
        assert one.weight != 1


@given(wild)
def test_weights_of_any_text_are_read_the_same_in_canonical_form(text: str) -> None:
    assume(find_declaration(text) is None)
    first = encoder_texts(text, systems=Systems(), weighted=True).positive
    again = encoder_texts(canonical(read(text)), systems=Systems(), weighted=True).positive
    assert first.jina == again.jina
    assert first.emphases == again.emphases
    assert all(0 <= one.start < one.end <= len(first.gemma) for one in first.emphases)
