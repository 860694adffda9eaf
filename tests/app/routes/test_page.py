"""The page and its server: what serves, how busy it is, keys, and what goes wrong; in a real Chromium."""

import threading

import httpx
import pytest
from playwright.sync_api import Browser, expect
from pydantic import SecretStr

from tests.app.serving.test_several_devices import Dying
from tests.support.chromium import CHROMIUM, NOON, Show, Shown, on_the_device, served
from tests.support.fakes import CARD, FakeDetector, picture

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}")


# -- what serves, and how long it took -----------------------------------------------------------------------


def test_the_page_says_what_serves(show: Show) -> None:
    shown = show(FakeDetector(fallback_reason="<b>coco-r50-fpn</b> could not be fetched"))
    expect(shown.page.locator("#serving-text")).to_have_text("fake · fake · cpu · fp32")
    expect(shown.page.locator("#fallback")).to_be_visible()
    expect(shown.page.locator("#fallback")).to_have_text(
        "Fallback model: <b>coco-r50-fpn</b> could not be fetched"
    )
    shown.give(picture(640, 480))
    expect(shown.page.locator("#time-total")).to_contain_text("ms on the server")
    expect(shown.page.locator("#time-legend li")).to_contain_text(
        ["decode", "queue", "inference", "postprocess", "network"]
    )
    widths = [part.bounding_box() for part in shown.page.locator("#time-bar span").all()]
    assert sum(part["width"] for part in widths if part) > 200


def test_there_is_no_warning_where_nothing_fell_back(show: Show) -> None:
    shown = show()
    expect(shown.page.locator("#serving-text")).to_have_text("fake · fake · cpu · fp32")
    expect(shown.page.locator("#fallback")).to_be_hidden()


def test_the_page_says_that_a_device_is_out_and_works_on(show: Show) -> None:
    shown = show(Dying(), device="cpu,cpu")
    expect(shown.page.locator("#serving")).to_have_attribute("data-status", "ok")
    for _ in range(4):
        httpx.post(f"{shown.url}detect", files={"image": picture()}).raise_for_status()
    shown.page.reload()
    expect(shown.page.locator("#serving")).to_have_attribute("data-status", "degraded")
    expect(shown.page.locator("#serving-text")).to_have_text(
        "Not all devices work · fake · fake · cpu · fp32"
    )
    expect(shown.page.locator("#size")).to_have_attribute("data-card", str(CARD.min_size))


def test_the_header_follows_a_swap(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector, admin_keys="chief")
    expect(shown.page.locator("#serving-text")).to_have_text("fake · fake · cpu · fp32")
    detector.version, detector.engine_name = "2", "other"
    httpx.post(f"{shown.url}models/fake/load", headers={"X-API-Key": "chief"}).raise_for_status()
    shown.give(picture(640, 480))
    expect(shown.page.locator("#serving-text")).to_have_text("fake · other · cpu · fp32")


def test_the_page_says_how_busy_the_server_is(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector)
    expect(shown.page.locator("#serving")).to_have_attribute("data-status", "ok")
    shown.page.clock.install(time=NOON)
    shown.page.clock.pause_at(NOON + 3_600_000)
    shown.page.reload()
    expect(shown.page.locator("#in-flight")).to_have_text("0")
    for _ in range(8):
        httpx.post(f"{shown.url}detect", files={"image": picture()}).raise_for_status()
    detector.free.clear()
    other = threading.Thread(
        target=httpx.post, args=(f"{shown.url}detect",), kwargs={"files": {"image": picture()}, "timeout": 30}
    )
    other.start()
    on_the_device(detector, 9)
    shown.page.clock.run_for(2000)
    expect(shown.page.locator("#in-flight")).to_have_text("1")
    expect(shown.page.locator("#throughput")).to_have_text("4.0")  # 8 of them in 2 s
    expect(shown.page.locator("#queue-depth")).to_have_text("0")
    detector.let_go()
    other.join()


# -- when it does not go well --------------------------------------------------------------------------------


def test_a_file_that_is_no_image_is_told(show: Show) -> None:
    shown = show(faults=[400])
    shown.give(b"no image", "notes.txt", "text/plain")
    expect(shown.page.locator("#notice-title")).to_have_text("The image cannot be read")
    expect(shown.page.locator("#notice-text")).to_contain_text("PNG")
    expect(shown.page.locator("#notice-button")).to_be_hidden()
    expect(shown.page.locator("#drop")).to_be_visible()
    expect(shown.page.locator("#empty")).to_have_text("No response for this image.")
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#notice")).to_be_hidden()


def test_an_image_that_is_too_large_is_told(show: Show) -> None:
    shown = show(faults=[413], max_pixels=5000)
    shown.give(picture(100, 100))
    expect(shown.page.locator("#notice-title")).to_have_text("The image has too many pixels")
    expect(shown.page.locator("#notice-text")).to_contain_text("5000")


def test_a_key_is_asked_for_kept_and_forgotten(show: Show) -> None:
    shown = show(faults=[401], api_keys=(SecretStr("open sesame".replace(" ", "-")),))
    key = shown.page.get_by_label("API key")
    expect(key).to_be_visible()
    expect(shown.page.locator("#notice")).to_be_hidden()
    shown.give(picture(640, 480))
    expect(key).to_be_focused()
    expect(shown.page.locator("#notice-title")).to_have_text("This server requires an API key.")
    key.fill("wrong")
    with shown.page.expect_response("**/detect?*"):
        shown.page.keyboard.press("Enter")
    expect(shown.page.locator("#key-hint")).to_contain_text("rejected this key")
    expect(key).to_be_focused()
    key.fill("open-sesame")
    shown.page.get_by_role("button", name="Use key").click()
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#key-form")).to_be_hidden()
    expect(shown.page.locator("#notice")).to_be_hidden()
    shown.page.reload()
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    assert len(shown.asked) == 4
    shown.page.get_by_role("button", name="Remove key").click()
    expect(key).to_be_focused()
    expect(key).to_have_value("")
    assert shown.page.evaluate("sessionStorage.length") == 0


