"""What stands around a prompt: read as its author meant, and told."""

from __future__ import annotations

import pytest

from sakuga.prompt.canonical import Systems, canonical, encoder_texts
from sakuga.prompt.document import read
from sakuga.prompt.lint import Finding, fix, lint

BLOCKS = "<character_1><n>aoi</n><appearance>pink_hair</appearance></character_1>"
JSON = f'{{"image": {{"tags": "\n{BLOCKS}\n", "caption": "A girl."}}}}'
PLAIN = "1girl, blue hair"

AROUND = {
    "seed's snippet": f'prompt = """ {BLOCKS} """\n',
    "the end of a system prompt": f"<Prompt Start>\n{BLOCKS}",
    "a program": f'import torch\np = r"""\n{BLOCKS}\n"""\nimage = pipe(p).images[0]\n',
    "single quotes": f"prompt = '{BLOCKS}'\nprint(prompt)",
    "print": f'print("{BLOCKS}")',
    "a dict": f'{{"prompt": "{BLOCKS}", "steps": 28}}',
    "braces": f"{{\n{BLOCKS}\n}}",
    "square brackets": f"[{BLOCKS}]",
    "round brackets": f"({BLOCKS})",
    "fence and sentences": f"Here is it:\n\n```xml\n{BLOCKS}\n```\n\n**Note**: pink.\nEnjoy!",
    "fence without words for it": f"粉色双马尾的少女\n```xml\n{BLOCKS}\n```\n站在海滩上",
    "tildes": f"~~~\n{BLOCKS}\n~~~",
    "fence in a line": f"```xml {BLOCKS} ```",
    "half a fence": f"{BLOCKS}\n```",
    "two answers": f"```\n{BLOCKS}\n```\nor\n```\n{BLOCKS.replace('pink', 'red')}\n```",
    "reasoning": f"<think>She wants <character_1> pink.</think>\n{BLOCKS}",
    "reasoning, its end alone": f"I should write it.</think>\n{BLOCKS}",
    "channels": f"<|channel|>analysis<|message|>hm<|end|><|channel|>final<|message|>{BLOCKS}",
    "Chinese": f"好的！以下是根据您的要求生成的提示词：\n{BLOCKS}\n如需修改请告诉我。",
    "Japanese": f"はい、こちらがプロンプトです。\n{BLOCKS}\nご希望があればお知らせください。",
    "German": f"Natürlich! Hier ist er:\n{BLOCKS}",
    "any language": f"Dưới đây là kết quả:\n{BLOCKS}",
    "an image": f"A girl.\n<img>{BLOCKS}</img>\nAnother one.",
    "quotation": "> " + BLOCKS.replace("><", ">\n> <"),
}
WRAPPED = {
    "document": f'<?xml version="1.0"?>\n<document>\n{BLOCKS}\n</document>',
    "two": f"<root><scene>{BLOCKS}</scene></root>",
    "never closed": f"<prompt>{BLOCKS}",
    "never opened": f"{BLOCKS}</img>",
}
ESCAPED = {
    "references": BLOCKS.replace("<", "&lt;").replace(">", "&gt;"),
    "references twice": BLOCKS.replace("<", "&amp;lt;").replace(">", "&amp;gt;"),
    "numbers": BLOCKS.replace("<", "&#60;").replace(">", "&#62;"),
    "full width": BLOCKS.replace("<", "＜").replace(">", "＞"),
    "backslashes": BLOCKS.replace("<", "\\<").replace("_", "\\_"),
    "JSON's numbers": BLOCKS.replace("<", "\\u003c").replace(">", "\\u003e"),
    "spelled-out breaks": BLOCKS.replace("><", ">\\n<"),
    "HTML breaks": BLOCKS.replace("><", "><br><"),
}


def form(text: str) -> str:
    return canonical(read(text))


def warned(text: str) -> list[str]:
    return [one.rule for one in lint(text) if one.severity == "warning"]


