"""`sakuga convert-prompt` and `sakuga lint --as-xml`, as typed."""

from __future__ import annotations

FLAT = "2girls, hatsune miku, blue hair, twintails, kagamine rin, yellow hair, frimbly, outdoors"


def test_flat_tags_become_xml_and_what_is_not_sure_is_told_beside(run) -> None:
    code, out, err = run("convert-prompt", FLAT)
    assert code == 0
    assert out.startswith("<character_1>\n<n>hatsune miku</n>\n<gender>1girl</gender>\n")
    assert "<appearance>yellow hair</appearance>" in out
    assert err.startswith("prompt:1:72: info [unsure-tag] ")
    assert err.count("\n") == 1


def test_xml_becomes_flat_tags_and_the_way_back_is_the_same(run) -> None:
    xml = run("convert-prompt", FLAT)[1]
    flat = run("convert-prompt", "-", "--spaces", stdin=xml)[1]
    assert flat == (
        "2girls, hatsune miku, blue hair, twintails, kagamine rin, yellow hair, outdoors, frimbly\n"
    )
    assert run("convert-prompt", flat.strip())[1] == xml
    parted = run("convert-prompt", "-", "--joint", "break", stdin=xml)[1]
    assert parted.count(" BREAK ") == 2
    assert run("convert-prompt", parted.strip())[1].lower().replace("_", " ") == xml.replace(
        "_", " "
    )


def test_a_form_that_is_named_stays(run) -> None:
    xml = run("convert-prompt", FLAT)[1]
    assert run("convert-prompt", "-", "--to", "xml", stdin=xml) == (0, xml, "")
    assert run("convert-prompt", FLAT, "--to", "flat")[:2] == (0, f"{FLAT}\n")


def test_lint_tells_of_the_form_and_of_what_is_not_sure_in_it(run) -> None:
    assert "[flat-prompt]" in run("lint", "1girl, blue_hair")[1]
    assert "[flat-prompt]" not in run("lint", "1girl, blue_hair", "--as-xml")[1]
    assert "[flat-prompt]" not in run("lint", "1girl, blue_hair", "--model", "lumina-image-2.0")[1]
    told = run("lint", "--as-xml", "2girls, smile")[1]
    assert "[unsure-owner] smile" in told
    assert "[flat-prompt]" not in told
