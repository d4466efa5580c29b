"""The viewer and the other pages in a real browser, over real pixels."""

import gzip
import re
from collections.abc import Iterator
from dataclasses import replace
from shutil import which
from typing import Any

import numpy as np
import pytest
from browsing import FLAGS
from playwright.sync_api import Browser, Page, expect, sync_playwright
from viewer_preview import BASE, ROOM, Preview, badge, line, radiograph, sample_lines, served

STUDY = f"{BASE}/studies/8d5f0f6e-2c55-5f0e-9b3d-4a1d0e6f7a10"
NO_WEBGL = "--disable-3d-apis"
AXE = ROOM.parent / ".cache/judges/node_modules/axe-core/axe.min.js"
PIXELS = """number => {
  const from = document.querySelectorAll("canvas")[number];
  const to = document.createElement("canvas");
  Object.assign(to, {width: 160, height: 120});
  const context = to.getContext("2d");
  context.drawImage(from, 0, 0, 160, 120);
  return [...context.getImageData(0, 0, 160, 120).data];
}"""
Pixels = list[int]


@pytest.fixture(scope="module")
def browsers() -> Iterator[dict[str, Browser]]:
    chromium = which("chromium")
    assert chromium, "the browser is missing: run scripts/install_system.sh chromium"
    with sync_playwright() as playwright:
        launch = playwright.chromium.launch
        yield {
            "webgl2": launch(executable_path=chromium, args=FLAGS),
            "canvas": launch(executable_path=chromium, args=[*FLAGS, NO_WEBGL]),
        }


@pytest.fixture
def state() -> Preview:
    return Preview(lines=sample_lines())


@pytest.fixture
def address(state: Preview) -> Iterator[str]:
    with served(state) as at:
        yield at


class Tab:
    """A page, and everything its console complained about."""

    def __init__(self, browser: Browser, **context: Any) -> None:
        self.context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 800}, **context}
        )
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda said: (
                self.problems.append(f"{said.text} {said.location}")
                if said.type == "error"
                else None
            ),
        )

    def open(self, url: str) -> Page:
        self.page.goto(url)
        self.page.wait_for_selector("body[data-first-image]")
        return self.page


@pytest.fixture
def tab(browsers: dict[str, Browser], address: str) -> Iterator[Tab]:
    """Give a tab whose console must stay silent: no error, no breach of the policy."""
    tab = Tab(browsers["webgl2"], base_url=address)
    tab.page.set_default_timeout(10_000)
    yield tab
    tab.context.close()
    assert tab.problems == []


@pytest.fixture
def loud_tab(browsers: dict[str, Browser], address: str) -> Iterator[Tab]:
    """Give a tab that may complain, as it does about a refused request."""
    tab = Tab(browsers["webgl2"], base_url=address)
    yield tab
    tab.context.close()