def only(text: str, rule: str) -> Finding:
    (one,) = (one for one in lint(text) if one.rule == rule)
    return one


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        *((text, "around-prompt") for text in AROUND.values()),
        *((text, "wrapper") for text in WRAPPED.values()),
        *((text, "escaped-tags") for text in ESCAPED.values()),
        (BLOCKS.replace("pink", "pi\u200bnk") + "\u2060", "zero-width"),
        (BLOCKS.replace("pink_hair", "pink_hair, <lora:x:0.8>"), "lora-tag"),
    ],
    ids=[*AROUND, *WRAPPED, *ESCAPED, "zero width", "lora"],
)
def test_it_is_left_out_with_one_warning_and_mended(text: str, rule: str) -> None:
    assert form(text) == form(BLOCKS)
    assert warned(text) == [rule]
    mended = fix(text)
    assert form(mended) == form(BLOCKS)
    assert warned(mended) == []


def test_verbatim_sends_all_of_it() -> None:
    for text in (*AROUND.values(), *ESCAPED.values()):
        sent = encoder_texts(text, systems=Systems(), verbatim=True)
        assert sent.positive.jina == text


@pytest.mark.parametrize(
    "text", ["A girl walks at the beach in the sun.", "海辺を歩く少女、夏の日差しの中で"]
)
def test_a_description_beside_the_blocks_is_drawn_and_said(text: str) -> None:
    whole = f"{text}\n{BLOCKS}"
    assert form(whole).endswith(text)
    assert warned(whole) == ["outside-text"]
    assert text[:20] in only(whole, "outside-text").reason


@pytest.mark.parametrize(
    "text",
    [
        f"Sure! Here's a prompt for you:\n\n{PLAIN}\n\nLet me know if you want changes!",
        f"```\n{PLAIN}\n```",
        f'prompt = "{PLAIN}"',
        f"Prompt: {PLAIN}",
        f"<prompt>{PLAIN}</prompt>",
        f"<think>hm</think>{PLAIN}",
    ],
)
def test_plain_tags_come_out_as_well(text: str) -> None:
    assert form(text) == PLAIN
    assert form(fix(text)) == PLAIN
    assert len(warned(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "{1girl}, blue hair", "here, sure, okay", "A girl says: hi!\nShe smiles.", '"1girl"',
        "<o>_<o>, :<, <|>_<|>", "a girl's prompt reply", "[1girl]", "1girl\nShe smiles at the sea.",
    ],
)  # fmt: skip
def test_what_may_be_meant_stays(text: str) -> None:
    assert form(text) == text
    assert warned(text) == []


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        f"[{JSON}]",
        f"You are X. <Prompt Start>\n{JSON}",
        f"It is:\n```json\n{JSON}\n```\nEnjoy!",
        f"It is: {JSON} Enjoy!",
    ],
)
def test_an_annotation_with_real_line_breaks_is_one(text: str) -> None:
    assert form(text) == form(f"{BLOCKS}<caption>A girl.</caption>")
    block = next(block for block in read(text).blocks if block.name == "character_1")
    span = block.fields[1].locate(0, 4)
    assert text[span.start : span.end] == "pink"


def test_spans_are_those_of_the_users_text() -> None:
    text = f"\u200bIt is:\n```\n<doc>{BLOCKS.replace('pink_hair', 'pink_&amp;hair')}</doc>\n```"
    (block,) = read(text).blocks
    for part, said in zip(block.fields, ("aoi", "pink_&amp;hair"), strict=True):
        span = part.locate(0, len(part.text))
        assert text[span.start : span.end] == said


def test_a_system_prompt_inside_a_fence_is_one() -> None:
    document = read(f"Sure!\n```\nYou are an artist. <Prompt Start>\n{BLOCKS}\n```")
    assert document.system == "You are an artist. <Prompt Start>"
    assert canonical(document) == form(BLOCKS)


