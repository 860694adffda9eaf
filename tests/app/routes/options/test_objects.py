"""format=objects: one list of objects in place of four columns, on every route of ours."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.data.moving import Socket
from tests.support.fakes import picture
from tests.support.served import Served

PNG = picture()
TEXT = base64.b64encode(PNG).decode()
HEADERS = {"Content-Type": "image/png"}
COLUMNS = ("boxes", "labels", "scores", "names")


def objects_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of an answer with columns."""
    boxes = [dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)) for box in columns["boxes"]]
    rows = zip(columns["names"], columns["labels"], columns["scores"], boxes, strict=True)
    return [{"name": name, "label": label, "score": score, "box": box} for name, label, score, box in rows]


async def of_detect(served: Served, query: str) -> dict[str, Any]:
    response = await served.client.post(f"/detect?{query}", content=PNG, headers=HEADERS)
    return dict(response.json())


async def of_batch(served: Served, query: str) -> dict[str, Any]:
    response = await served.client.post(f"/detect/batch?{query}", files={"image": PNG})
    return dict(response.json()["results"][0])


async def of_images(served: Served, query: str) -> dict[str, Any]:
    response = await served.client.post(f"/detect?{query}", json={"images": [TEXT]})
    return dict(response.json()["results"][0])


async def of_models(served: Served, query: str) -> dict[str, Any]:
    response = await served.client.post(f"/detect?model=fake&model=fake/1&{query}", json={"image": TEXT})
    return dict(response.json()["results"]["fake/1"])


async def of_stream(served: Served, query: str) -> dict[str, Any]:
    query = query.replace("format=json", "format=ndjson")
    response = await served.client.post(f"/detect/stream?{query}", content=PNG, headers=HEADERS)
    return dict(json.loads(response.text.splitlines()[0]))


async def of_live(served: Served, query: str) -> dict[str, Any]:
    live = Socket(served.app, f"/detect/live?{query}")
    await live.opened()
    live.frame(PNG)
    answer = await live.answer()
    live.leave()
    await live.ended()
    return answer


Ask = Callable[[Served, str], Awaitable[dict[str, Any]]]
ASKS: tuple[Ask, ...] = (of_detect, of_batch, of_images, of_models, of_stream, of_live)


@pytest.mark.parametrize("ask", ASKS)
async def test_objects_are_the_rows_of_the_columns(served: Served, ask: Ask) -> None:
    for query in ("score_threshold=0", "normalized=true", "score_threshold=1"):
        columns = await ask(served, f"{query}&format=json")
        answer = await ask(served, f"{query}&format=objects")
        assert answer["objects"] == objects_of(columns)
        others = set(answer) - {"objects"}
        assert others == set(columns) - set(COLUMNS)
        assert answer["image"] == columns["image"]


@pytest.mark.parametrize("path", ["/detect", "/detect/batch", "/detect/stream"])
@pytest.mark.parametrize("where", ["query", "body"])
async def test_another_box_format_is_refused(served: Served, path: str, where: str) -> None:
    query = "box_format=xywh" + ("&format=objects" if where == "query" else "")
    fields = {} if where == "query" else {"format": "objects"}
    response = await served.client.post(f"{path}?{query}", data=fields, files={"image": PNG})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
    assert response.json()["detail"].startswith("box_format=xywh")


async def test_a_socket_changes_to_objects_and_refuses_what_does_not_fit(served: Served) -> None:
    live = Socket(served.app, "/detect/live")
    await live.opened()
    live.text('{"format": "objects"}')
    assert (await live.answer())["options"]["format"] == "objects"
    live.text('{"box_format": "xywh"}')
    assert (await live.answer())["error"]["code"] == "invalid_parameter"
    live.frame(PNG)
    assert "objects" in await live.answer()
    live.leave()
    await live.ended()
