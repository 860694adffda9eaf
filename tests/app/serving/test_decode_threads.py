"""A decode thread that its request gave up is counted; while all are, new requests are refused."""

import gc

import pytest
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile

from tests.support.data.moving import animation
from tests.support.fakes import picture
from tests.support.served import Serve, eventually

PNG, GIF = {"Content-Type": "image/png"}, {"Content-Type": "image/gif"}


async def test_threads_given_up_at_a_deadline_are_counted_as_busy(serve: Serve) -> None:
    data = picture()
    async with serve(decode_threads=2) as served:
        served.detector.decode.clear()
        for given_up in (1, 2):
            late = await served.client.post("/detect?timeout_ms=100", content=data, headers=PNG)
            assert late.json()["code"] == "deadline_exceeded"
            assert await served.metric("rcnn_abandoned_decodes") == given_up
        for route in ("/detect", "/detect/batch", "/detect/stream", "/v2/models/fake/infer"):
            refused = await served.client.post(route, content=data, headers=PNG)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "2"), route
            assert "decode threads" in refused.text
        assert await served.metric("rcnn_in_flight") == 0
        served.detector.let_go()
        gauge = served.app.state.service.metrics.abandoned_decodes
        await eventually(lambda: gauge.collect()[0].samples[0].value == 0, "the threads end")
        assert (await served.client.post("/detect", content=data, headers=PNG)).status_code == 200


async def test_a_damaged_image_is_freed_with_its_answer(serve: Serve) -> None:
    """Its error refers to the decoder's frames; a cycle of them would keep the pixels until a collection."""
    damaged = picture(640, 480)[:-2000]
    async with serve() as served:
        gc.collect()
        gc.disable()
        try:
            for route in ("/detect", "/detect/stream"):
                answer = await served.client.post(route, content=damaged, headers=PNG)
                assert answer.json()["code"] == "invalid_image"
            assert not [one for one in gc.get_objects() if type(one) is PngImageFile and one.im]
        finally:
            gc.enable()


@pytest.mark.parametrize(("query", "status"), [("every=1000", 422), ("max_frames=1", 200)])
async def test_the_pictures_of_a_stream_are_freed_with_its_end(serve: Serve, query: str, status: int) -> None:
    async with serve(max_pixels=4096) as served:
        gc.collect()
        gc.disable()
        try:
            answer = await served.client.post(f"/detect/stream?{query}", content=animation(), headers=GIF)
            assert answer.status_code == status
            await eventually(lambda: not animations(), "the animation is freed")
        finally:
            gc.enable()


def animations() -> list[GifImageFile]:
    return [one for one in gc.get_objects() if type(one) is GifImageFile and one.im]
