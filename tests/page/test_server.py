"""The page and its server: what serves, how busy it is, keys, and what goes wrong; in a real Chromium."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from playwright.sync_api import expect

from tests.app.serving.test_several_devices import Dying
from tests.support.chromium import NOON, OBJECTS, Show, Shown, on_the_device
from tests.support.fakes import CARD, FakeDetector, picture
from tests.support.several import FIRST, SECOND, THIRD, Models

SERVING = "fake · fake · cpu · fp32"


def post(shown: Shown, path: str = "detect", **headers: str) -> None:
    """A request of another client."""
    url, files = f"{shown.url}{path}", {"image": picture()}
    httpx.post(url, files=files, headers=headers, timeout=30).raise_for_status()


@contextmanager
def held(shown: Shown, detector: FakeDetector) -> Iterator[None]:
    """Keep the device busy with a request of another client."""
    reached = len(detector.batches)
    detector.free.clear()
    other = threading.Thread(target=post, args=(shown,))
    other.start()
    on_the_device(detector, reached + 1)
    yield
    detector.free.set()
    other.join()


# -- what serves, and how long it took -----------------------------------------------------------------------


def test_the_page_shows_what_serves_and_how_long_it_took(show: Show) -> None:
    reason, hint = "<b>coco-r50-fpn</b> could not be fetched", "only shapes; for photos: `rcnn serve`"
    detector = FakeDetector(fallback_reason=reason, hint=hint)
    shown = show(detector, admin_keys="chief")
    page, serving = shown.page, shown.page.locator("#serving-text")
    expect(serving).to_have_text(SERVING)
    expect(page.locator("#fallback")).to_be_visible()
    expect(page.locator("#fallback .reason")).to_have_text(f"Fallback: {reason}")
    expect(page.locator("#fallback code")).to_have_text("rcnn serve")
    detector.version, detector.engine_name = "2", "other"
    post(shown, "models/fake/load", **{"X-API-Key": "chief"})
    shown.choose(picture(640, 480))
    expect(serving).to_have_text("fake · other · cpu · fp32")
    expect(page.locator("#time-total")).to_contain_text("ms on the server")
    expect(page.locator("#time-legend li")).to_contain_text(
        ["decode", "queue", "inference", "postprocess", "network"]
    )
    widths = [part.bounding_box() for part in page.locator("#time-bar span").all()]
    assert sum(part["width"] for part in widths if part) > 200


def test_the_page_shows_that_a_device_is_out(show: Show) -> None:
    shown = show(Dying(), device="cpu,cpu")
    serving = shown.page.locator("#serving")
    expect(serving).to_have_attribute("data-status", "ok")
    for _ in range(4):
        post(shown)
    shown.page.reload()
    expect(serving).to_have_attribute("data-status", "degraded")
    expect(shown.page.locator("#serving-text")).to_have_text(f"Not all devices work · {SERVING}")
    expect(shown.page.locator("#size")).to_have_attribute("data-card", str(CARD.min_size))


def test_the_page_shows_how_busy_the_server_is_and_waits_for_it(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector, faults=[429], max_queue=1)
    page, countdown = shown.page, shown.page.locator("#countdown")
    expect(page.locator("#serving")).to_have_attribute("data-status", "ok")
    expect(page.locator("#fallback")).to_be_hidden()
    page.clock.install(time=NOON)
    page.clock.pause_at(NOON + 3_600_000)
    page.reload()
    expect(page.locator("#in-flight")).to_have_text("0")
    for _ in range(8):
        post(shown)
    with held(shown, detector):
        page.clock.run_for(2000)
        expect(page.locator("#in-flight")).to_have_text("1")
        expect(page.locator("#throughput")).to_have_text("4.0")  # 8 of them in 2 s
        expect(page.locator("#queue-depth")).to_have_text("0")
        with page.expect_response("**/detect?*") as refused:
            shown.choose(picture(640, 480))
        seconds = int(refused.value.headers["retry-after"])
        expect(page.locator("#notice-title")).to_have_text("Too many requests")
        expect(countdown).to_have_text(f"Retrying in {seconds} s")
        if seconds > 1:
            page.clock.run_for(1000)
            expect(countdown).to_have_text(f"Retrying in {seconds - 1} s")
    page.clock.run_for(1000 * seconds)
    shown.lists(*OBJECTS)
    expect(page.locator("#notice")).to_be_hidden()
    assert len(shown.queries) == 2


def test_a_model_is_chosen_and_another_one_is_loaded_with_a_key(show: Show) -> None:
    names = {"model": f"{FIRST},{SECOND}", "max_loaded_models": 3, "admin_keys": "chief"}
    models = Models(cards={SECOND: {"score_threshold": 0.8}})
    shown = show(loader=models, faults=[401], **names)
    page, model, serving = shown.page, shown.page.locator("#model"), shown.page.locator("#serving-text")
    expect(model).to_have_value(FIRST)
    shown.choose(picture(640, 480))
    shown.lists("Square 0.94", "disc 0.75")
    model.select_option(SECOND)
    expect(page.locator("#score-value")).to_have_text("0.80")  # of its card
    shown.lists("kite 0.94")
    expect(serving).to_contain_text(FIRST)
    model.select_option(THIRD)
    expect(page.locator("#load-hint")).to_contain_text(f"{THIRD} is not loaded")
    for key in ("guest", "chief"):
        page.fill("#load-key", key)
        page.click("#load")
        if key == "guest":
            expect(page.locator("#notice-title")).to_have_text("A valid API key is required")
    shown.lists("person 0.94", "car 0.75")
    expect(page.locator("#load-form")).to_be_hidden()
    expect(page.locator("#notice")).to_be_hidden()
    assert shown.queries[-1]["model"] == THIRD


# -- when it does not go well --------------------------------------------------------------------------------


def test_a_refused_request_is_explained(show: Show) -> None:
    shown = show(faults=[400, 413, 422], max_pixels=400_000)
    page, title, text = shown.page, shown.page.locator("#notice-title"), shown.page.locator("#notice-text")
    shown.choose(b"no image", "notes.txt", "text/plain")
    expect(title).to_have_text("The image cannot be read")
    expect(text).to_contain_text("PNG")
    expect(page.locator("#notice-advice")).to_contain_text("opens in an image viewer")
    expect(page.locator("#notice-button")).to_be_hidden()
    expect(page.locator("#drop")).to_be_visible()
    expect(page.locator("#empty")).to_have_text("No response for this image.")
    shown.choose(picture(1000, 401))
    expect(title).to_have_text("The image has too many pixels")
    expect(text).to_contain_text("400000")
    shown.detect()
    expect(page.locator("#notice")).to_be_hidden()
    page.locator("#size").evaluate("(slider) => { slider.max = 9000; }")
    shown.options()
    page.get_by_label("Input size (short side)").fill("9000")
    expect(text).to_contain_text("8192")
    expect(page.locator("#notice-button")).to_be_hidden()
    shown.lists(*OBJECTS)


def test_a_fault_or_a_server_that_is_gone_is_shown_and_tried_again(show: Show) -> None:
    detector = FakeDetector(poison=lambda _: RuntimeError("a secret"))
    shown = show(detector, faults=[500, "ERR_CONNECTION_REFUSED"])
    page, again = shown.page, shown.page.get_by_role("button", name="Try again")
    shown.choose(picture(640, 480))
    expect(page.locator("#notice-title")).to_have_text("Internal error")
    expect(page.locator("#notice")).not_to_contain_text("secret")
    detector.poison = lambda _: None
    again.click()
    shown.lists(*OBJECTS)
    page.route("**/*", lambda route: route.abort("connectionrefused"))
    shown.choose(picture(640, 480))
    expect(page.locator("#notice-title")).to_have_text("The server did not respond.")
    expect(page.locator("#serving-text")).to_have_text("The server does not respond")
    page.unroute_all()
    again.click()
    shown.lists(*OBJECTS)
    expect(page.locator("#serving")).to_have_attribute("data-status", "ok")


def test_a_key_is_requested_kept_and_forgotten(show: Show) -> None:
    shown = show(faults=[401], api_keys="open-sesame")
    page, key = shown.page, shown.page.get_by_label("API key", exact=True)
    expect(key).to_be_visible()
    expect(page.locator("#notice")).to_be_hidden()
    shown.choose(picture(640, 480))
    expect(key).to_be_focused()
    expect(page.locator("#notice-title")).to_have_text("This server requires an API key.")
    key.fill("wrong")
    with page.expect_response("**/detect?*"):
        page.keyboard.press("Enter")
    expect(page.locator("#key-hint")).to_contain_text("rejected this key")
    expect(key).to_be_focused()
    key.fill("open-sesame")
    page.get_by_role("button", name="Use key").click()
    shown.lists(*OBJECTS)
    expect(page.locator("#key-form")).to_be_hidden()
    expect(page.locator("#notice")).to_be_hidden()
    page.reload()
    shown.detect()
    assert len(shown.queries) == 4
    page.get_by_role("button", name="Remove key").click()
    expect(key).to_be_focused()
    expect(key).to_have_value("")
    assert page.evaluate("sessionStorage.length") == 0


def test_a_key_given_first_opens_images_and_the_web_socket(show: Show) -> None:
    shown = show(faults=[401], api_keys="s3cret/?key")
    page = shown.page
    page.get_by_label("API key", exact=True).fill("s3cret/?key")
    page.keyboard.press("Enter")
    expect(page.locator("#key-used")).to_be_visible()
    expect(page.locator("#size-value")).to_have_text("128 px")
    page.get_by_role("button", name="Use the camera").click()
    shown.lists(*OBJECTS)
    assert (len(shown.sockets), shown.queries) == (1, [])
    page.get_by_role("button", name="Close the camera").click()
    shown.lists()
    shown.detect()


def test_the_page_waits_for_a_model_that_loads_unless_stopped(show: Show) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    shown = show(detector, faults=[503])
    page = shown.page
    expect(page.locator("#serving-text")).to_have_text("Loading the model…")
    shown.choose(picture(640, 480))
    expect(page.locator("#notice-title")).to_have_text("The model is loading")
    expect(page.locator("#countdown")).to_contain_text("Retrying in")
    page.get_by_role("button", name="Stop waiting").click()
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#busy")).to_be_hidden()
    expect(page.locator("#empty")).to_have_text("No response for this image.")
    shown.choose(picture(640, 480))
    expect(page.locator("#notice-title")).to_have_text("The model is loading")
    detector.warm.set()
    shown.lists(*OBJECTS)
    expect(page.locator("#serving-text")).to_have_text(SERVING)
