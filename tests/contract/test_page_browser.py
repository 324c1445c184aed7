"""The page in a real browser, against a real server: from a cold start to a saved picture."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.servers import LONG, RunningServer

from sakuga.files.png import png_texts
from sakuga.server.database import Database
from sakuga.server.index import Drawn
from sakuga.server.job import new_id
from sakuga.server.store import PictureStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not here")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")

MS = LONG * 1000
QUICK = "#draw?width=128&height=128&steps=1&seed=5"
AXE = Path(os.environ.get("SAKUGA_AXE", "node_modules/axe-core/axe.min.js"))
VIEWS = ("draw", "gallery", "grid", "compare")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("page")) as running:
        for seed in (1, 2):
            running.ended(running.submit("1girl, red_hair", seed=seed))
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, server: RunningServer) -> Iterator[Page]:
    """A page whose every error, and every request to elsewhere, fails its test."""
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if _is_fault(said) else None)
    page.on("request", lambda one: _from_here(one.url, server, wrong))
    yield page
    assert wrong == []


def _is_fault(said: ConsoleMessage) -> bool:
    """A refused request is told on the page, and chromium says so besides."""
    return said.type == "error" and "status of 4" not in said.text


def _from_here(url: str, server: RunningServer, wrong: list[str]) -> None:
    if not url.startswith((server.url, "data:", "blob:")):
        wrong.append(f"asked {url}")


def opened(page: Page, server: RunningServer, address: str = QUICK) -> Page:
    page.goto(f"{server.url}/{address}")
    page.wait_for_selector("body[data-ready]")
    return page


def prompt_of(page: Page) -> str:
    """The prompt as the page would send it, by the address that holds it."""
    page.wait_for_timeout(500)
    found: str = page.evaluate("new URLSearchParams(location.hash.split('?')[1]).get('prompt')")
    return found


def test_from_a_cold_start_to_a_saved_picture(
    page: Page, server: RunningServer, tmp_path: Path
) -> None:
    opened(page, server)
    page.wait_for_selector("#cost strong")
    assert "MiB" in page.inner_text("#cost")
    page.click("#go")
    page.wait_for_selector("progress")
    page.wait_for_selector("img.picture")
    with page.expect_download() as download:
        page.click(".actions a[download]")
    saved = tmp_path / "saved.png"
    download.value.save_as(saved)
    receipt = json.loads(png_texts(saved)["sakuga"])
    assert receipt["seed"] == 5
    assert "<n>hatsune_miku</n>" in receipt["request"]["prompt"]


def test_cards_and_text_stay_in_step(page: Page, server: RunningServer) -> None:
    opened(page, server)
    page.fill("[aria-label='Character 1: appearance']", "red_hair, green_eyes & <3")
    assert "<appearance>red_hair, green_eyes & <3</appearance>" in prompt_of(page)
    page.click("[data-tab=both]")
    raw = "<character_1><n>rin</n></character_1><character_2><n>len</n></character_2>"
    page.fill("#raw", raw)
    page.wait_for_selector("legend:has-text('Character 2')")
    assert page.input_value("[aria-label='Character 2: name']") == "len"
    page.click("#undo")
    page.wait_for_selector("legend:has-text('Picture')")
    assert page.input_value("[aria-label='Character 1: appearance']").startswith("red_hair, green")
    page.click("#redo")
    assert prompt_of(page) == raw


def test_a_finding_is_underlined_and_mended_with_one_click(
    page: Page, server: RunningServer
) -> None:
    opened(page, server)
    page.click("[data-tab=xml]")
    page.fill("#raw", "<character_1><n>🎀</n><pose>standing</pose></character_1>")
    assert page.inner_text(".mirror mark >> nth=0") == "pose"
    page.click("[aria-label='Fix: renamed-field']")
    assert prompt_of(page) == "<character_1><n>🎀</n><action>standing</action></character_1>"


def test_a_tag_is_completed_by_keys_alone(page: Page, server: RunningServer) -> None:
    opened(page, server)
    field = page.locator("[aria-label='Character 1: clothing']")
    field.fill("hoodie, school_u")
    field.press("End")
    field.press("n")
    page.wait_for_selector("#completion li")
    field.press("ArrowUp")
    field.press("ArrowDown")
    field.press("Enter")
    assert field.input_value() == "hoodie, school_uniform"


def test_a_hostile_prompt_is_text_wherever_it_is_shown(page: Page, server: RunningServer) -> None:
    hostile = "<n><img src=x onerror=alert(1)></n><script>alert(2)</script>"
    server.ended(server.submit(hostile, negative=hostile, seed=13))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    opened(page, server, "#gallery?q=onerror")
    page.click(".tile button")
    page.wait_for_selector(".receipt pre")
    assert hostile in page.inner_text(".receipt pre >> nth=0")
    page.click("dialog [aria-label='Take its settings']")
    assert prompt_of(page) == hostile
    assert page.locator("img[src=x], main script").count() == 0


def test_a_dropped_picture_gives_its_settings_back(page: Page, server: RunningServer) -> None:
    opened(page, server)
    ids = server.ask("GET", "/sakuga/v1/pictures?seed=2").json["pictures"]
    page.evaluate(
        """async (file) => {
            const blob = await (await fetch(file)).blob();
            const data = new DataTransfer();
            data.items.add(new File([blob], "a.png", { type: "image/png" }));
            const told = { dataTransfer: data, bubbles: true };
            document.body.dispatchEvent(new DragEvent("drop", told));
        }""",
        ids[0]["file"],
    )
    page.wait_for_selector(".toast")
    playwright.expect(page.locator("#set-seed")).to_have_value("2", timeout=MS)
    assert prompt_of(page) == "1girl, red_hair"


def test_a_start_picture_is_masked_and_made_larger(page: Page, server: RunningServer) -> None:
    opened(page, server)
    page.click(".strip button >> nth=0")
    page.click("[aria-label='Start from it']")
    box = page.locator("canvas.mask").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 90, steps=4)
    page.mouse.up()
    page.press(".handle.left", "ArrowLeft")
    with page.expect_request("**/jobs") as sent:
        page.click("#go")
    asked = json.loads(sent.value.post_data or "")["request"]
    assert asked["mask"].startswith("data:image/png;base64,")
    assert asked["outpaint"] == "left=16"
    page.wait_for_selector("img.picture")
    assert page.get_attribute("img.picture", "width") == "144"


def test_what_is_wrong_is_said_beside_the_button(page: Page, server: RunningServer) -> None:
    opened(page, server, "#draw?prompt=1girl&steps=900")
    page.wait_for_selector("#cost.refused")
    assert "steps must be 1 to 200" in page.inner_text("#cost")


def test_a_drawing_is_cancelled_by_escape(page: Page, server: RunningServer) -> None:
    opened(page, server, "#draw?prompt=1girl&steps=200")
    page.click("#go")
    page.wait_for_selector("progress")
    page.keyboard.press("Escape")
    page.wait_for_selector("progress", state="detached")
    newest = server.ask("GET", "/sakuga/v1/jobs?limit=1").json["jobs"][0]
    assert newest["state"] == "cancelled"


def test_live_mode_draws_what_was_typed_last(page: Page, server: RunningServer) -> None:
    opened(page, server)
    page.check("#live")
    field = page.locator("[aria-label='Character 1: clothing']")
    for word in ("hoodie", "kimono", "red_dress"):
        field.fill(word)
        page.wait_for_timeout(350)
    page.wait_for_selector("img.picture[alt*=red_dress]")
    page.uncheck("#live")


def test_a_grid_is_filled(page: Page, server: RunningServer) -> None:
    opened(page, server)
    page.click("[data-view=grid]")
    page.wait_for_selector("#axis-y optgroup", state="attached")
    page.fill("#values-x", "1, 3")
    page.select_option("#axis-y", "<character_1.clothing")
    page.fill("#values-y", "hoodie; red_dress")
    page.click(".axes-go .go")
    playwright.expect(page.locator(".cell img")).to_have_count(4, timeout=MS)
    newest = server.ask("GET", "/sakuga/v1/pictures?limit=4").json["pictures"]
    assert sum("<clothing>red_dress<" in one["prompt"] for one in newest) == 2


def test_two_pictures_are_compared(page: Page, server: RunningServer) -> None:
    opened(page, server, "#gallery?q=red_hair")
    page.wait_for_selector(".tile >> nth=1")
    for tile in page.locator(".tile").all()[:2]:
        tile.hover()
        tile.locator(".pick").check()
    page.click(".picked .button:has-text('Compare')")
    page.wait_for_selector(".pair article >> nth=1")
    assert "Seed" in page.inner_text(".pair .differs")


@pytest.mark.parametrize("language", ["en-GB", "zh-CN", "ja-JP"])
def test_nothing_is_wider_than_a_phone(
    browser: Browser, server: RunningServer, language: str
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, locale=language)
    page = context.new_page()
    opened(page, server)
    assert page.get_attribute("html", "lang") == language[:2]
    for view in VIEWS:
        page.goto(f"{server.url}/#{view}")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        wide = page.evaluate(
            """[...document.querySelectorAll('main button, main input, header *')].filter((one) =>
                one.checkVisibility() && one.getBoundingClientRect().right > 391
                && !one.closest('.strip, .board, .wall')).map((one) => one.outerHTML)"""
        )
        assert wide == []
    context.close()


def violations(page: Page) -> list[dict[str, Any]]:
    """What axe finds, as short as it can be told."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
    return [
        {"rule": one["id"], "where": [node["html"][:120] for node in one["nodes"][:3]]}
        for one in found
    ]


