"""Answers of the demo model where it serves because no other one is there: each says so."""

import json

from tests.support.data.moving import Socket, animation
from tests.support.fakes import FakeDetector, picture
from tests.support.served import Serve

HINT = "this demo model knows only drawn shapes; for photos: …"


async def test_every_answer_of_the_demo_model_says_what_it_knows(serve: Serve) -> None:
    async with serve(FakeDetector(hint=HINT)) as served:
        one = await served.client.post("/detect", files={"image": picture()})
        assert one.json()["warning"] == HINT
        several = await served.client.post("/detect/batch", files=[("image", picture())] * 2)
        assert [result["warning"] for result in several.json()["results"]] == [HINT] * 2
        stream = await served.client.post("/detect/stream", files={"file": animation(greys=(10, 200))})
        assert [json.loads(line).get("warning") for line in stream.text.splitlines()] == [HINT, HINT, None]
        live = Socket(served.app, "/detect/live")
        await live.opened()
        live.frame(picture())
        assert (await live.answer())["warning"] == HINT
        live.leave()
        await live.ended()
        assert (await served.client.get("/health")).json()["hint"] == HINT
