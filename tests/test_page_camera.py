"""The camera on the page: live detection at the server's pace, and photos; in a real Chromium."""

import pytest
from playwright.sync_api import expect

from tests.chromium import CHROMIUM, DISC, DISC_BOX, Show, Shown, check_box, on_the_device
from tests.fakes import FakeDetector, picture

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}")


FRAMES = """() => new Promise((resolve) => {
    const video = document.getElementById("video");
    let left = 10;
    const tick = () => ((left -= 1) ? video.requestVideoFrameCallback(tick) : resolve());
    video.requestVideoFrameCallback(tick);
})"""


def live(shown: Shown) -> None:
    """Open the camera, and wait for the first answer."""
    shown.page.get_by_role("button", name="Use the camera").click()
    shown.found("Square 0.94", "disc 0.75")


def test_the_camera_has_one_request_in_flight(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector)
    live(shown)
    expect(shown.page.locator("#caption-text")).to_contain_text("images/s")
    expect(shown.page.get_by_role("button", name="Take the photo")).to_be_focused()
    check_box(shown.canvas(), DISC, DISC_BOX)
    on_the_device(detector, 4)
    detector.free.clear()
    shown.page.evaluate(FRAMES)  # the camera goes on, the server does not
    asked = len(shown.asked)
    shown.page.evaluate(FRAMES)
    assert (len(shown.asked), shown.in_flight) == (asked, 1)
    detector.free.set()
    on_the_device(detector, asked + 3)
    assert shown.most_in_flight == 1


def test_the_sliders_hold_for_the_next_frame(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector)
    live(shown)
    shown.page.get_by_label("Score at least").fill("0.8")
    shown.found("Square 0.94")
    with shown.page.expect_request("**/detect?*nms_threshold=0.3*"):
        shown.page.get_by_label("Overlap allowed").fill("0.3")
    shown.found("Square 0.94")
    assert shown.most_in_flight == 1


def test_a_photo_is_taken(show: Show) -> None:
    shown = show()
    live(shown)
    width = shown.page.evaluate("document.getElementById('video').videoWidth")
    shown.page.get_by_role("button", name="Take the photo").click()
    expect(shown.page.locator("#caption-text")).to_contain_text("photo-")
    expect(shown.page.get_by_role("button", name="Copy as curl")).to_be_visible()
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#video")).to_be_hidden()
    assert shown.page.evaluate("document.getElementById('photo').naturalWidth") == width
    assert shown.page.evaluate("document.getElementById('video').srcObject") is None
    assert shown.in_flight == 0


def test_the_camera_is_closed(show: Show) -> None:
    shown = show()
    live(shown)
    shown.page.get_by_role("button", name="Close the camera").click()
    expect(shown.page.get_by_role("button", name="Use the camera")).to_be_focused()
    shown.found()
    assert shown.page.evaluate("document.getElementById('video').srcObject") is None
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#photo")).to_be_visible()


def test_live_detection_goes_on_after_a_fault(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector, faults=[500])
    live(shown)
    detector.poison = lambda _: RuntimeError("a secret")
    expect(shown.page.locator("#notice-title")).to_have_text("Internal error")
    detector.poison = lambda _: None
    shown.page.get_by_role("button", name="Try again").click()
    on_the_device(detector, len(detector.batches) + 3)
    expect(shown.page.locator("#notice")).to_be_hidden()


def test_a_camera_that_may_not_be_used_is_told(show: Show) -> None:
    shown = show()
    shown.page.evaluate(
        """() => {
            const refuse = () => Promise.reject(new DOMException("no", "NotAllowedError"));
            navigator.mediaDevices.getUserMedia = refuse;
        }"""
    )
    shown.page.get_by_role("button", name="Use the camera").click()
    expect(shown.page.locator("#notice-title")).to_have_text("The camera cannot be used")
    expect(shown.page.locator("#notice-text")).to_contain_text("Allow the camera")
    expect(shown.page.locator("#drop")).to_be_visible()


def test_where_a_page_gets_no_camera_the_system_takes_the_photo(show: Show) -> None:
    shown = show()
    shown.page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    with shown.page.expect_file_chooser() as chooser:
        shown.page.get_by_role("button", name="Use the camera").click()
    photo = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": picture(640, 480, "JPEG")}
    chooser.value.set_files(photo)
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#caption-text")).to_have_text("photo.jpg · 640 \u00d7 480")