def test_characters_in_a_list_keep_number_and_name() -> None:
    people = (
        '<character id="2" name="Aoi"/><character name="Rin"><gender>1girl</gender></character>'
    )
    assert form(f"<characters>{people}</characters>") == (
        "<character_1>\n<n>Rin</n>\n<gender>1girl</gender>\n</character_1>\n"
        "<character_2>\n<n>Aoi</n>\n</character_2>"
    )


@pytest.mark.parametrize("where", ["general_tags", "character_1"])
def test_a_caption_in_a_block_is_a_block(where: str) -> None:
    text = f"<{where}><caption>A girl,smiling.</caption><style>x</style></{where}>"
    expected = f"<{where}>\n<style>x</style>\n</{where}>\n<caption>A girl,smiling.</caption>"
    assert form(text) == expected
    assert warned(text) == ["inner-caption"]
    assert "unknown-word" not in {one.rule for one in lint(text, vocabulary=frozenset({"x"}))}
    mended = fix(text)
    assert f"</{where}>\n<caption>" in mended
    assert (form(mended), warned(mended)) == (expected, [])


@pytest.mark.parametrize(
    "text",
    [
        f"{BLOCKS}<negative_prompt>lowres, bad</negative_prompt>",
        f"<img>{BLOCKS}<negative>lowres, bad</negative></img>",
        BLOCKS.replace("</character_1>", "<negative>lowres, bad</negative></character_1>"),
    ],
)
def test_a_negative_is_not_drawn_and_stays_for_its_author(text: str) -> None:
    assert form(text) == form(BLOCKS)
    assert only(text, "negative").fix == 'Give it apart: --negative "lowres, bad".'
    assert "lowres" in fix(text)


@pytest.mark.parametrize("before", [BLOCKS, PLAIN, ""])
@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ("Negative prompt: lowres,\n(bad:1.2)\nSteps: 28, Sampler: Euler, Seed: 7, Size: 8x16",
         '--negative "lowres, (bad:1.2)" --steps 28 --seed 7 --size 8x16'),
        ("Steps: 28, Sampler: Euler a, CFG scale: 5", "--steps 28 --guidance 5"),
        ("负面提示词：lowres", '--negative "lowres"'),
    ],
)  # fmt: skip
def test_a_settings_text_is_split_and_not_drawn(before: str, settings: str, flags: str) -> None:
    text = f"{before}\n{settings}\n"
    assert form(text) == form(before)
    one = only(text, "settings-text")
    assert one.severity == "warning"
    assert "--from-text" in one.fix
    assert flags in one.fix
    assert settings in fix(text)


@pytest.mark.parametrize(
    "text", ["Negative prompt: lowres", "<negative>lowres</negative>", "lowres"]
)
def test_a_negative_that_says_so_is_still_the_negative(text: str) -> None:
    sent = encoder_texts("1girl", text, systems=Systems())
    assert sent.negative.jina == "lowres"


@pytest.mark.parametrize("inside", [":", "Negative prompt: x", "Here is your prompt:"])
def test_an_image_that_holds_no_block_is_read_as_what_it_holds(inside: str) -> None:
    once = form(f"<img>{inside}</img>{BLOCKS}")
    assert once == form(BLOCKS)
    assert form(once) == once


def test_joiners_stay_where_they_join() -> None:
    text = "<caption>👨\u200d👩\u200d👧 می\u200cشود क\u094d\u200dष</caption>"
    assert form(text) == text
    assert form("<caption>pi\u200dnk</caption>") == "<caption>pink</caption>"


