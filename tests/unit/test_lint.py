"""What the linter says, where, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from sakuga.prompt.canonical import canonical
from sakuga.prompt.document import read
from sakuga.prompt.lint import Finding, fix, lint
from sakuga.prompt.rules import RULES
from sakuga.tokenizer.tokens import Tokenizer

EXAMPLES = sorted(
    path for path in (Path(__file__).parents[2] / "examples").glob("*.*") if path.suffix != ".py"
)
MIB = 1 << 20


def character(number: int | str = 1, **fields: str) -> str:
    inside = "".join(f"<{name}>{text}</{name}>" for name, text in fields.items())
    return f"<character_{number}>{inside}</character_{number}>"


def rules(text: str, **options: object) -> list[str]:
    return [one.rule for one in lint(text, **options)]  # type: ignore[arg-type]


def only(text: str, rule: str, **options: object) -> Finding:
    found = [one for one in lint(text, **options) if one.rule == rule]  # type: ignore[arg-type]
    assert len(found) == 1, found
    assert found[0].severity == RULES[rule]
    return found[0]


def marked(text: str, one: Finding) -> str:
    rows = text.split("\n")
    if one.line == one.end_line:
        return rows[one.line - 1][one.column - 1 : one.end_column - 1]
    middle = rows[one.line : one.end_line - 1]
    return "\n".join(
        [
            rows[one.line - 1][one.column - 1 :],
            *middle,
            rows[one.end_line - 1][: one.end_column - 1],
        ]
    )


def test_severities_are_as_promised() -> None:
    by_severity = {s: {r for r, got in RULES.items() if got == s} for s in ("error", "warning")}
    assert by_severity == {
        "error": {"declaration", "too-large", "too-deep", "slot-contradicted"},
        "warning": {
            "not-well-formed", "too-many-characters", "duplicate-number", "count-mismatch",
            "too-long", "slot-blurred", "around-prompt", "outside-text", "wrapper", "escaped-tags",
            "zero-width", "inner-caption", "negative", "settings-text", "lora-tag",
            "unheeded-weight",
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    "tags",
    [
        "blue_eyes, red_eyes",
        "blue eyes, (Red Eyes:1.2)",
        "{{blue_eyes}}, [green_eyes]",
        "1.3::blue_eyes::, red_eyes:0.8",
        "big_blue_eyes, glowing red eyes",
        "blonde_hair, black_hair",
        "long_blue_hair, pink_hair",
        "silver hair, black hair",
        "dark_brown_hair, light_pink_hair",
        "short_hair, long_hair",
        "very_short_hair, absurdly_long_hair",
        "dark_skin, pale_skin",
        "dark-skinned_female, pale skin",
        "blue_skin, green_skin",
        "蓝发，红发",
        "青い目、赤い目",
        "蓝色眼睛, 红色眼睛",
        "金色的头发, 黑色头发",
        "ピンクの目, 緑の瞳",
        "midnight_blue_hair, blood_red_hair",
        "blonde, black_hair",
        "bald, long_hair",
    ],
)
def test_a_slot_given_twice_is_an_error(tags: str) -> None:
    text = character(n="miku", appearance=tags)
    one = only(text, "slot-contradicted")
    assert one.severity == "error"
    assert "character_1 (miku)" in one.reason
    assert marked(text, one) in tags
    assert tags.index(marked(text, one)) > 0


@pytest.mark.parametrize(
    "tags",
    [
        "aqua_eyes, blue_eyes",
        "aqua_eyes, green_eyes",
        "blue_hair, aqua_hair",
        "white_hair, grey_hair",
        "brown_hair, blonde_hair",
        "medium_hair, long_hair",
        "shoulder-length hair, long hair",
        "red_hair, orange_hair",
        "tan, pale_skin",
    ],
)
def test_neighbours_in_a_slot_are_a_warning(tags: str) -> None:
    text = character(n="miku", appearance=tags)
    one = only(text, "slot-blurred")
    assert one.severity == "warning"
    assert "slot-contradicted" not in rules(text)
    first, second = tags.split(", ")
    assert (first in one.reason, marked(text, one)) == (True, second)


def test_a_contradiction_goes_before_neighbours() -> None:
    text = character(appearance="blue_eyes, aqua_eyes, red_eyes")
    assert marked(text, only(text, "slot-contradicted")) == "red_eyes"
    assert "slot-blurred" not in rules(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bluehair", "red_hair"),
        ("hair_past_waist", "short_hair"),
        ("dark_skin_female", "pale_skin"),
        ("redeyes", "green_eyes"),
        ("dark_hair", "white_hair"),
    ],
)
def test_other_names_decide_what_their_tag_decides(one: str, other: str) -> None:
    assert "slot-contradicted" in rules(character(appearance=f"{one}, {other}"))


@pytest.mark.parametrize(
    "tags",
    [
        "hazel_eyes, yellow_eyes",
        "amber_eyes, gold_eyes",
        "light_brown_hair, blonde_hair",
        "silver_hair, grey_hair",
        "blue_eyes, red_eyes, odd_eye",
        *(
            f"black_hair, blonde_hair, {tag}"
            for tag in (
                "roots_(hair)", "dyed_bangs", "striped_hair", "patterned_hair", "dyed_ahoge",
                "spotted_hair", "polka_dot_hair", "highlights", "streaked_hair", "print_hair",
                "two-tone_hair", "gradient_hair", "split-color_hair", "colored_inner_hair",
            )
        ),
    ],
)  # fmt: skip
def test_names_of_one_colour_and_colours_side_by_side_are_right(tags: str) -> None:
    assert not {"slot-contradicted", "slot-blurred"} & set(rules(character(appearance=tags)))


@pytest.mark.parametrize(
    "tags",
    [
        "blue_eyes, red_eyes, heterochromia",
        "blue_hair, pink_hair, multicolored_hair",
        "blue_hair, pink_hair, two-tone_hair",
        "blue_hair, pink_hair, gradient_hair",
        "black_hair, red_hair, streaked_hair",
        "black_hair, blue_hair, colored_inner_hair",
        "white_hair, black_hair, split-color hair",
        "black and white hair, white_hair",
        "light_blue_hair, blue_hair",
        "silver_hair, white_hair",
        "platinum_blonde_hair, blonde_hair",
        "long_hair, very_long_hair",
        "short_hair, asymmetrical_hair, long_hair",
        "short_hair, short_hair_with_long_locks",
        "dark_skin, tan, tanlines",
        "blue_hair, black_hairband, red_hair_ribbon",
        "blue_eyes, hair_between_eyes, red_eyeshadow, closed_eyes",
        "long_twintails, short_bangs, short_hair",
        "long_hair, short_sleeves, long_skirt",
        "blue_eyes, red_pupils, black_sclera, white_eyelashes",
        "red_hair, dark_hair, messy_hair, hair_ornament, hair_over_one_eye",
        "pale_skin, skin_tight, skin-covered_horns, black_skin-tight_suit",
        "blue_eyes, blue eyes, (blue_eyes:1.3)",
        "red_hair, blue_hair, half-and-half hair",
        "金发, 金色头发, 金髪",
        "红眼, 白眼, 白目",
    ],
)
def test_legitimate_pairs_and_look_alikes_are_no_contradiction(tags: str) -> None:
    assert "slot-contradicted" not in rules(character(appearance=tags))


@pytest.mark.parametrize(
    ("count", "people"),
    [("3", 2), ("three", 2), ("two_girls", 3), ("1girl 1boy", 3), ("1girl and 1boy", 1)],
)
def test_a_count_may_be_written_in_many_ways(count: str, people: int) -> None:
    drawn = "".join(
        f"<character_{i}><appearance>smile</appearance></character_{i}>"
        for i in range(1, people + 1)
    )
    tags = f"<general_tags><count>{count}</count></general_tags>"
    assert "count-mismatch" in rules(drawn + tags)


@pytest.mark.parametrize("count", ["2", "two", "two_girls", "1girl 1boy", "1girl and 1boy"])
def test_a_count_in_any_spelling_may_be_right(count: str) -> None:
    drawn = "<character_1><n>a</n></character_1><character_2><n>b</n></character_2>"
    tags = f"<general_tags><count>{count}</count></general_tags>"
    assert "count-mismatch" not in rules(drawn + tags)


def test_a_slot_is_looked_up_across_the_fields_of_one_character() -> None:
    split = character(appearance="blue_eyes", clothing="red_dress", expression="red_eyes, smile")
    assert "slot-contradicted" in rules(split)
    two = character(1, appearance="blue_eyes") + character(2, appearance="red_eyes")
    assert "slot-contradicted" not in rules(two)
    mentions = character(n="red eyes", appearance="blue_eyes", interaction="red_eyes")
    assert "slot-contradicted" not in rules(mentions)


def test_flat_tags_of_one_character_are_looked_at() -> None:
    assert "slot-contradicted" in rules("1girl, blue_eyes, red_eyes")
    assert "slot-contradicted" not in rules("2girls, blue_eyes, red_eyes")
    assert "slot-contradicted" not in rules("blue eyes look into red eyes of 1girl in a mirror")


def test_two_levels_are_the_most() -> None:
    text = "<character_1>\n<info><hair>blue</hair></info>\n</character_1>"
    one = only(text, "too-deep")
    assert (one.severity, marked(text, one)) == ("error", "<hair>")
    assert (one.line, one.column, one.end_line, one.end_column) == (2, 7, 2, 13)
    for wrapper in ("image", "img"):
        assert "too-deep" not in rules(f"<{wrapper}>{character(n='x')}</{wrapper}>")


def test_more_than_four_characters() -> None:
    four = "".join(character(number, n="x") for number in range(1, 5))
    assert "too-many-characters" not in rules(four)
    one = only(four + character(5, n="x"), "too-many-characters")
    assert marked(four + character(5, n="x"), one) == "character_5"


@pytest.mark.parametrize(
    ("count", "genders", "fits"),
    [
        ("2girls", ("1girl", "1girl"), True),
        ("1girl, 1boy", ("1boy", "1girl"), True),
        ("1girl, solo", ("1girl",), True),
        ("solo", ("1girl",), True),
        ("multiple_girls", ("1girl", "1girl", "1girl"), True),
        ("2+girls", ("1girl", "1girl", "1girl"), True),
        ("2 girls", ("girl", "female"), True),
        ("a crowd", ("1girl",), True),
        ("2girls", ("1girl",), False),
        ("2girls, 1boy", ("1girl", "1girl"), False),
        ("1girl", ("1girl", "1girl"), False),
        ("solo", ("1girl", "1boy"), False),
        ("2girls", ("1girl", "1boy"), False),
        ("3+girls", ("1girl", "1girl"), False),
    ],
)
def test_count_against_the_characters(count: str, genders: tuple[str, ...], fits: bool) -> None:
    text = "".join(character(i, gender=gender) for i, gender in enumerate(genders, 1))
    text += f"<general_tags><count>{count}</count></general_tags>"
    assert ("count-mismatch" in rules(text)) is not fits


def test_numbers_of_characters() -> None:
    text = character(1, n="a") + character(1, n="b") + "<character><n>c</n></character>"
    one = only(text, "duplicate-number")
    assert (one.severity, one.edits) == ("warning", ())
    assert "<character_2>" in one.reason
    assert "<character_3>" in only(text, "unnumbered-character").reason


def test_fields_and_blocks_that_are_empty_unknown_or_misplaced() -> None:
    text = (
        "<character_1><n>x</n><pose></pose><apearance>blue_hair</apearance><style>s</style>"
        "</character_1><general_tag><style>x</style></general_tag><gender>1girl</gender>"
        "<general_tags><gender>1girl</gender></general_tags><caption></caption>"
    )
    found = [(one.rule, marked(text, one)) for one in lint(text)]
    assert found == [
        ("empty-element", "<pose></pose>"),
        ("unknown-field", "apearance"),
        ("misplaced-field", "style"),
        ("unknown-block", "general_tag"),
        ("misplaced-field", "gender"),
        ("misplaced-field", "gender"),
        ("empty-element", "<caption></caption>"),
    ]
    suggestions = [one.fix for one in lint(text) if one.rule.startswith("unknown")]
    assert suggestions == ["Did you mean <appearance>?", "Did you mean <general_tags>?"]


@pytest.mark.parametrize(
    ("field", "tag", "home"),
    [
        ("appearance", "school_uniform", "clothing"),
        ("appearance", "red dress", "clothing"),
        ("appearance", "smile", "expression"),
        ("appearance", "standing", "action"),
        ("clothing", "blue_eyes", "appearance"),
        ("expression", "white shirt", "clothing"),
        ("action", "long_hair", "appearance"),
        ("clothing", "twintails", "appearance"),
        ("clothing", "cat_ears", "appearance"),
        ("clothing", "hair_between_eyes", "appearance"),
        ("clothing", "v", "action"),
        ("appearance", "holding_weapon", "action"),
        ("appearance", "hug", "interaction"),
        ("action", "hat", "clothing"),
        ("action", "earrings", "clothing"),
        ("action", "sailor_collar", "clothing"),
        ("expression", "hat", "clothing"),
        ("expression", "ponytail", "appearance"),
    ],
)
def test_a_tag_in_another_field_is_an_info(field: str, tag: str, home: str) -> None:
    text = character(**{field: f"x, {tag}"})
    one = only(text, "misplaced-tag")
    assert (one.severity, marked(text, one), one.fix) == ("info", tag, f"Move it to <{home}>.")


@pytest.mark.parametrize(
    ("field", "tag"),
    [("appearance", "hair_ribbon"), ("action", "holding_own_skirt"), ("appearance", "no_shoes"),
     ("clothing", "black_hairband"), ("expression", "closed_eyes"),
     ("appearance", "glasses"), ("clothing", "maid"), ("clothing", "cleavage"),
     ("action", "adjusting_clothes"), ("expression", "fang"), ("expression", "glowing_eyes"),
     ("body_type", "large_breasts"), ("appearance", "breasts")],
)  # fmt: skip
def test_a_tag_at_home_or_unknown_is_not_remarked_on(field: str, tag: str) -> None:
    assert rules(character(**{field: tag})) == []


def test_what_describes_a_character_does_not_belong_to_all() -> None:
    general = "<general_tags><style>red_eyes</style></general_tags>"
    assert "misplaced-tag" in rules(character(n="x") + general)
    assert "misplaced-tag" not in rules(general)


def test_well_formedness() -> None:
    text = "<character_1>\n<n>miku\n</character_1>"
    one = only(text, "not-well-formed")
    assert (one.severity, one.line, marked(text, one)) == ("warning", 3, "</character_1>")
    assert "<n>" in one.reason
    assert one.fix == "Write </n> before it."


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("<!DOCTYPE a><a/>", "declaration"),
        ("x <!ENTITY a 'b'>", "declaration"),
        ("x" * (64 * 1024 + 1), "too-large"),
    ],
)
def test_what_is_refused_is_one_error(text: str, rule: str) -> None:
    assert [(one.rule, one.severity) for one in lint(text)] == [(rule, "error")]
    assert fix(text) == text


def test_bare_markup_other_names_attributes_weights_and_loose_text_are_infos() -> None:
    text = (
        "You are X. <Prompt Start>\nfree <character_1 name='x'><pose>a & b</pose>"
        "<appearance>(red_eyes:1.2), x,, y</appearance></character_1>"
    )
    found = {one.rule: marked(text, one) for one in lint(text)}
    assert found == {
        "own-system-prompt": "You are X. <Prompt Start>",
        "loose-text": "free",
        "attribute": "<character_1 name='x'>",
        "renamed-field": "pose",
        "bare-markup": "&",
        "unheeded-weight": "(red_eyes:1.2)",
        "empty-tag": ",, ",
    }


def test_fix_mends_what_cannot_change_the_meaning() -> None:
    text = (
        "<character>\n  <name>a & b</name>\n  <pose>x,, y,</pose>\n  <style></style>\n"
        "</character>\n<general_tags><artist>z >_<</artist><count/></general_tags>\n"
    )
    assert fix(text) == (
        "<character_1>\n  <n>a &amp; b</n>\n  <action>x, y</action>\n</character_1>\n"
        "<general_tags><artists>z >_&lt;</artists></general_tags>\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "<character_1><pose>a</pose><action>b</action></character_1>",
        "<character_1><n></n></character_1>",
        "<character_1></character_1><character><n>x</n></character>",
        "<character_1><n>x</n><style><!-- later --></style></character_1>",
        "<character_1><info><b>a & b</b></info></character_1>",
    ],
)
def test_fix_leaves_alone_what_could_change_the_meaning(text: str) -> None:
    mended = fix(text)
    assert canonical(read(mended)) == canonical(read(text))
    assert mended in (
        text,
        text.replace("<character>", "<character_2>").replace("</character>", "</character_2>"),
    )


def words(path: Path, limit: int = 10_000) -> Tokenizer:
    """A real tokenizer that gives a word or a sign one token, and begins every text with one."""
    inner = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "[BOS]": 1}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[BOS] $A", special_tokens=[("[BOS]", 1)]
    )
    inner.enable_truncation(limit)
    inner.save(str(path / "tokenizer.json"))
    return Tokenizer.open(path / "tokenizer.json")


def test_too_long_names_the_first_word_past_the_limit(tmp_path: Path) -> None:
    text = " ".join(f"word{i}" for i in range(100)) + "\n"
    one = only(text, "too-long", limit=50, tokenizer=lambda: words(tmp_path))
    assert marked(text, one) == "word49"  # one token begins the text
    assert one.reason.startswith("101 tokens, 50 were trained; 'word49'")
    assert rules(text, limit=101, tokenizer=lambda: words(tmp_path)) == []


def test_the_system_prompt_counts(tmp_path: Path) -> None:
    text = " ".join(f"word{i}" for i in range(100))
    options = {"limit": 50, "tokenizer": lambda: words(tmp_path), "system_text": "draw it well "}
    assert marked(text, only(text, "too-long", **options)) == "word46"


def test_the_first_word_past_the_limit_is_found_in_the_source(tmp_path: Path) -> None:
    text = (
        "<general_tags><lighting>last,one</lighting>\n<style>\n early ,\n late</style>"
        "</general_tags><character_1><n>first &amp; second</n></character_1>"
    )
    # Canonically: <character_1> first & second, then <style>, then <lighting>.
    tokens = words(tmp_path).encode(canonical(read(text)))
    seen = []
    for limit in range(1, len(tokens) - 1):
        one = only(text, "too-long", limit=limit, tokenizer=lambda: words(tmp_path))
        if marked(text, one) not in seen:
            seen.append(marked(text, one))
    assert seen == ["first", "&amp;", "second", "early", "late", "last", "one"]


def test_a_short_text_asks_for_no_tokenizer() -> None:
    def never() -> Tokenizer:
        raise AssertionError

    assert rules("x" * 511, tokenizer=never) == []
    with pytest.raises(AssertionError):
        lint("x" * 512, tokenizer=never)


def test_without_a_tokenizer_the_length_is_an_estimate_and_says_so() -> None:
    assert "estimated" in only("word " * 300, "length-estimated").reason
    assert "estimated" in only("word " * 2_000, "too-long").reason
    assert rules("word " * 50) == []


def test_words_outside_the_vocabulary_are_named_once() -> None:
    text = character(n="nobody", appearance="blue_hair, Weird Thing, weird_thing, (smile:1.1)")
    text += "<general_tags><count>1girl</count></general_tags><caption>Anything goes.</caption>"
    one = only(text, "unknown-word", vocabulary=frozenset({"blue_hair", "smile"}))
    assert (one.severity, marked(text, one)) == ("info", "Weird Thing")


def test_prose_has_no_vocabulary() -> None:
    known = frozenset({"blue_hair"})
    assert rules("A girl walks along the shore at dusk, and sings.", vocabulary=known) == []
    assert rules("一个女孩站在海边，穿着连衣裙，微笑着。", vocabulary=known) == []
    assert rules("1girl, blue_hair, odd_tag", vocabulary=known) == ["unknown-word"]


def test_columns_count_characters_after_wide_ones() -> None:
    text = "<character_1>\r\n<n>初音😀</n><pose>立</pose>\r\n</character_1>"
    one = only(text, "renamed-field")
    assert (one.line, one.column, one.end_column) == (2, 12, 16)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_have_nothing_worse_than_infos(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert {one.severity for one in lint(text)} <= {"info"}
    assert canonical(read(fix(text))) == canonical(read(text))


HOSTILE = {
    "billion laughs": "<!DOCTYPE a ["
    + "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    + "]><a>&e9;</a>",
    "external entity": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "a million levels": "<a>" * 10**6 + "</a>" * 10**6,
    "8 MB attribute": f'<a b="{"x" * (8 * MIB)}"/>',
    "as deep as 64 KiB hold": "<a>" * 9_362 + "</a>" * 9_362,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_attacks_cost_nothing(name: str) -> None:
    text = HOSTILE[name]
    lint("<n>warm</n>")
    tracemalloc.start()
    found = lint(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any(one.severity == "error" for one in found)
    assert peak <= 32 * MIB
    best = min(_seconds(text) for _ in range(5))  # the best of five: other work may interrupt one
    assert best <= 0.05


def _seconds(text: str) -> float:
    read.cache_clear()  # or a second reading would take no time
    start = time.process_time()
    lint(text)
    return time.process_time() - start


@pytest.mark.parametrize(
    "text",
    [
        "<n>" + "&" * 65_000 + "</n>",
        "<img>x" + " " * 65_000 + "y</img>",
        "<img></img>" * 900 + "</img>" * 9_000,
        "<n>" + "<" * 65_000,
        "<a b='" * 10_000,
        "<!--" * 16_000,
        "<![CDATA[" * 7_000,
        "<a" + " " * 65_000,
        "<character_1><appearance>" + ",,a" * 21_000 + "</appearance></character_1>",
        "<character_1><appearance>" + "(" * 65_000,
        "<a/>" * 1_999 + "&" * 50_000,
        "<character_1>" + "<f><b/>&</f>" * 900 + "&" * 50_000 + "</character_1>",
        '{"image": {"tags": "<n>' + "\\n&" * 20_000 + '</n>"}}',
        '{"a":' * 13_000,
    ],
)
def test_no_text_takes_quadratic_time(text: str) -> None:
    assert min(_seconds(text) for _ in range(2)) <= 2.0


def test_linting_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sakuga.prompt.lint import lint; lint('<n>a</n>', vocabulary=frozenset());"
        "heavy = {'torch', 'numpy', 'transformers', 'tokenizers', 'PIL'};"
        "print(*sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
