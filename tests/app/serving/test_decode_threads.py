"""A decode thread that its request gave up is counted; while all are, new requests are refused."""

from tests.support.fakes import picture
from tests.support.served import Serve, eventually

PNG = {"Content-Type": "image/png"}


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