def violations(page: Page) -> list[str]:
    """Ask axe; it is evaluated from outside, past the page's own policy."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{v['id']}: {[n['target'] for n in v['nodes']]}" for v in found["violations"]]


def pixels(page: Page, number: int = 0) -> Pixels:
    settle(page)
    return page.evaluate(PIXELS, number)


def grey(found: Pixels) -> list[int]:
    return found[1::4]


def mean(values: list[int]) -> float:
    return sum(values) / len(values)


def amber(found: Pixels) -> int:
    """Count the pixels that are far from grey: the map has the only hue on the canvas."""
    return sum(red - blue > 25 for red, blue in zip(found[::4], found[2::4], strict=True))


def apart(one: Pixels, other: Pixels) -> float:
    return mean([abs(a - b) for a, b in zip(one, other, strict=True)])


def settle(page: Page) -> None:
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 30)))")


def pressed(page: Page, name: str) -> bool:
    settle(page)
    return page.locator(f"[data-do={name}]").get_attribute("aria-pressed") == "true"


def readout(page: Page) -> str:
    settle(page)
    return page.locator("[data-out=window]").inner_text()


def test_the_scripts_are_small() -> None:
    names = ("shell.js", "forms.js", "viewer.js", "worklist.js")
    sizes = {n: len(gzip.compress((ROOM / "static" / n).read_bytes(), 9)) for n in names}
    print(sizes, sum(sizes.values()))  # noqa: T201 - a figure to report
    assert sum(sizes.values()) < 15_000
    shell = (ROOM / "static/shell.js").read_text(encoding="utf-8")
    assert len(shell.splitlines()) < 40


def test_no_page_holds_a_script_or_a_style_of_its_own() -> None:
    for path in (ROOM / "templates").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\sstyle=|<style|\son\w+=|<script(?![^>]* src=)", text), path.name


def test_the_image_is_drawn_soon_and_without_the_map(tab: Tab, address: str) -> None:
    page = tab.open(address + STUDY)
    times_ms = []
    for _ in range(3):
        tab.open(address + STUDY)
        times_ms.append(int(page.evaluate("document.body.dataset.firstImage")))
    print(f"first image after {times_ms} ms")  # noqa: T201 - a figure to report
    assert min(times_ms) < 500
    assert page.evaluate("performance.getEntriesByName('radcds-first-image').length") == 1
    assert page.locator(".pane").first.get_attribute("data-renderer") == "webgl2"
    found = pixels(page)
    assert len(set(grey(found))) > 60
    assert amber(found) == 0
    assert pressed(page, "overlay") is False


@pytest.mark.parametrize("renderer", ["webgl2", "canvas"])
def test_each_renderer_draws_image_map_and_inversion(
    browsers: dict[str, Browser], address: str, renderer: str
) -> None:
    tab = Tab(browsers[renderer])
    page = tab.open(address + STUDY)
    assert page.locator(".pane").first.get_attribute("data-renderer") == renderer
    plain = pixels(page)
    assert len(set(grey(plain))) > 60
    page.keyboard.press("i")
    inverted = pixels(page)
    middle = slice(60 * 160 + 60, 60 * 160 + 100)
    for before, after in zip(grey(plain)[middle], grey(inverted)[middle], strict=True):
        assert abs(before + after - 255) < 12
    page.keyboard.press("i")
    page.keyboard.press("h")
    assert amber(pixels(page)) > 1000
    page.keyboard.press("h")
    assert amber(pixels(page)) == 0
    assert tab.problems == []
    tab.context.close()


def test_both_renderers_show_the_same(browsers: dict[str, Browser], address: str) -> None:
    seen: dict[str, list[Pixels]] = {}
    for name, browser in browsers.items():
        tab = Tab(browser)
        page = tab.open(address + STUDY)
        seen[name] = [pixels(page)]
        for key in "2h":
            page.keyboard.press(key)
        seen[name].append(pixels(page))
        tab.context.close()
    for one, other in zip(seen["webgl2"], seen["canvas"], strict=True):
        assert apart(one, other) < 3


@pytest.mark.parametrize("renderer", ["webgl2", "canvas"])
def test_grey_values_are_those_of_the_standard(
    browsers: dict[str, Browser], address: str, renderer: str
) -> None:
    tab = Tab(browsers[renderer])
    page = tab.open(address + STUDY)
    for key, center, width in (("1", 15000, 30000), ("2", 9000, 14000)):
        page.keyboard.press(key)
        drawn = mean(grey(pixels(page)))
        stage = page.locator("canvas").first.evaluate("c => c.clientWidth / c.clientHeight")
        stored = radiograph().astype(float)
        # PS3.3 C.11.2.1.2.1, then MONOCHROME1 turned over; the rest of the canvas is black
        shown = 255 - np.clip((stored - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255
        covered = stored.shape[1] / stored.shape[0] / stage
        assert drawn == pytest.approx(shown.mean() * covered, abs=1.5)
    tab.context.close()


def test_the_map_is_announced_and_says_how_coarse_it_is(tab: Tab, address: str) -> None:
    page = tab.open(address + STUDY)
    expect(page.locator(".legend")).to_be_hidden()
    page.locator("[data-do=overlay]").click()
    assert pressed(page, "overlay") is True
    expect(page.locator("#announce")).to_contain_text("Saliency map on")
    expect(page.locator(".map-says")).to_contain_text(
        re.compile(r"10 \S 10 cells of 3.7 cm \S 3.9 cm")
    )
    expect(page.locator(".legend")).to_be_visible()
    assert "saliency map on" in str(page.locator("canvas").first.get_attribute("aria-label"))
    strong = amber(pixels(page))
    page.locator("#opacity").fill("10")
    assert amber(pixels(page)) < strong / 2


def test_presets_and_dragging_set_the_window_and_reset_undoes_it(tab: Tab, address: str) -> None:
    page = tab.open(address + STUDY)
    first = pixels(page)
    assert readout(page) == "W 30000  L 15000"
    page.keyboard.press("2")
    assert apart(first, pixels(page)) > 5
    assert readout(page) == "W 14000  L 9000"
    page.mouse.move(400, 400)
    page.mouse.down()
    page.mouse.move(500, 440)
    page.mouse.up()
    pixels(page)
    assert readout(page) == "W 21500  L 12000"
    page.keyboard.press("r")
    assert apart(first, pixels(page)) < 0.5


def test_zooming_panning_and_fitting(tab: Tab, address: str) -> None:
    page = tab.open(address + STUDY)
    fitted = pixels(page)
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    near = pixels(page)
    assert apart(fitted, near) > 3
    page.mouse.move(400, 400)
    page.mouse.wheel(0, -100)
    assert apart(near, pixels(page)) > 1
    expect(page.locator("[data-out=point]")).to_contain_text(re.compile(r"x \d+ {2}y \d+"))
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(300, 300)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert readout(page) == "W 30000  L 15000"
    page.keyboard.press("0")
    assert apart(fitted, pixels(page)) < 0.5


def test_the_scale_bar_keeps_to_the_spacing(tab: Tab, address: str) -> None:
    page = tab.open(address + STUDY)
    zoom = float(page.locator("[data-out=zoom]").inner_text().split()[0]) / 100
    path = page.locator(".rule .line").first.get_attribute("d")
    wide = float(re.findall(r"h([\d.]+)", str(path))[0])
    assert page.locator(".rule text").first.text_content() == "10 cm"
    assert wide == pytest.approx(100 / 0.2 * zoom, rel=0.03)


def test_a_stack_is_scrolled_by_key_wheel_and_slider(
    tab: Tab, state: Preview, address: str
) -> None:
    state.images = f"{BASE}/images/ct"
    page = tab.open(address + STUDY)
    where = page.locator(".stack output").first
    shown = page.locator(".pane").first
    expect(where).to_have_text("21 / 40")
    page.keyboard.press("]")
    expect(where).to_have_text("22 / 40")
    expect(shown).to_have_attribute("data-shown", f"{BASE}/frames/ct/21")
    page.keyboard.press("PageUp")
    page.keyboard.press("[")
    expect(where).to_have_text("20 / 40")
    page.mouse.move(468, 480)
    page.mouse.wheel(0, 100)
    expect(where).to_have_text("21 / 40")
    page.keyboard.press("1")
    page.keyboard.press("h")
    assert amber(pixels(page)) > 1000
    slider = page.locator(".stack input").first
    slider.fill("1")
    expect(where).to_have_text("1 / 40")
    expect(shown).to_have_attribute("data-shown", f"{BASE}/frames/ct/0")
    assert slider.get_attribute("aria-valuetext") == "image 1 of 40"
    assert amber(pixels(page)) == 0
    expect(page.locator(".map-says")).to_contain_text("belongs to another image")
    asked = [path for path in state.asked if "/frames/" in path]
    assert len(asked) == len(set(asked)), "no frame is asked for twice"
    assert len(asked) < 40, "only neighbours are asked for ahead"


def test_the_prior_opens_beside_the_study(tab: Tab, state: Preview, address: str) -> None:
    page = tab.open(address + STUDY)
    assert not any("prior" in path for path in state.asked)
    page.keyboard.press("p")
    prior = page.locator(".pane").nth(1)
    expect(prior).to_have_attribute("data-shown", f"{BASE}/frames/prior/0")
    assert len(set(grey(pixels(page, 1)))) > 60
    before = pixels(page, 0)
    page.keyboard.press("i")
    assert apart(before, pixels(page, 0)) < 0.5, "keys act on the prior while it is in use"
    page.keyboard.press("h")
    assert amber(pixels(page, 0)) > 1000
    assert amber(pixels(page, 1)) == 0
    assert violations(page) == []
    page.keyboard.press("p")
    expect(prior).to_be_hidden()


def test_the_canvas_follows_its_place_and_the_density_of_the_screen(
    browsers: dict[str, Browser], address: str
) -> None:
    tab = Tab(browsers["webgl2"], device_scale_factor=2)
    page = tab.open(address + STUDY)
    size = "() => { const c = document.querySelector('canvas'); return [c.width, c.clientWidth]; }"
    wide = page.evaluate(size)
    assert wide[0] == 2 * wide[1]
    page.set_viewport_size({"width": 1100, "height": 700})
    found = pixels(page)
    narrow = page.evaluate(size)
    assert narrow[0] == 2 * narrow[1] < wide[0]
    assert len(set(grey(found))) > 60
    tab.context.close()


def test_a_lost_context_falls_back_to_the_canvas(tab: Tab, address: str) -> None:
    page = tab.open(address + STUDY)
    before = pixels(page)
    page.evaluate(
        "document.querySelector('canvas').getContext('webgl2')"
        ".getExtension('WEBGL_lose_context').loseContext()"
    )
    expect(page.locator(".pane").first).to_have_attribute("data-renderer", "canvas")
    assert apart(before, pixels(page)) < 3


def test_a_disagreement_is_recorded_by_keyboard_alone(
    tab: Tab, state: Preview, address: str
) -> None:
    page = tab.open(address + STUDY)
    press = page.keyboard.press
    press("v")
    press("Space")
    press("ArrowRight")
    press("Tab")
    press("Space")
    press("ArrowDown")
    press("ArrowDown")
    press("Tab")
    press("T")
    press("Tab")
    page.keyboard.type("Rib, not hip: h i p 1")
    press("Tab")
    press("Enter")
    expect(page.locator(".verdicts")).to_contain_text("Disagrees")
    assert state.posted == [
        {
            "agreement": "disagree",
            "radpeer": "2b",
            "reason": "false-positive",
            "comment": "Rib, not hip: h i p 1",
        }
    ]


def test_typing_is_not_a_command(tab: Tab, address: str) -> None:
    page = tab.open(address + STUDY)
    page.locator("#verdict-more summary").click()
    page.locator("#comment").press_sequentially("hip 12 ?")
    assert pressed(page, "overlay") is False
    assert readout(page) == "W 30000  L 15000"
    expect(page.locator("#keys")).to_be_hidden()


def test_a_disagreement_needs_a_reason(tab: Tab, state: Preview, address: str) -> None:
    page = tab.open(address + STUDY)
    page.locator("#verdict-more summary").click()
    form = page.locator("#verdict-form")
    form.get_by_label("1 concur").check()
    form.get_by_label("I disagree").check()
    expect(form.get_by_label("1 concur")).not_to_be_checked()
    form.get_by_label("2a understandable").check()
    form.get_by_role("button").click()
    assert page.locator("#reason").evaluate("field => field.validity.valueMissing")
    assert state.posted == []


def test_agreeing_takes_one_press(tab: Tab, state: Preview, address: str) -> None:
    page = tab.open(address + STUDY)
    page.get_by_role("button", name="Agree, mark as read").click()
    expect(page.locator("#verdict-title")).to_contain_text("read")
    assert state.posted == [{"agreement": "agree", "radpeer": "1"}]


def test_signing_is_offered_only_to_who_may_sign(tab: Tab, state: Preview, address: str) -> None:
    page = tab.open(address + STUDY)
    expect(page.locator("[name=sign]")).to_have_count(0)
    state.can_sign = True
    tab.open(address + STUDY)
    assert violations(page) == []
    page.get_by_role("button", name="Agree and sign: final in every system").click()
    expect(page.locator("#verdict-title")).to_contain_text("read")
    assert state.posted == [{"agreement": "agree", "radpeer": "1", "sign": "1"}]


def test_what_was_signed_stands_under_the_result(tab: Tab, state: Preview, address: str) -> None:
    state.changes = {"amendments": ["Corrected by dr.reader, 20 Nov 2026 09:41: <b>No</b> lesion."]}
    page = tab.open(address + STUDY)
    expect(page.locator(".result .amendments li")).to_have_text(state.changes["amendments"])
    assert violations(page) == []


def test_single_keys_can_be_turned_off(tab: Tab, address: str) -> None:
    page = tab.open(address + STUDY)
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    assert violations(page) == []
    page.locator("#single").uncheck()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    page.keyboard.press("h")
    assert pressed(page, "overlay") is False
    tab.open(address + STUDY)
    page.keyboard.press("i")
    assert pressed(page, "invert") is False


@pytest.mark.parametrize(
    ("images", "why"),
    [
        (f"{BASE}/images/gone", "the archive does not have it"),
        (f"{BASE}/images/missing", "the archive does not have it"),
        (f"{BASE}/images/short", "its data are incomplete"),
        ("", "the archive gives no pixels for it"),
    ],
)
def test_a_missing_image_is_told_in_words(
    loud_tab: Tab, state: Preview, address: str, images: str, why: str
) -> None:
    state.images = images
    page = loud_tab.page
    page.goto(address + STUDY)
    expect(page.locator(".says p").first).to_have_text(
        f"The image cannot be shown: {why}. The AI result on this page still stands."
    )
    expect(page.get_by_role("button", name="Try again").first).to_be_visible()
    expect(page.locator(".result .badge")).to_contain_text("Urgent")
    page.keyboard.press("h")
    page.keyboard.press("]")
    page.keyboard.press("i")
    assert not [each for each in loud_tab.problems if "404" not in each]
    assert violations(page) == []


def test_a_triage_only_site_shows_no_place(tab: Tab, state: Preview, address: str) -> None:
    state.changes = {"shows_overlay": False}
    page = tab.open(address + STUDY)
    assert page.locator("[data-do=overlay]").count() == 0
    page.keyboard.press("h")
    assert amber(pixels(page)) == 0
    expect(page.locator(".map-says")).to_contain_text("triage only: no location is shown")


def test_a_study_without_result_does_not_look_empty(tab: Tab, state: Preview, address: str) -> None:
    state.style = "declined"
    state.can_review = False
    state.changes = {
        "says": "NOT ANALYSED BY AI: the view is lateral.",
        "findings": [],
        "explained": "",
        "shows_overlay": False,
        "analysed": False,
        "prior": None,
        "ohif_url": "",
    }
    page = tab.open(address + STUDY)
    expect(page.locator(".result")).to_contain_text("Not analysed")
    assert page.locator("form[action$=verdict]").count() == 0
    assert violations(page) == []


@pytest.mark.parametrize("width", [1280, 800])
@pytest.mark.parametrize(
    "path", [STUDY, f"{BASE}/worklist", "/sign-in", f"{BASE}/break-glass", "/error"]
)
def test_every_page_is_accessible_and_fits(tab: Tab, address: str, path: str, width: int) -> None:
    page = tab.page
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(address + path)
    if path == STUDY:
        page.wait_for_selector("body[data-first-image]")
        page.keyboard.press("h")
        page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator("footer")).to_contain_text(
        "AI output, not a diagnosis. Research demonstration, not for clinical use."
    )
    small = page.locator("button:visible, a.button:visible, select:visible").evaluate_all(
        "all => all.map(each => each.getBoundingClientRect())"
        ".filter(box => box.width < 24 || box.height < 24).length"
    )
    assert small == 0


@pytest.mark.parametrize("path", [STUDY, f"{BASE}/worklist", "/sign-in"])
def test_a_page_enlarged_four_times_needs_no_sideways_scrolling(
    tab: Tab, address: str, path: str
) -> None:
    tab.page.set_viewport_size({"width": 320, "height": 256})
    tab.page.goto(address + path)
    tab.page.wait_for_load_state("networkidle")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 320
    assert violations(tab.page) == []


def test_the_worklist_stays_fresh_in_the_order_of_the_server(
    tab: Tab, state: Preview, address: str
) -> None:
    page = tab.page
    page.goto(f"{address}{BASE}/worklist")
    page.keyboard.press("j")
    page.keyboard.press("j")
    ids = "rows => rows.map(row => row.dataset.id)"
    assert page.locator("tbody tr").evaluate_all(ids) == [f"r{n}" for n in range(7)]
    assert page.evaluate("document.activeElement.closest('tr').dataset.id") == "r1"
    state.lines = [
        line(9, "flagged", "in 50 min"),
        line(8, "urgent", "in 30 min"),
        *sample_lines()[:6],
    ]
    expect(page.locator("tbody tr").first).to_have_attribute("data-id", "r9", timeout=8000)
    assert page.locator("tbody tr").evaluate_all(ids) == [each.result_id for each in state.lines]
    assert page.evaluate("document.activeElement.closest('tr').dataset.id") == "r1"
    expect(page.locator("#announce")).to_have_text("2 new studies, 1 urgent")
    expect(page.locator(".count.urgent")).to_contain_text("3 urgent")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url("**/studies/r0")


def test_what_is_sought_in_the_list_stays_out_of_the_address(
    tab: Tab, state: Preview, address: str
) -> None:
    page = tab.page
    page.goto(f"{address}{BASE}/worklist")
    page.keyboard.press("/")
    page.keyboard.type("test two")
    expect(page.locator("tbody tr:visible")).to_have_count(1)
    expect(page.locator("#found")).to_have_text("1 of 7 shown")
    state.lines[1] = replace(state.lines[1], badge=badge("flagged"))
    expect(page.locator("tbody tr:visible .badge")).to_contain_text("Flagged", timeout=8000)
    expect(page.locator("tbody tr:visible")).to_have_count(1)
    assert "brandt" not in page.url
    page.get_by_role("button", name="Apply").click()
    assert page.url.endswith("worklist?state=open&priority=&centre=")


def test_a_lost_connection_is_told(loud_tab: Tab, state: Preview, address: str) -> None:
    page = loud_tab.page
    page.goto(f"{address}{BASE}/worklist")
    expect(page.locator("#link")).to_contain_text("Live")
    state.broken = True
    expect(page.locator("#link")).to_contain_text(
        re.compile(r"Updates stopped at \d\d:\d\d; what you see may be old"), timeout=8000
    )
    assert violations(page) == []
    state.broken = False
    expect(page.locator("#link")).to_contain_text("Live", timeout=8000)


def test_an_empty_worklist_says_what_it_means(tab: Tab, state: Preview, address: str) -> None:
    state.lines = []
    tab.page.goto(f"{address}{BASE}/worklist")
    expect(tab.page.locator("tbody")).to_contain_text("No study matches")
    assert violations(tab.page) == []


def test_a_frame_without_cookies_works_with_the_secret_of_its_session(
    loud_tab: Tab, state: Preview, address: str
) -> None:
    state.secret = "f00d"  # noqa: S105 - a test's secret
    page = loud_tab.page
    page.goto(address + STUDY)
    expect(page.locator("h1")).to_have_text("Opening")
    page.evaluate("sessionStorage['radcds:k3v9'] = 'f00d'")
    page.reload()
    page.wait_for_selector("body[data-first-image]")
    page.keyboard.press("h")
    assert amber(pixels(page)) > 1000
    page.get_by_role("button", name="Agree, mark as read").click()
    expect(page.locator(".verdicts")).to_contain_text("Agrees")
    page.wait_for_selector("body[data-first-image]")
    page.keyboard.press("i")
    assert pressed(page, "invert") is True
    assert state.posted == [{"agreement": "agree", "radpeer": "1"}]
    page.get_by_role("link", name="Worklist").click()
    expect(page.locator("tbody tr")).to_have_count(7)
    expect(page.locator("#link")).to_contain_text("Live")
    with page.expect_download() as download:
        page.goto(address + STUDY)
        page.wait_for_selector("body[data-first-image]")
        page.locator("details", has_text="Artefacts").locator("summary").click()
        page.get_by_role("link", name="oru.hl7").click()
    assert download.value.suggested_filename == "oru.hl7"
    assert not [each for each in loud_tab.problems if "401" not in each]


def test_nobody_is_made_to_watch_movement(browsers: dict[str, Browser], address: str) -> None:
    tab = Tab(browsers["webgl2"], reduced_motion="reduce")
    page = tab.open(address + STUDY)
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter(each => { const s = getComputedStyle(each);"
        "return s.animationName !== 'none' || (s.transitionDuration !== '0s'"
        " && s.transitionProperty !== 'none' && s.transitionProperty !== 'all'); }).length"
    )
    assert moving == 0
    tab.context.close()


def test_forced_colours_keep_states_and_image(browsers: dict[str, Browser], address: str) -> None:
    tab = Tab(browsers["webgl2"], forced_colors="active")
    page = tab.open(address + STUDY)
    before = page.locator("[data-do=overlay]").evaluate("b => getComputedStyle(b).backgroundColor")
    page.keyboard.press("h")
    settle(page)
    after = page.locator("[data-do=overlay]").evaluate("b => getComputedStyle(b).backgroundColor")
    assert before != after
    assert amber(pixels(page)) > 1000
    expect(page.locator("[data-do=overlay]")).to_contain_text("on")
    tab.context.close()


def test_the_print_holds_image_findings_and_footer(tab: Tab, address: str) -> None:
    page = tab.open(address + STUDY)
    page.emulate_media(media="print")
    for hidden in (".tools", "#verdict", "header form"):
        expect(page.locator(hidden).first).to_be_hidden()
    for shown in (".banner", "canvas", ".findings", "footer"):
        expect(page.locator(shown).first).to_be_visible()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    assert len(set(grey(pixels(page)))) > 60
