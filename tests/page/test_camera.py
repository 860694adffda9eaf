"""The camera on the page: live detection at the server's pace, and photos; in a real Chromium."""

import re

import pytest
from playwright.sync_api import expect

from app.routes import live as live_route
from tests.support.chromium import CHROMIUM, DISC, DISC_BOX, Show, Shown, check_box, on_the_device
from tests.support.fakes import FakeDetector, picture

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


def test_the_camera_goes_over_one_web_socket(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector)
    live(shown)
    expect(shown.page.locator("#caption-text")).to_have_text(
        re.compile(r"^\d+\.\d frames/s · \d+ dropped · \d+ \u00d7 \d+$")
    )
    expect(shown.page.get_by_role("button", name="Take the photo")).to_be_focused()
    check_box(shown.canvas(), DISC, DISC_BOX)
    on_the_device(detector, len(detector.batches) + 3)
    assert [socket.url for socket in shown.sockets] == [
        shown.url.replace("http", "ws")
        + "detect/live?score_threshold=0.05&nms_threshold=0.5&max_detections=300"
    ]
    assert shown.asked == []
    detector.free.clear()
    shown.page.evaluate(FRAMES)  # the camera goes on, the server does not
    reached = len(detector.batches)
    detector.free.set()
    on_the_device(detector, reached + 2)
    expect(shown.page.locator("#caption-text")).not_to_contain_text(" 0 dropped")


def test_a_key_opens_the_web_socket(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector, faults=[401], api_keys="s3cret/?key")
    shown.page.get_by_label("API key").fill("s3cret/?key")
    shown.page.get_by_role("button", name="Use key").click()
    live(shown)
    assert (len(shown.sockets), shown.asked) == (1, [])


def test_without_web_sockets_the_camera_has_one_request_in_flight(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector, sockets=False, faults=[404])
    live(shown)
    expect(shown.page.locator("#caption-text")).to_contain_text("frames/s")
    expect(shown.page.locator("#caption-text")).not_to_contain_text("dropped")
    expect(shown.page.get_by_role("button", name="Take the photo")).to_be_focused()
    check_box(shown.canvas(), DISC, DISC_BOX)
    on_the_device(detector, 4)
    detector.free.clear()
    shown.page.evaluate(FRAMES)  # the camera goes on, the server does not
    for _ in range(5):  # an answer, and with it one more request, may have been on its way
        asked = len(shown.asked)
        shown.page.evaluate(FRAMES)
        if (len(shown.asked), shown.in_flight) == (asked, 1):
            break
    assert (len(shown.asked), shown.in_flight) == (asked, 1)
    detector.free.set()
    on_the_device(detector, asked + 3)
    assert shown.most_in_flight == 1


def test_the_sliders_hold_for_the_next_frame(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector)
    live(shown)
    shown.page.get_by_label("Minimum confidence").fill("0.8")
    shown.found("Square 0.94")
    with shown.sockets[0].expect_event("framesent", lambda sent: '"nms_threshold":0.3' in str(sent)):
        shown.page.get_by_label("Overlap allowed").fill("0.3")
    shown.found("Square 0.94")
    on_the_device(detector, len(detector.batches) + 3)
    assert [(one["nms_threshold"], one["size"]) for one in shown.told] == [(0.3, None)]
    assert detector.batches[-1][0].options.nms_threshold == 0.3


def test_a_web_socket_that_is_closed_is_opened_anew(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = FakeDetector()
    shown = show(detector)
    live(shown)
    monkeypatch.setattr(live_route, "IDLE_SECONDS", 1.0)
    on_the_device(detector, len(detector.batches) + 3)  # the server waits for the next frame with it
    socket = shown.sockets[-1]
    shown.page.locator("#video").evaluate("(video) => video.pause()")  # no frames, as in a hidden tab
    if not socket.is_closed():
        socket.wait_for_event("close")
    shown.page.locator("#video").evaluate("(video) => video.play()")
    on_the_device(detector, len(detector.batches) + 3)
    shown.page.evaluate(FRAMES)
    assert len(shown.sockets) >= 2
    assert shown.asked == []


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
    shown = show(detector)
    live(shown)
    detector.poison = lambda _: RuntimeError("a secret")
    expect(shown.page.locator("#notice-title")).to_have_text("Internal error")
    detector.poison = lambda _: None
    expect(shown.page.locator("#notice")).to_be_hidden()
    shown.found("Square 0.94", "disc 0.75")


def test_requests_in_place_of_a_socket_go_on_after_a_fault(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector, sockets=False, faults=[404, 500])
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
