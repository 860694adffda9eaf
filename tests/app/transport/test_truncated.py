"""RCNN_TRUNCATED_IMAGES: a cut image is answered for the part that is there, and its answer says so."""

from tests.support.fakes import picture
from tests.support.served import Serve

WHOLE = picture(200, 100, "JPEG")
CUT = WHOLE[: len(WHOLE) // 2]


async def test_a_cut_image_is_answered_and_marked_where_that_is_allowed(serve: Serve) -> None:
    async with serve(truncated_images=True) as served:
        cut = await served.client.post("/detect", content=CUT)
        assert cut.status_code == 200
        assert cut.json()["image"] == {"width": 200, "height": 100, "truncated": True}
        whole = await served.client.post("/detect", content=WHOLE)
        assert whole.json()["image"] == {"width": 200, "height": 100}
        batch = await served.client.post("/detect/batch", files=[("image", WHOLE), ("image", CUT)])
        assert [result["image"].get("truncated") for result in batch.json()["results"]] == [None, True]
        schema = (await served.client.get("/openapi.json")).json()["components"]["schemas"]["ImageSize"]
        assert schema["properties"]["truncated"]["type"] == "boolean"
        assert "truncated" not in schema["required"]


async def test_a_cut_image_is_refused_otherwise(serve: Serve) -> None:
    async with serve() as served:
        response = await served.client.post("/detect", content=CUT)
        assert response.status_code == 400
        assert "cut short" in response.json()["detail"]
