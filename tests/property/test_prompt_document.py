"""Reading and writing: nothing is lost, nothing raises, every span lies in the text."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import documents, wild

from sakuga.prompt.document import read, write
from sakuga.prompt.nodes import Document, Span
from sakuga.prompt.reader import find_declaration


def spans(document: Document) -> Iterator[Span]:
    yield document.system_span
    yield from document.strays
    yield from document.attributes
    if document.fault:
        yield document.fault.span
    for block in document.blocks:
        yield block.span
        yield from block.names
        for part in block.fields:
            yield part.span
            yield from part.names
            if part.deep:
                yield part.deep
            yield part.locate(0, len(part.text))


@given(documents())
def test_a_document_survives_writing_and_reading(document: Document) -> None:
    assert read(write(document)) == document


@given(wild)
def test_whatever_was_read_survives_writing_and_reading(text: str) -> None:
    assume(find_declaration(text) is None)
    document = read(text)
    assert read(write(document)) == document


@given(wild)
def test_every_span_lies_in_the_text(text: str) -> None:
    assume(find_declaration(text) is None)
    for span in spans(read(text)):
        assert 0 <= span.start <= span.end <= len(text)


@given(documents())
def test_names_stand_where_the_spans_say(document: Document) -> None:
    text = write(document)
    for block in read(text).blocks:
        for element in (block, *block.fields):
            assert {text[span.start : span.end] for span in element.names} <= {element.name}


@given(documents(), st.data())
def test_plain_stretches_stand_where_locate_says(document: Document, data: st.DataObject) -> None:
    text = write(document)
    parts = [part for block in read(text).blocks for part in block.fields if part.text]
    assume(parts)
    part = data.draw(st.sampled_from(parts))
    start = data.draw(st.integers(0, len(part.text) - 1))
    end = data.draw(st.integers(start + 1, len(part.text)))
    span = part.locate(start, end)
    if "&" not in text and "\n" not in part.text:
        assert text[span.start : span.end] == part.text[start:end]
    assert part.span.start <= span.start < span.end <= part.span.end
