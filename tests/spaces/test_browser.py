"""The page in a real browser: every tab, by pointer and by keyboard, on a desk and on a phone, in light and in dark.

Screenshots are written to `build/screenshots`.
"""

import os
import re
import shutil
from contextlib import contextmanager

import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from .conftest import ROOT, SPACE

SCREENSHOTS = ROOT / "build" / "screenshots"
CHROMIUM = shutil.which("chromium")
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TABS = ("Classify", "Compare", "Prior", "Know the model")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("There is no chromium: `.ci/run` installs it.")
        pytest.skip("There is no chromium on the path: `apt-get install chromium` brings it.")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield started
        started.close()


@contextmanager
def visit(browser, page, theme="light", size=DESK):
    """The page in a tab, which must ask no other host for anything and log no error."""
    tab = browser.new_page(viewport=size)
    elsewhere, errors = [], []
    tab.on("request", lambda request: elsewhere.append(request.url) if is_elsewhere(request.url, page.url) else None)
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(f"{page.url}/?__theme={theme}")
    expect(tab.get_by_role("tab", name="Classify")).to_be_visible()
    yield tab
    tab.close()
    assert not elsewhere
    assert not errors


def is_elsewhere(url, home):
    return not url.startswith((home, "data:", "blob:"))


def choose_example(tab, name="Bag (few-shot)"):
    tab.get_by_role("button", name=name).click()
    expect(tab.locator(".answer:visible .winner")).to_have_text("Bag")


def open_tab(tab, name):
    """On a phone some tabs are behind the button at the right."""
    button = tab.get_by_role("tab", name=name)
    if not button.is_visible():
        tab.locator(".overflow-menu > button").click()
        button = tab.locator(".overflow-dropdown button", has_text=name)
    button.click()


def upload(tab, path):
    tab.locator("#image input[type=file]").first.set_input_files(str(path))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("name", "size"), [("desk", DESK), ("phone", PHONE)])
def test_every_tab_shows_its_part_and_fits_the_screen(browser, pair, theme, name, size):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with visit(browser, pair, theme, size) as tab:
        choose_example(tab)
        for title in TABS:
            open_tab(tab, title)
            shown = {
                "Classify": ".expert >> nth=2",
                "Compare": ".model >> nth=1",
                "Prior": "svg.chart polyline >> nth=0",
                "Know the model": "svg.chart circle >> nth=9",
            }[title]
            expect(tab.locator(shown)).to_be_visible()
            assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"], f"{title} is too wide"
            tab.wait_for_timeout(300)  # for what fades in
            tab.screenshot(path=SCREENSHOTS / f"{name}-{theme}-{title.split()[0].lower()}.png", full_page=True)


def test_an_uploaded_image_gets_an_answer_with_its_rarity_and_each_experts_view(browser, pair, tmp_path):
    Image.open(SPACE / "examples" / "ankle-boot.png").resize((300, 200)).convert("RGB").save(tmp_path / "boot.jpg")
    with visit(browser, pair) as tab:
        upload(tab, tmp_path / "boot.jpg")
        winner = tab.locator(".answer:visible .winner")
        expect(winner).not_to_have_text("")
        expect(tab.locator(".answer:visible .chip")).to_have_text(re.compile(r"-shot class, [\d,]+ training images?"))
        expect(tab.locator(".agreement:visible")).to_contain_text("expert")
        assert tab.locator(".answer:visible li").count() == 5
        for number in range(3):
            expert = tab.locator(".expert").nth(number)
            expect(expert.get_by_role("heading")).to_have_text(f"Expert {number + 1}")
            assert expert.locator("li").count() == 3
            assert expert.get_by_role("img", name=f"Where expert {number + 1} looked").count() == 1


def test_all_of_it_can_be_reached_by_keyboard(browser, pair):
    with visit(browser, pair) as tab:
        example = tab.get_by_role("button", name="Bag (few-shot)")
        for _ in range(60):
            tab.keyboard.press("Tab")
            if example.evaluate("element => element === document.activeElement"):
                break
        else:
            pytest.fail("the Tab key does not reach the examples")
        tab.keyboard.press("Enter")
        expect(tab.locator(".answer:visible .winner")).to_have_text("Bag")
        tab.get_by_role("tab", name="Classify").focus()
        for _ in range(2):
            tab.keyboard.press("Tab")
        tab.get_by_role("tab", name="Prior").press("Enter")
        slider = tab.get_by_role("slider")
        expect(slider).to_be_visible()
        before = tab.locator(".answer:visible .value").first.inner_text()
        slider.focus()
        for _ in range(20):
            tab.keyboard.press("ArrowLeft")
        expect(tab.locator(".answer:visible .value").first).not_to_have_text(before)
        open_tab(tab, "Know the model")
        circle = tab.get_by_role("img", name=re.compile("^Shirt: 58 training images, .* taken for"))
        circle.focus()
        assert circle.evaluate("element => element === document.activeElement")


def test_my_own_mix_moves_the_answer_and_a_wrong_line_is_told(browser, pair):
    with visit(browser, pair) as tab:
        choose_example(tab)
        open_tab(tab, "Prior")
        tab.get_by_role("button", name="My own mix").click()
        mix, use = tab.get_by_label("How frequent classes are"), tab.get_by_role("button", name="Use my mix")
        mix.fill("Bog: 0")
        use.click()
        expect(tab.get_by_text("Write lines such as “Bag: 20”")).to_be_visible()
        expect(tab.locator(".answer:visible .winner")).to_have_text("Bag")
        mix.fill("bag: 0\nAnkle boot: 20")
        use.click()
        expect(tab.locator(".answer:visible .winner")).to_have_text("Ankle boot")
        expect(tab.get_by_role("slider")).to_have_value("2")


def test_a_class_is_chosen_to_see_what_it_is_taken_for(browser, pair):
    with visit(browser, pair) as tab:
        open_tab(tab, "Know the model")
        choice = tab.get_by_label("What a class is taken for")
        choice.click()
        tab.get_by_role("option", name="Shirt", exact=True).click()
        expect(tab.locator("ol.bars:visible").last).to_contain_text("Pullover")
        expect(tab.locator(".chip:visible")).to_contain_text("58 training images")
        expect(tab.get_by_role("table").first).to_contain_text("ICL-MoE")
        assert (
            tab.locator("svg.chart circle title").first.text_content().startswith("T-shirt/top: 2,000 training images")
        )


def test_a_file_that_is_no_image_is_told_in_the_page(browser, pair, tmp_path):
    (tmp_path / "words.png").write_text("words, not pixels")
    with visit(browser, pair) as tab:
        upload(tab, tmp_path / "words.png")
        expect(tab.get_by_text("This file cannot be read as an image")).to_be_visible()
        choose_example(tab)


def test_a_label_is_text_whatever_it_says_and_what_is_missing_is_told(browser, snnl, tmp_path):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "image.png")
    with visit(browser, snnl) as tab:
        upload(tab, tmp_path / "image.png")
        expect(tab.locator(".answer:visible")).to_contain_text("<script>document.title='taken'</script>")
        assert tab.title() == "What each expert sees"
        expect(tab.locator(".gate").first).to_have_text(re.compile(r"weight of the gate \d+ %"))
        assert not tab.get_by_role("tab", name="Compare").is_visible()
        open_tab(tab, "Know the model")
        expect(tab.get_by_text("This model's repository has no results.")).to_be_visible()
