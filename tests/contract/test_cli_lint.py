"""`sakuga lint` and `sakuga format`, as typed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

GOOD = "<character_1>\n<gender>1girl</gender>\n<appearance>blue_hair</appearance>\n</character_1>"
CONTRADICTED = "<character_1><appearance>red_eyes, blue_eyes</appearance></character_1>"
LONG = "<general_tags><style>" + "blue_hair, red_eyes, " * 400 + "</style></general_tags>"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lint(run, words_model) -> Run:
    """Run `sakuga lint ARGUMENTS` for a model with tokenizers."""
    return lambda *arguments, **words: run("lint", "--model", str(words_model), *arguments, **words)


def test_a_sound_prompt_gives_no_output(lint) -> None:
    assert lint("-", stdin=GOOD) == (0, "", "")


def test_a_finding_is_a_line_that_editors_can_follow(lint) -> None:
    Path("p.xml").write_text(CONTRADICTED, encoding="utf-8")
    code, out, err = lint("p.xml")
    assert (code, err) == (1, "")
    assert re.fullmatch(r"p\.xml:1:\d+: error \[slot-contradicted\] [^\n]+[^.]\.\n", out)


def test_warnings_and_hints_exit_with_0(lint) -> None:
    code, out, _ = lint("-", stdin="<general_tags><count>3girls</count></general_tags><character/>")
    assert out
    assert "error" not in out
    assert code == 0


def test_several_files_are_one_report(lint) -> None:
    Path("good.xml").write_text(GOOD, encoding="utf-8")
    Path("bad.xml").write_text(CONTRADICTED, encoding="utf-8")
    code, out, _ = lint("--json", "good.xml", "bad.xml")
    (finding,) = json.loads(out)
    assert code == 1
    assert (finding["file"], finding["rule"]) == ("bad.xml", "slot-contradicted")
    assert set(finding) == {
        "file", "rule", "severity", "line", "column", "end_line", "end_column", "reason", "fix",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["<!DOCTYPE x><a/>", "x" * 70_000, "é" * 33_000], ids=["dtd", "long", "long-utf8"]
)
def test_what_no_tool_should_parse_is_an_error(lint, text) -> None:
    code, out, _ = lint("-", stdin=text)
    assert code == 1
    assert "error" in out


def test_no_more_of_a_file_is_read_than_a_prompt_may_have(lint) -> None:
    with open("huge.xml", "wb") as file:
        file.truncate(1 << 40)  # a sparse terabyte
    code, out, _ = lint("huge.xml")
    assert code == 1
    assert "64 KiB" in out


def test_a_long_prompt_is_counted_by_the_tokenizer_of_the_model(lint, run) -> None:
    code, out, _ = lint("-", stdin=LONG)
    assert code == 0
    assert "[too-long]" in out
    assert "estimated" not in out
    code, out, _ = run("lint", "--model", "newbie-3.5b", "-", stdin=LONG)
    assert code == 0
    assert "estimated" in out


def test_a_model_nobody_knows_is_refused(run) -> None:
    code, _, err = run("lint", "--model", "nope", "-", stdin=GOOD)
    assert code == 2
    assert "Known by name: chibi, newbie-3.5b" in err


def test_words_outside_the_vocabulary_are_told(run, tmp_path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "vocabulary.json").write_text('{"words": ["blue_hair", "1girl"]}')
    code, out, _ = run("lint", "--model", str(model), "-", stdin=GOOD.replace("blue", "plaid"))
    assert code == 0
    assert "[unknown-word]" in out
    assert run("lint", "--model", str(model), "-", stdin=GOOD)[1] == ""


def test_fix_mends_in_place_and_only_what_keeps_the_meaning(lint) -> None:
    odd = f"{CONTRADICTED}<general_tags><style>cats & dogs</style></general_tags>"
    Path("p.xml").write_text(odd, encoding="utf-8")
    code, out, _ = lint("--fix", "p.xml")
    assert Path("p.xml").read_text(encoding="utf-8") == odd.replace("&", "&amp;")
    assert code == 1
    assert "bare-markup" not in out
    assert "slot-contradicted" in out
    assert os.listdir() == ["p.xml"]


def test_fix_prints_what_it_made_of_standard_input(lint) -> None:
    _, out, _ = lint("--fix", "-", stdin=GOOD.replace("blue_hair", "a & b"))
    assert out.startswith("<character_1>")
    assert "a &amp; b" in out


def test_a_file_that_needs_no_fix_is_left_alone(lint) -> None:
    path = Path("p.xml")
    path.write_text(GOOD, encoding="utf-8")
    os.utime(path, (1, 1))
    assert lint("--fix", "p.xml")[0] == 0
    assert path.stat().st_mtime == 1


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"\xff\xfe"), "UTF-8"),
        (lambda path: path.mkdir(), "readable"),
        (lambda path: None, "readable"),
    ],
    ids=["bytes", "folder", "nothing"],
)
def test_what_is_no_text_is_refused(lint, run, write, message) -> None:
    write(Path("p.xml"))
    for code, out, err in (lint("p.xml"), run("format", "p.xml")):
        assert (code, out) == (2, "")
        assert message in err


def test_format_prints_the_canonical_form(run) -> None:
    shuffled = "<general_tags><style>x</style></general_tags><character_1><gender>1girl</gender>"
    shuffled += "<n>a</n></character_1>"
    code, out, _ = run("format", "-", stdin=f"\ufeff{shuffled}")
    assert code == 0
    assert out == (
        "<character_1>\n<n>a</n>\n<gender>1girl</gender>\n</character_1>\n"
        "<general_tags>\n<style>x</style>\n</general_tags>\n"
    )
    assert run("format", "-", stdin=out)[1] == out


def test_format_refuses_what_no_tool_should_parse(run) -> None:
    code, out, err = run("format", "-", stdin="<!DOCTYPE x><a/>")
    assert (code, out) == (2, "")
    assert "document type" in err


def test_any_script_can_be_printed(run, monkeypatch) -> None:
    code, out, _ = run("format", "-", stdin="初音ミク, <3")
    assert (code, out) == (0, "初音ミク, <3\n")


@pytest.mark.parametrize("text", ["- 1girl", "--ar 2:3, 1girl", "-1girl,smile"])
def test_a_text_that_begins_with_a_dash_is_told_how_to_be_given(run, text) -> None:
    code, _, err = run("lint", text)
    assert code == 2
    assert f"Put -- before it: sakuga lint -- {text!r}." in err
    assert run("lint", "--", text)[0] == 0
    assert "No such option: --jso" in run("lint", "--jso", "1girl, smile")[2]
