"""What the page is made of: how much, nothing from elsewhere, nothing that could run a prompt."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "src" / "sakuga" / "server" / "page"
CODE = sorted(path for path in PAGE.rglob("*") if path.suffix in {".html", ".css", ".js", ".svg"})
WORDS = sorted(PAGE.glob("words.*.json"))
MOST, MOST_WORDS = 120_000, 6_000  # bytes
ALLOWED = {"http://www.w3.org/2000/svg"}  # a name, which nothing fetches
# What would read a text as markup or as a program.
UNSAFE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment"
    r"|srcdoc|\beval\(|new Function|setTimeout\(\"|javascript:"
)


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def words(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(text(path))
    return found


def test_it_is_small() -> None:
    assert sum(len(text(path).encode()) for path in CODE) <= MOST
    for path in WORDS:
        assert len(text(path).encode()) <= MOST_WORDS


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere(path: Path) -> None:
    found = set(re.findall(r"(?:https?:|wss?:)?//[\w.-]+\.\w+[^\s\"'`)]*", text(path)))
    assert {one for one in found if one not in ALLOWED} == set()


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.name)
def test_a_text_is_never_read_as_markup(path: Path) -> None:
    assert UNSAFE.findall(text(path)) == []


def test_html_has_no_script_style_or_handler_of_its_own() -> None:
    html = text(PAGE / "index.html")
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", html) == []
    assert re.findall(r'(?:src|href)="/', html) == []


def test_every_module_says_what_it_is() -> None:
    for path in CODE:
        if path.suffix == ".js":
            assert text(path).startswith("// "), path.name


def test_every_language_has_every_word() -> None:
    english, chinese, japanese = (words(PAGE / f"words.{code}.json") for code in ("en", "zh", "ja"))
    assert set(chinese) == set(japanese)
    # A field or a setting without a word is called by its name, which is English.
    assert {
        key for key in set(chinese) - set(english) if not key.startswith(("field_", "set_"))
    } == set()
    assert set(english) <= set(chinese)


def test_every_word_that_is_asked_for_is_there() -> None:
    known = set(words(PAGE / "words.zh.json"))
    asked = {
        key
        for path in CODE
        for key in re.findall(r'\bt\("(\w+)"|data-tl?="(\w+)"', text(path))
        for key in key
        if key
    }
    assert asked - known == set()
    assert len(asked) > 100


def test_placeholders_are_the_same_in_every_language() -> None:
    chinese, japanese = words(PAGE / "words.zh.json"), words(PAGE / "words.ja.json")
    for key, said in words(PAGE / "words.en.json").items():
        marks = sorted(re.findall(r"\{\d\}", said))
        assert sorted(re.findall(r"\{\d\}", chinese[key])) == marks, key
        assert sorted(re.findall(r"\{\d\}", japanese[key])) == marks, key
