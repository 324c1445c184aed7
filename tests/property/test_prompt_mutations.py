"""Prompts broken at random are read, linted and mended."""

from __future__ import annotations

import pytest
from mutations import check, failures, lint_seconds

from sakuga.prompt.document import read
from sakuga.prompt.lint import lint
from sakuga.prompt.reader import MAX_ELEMENTS

# What 40,000 mutated prompts found: plain text that, once it is joined to a line or stands alone,
# reads as something else; and a bracket whose escape would be read as a tag's.
NO_FIXED_POINT = (
    "</think>><\n<h><n></n>",
    '<t><style></style>、"',
    "<!--、prompt\n、# </g><lighting></lighting>",
    "```><_>\n<n></n>",
    "<lora:x\n>",
    "<c>\n<n></n>:,",
    "<n></n>、o",
    "Steps:8</img>Sampler:",
    "<action></action<br>><general_tags><g></general_tags>",
    "><pose></pose>\n、",
    '"tags":<x:```:1>',
    "<count></count>:、",
    "<action></action><n></n><character&lt;n&gt;",
    "<char<n></n>&lt;n&gt;",
    # A text is looked at by its ends; no line ends where it is cut.
    '{"image": {"tags": "<character_1>\\n<gender></)x</gender>'
    + "a" * 900 + "embedding:xe" * 200 + '</character_1>", "caption": "A girl."}}',
)  # fmt: skip


@pytest.mark.parametrize("prompt", NO_FIXED_POINT)
def test_canonical_form_of_broken_prompts_is_a_fixed_point(prompt: str) -> None:
    check(prompt)


@pytest.mark.parametrize("piece", [
    "&", "<3, & ", "```xml\n", "```x", "\u200d", "<|a|>", "</think>", "}\n", "\\n",
    "Steps: 28, Sampler: x", "<lora:x:1>", "$a ", "<a:b> ", "。",
])  # fmt: skip
def test_what_is_repeated_costs_no_more_than_its_length(piece: str) -> None:
    text = "<character_1><n>miku</n></character_1>" + piece * (8_000 // len(piece))
    longer = "<character_1><n>miku</n></character_1>" + piece * (48_000 // len(piece))
    short = min(lint_seconds(text) for _ in range(3))
    assert min(lint_seconds(longer) for _ in range(2)) <= max(18 * short, 0.2)


def test_so_many_bare_brackets_are_plain_text() -> None:
    text = "<n>a</n>" + "&" * (MAX_ELEMENTS + 1)
    (fault,) = (one for one in lint(text) if one.rule == "not-well-formed")
    assert "2,001" in fault.reason
    assert not read(text).structured


def test_no_broken_prompt_breaks_the_reader() -> None:
    found = list(failures(150, seed=11))
    assert len(found) == 1, found[0]