def test_of_thousands_of_pictures_few_are_in_the_page(browser: Browser, tmp_path: Path) -> None:
    fill_store(tmp_path, 5_000)
    with RunningServer(tmp_path) as server:
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(f"{server.url}/#gallery")
        page.wait_for_selector(".tile")
        assert page.inner_text(".total") == "5000 pictures"
        most = page.evaluate(SCROLL)
        assert 20 <= most <= 60
        page.wait_for_selector("[aria-posinset='5000']")
        page.close()


# Scrolls to the end and says how many cards there were at once, at most.
SCROLL = """async () => {
    const view = document.querySelector('.scroller');
    let most = 0;
    while (view.scrollTop + view.clientHeight < view.scrollHeight - 1) {
        view.scrollTop += 700;
        await new Promise(requestAnimationFrame);
        most = Math.max(most, document.querySelectorAll('.tile').length);
    }
    return most;
}"""


def fill_store(folder: Path, count: int) -> None:
    """A store with pictures, none of which was drawn."""
    database = Database(folder)
    store = PictureStore(database, folder, 1 << 20, 0)
    request = {"width": 128, "height": 128, "prompt": "1girl", "negative": "", "steps": 1}
    with database.changing():
        for seed in range(count):
            told = {"seed": seed, "model": "chibi", "request": request, "adapters": []}
            one = Drawn(f"{new_id()}-0", "none", 0, float(seed), 1.0, told, b"", b"")
            store.index.enter([one], ["1girl"])
            store.file(one.id).touch()
            store.thumbnail(one.id).touch()
    database.close()


@pytest.mark.skipif(
    not AXE.is_file(), reason="axe-core is not here: npm install --no-save axe-core"
)
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, server: RunningServer, colours: Any) -> None:
    context = browser.new_context(color_scheme=colours, bypass_csp=True, reduced_motion="reduce")
    page = context.new_page()
    opened(page, server)
    page.click("[data-tab=both]")
    page.fill("#raw", "<character_1><n>miku</n><pose>standing</pose></character_1>")
    page.wait_for_selector(".notes li")
    found = {"draw": violations(page)}
    page.click(".strip button >> nth=0")
    page.click("[aria-label='Start from it']")
    page.wait_for_selector("canvas.mask")
    found["mask"] = violations(page)
    page.click("#keys")
    found["keys"] = violations(page)
    page.keyboard.press("Escape")
    for view in VIEWS[1:]:
        page.goto(f"{server.url}/#{view}")
        page.wait_for_timeout(500)
        found[view] = violations(page)
    page.goto(f"{server.url}/#gallery")
    page.click(".tile button >> nth=0")
    page.wait_for_selector("dialog .receipt")
    found["picture"] = violations(page)
    context.close()
    assert {view: one for view, one in found.items() if one} == {}