def test_faces_never_cost_the_structure() -> None:
    faces = "<o>_<o>, :<, >_<, <|>_<|>, =<, 3<"
    text = f"<character_1><expression>{faces}</expression></character_1>"
    assert form(text) == f"<character_1>\n<expression>{faces}</expression>\n</character_1>"
    assert form(form(text)) == form(text)
    assert warned(text) == []


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1girl\nred_eyes\nsmile", "1girl, red_eyes, smile"),
        ("- 1girl, solo\n- pink_hair, red_eyes", "1girl, solo, pink_hair, red_eyes"),
        ("• 1girl\n• pink hair", "1girl, pink hair"),
        ("1girl,\npink_hair\n\nsmile\n", "1girl, pink_hair, smile"),
        ('"1girl, pink hair, smile"', "1girl, pink hair, smile"),
        ("「1girl、smile」", "1girl, smile"),
        ("**Prompt:** 1girl, pink hair", "1girl, pink hair"),
        ('{"prompt": "1girl, smile", "negative_prompt": "x", "steps": 20}', "1girl, smile"),
        ('{"seed": 3, "positive_prompt": "1girl,\nsmile"}', "1girl, smile"),
    ],
)
def test_lists_quotes_labels_and_requests_are_read_as_their_prompt(text: str, meant: str) -> None:
    assert form(text) == meant
    assert form(form(text)) == form(text)


def test_what_a_request_says_beside_its_prompt_is_told_as_flags() -> None:
    text = '{"prompt": "1girl, smile", "negative_prompt": "low", "steps": 20, "seed": 7}'
    (one,) = [found for found in lint(text) if found.rule == "around-prompt"]
    assert one.fix == "Give the prompt alone, and --negative 'low' --steps 20 --seed 7."


def test_settings_a_line_each_are_told_as_flags() -> None:
    (one,) = [
        found
        for found in lint("1girl, cat\nNegative: bad\nSeed: 5\nSteps: 20")
        if found.rule == "settings-text"
    ]
    assert '--negative "bad" --steps 20 --seed 5' in one.fix


@pytest.mark.parametrize(
    "said",
    [
        "Dites-moi si vous souhaitez des modifications !",
        "気に入っていただければ幸いです。",
        "Надеюсь, вам понравится.",
        "Espero que te guste.",
    ],
)
def test_a_closing_sentence_is_left_out(said: str) -> None:
    block = "<character_1><n>a</n></character_1>"
    assert form(f"{block}\n{said}") == form(block)


def test_marks_behind_an_opening_tag_are_no_fence() -> None:
    text = "<character_1><n>```</n></character_1><character_2><n>miku</n></character_2>"
    assert [block.name for block in read(text).blocks] == ["character_1", "character_2"]


# Each with what is drawn of it: a newcomer's inputs, none of which was a recipe.
BESIDE_TAGS = {
    "### Prompt\n1girl, night sky\n### Negative\nbad anatomy": "1girl, night sky",
    "## Positive\n1girl, night sky\n## Negative prompt\nlowres": "1girl, night sky",
    "**Prompt**\n1girl, night sky\n\n**Negative**\nlowres": "1girl, night sky",
    "Sure!\n\n1girl, night sky\n\nHope that helps! 😊": "1girl, night sky",
    "네, 다음은 프롬프트입니다:\n1girl, night sky": "1girl, night sky",
    "Вот ваш промпт:\n1girl, night sky\nДайте знать, если нужны изменения.": "1girl, night sky",  # noqa: RUF001
    "Oto twój prompt:\n1girl, night sky\nDaj znać, jeśli chcesz zmian.": "1girl, night sky",
    "Ecco il prompt:\n1girl, night sky": "1girl, night sky",
    "<start_of_turn>model\n1girl, night sky<end_of_turn>": "1girl, night sky",
    '{"positive": "1girl, night sky", "negative": "lowres"}': "1girl, night sky",
    "Sure! Here's the prompt: 1girl, rain\nnight sky, stars": "1girl, rain, night sky, stars",
    "Title: Moon\nPrompt: 1girl, night sky\nStyle: x": "Title: Moon, 1girl, night sky, Style: x",
    "positive energy\n1girl, smile": "positive energy, 1girl, smile",
    "prompt girl, red hair\nblue eyes": "prompt girl, red hair, blue eyes",
}


@pytest.mark.parametrize("text", BESIDE_TAGS)
def test_tags_are_drawn_without_what_introduces_them_and_none_is_lost(text: str) -> None:
    assert canonical(read(text)) == BESIDE_TAGS[text]
