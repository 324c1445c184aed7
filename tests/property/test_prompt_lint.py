"""The linter: never raises, points into the text, and fixes without changing the meaning."""

from __future__ import annotations

from hypothesis import assume, given
from strategies import documents, wild

from sakuga.prompt.canonical import canonical
from sakuga.prompt.document import read, write
from sakuga.prompt.lint import fix, lint
from sakuga.prompt.nodes import Document
from sakuga.prompt.reader import find_declaration
from sakuga.prompt.rules import RULES

WORDS = frozenset({"blue_hair", "smile"})


@given(wild)
def test_lint_never_raises_and_points_into_the_text(text: str) -> None:
    rows = text.split("\n")
    for one in lint(text, limit=20, vocabulary=WORDS):
        assert one.severity == RULES[one.rule]
        assert 1 <= one.line <= one.end_line <= len(rows)
        assert 1 <= one.column <= len(rows[one.line - 1]) + 1
        assert 1 <= one.end_column <= len(rows[one.end_line - 1]) + 1
        assert (one.line, one.column) <= (one.end_line, one.end_column)


@given(wild)
def test_a_fix_changes_no_canonical_text_and_is_complete(text: str) -> None:
    assume(find_declaration(text) is None)
    mended = fix(text)
    assert canonical(read(mended)) == canonical(read(text))
    assert not any(one.edits for one in lint(mended))


@given(documents())
def test_a_fix_of_a_document_changes_no_canonical_text(document: Document) -> None:
    text = write(document)
    assert canonical(read(fix(text))) == canonical(document)
