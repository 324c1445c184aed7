"""The routes about prompts: what they answer, and that they refuse what tools should not read."""

from __future__ import annotations

from typing import Any

import pytest

fastapi = pytest.importorskip("fastapi", reason="the extra `server` is not installed")

from fastapi.testclient import TestClient  # noqa: E402

from sakuga.api.engine_spec import EngineSpec  # noqa: E402
from sakuga.errors import PromptRefused, RequestError  # noqa: E402
from sakuga.server import problems  # noqa: E402
from sakuga.server.prompts import router  # noqa: E402

XML = "<character_1>\n<n>miku</n>\n<appearance>blue_hair, twin_tails</appearance>\n</character_1>"


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = fastapi.FastAPI()
    app.include_router(router(EngineSpec()))
    return TestClient(app)


def post(client: TestClient, route: str, **body: Any) -> Any:
    answer = client.post(f"/sakuga/v1/{route}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_lint_says_where_why_how_to_mend_and_how_long(client: TestClient) -> None:
    said = post(client, "lint", prompt="<character_1><pose>standing</pose></character_1>")
    (found,) = [one for one in said["findings"] if one["rule"] == "renamed-field"]
    assert (found["line"], found["column"]) == (1, 15)
    assert found["edits"]
    assert said["mended"] == "<character_1><action>standing</action></character_1>"
    assert said["length"]["exact"]
    assert 0 < said["length"]["tokens"] < said["length"]["limit"]


def test_lint_counts_as_many_tokens_as_the_engine(client: TestClient) -> None:
    from sakuga.checkpoint.catalog import locate
    from sakuga.checkpoint.folder import open_checkpoint
    from sakuga.engine.texts import Tokenizers

    gemma = Tokenizers.open(open_checkpoint(locate("chibi"))).gemma
    text = "1girl, blue_hair, red_dress, smile, beach"
    assert post(client, "lint", prompt=text)["length"]["tokens"] == len(gemma.encode(text).ids)


def test_what_no_tool_should_parse_is_a_finding_to_lint(client: TestClient) -> None:
    said = post(client, "lint", prompt="<!DOCTYPE a>")
    assert [one["rule"] for one in said["findings"]] == ["declaration"]
    assert said["length"] is None


def test_and_an_error_to_the_rest(client: TestClient) -> None:
    for route in ("document", "convert-prompt"):
        with pytest.raises(PromptRefused):
            client.post(f"/sakuga/v1/{route}", json={"prompt": "<!DOCTYPE a>"})


@pytest.mark.parametrize(
    "prompt",
    [
        XML,
        "1girl, blue_hair",
        "<caption>A girl &amp; a cat &lt;3</caption>",
        '<character_1 weight="1.3"><n>😀</n></character_1>',
        "<character_1><n>a</n></character_1><scene><place>beach</place></scene>",
    ],
)
def test_cards_written_are_the_cards_read(client: TestClient, prompt: str) -> None:
    cards = post(client, "document", prompt=prompt)
    again = post(client, "document", blocks=cards["blocks"])
    assert said(again) == said(cards)
    assert post(client, "document", prompt=again["prompt"]) == again


def said(cards: Any) -> list[Any]:
    """Cards without where they stand."""
    return [
        (block["name"], [(one["name"], one["text"], one["weight"]) for one in block["fields"]])
        for block in cards["blocks"]
    ]


def test_a_field_knows_where_it_stands(client: TestClient) -> None:
    text = post(client, "document", prompt=XML)["blocks"][0]["fields"][1]
    assert "blue_hair" in XML[text["start"] : text["end"]]


@pytest.mark.parametrize("name", ["a b", "<x>", "character_1><n>", "&"])
def test_a_card_is_named_as_a_tag_can_be(client: TestClient, name: str) -> None:
    blocks = [{"name": name, "fields": [{"name": "n", "text": "miku"}]}]
    with pytest.raises(RequestError):
        client.post("/sakuga/v1/document", json={"blocks": blocks})


def answered(route: str, body: str) -> int:
    """The status of a request that `json` would not write, in the whole app's way."""
    app = fastapi.FastAPI()
    problems.install(app)
    app.include_router(router(EngineSpec()))
    headers = {"Content-Type": "application/json"}
    client = TestClient(app, raise_server_exceptions=False)
    status: int = client.post(f"/sakuga/v1/{route}", content=body, headers=headers).status_code
    return status


@pytest.mark.parametrize("route", ["lint", "document", "convert-prompt"])
def test_half_a_character_is_answered(route: str) -> None:
    assert answered(route, '{"prompt": "\\ud800 1girl <n>\\udfff"}') == 200


@pytest.mark.parametrize(
    "block",
    [
        {"name": "", "fields": []},
        {"name": "", "fields": [{"name": "n", "text": "a"}]},
        {"name": "caption", "fields": [{"name": "", "text": ""}]},
    ],
)
def test_a_card_that_no_prompt_can_have_is_refused(
    client: TestClient, block: dict[str, Any]
) -> None:
    with pytest.raises(RequestError):
        client.post("/sakuga/v1/document", json={"blocks": [block]})


@pytest.mark.parametrize("weight", ["1e999", "-5", "NaN"])
def test_a_weight_is_a_number_that_can_be_meant(weight: str) -> None:
    card = f'{{"name": "n", "fields": [{{"name": "n", "text": "a", "weight": {weight}}}]}}'
    assert answered("document", f'{{"blocks": [{card}]}}') == 400


def test_markup_in_a_field_stays_text(client: TestClient) -> None:
    text = "</n></character_1><img src=x onerror=alert(1)>"
    blocks = [{"name": "character_1", "fields": [{"name": "n", "text": text}]}]
    made = post(client, "document", blocks=blocks)
    (block,) = made["blocks"]
    assert block["fields"][0]["text"] == text


def test_a_prompt_is_converted_there_and_back(client: TestClient) -> None:
    made = post(client, "convert-prompt", prompt="1girl, blue_hair, frimbly")
    assert "<appearance>blue_hair</appearance>" in made["prompt"]
    assert [one["rule"] for one in made["findings"]] == ["unsure-tag"]
    flat = post(client, "convert-prompt", prompt=made["prompt"])
    assert flat["prompt"] == "1girl, blue_hair, frimbly"


def tags(client: TestClient, **query: Any) -> list[dict[str, Any]]:
    answer = client.get("/sakuga/v1/tags", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["tags"]
    return found


def test_a_tag_is_completed_by_what_the_model_was_taught_first(client: TestClient) -> None:
    found = tags(client, q="blue", field="appearance")
    assert found[0] == {
        "tag": "blue_eyes", "uses": found[0]["uses"], "slot": "eye colour", "field": "appearance",
        "typed": "", "taught": True,
    }  # fmt: skip
    assert found[0]["uses"] > 100_000
    assert [one["taught"] for one in found] == sorted([one["taught"] for one in found])[::-1]


def test_another_name_completes_to_the_tag_in_use(client: TestClient) -> None:
    found = tags(client, q="twin_tails")
    assert ("twintails", "twin_tails") in [(one["tag"], one["typed"]) for one in found]


def test_nothing_typed_offers_what_the_model_knows_of_a_field(client: TestClient) -> None:
    found = tags(client, field="background", limit=50)
    assert found
    assert {one["field"] for one in found} == {"background"}


def test_hostile_queries_find_nothing(client: TestClient) -> None:
    for query in ("<script>", "\x00", "%", "'; --", "(" * 100):
        assert len(tags(client, q=query)) <= 12
    assert client.get("/sakuga/v1/tags", params={"q": "a" * 1000}).status_code == 422
    assert client.get("/sakuga/v1/tags", params={"limit": 1000}).status_code == 422


def test_words_are_told_by_what_they_describe(client: TestClient) -> None:
    said = client.get("/sakuga/v1/words").json()
    assert "blue_eyes" in said["words"]["eye colour"]
    assert said["character_fields"][0] == "n"
