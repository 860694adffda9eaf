"""The camera on the page: live detection at the server's pace, and photos; in a real Chromium."""

import re

import pytest
from playwright.sync_api import expect

from app.routes import live as live_route
from tests.support.chromium import DISC, DISC_BOX, OBJECTS, Show, Shown, check_box, on_the_device
from tests.support.fakes import FakeDetector, picture

FRAMES = """() => new Promise((resolve) => {
    const video = document.getElementById("video");
    let left = 10;
    const tick = () => ((left -= 1) ? video.requestVideoFrameCallback(tick) : resolve());
    video.requestVideoFrameCallback(tick);
})"""


def live(shown: Shown) -> None:
    """Open the camera, and wait for the first answer."""
    shown.page.get_by_role("button", name="Use the camera").click()
    shown.lists(*OBJECTS)
    expect(shown.page.get_by_role("button", name="Take the photo")).to_be_focused()
    check_box(shown.canvas(), DISC, DISC_BOX)


def test_the_camera_uses_one_web_socket_until_a_photo_is_taken(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector)
    live(shown)
    page, caption = shown.page, shown.page.locator("#caption-text")
    expect(caption).to_have_text(re.compile(r"^\d+\.\d frames/s · \d+ dropped · \d+ \u00d7 \d+$"))
    on_the_device(detector, len(detector.batches) + 3)
    options = "score_threshold=0.05&nms_threshold=0.5&max_detections=300"
    urls = [socket.url for socket in shown.sockets]
    assert urls == [f"{shown.url.replace('http', 'ws')}detect/live?{options}"]
    assert shown.queries == []
    detector.free.clear()
    page.evaluate(FRAMES)  # the camera goes on, the server does not
    reached = len(detector.batches)
    detector.free.set()
    on_the_device(detector, reached + 2)
    expect(caption).not_to_contain_text(" 0 dropped")
    # the sliders apply to the next frame
    page.get_by_label("Minimum confidence").fill("0.8")
    shown.lists("Square 0.94")
    shown.options()
    with shown.sockets[0].expect_event("framesent", lambda sent: '"nms_threshold":0.3' in str(sent)):
        page.get_by_label("Overlap allowed").fill("0.3")
    shown.lists("Square 0.94")
    on_the_device(detector, len(detector.batches) + 3)
    assert [(text["nms_threshold"], text["size"]) for text in shown.texts] == [(0.3, None)]
    assert detector.batches[-1][0].options.nms_threshold == 0.3
    # a photo
    width = page.evaluate("document.getElementById('video').videoWidth")
    page.get_by_role("button", name="Take the photo").click()
    expect(caption).to_contain_text("photo-")
    expect(page.get_by_role("button", name="Download PNG")).to_be_visible()
    shown.lists("Square 0.94")
    expect(page.locator("#video")).to_be_hidden()
    assert page.evaluate("document.getElementById('photo').naturalWidth") == width
    assert page.evaluate("document.getElementById('video').srcObject") is None
    assert shown.in_flight == 0


def test_live_detection_goes_on_until_the_camera_is_closed(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = FakeDetector()
    shown = show(detector)
    live(shown)
    page, video = shown.page, shown.page.locator("#video")
    detector.poison = lambda _: RuntimeError("a secret")
    expect(page.locator("#notice-title")).to_have_text("Internal error")
    detector.poison = lambda _: None
    expect(page.locator("#notice")).to_be_hidden()
    shown.lists(*OBJECTS)
    # a web socket that is closed is opened anew
    monkeypatch.setattr(live_route, "IDLE_SECONDS", 1.0)
    on_the_device(detector, len(detector.batches) + 3)  # the server waits for the next frame with it
    socket = shown.sockets[-1]
    video.evaluate("(video) => video.pause()")  # no frames, as in a hidden tab
    if not socket.is_closed():
        socket.wait_for_event("close")
    video.evaluate("(video) => video.play()")
    on_the_device(detector, len(detector.batches) + 3)
    page.evaluate(FRAMES)
    assert len(shown.sockets) >= 2
    assert shown.queries == []
    page.get_by_role("button", name="Close the camera").click()
    expect(page.get_by_role("button", name="Use the camera")).to_be_focused()
    shown.lists()
    assert page.evaluate("document.getElementById('video').srcObject") is None
    shown.detect()
    expect(page.locator("#photo")).to_be_visible()


def test_without_web_sockets_the_camera_has_one_request_in_flight(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector, sockets=False, faults=[404, 500])
    live(shown)
    expect(shown.page.locator("#caption-text")).to_contain_text("frames/s")
    expect(shown.page.locator("#caption-text")).not_to_contain_text("dropped")
    on_the_device(detector, 4)
    detector.free.clear()
    shown.page.evaluate(FRAMES)  # the camera goes on, the server does not
    for _ in range(5):  # an answer, and with it one more request, may have been on its way
        count = len(shown.queries)
        shown.page.evaluate(FRAMES)
        if (len(shown.queries), shown.in_flight) == (count, 1):
            break
    assert (len(shown.queries), shown.in_flight) == (count, 1)
    detector.free.set()
    on_the_device(detector, count + 3)
    assert shown.most_in_flight == 1
    # and it goes on after a fault
    detector.poison = lambda _: RuntimeError("a secret")
    expect(shown.page.locator("#notice-title")).to_have_text("Internal error")
    detector.poison = lambda _: None
    shown.page.get_by_role("button", name="Try again").click()
    on_the_device(detector, len(detector.batches) + 3)
    expect(shown.page.locator("#notice")).to_be_hidden()


def test_without_a_camera_the_page_says_so_or_the_system_takes_the_photo(show: Show) -> None:
    shown = show()
    page, use = shown.page, shown.page.get_by_role("button", name="Use the camera")
    page.evaluate(
        """() => {
            const refuse = () => Promise.reject(new DOMException("no", "NotAllowedError"));
            navigator.mediaDevices.getUserMedia = refuse;
        }"""
    )
    use.click()
    expect(page.locator("#notice-title")).to_have_text("The camera cannot be used")
    expect(page.locator("#notice-text")).to_contain_text("Allow the camera")
    expect(page.locator("#drop")).to_be_visible()
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    with page.expect_file_chooser() as chooser:
        use.click()
    photo = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": picture(640, 480, "JPEG")}
    chooser.value.set_files(photo)
    shown.lists(*OBJECTS)
    expect(page.locator("#caption-text")).to_have_text("photo.jpg · 640 \u00d7 480")
