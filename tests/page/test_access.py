"""The page by touch, keyboard and screen reader: taps, contrast, names, announcements, reduced motion."""

import re

import pytest
from playwright.sync_api import expect

from models.images.drawing import PALETTE, ink_on
from tests.support.chromium import DISC_BOX, SQUARE_BOX, Show, Shown

PHONE = {"has_touch": True, "is_mobile": True, "reduced_motion": "reduce"}
READABLE = 4.5  # to 1, WCAG 2 AA

# Every visible text's contrast with what lies behind it, the lowest first: [ratio, text].
CONTRASTS = """() => {
  const parse = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\\d.]+/g).map(Number);
    const full = colour.startsWith("color(srgb") ? 255 : 1;
    return [red * full, green * full, blue * full, alpha];
  };
  const part = (value) => (value <= 10 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([red, green, blue]) => 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const ground = (element) => {
    const below = element.parentElement ? ground(element.parentElement) : [255, 255, 255, 1];
    return over(parse(getComputedStyle(element).backgroundColor), below);
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const element = text.parentElement;
    if (!text.textContent.trim() || element.closest(":disabled, noscript")) continue;
    if (!element.checkVisibility()) continue;
    const behind = ground(element);
    const [one, other] = [luminance(over(parse(getComputedStyle(element).color), behind)), luminance(behind)];
    found.push([(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), text.textContent.trim()]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}"""


def tap(shown: Shown, x: float, y: float) -> None:
    """Tap at a place given in shares of the image."""
    frame = shown.page.locator("#boxes").bounding_box()
    assert frame is not None
    shown.page.touchscreen.tap(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"])


def test_a_phone_is_used_by_taps(show: Show) -> None:
    shown = show(width=390, context=PHONE)
    page = shown.page
    expect(page.get_by_text("Choose images, or take a photo")).to_be_visible()
    expect(page.get_by_text("Drop images, a folder or a video here")).to_be_hidden()
    assert (
        page.evaluate("getComputedStyle(document.getElementById('busy'), '::after').animationName") == "none"
    )
    shown.detect()
    square, disc = page.locator(".found").all()
    tap(shown, SQUARE_BOX[0] + 0.02, SQUARE_BOX[3] - 0.02)
    expect(square).to_have_attribute("aria-pressed", "true")
    expect(square).to_have_class("found active")
    tap(shown, DISC_BOX[2] - 0.02, DISC_BOX[1] + 0.02)
    expect(disc).to_have_attribute("aria-pressed", "true")
    expect(square).to_have_attribute("aria-pressed", "false")
    tap(shown, 0.05, 0.95)  # beside all boxes
    expect(disc).to_have_attribute("aria-pressed", "false")
    # a tap may miss a box by a little
    frame = page.locator("#boxes").bounding_box()
    assert frame is not None
    tap(shown, SQUARE_BOX[0] - 20 / frame["width"], SQUARE_BOX[3] - 0.02)
    expect(square).to_have_attribute("aria-pressed", "false")
    tap(shown, SQUARE_BOX[0] - 8 / frame["width"], SQUARE_BOX[3] - 0.02)
    expect(square).to_have_attribute("aria-pressed", "true")
    # a tap on a row brings the image into sight
    page.set_viewport_size({"width": 390, "height": 400})
    disc.scroll_into_view_if_needed()
    expect(page.locator("#frame")).not_to_be_in_viewport()
    disc.tap()
    expect(page.locator("#frame")).to_be_in_viewport()
    expect(disc).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(show: Show, scheme: str) -> None:
    shown = show(context={"color_scheme": scheme}, faults=[400, 401], api_keys="secret")
    shown.page.locator("#key").fill("secret")
    seen = shown.page.evaluate(CONTRASTS)
    shown.page.get_by_role("button", name="Use key").click()
    shown.detect()
    shown.page.locator(".found").first.click()
    shown.page.locator(".chip").nth(1).click()
    seen += shown.page.evaluate(CONTRASTS)
    shown.choose(b"no image")
    expect(shown.page.locator("#notice-title")).to_have_text("The image cannot be read")
    seen += shown.page.evaluate(CONTRASTS)
    shown.page.evaluate("document.getElementById('notice').classList.add('waiting')")
    seen += shown.page.evaluate(CONTRASTS)
    assert len(seen) > 100
    assert [(round(ratio, 2), text) for ratio, text in seen if ratio < READABLE] == []


def luminance(colour: tuple[int, ...]) -> float:
    """WCAG's relative luminance."""
    parts = [v / 255 / 12.92 if v / 255 <= 0.03928 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_colours_are_those_of_drawn_pictures_and_names_can_be_read_on_them(show: Show) -> None:
    labels = list(range(40))
    page = show().page
    colours = page.evaluate(f"import('./web/stage.js').then((stage) => {labels}.map((i) => stage.colour(i)))")
    assert colours == [f"rgb({' '.join(map(str, PALETTE[label % len(PALETTE)]))})" for label in labels]
    inks = page.evaluate(f"import('./web/stage.js').then((stage) => {labels[: len(PALETTE)]}.map(stage.ink))")
    assert ["black" if ink == "#000" else "white" for ink in inks] == [ink_on(colour) for colour in PALETTE]
    for colour, ink in zip(PALETTE, inks, strict=True):
        low, high = sorted((luminance(colour), 0.0 if ink == "#000" else 1.0))
        assert (high + 0.05) / (low + 0.05) >= READABLE, colour


def test_everything_is_named_announced_and_reached_by_keyboard(show: Show) -> None:
    shown = show(width=820)
    page = shown.page
    expect(page.get_by_text("Drop images, a folder or a video here")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the detections")).to_be_focused()
    for _ in range(6):
        page.keyboard.press("Tab")
    expect(page.locator("#file")).to_be_focused()
    shown.detect()
    expect(page.get_by_role("button", name="Add images")).to_be_focused()
    page.get_by_role("button", name="disc, score 0.75, 480 by 120 pixels at 160, 120").focus()
    expect(page.locator("#live")).to_have_attribute("aria-live", "polite")
    expect(page.locator("#live")).to_have_text("2 objects: 1 disc, 1 Square.")
    announced = page.locator("output:not([aria-live=off])")
    expect(announced).to_have_count(0)  # a slider announces its value by itself
    tree = page.locator("body").aria_snapshot()
    nameless = re.findall(r"- (button|link|slider|combobox|textbox|img)(?: \[.*\])?:?$", tree, re.MULTILINE)
    assert nameless == []
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, a, img")]
            .filter((one) => one.checkVisibility())
            .filter((one) => !(one.textContent.trim() || one.ariaLabel || one.alt || one.labels?.length))
            .map((one) => one.outerHTML)"""
    )
    assert unnamed == []