def test_a_key_may_be_given_before_any_image(show: Show) -> None:
    shown = show(faults=[401], api_keys=(SecretStr("open-sesame"),))
    shown.page.get_by_label("API key").fill("open-sesame")
    shown.page.keyboard.press("Enter")
    expect(shown.page.locator("#key-used")).to_be_visible()
    expect(shown.page.locator("#size-value")).to_have_text("128 px")
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")


def test_an_option_that_the_server_refuses_is_told(show: Show) -> None:
    shown = show(faults=[422])
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    shown.page.locator("#size").evaluate("(slider) => { slider.max = 4000; }")
    shown.page.get_by_label("Input size (short side)").fill("2000")
    expect(shown.page.locator("#notice-text")).to_contain_text("1333")
    expect(shown.page.locator("#notice-button")).to_be_hidden()
    shown.found("Square 0.94", "disc 0.75")


def test_a_busy_server_is_waited_for(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector, faults=[429], max_queue=1)
    shown.page.clock.install(time=NOON)
    shown.page.reload()
    expect(shown.page.locator("#serving")).to_have_attribute("data-status", "ok")
    detector.free.clear()
    other = threading.Thread(
        target=httpx.post, args=(f"{shown.url}detect",), kwargs={"files": {"image": picture()}, "timeout": 30}
    )
    other.start()
    on_the_device(detector, 1)
    shown.page.clock.pause_at(NOON + 3_600_000)
    with shown.page.expect_response("**/detect?*") as refused:
        shown.give(picture(640, 480))
    seconds = int(refused.value.headers["retry-after"])
    expect(shown.page.locator("#notice-title")).to_have_text("Too many requests")
    expect(shown.page.locator("#countdown")).to_have_text(f"Retrying in {seconds} s")
    if seconds > 1:
        shown.page.clock.run_for(1000)
        expect(shown.page.locator("#countdown")).to_have_text(f"Retrying in {seconds - 1} s")
    detector.free.set()
    other.join()
    shown.page.clock.run_for(1000 * seconds)
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#notice")).to_be_hidden()
    assert len(shown.asked) == 2


def test_waiting_can_be_called_off(show: Show) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    shown = show(detector, faults=[503])
    shown.give(picture(640, 480))
    expect(shown.page.locator("#countdown")).to_contain_text("Retrying in")
    shown.page.get_by_role("button", name="Stop waiting").click()
    expect(shown.page.locator("#notice")).to_be_hidden()
    expect(shown.page.locator("#busy")).to_be_hidden()
    expect(shown.page.locator("#empty")).to_have_text("No response for this image.")


def test_a_model_that_loads_is_waited_for(show: Show) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    shown = show(detector, faults=[503])
    expect(shown.page.locator("#serving-text")).to_have_text("Loading the model…")
    shown.give(picture(640, 480))
    expect(shown.page.locator("#notice-title")).to_have_text("The model is loading")
    detector.warm.set()
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#serving-text")).to_have_text("fake · fake · cpu · fp32")


def test_a_server_that_is_gone_is_told_and_asked_again(browser: Browser) -> None:
    with served(FakeDetector()) as url, browser.new_context() as context:
        shown = Shown(context.new_page(), url)
        shown.page.goto(url)
        shown.give(picture(640, 480))
        shown.found("Square 0.94", "disc 0.75")
        shown.page.route("**/*", lambda route: route.abort("connectionrefused"))
        shown.give(picture(640, 480))
        expect(shown.page.locator("#notice-title")).to_have_text("The server did not respond.")
        expect(shown.page.locator("#serving-text")).to_have_text("The server does not respond")
        shown.page.unroute_all()
        shown.page.get_by_role("button", name="Try again").click()
        shown.found("Square 0.94", "disc 0.75")
        expect(shown.page.locator("#serving")).to_have_attribute("data-status", "ok")


def test_a_fault_of_the_server_is_told(show: Show) -> None:
    detector = FakeDetector(poison=lambda _: RuntimeError("a secret"))
    shown = show(detector, faults=[500])
    shown.give(picture(640, 480))
    expect(shown.page.locator("#notice-title")).to_have_text("Internal error")
    expect(shown.page.locator("#notice")).not_to_contain_text("secret")
    detector.poison = lambda _: None
    shown.page.get_by_role("button", name="Try again").click()
    shown.found("Square 0.94", "disc 0.75")


def test_an_image_is_cut_into_tiles_when_asked_to(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector)
    shown.give(picture(1024, 700))
    shown.found("Square 0.94", "disc 0.75")
    assert len(detector.reached) == 1
    shown.page.get_by_label("Tiles").select_option("Automatic")
    expect(shown.page.locator("#list li")).not_to_have_count(2)
    assert shown.asked[-1]["tile"] == "auto"
    assert len(detector.reached) > 10
    count = len(detector.reached)
    shown.page.get_by_label("Tiles").select_option("Off")
    shown.found("Square 0.94", "disc 0.75")
    assert "tile" not in shown.asked[-1]
    assert len(detector.reached) == count + 1
